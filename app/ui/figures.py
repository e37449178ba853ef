"""A figure on a page: its alt text for people who cannot see it, its caption, its downloads."""

import inspect
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from labcore import viz
from labcore.runtime import versions

Figure = Any  # a plotly Figure; pages and this package never build one


def figure(
    fig: Figure,
    key: str,
    *,
    on_select: bool = False,
    modes: tuple[str, ...] = ("points", "box"),
    downloads: bool = True,
    tools: bool = True,
    seed: int | None = None,
) -> Any:
    """Draw a finished figure with its alt text, caption and downloads.

    Args:
        fig: What a figure function of ``labcore`` returned (ended with ``viz.finish``).
        key: Unique on the page.
        on_select: Whether a click or a box makes the page run again.
        modes: What may be selected.
        downloads: Whether to offer the data, the page and the setting.
        tools: Whether to show plotly's buttons (zoom, picture).
        seed: Named in the downloaded setting.

    Returns:
        The selected points as a list of dicts when ``on_select``, else an empty list.

    Raises:
        ValueError: the figure has no alt text.
    """
    alt = viz.describe(fig)
    options: dict[str, Any] = {"on_select": "rerun", "selection_mode": modes} if on_select else {}
    config = {**viz.CONFIG, "displayModeBar": "hover" if tools else False}
    state = st.plotly_chart(fig, theme=None, key=key, alt=alt, config=config, **options)
    with st.container(horizontal=True, vertical_alignment="top", gap="small"):
        st.caption(viz.caption(fig), width="stretch")
        if downloads:
            _downloads(fig, key, seed)
    return list(state["selection"]["points"]) if on_select else []


def _downloads(fig: Figure, key: str, seed: int | None) -> None:
    with st.popover("Download", icon=":material/download:", type="tertiary", width="content"):
        for label, make, suffix, mime in (
            ("Data (CSV)", partial(viz.to_csv, fig), "csv", "text/csv"),
            ("Figure (HTML)", partial(viz.to_html, fig), "html", "text/html"),
            ("Setting (JSON)", partial(figure_json, fig, seed), "json", "application/json"),
        ):
            st.download_button(
                label,
                data=make,
                file_name=f"{key}.{suffix}",
                mime=mime,
                key=f"{key}-{suffix}",
                on_click="ignore",
                width="stretch",
            )


def figure_json(fig: Figure, seed: int | None = None) -> bytes:
    """What made a figure: the function, its parameters, the seed, the package versions."""
    meta = dict(fig.layout.meta)
    made = {
        "title": fig.layout.title.text,
        "function": meta.get("source", ""),
        "parameters": meta.get("params", {}),
        "seed": seed,
        "versions": versions(),
        "alt": meta["alt"],
    }
    return json.dumps(made, indent=1, default=str).encode()


def show_code(function: Callable[..., Any]) -> None:
    """The source of a ``labcore`` function, folded."""
    inner = inspect.unwrap(function)
    with st.expander(f"Show me the code: {inner.__qualname__}", icon=":material/code:"):
        st.caption(f"`{inner.__module__}.{inner.__qualname__}`")
        st.code(inspect.getsource(inner), language="python")
