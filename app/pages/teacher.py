"""For teachers: what this server does, and how large a class it can serve."""

import os

import streamlit as st

from app.ui.controls import Controls
from app.ui.meter import digest, largest_class, meter
from app.ui.page import settings_json
from app.ui.parameters import Range, Table
from app.ui.tables import table
from app.ui.waiting import pool

PARAMETERS: Table = {
    "think": Range(5.0, 0.5, 60.0, 0.5, "mean seconds between two moves of a student"),
    "cores": Range(1, 1, 64, about="cores that serve pages: one a replica"),
}
control = Controls(PARAMETERS)


def the_load() -> float | None:
    """What runs now; returns CPU milliseconds of a re-run."""
    cpu, workers = meter().cpu_ms(), pool()
    counts = digest()
    columns = st.columns(4)
    columns[0].metric("CPU per re-run", "not yet" if cpu is None else f"{cpu:.0f} ms")
    columns[1].metric("Re-runs since start", f"{meter().runs:,}")
    columns[2].metric("Sessions now", counts.get("active_sessions", "unknown"))
    columns[3].metric("Jobs running / waiting", f"{len(workers.running())} / {workers.waiting()}")
    return cpu


def the_capacity(cpu: float | None) -> None:
    """The rule, with this server's figure."""
    st.header("How large a class?", anchor=False)
    left, right = st.columns(2)
    with left:
        think = control.slider("think", "Seconds between two moves")
    with right:
        cores = control.slider("cores", "Cores")
    cost = cpu or 30.0
    students = largest_class(cost, think_seconds=think, cores=cores)
    known = "measured above" if cpu else "an assumption until pages have run"
    st.markdown(
        f"#### About {students:,} students at 60 % load\n"
        f"One core serves 1000 / {cost:.0f} ms re-runs a second ({known}). A class of S students "
        "who think Z seconds between moves needs S / Z of them. Keep the load under 0.6: "
        "S = 0.6 × 1000 × Z × cores / ms."
    )
    st.caption(
        "A process serves pages on one core; more cores need replicas (`./lab app --port N`, one "
        "each) behind a proxy that keeps a student on one replica by a cookie. "
        f"This machine has {os.cpu_count()} cores; {pool().workers} of them may run jobs."
    )


def the_details() -> None:
    """Counters of the server and versions of what it runs."""
    st.header("Details", anchor=False)
    rows = [{"Counter": name, "Value": value} for name, value in sorted(digest().items())]
    if rows:
        table(rows)
    st.caption("All of them, for a monitoring system: `/_stcore/metrics` (OpenMetrics text).")
    for job in pool().running():
        st.markdown(f"Running: {job.label} ({job.done:,} of {job.total:,})")
    st.code(settings_json("teacher", control.settings()), language="json")


def body() -> None:
    """The page."""
    st.title("This server", anchor=False)
    st.markdown("#### How busy is it, and how many students can it serve?")
    cpu = the_load()
    the_capacity(cpu)
    the_details()


if __name__ == "__main__":
    body()
