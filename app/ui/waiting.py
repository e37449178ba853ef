"""Work that takes seconds, on a page: a button, progress, a place in the queue, Stop."""

import secrets
import time
from typing import Any

import streamlit as st

from app.ui.jobs import Function, Pool, job_key
from app.ui.page import LOG
from app.ui.slot import Job
from labcore import assets


@st.cache_resource(show_spinner=False)
def pool() -> Pool:
    """The worker processes of this server."""
    return Pool()


def long_job(
    key: str,
    function: Function,
    *args: Any,
    label: str,
    seconds: float | None = None,
    reports: bool = True,
    **kwargs: Any,
) -> Any | None:
    """Offer to run ``function(*args, **kwargs)`` on a worker; its result once it is there.

    The button starts the run; while it runs the page shows progress, or the place in the queue, and
    "Stop". The result is kept for these arguments, so coming back to them shows it at once.

    Args:
        key: Unique on the page; not a parameter.
        function: Top-level function of an importable module, or its dotted name; with the name
            the server itself need not import what the worker does.
        args, kwargs: Plain data that can be pickled: configurations, paths, numbers.
        label: What is computed, as ``"Perplexity of four scores"``.
        seconds: About how long it takes, told beforehand.
        reports: Whether it takes ``progress=`` as ``labcore.runs.Progress``; Stop is then gentle.

    Returns:
        What the function returned, or None while there is nothing yet.
    """
    name = f"job-{key}"
    call = (function, args, kwargs)
    job = _current(name, call)
    if job is None or job.state == "cancelled":
        _offer(name, call, label, seconds, reports)
        return None
    if job.active:
        with st.status(label, expanded=True):
            _watch(job.key)
        return None
    if job.state == "failed":
        _failed(job)
        _offer(name, call, f"{label}, again", seconds, reports)
        return None
    return job.value


def need_asset(name: str) -> assets.AssetPaths | None:
    """The files of an asset; when it is not here, its size, licence and a button to fetch it.

    Args:
        name: As in ``./lab assets``.

    Returns:
        Paths, or None when the page has to do without for now.

    Raises:
        UnknownAsset: no asset has this name.
    """
    state = assets.status(name)
    if state == "ready":
        return assets.fetch(name, offline=True)
    asset = assets.registry()[name]
    size = f"{asset.size / 1e6:.0f} MB"
    found = "is damaged" if state == "corrupt" else "is not on this machine yet"
    st.info(
        f"**{name}** {found}: {asset.about}. {size}, {_licence(asset)}. "
        "It is fetched once and then used offline.",
        icon=":material/download:",
    )
    call = (f"fetch-{name}", "app.tasks.fetch_asset", name)
    if long_job(*call, label=f"Fetch {name} ({size})") is not None:
        _forget(f"job-fetch-{name}")
        st.rerun()
    st.code(f"./lab fetch {name}", language="bash")
    return None


def _licence(asset: assets.Asset) -> str:
    if asset.data_license == asset.license:
        return f"licence {asset.license}"
    return f"licence {asset.license}, its data {asset.data_license}"


def _session() -> str:
    if "session-id" not in st.session_state:
        st.session_state["session-id"] = secrets.token_hex(8)
    return str(st.session_state["session-id"])


def _current(name: str, call: tuple[Any, ...]) -> Job | None:
    """The job that this session asked for under ``name``, if it is for this very call."""
    asked = st.session_state.get(name)
    if asked is None or asked != job_key(*call):
        return None
    return pool().find(asked, _session())


def _offer(
    name: str, call: tuple[Any, ...], label: str, seconds: float | None, reports: bool
) -> None:
    about = "" if seconds is None else f" (about {_span(seconds)})"
    st.button(
        f"{label}{about}",
        key=f"{name}-start",
        icon=":material/play_arrow:",
        on_click=_start,
        args=(name, call, label, reports),
    )


def _start(name: str, call: tuple[Any, ...], label: str, reports: bool) -> None:
    function, args, kwargs = call
    try:
        job = pool().submit(
            function, args, kwargs, label=label, watcher=_session(), reports=reports
        )
    except ValueError as error:
        st.toast(str(error), icon=":material/hourglass:")
        return
    st.session_state[name] = job.key


def _forget(name: str) -> None:
    pool().forget(st.session_state.pop(name, ""))


@st.fragment(run_every=0.5)
def _watch(key: str) -> None:
    """One look at the job; the whole page runs again when it has ended."""
    job = pool().find(key, _session())
    if job is None or not job.active:
        st.rerun()
    place = pool().position(job)
    if place:
        st.progress(0.0, text=f"{ordinal(place)} in line")
    else:
        share = min(1.0, job.done / job.total) if job.total else 0.0
        st.progress(share, text=f"{_note(job)}, {_span(time.monotonic() - job.started)} so far")
    if st.button("Stop", key=f"stop-{key[:8]}", icon=":material/stop:"):
        pool().stop(job, _session())
        st.rerun()


def _note(job: Job) -> str:
    if not job.total:
        return "starting"
    return f"{job.note or job.label}: {job.done:,} of {job.total:,}"


def _failed(job: Job) -> None:
    if job.speaks:
        st.error(job.error, icon=":material/build:")
        return
    number = job.key[:4]
    LOG.error("job %s (%s) failed: %s\n%s", number, job.label, job.error, job.trace)
    st.error(f"Something went wrong (id {number}). Your settings are in the address bar.")


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, ...

    >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '112th']
    """
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
