"""What all sessions share: cached results, models, locks."""

import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import streamlit as st

from labcore.runtime import freeze_startup

P = ParamSpec("P")
R = TypeVar("R")


def shared(function: Callable[..., Any], *args: Any) -> Any:
    """One copy of a model or data set for all sessions: ``shared(load_causal_lm, "smollm2-135m")``.

    Threads share it: run it forward without changing it, or hold :func:`lock`. Its objects are
    exempted from the collection that follows every re-run.
    """
    return _shared(f"{function.__module__}.{function.__qualname__}", args, _function=function)


@st.cache_resource(max_entries=8, show_spinner="Loading, once for everybody …")
def _shared(name: str, args: tuple[Any, ...], _function: Callable[..., Any]) -> Any:
    value = _function(*args)
    freeze_startup()
    return value


@st.cache_resource(max_entries=64, show_spinner=False)
def lock(name: str) -> threading.Lock:
    """A lock shared by all sessions, for runs with hooks on a shared model."""
    return threading.Lock()


def cached(function: Callable[P, R]) -> Callable[P, R]:
    """``st.cache_data`` with a bound: for functions of plain values that return arrays.

    Never cache a figure: reading one back costs more than drawing it.
    """
    return st.cache_data(max_entries=64, show_spinner="Computing …")(function)
