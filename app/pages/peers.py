"""The ledger's page: every method against the peer one would pick instead, and how cost grows."""

import streamlit as st

from app.ui.controls import Controls
from app.ui.figures import figure
from app.ui.parameters import Choice, Table
from app.ui.tables import downloads, plain, table
from labcore import ledger
from labcore.works import TOPICS

PARAMETERS: Table = {
    "view": Choice("races", ("races", "growth"), "races against peers, or how cost grows"),
    "work": Choice("all", ("all", *TOPICS, "course"), "topic of the races"),
    "what": Choice("seconds", ("seconds", "bytes"), "what grows"),
}
control = Controls(PARAMETERS)
ALL = "all"


@st.cache_data(ttl=60, max_entries=2, show_spinner=False)
def the_rows() -> list[ledger.Row]:
    """All saved races."""
    return ledger.races()


def races() -> None:
    """Ratios over goals, then the table."""
    known = the_rows()
    work = control.select("work", "Topic")
    chosen = [row for row in known if work in (ALL, row["work"])]
    if not chosen:
        st.info(f"No race of {work} was saved yet: `./lab bench {work} --save`")
        return
    figure(ledger.races_figure(known, "" if work == ALL else work), "races")
    table([_race(row) for row in chosen])
    downloads(chosen, "race-table", "Download races")
    st.caption(
        "Both sides ran in one process or in turns, on one thread, and had to agree before they "
        "were timed. Again, here: `./lab bench --setup-peers`, then `./lab bench TOPIC --save`."
    )


def _race(row: ledger.Row) -> dict[str, str]:
    mark = {True: "✔ ", False: "✘ ", None: "none"}[row["met"]]
    return {
        "Race": f"**{row['work']}**: {plain(row['name'])}",
        "Peer": plain(f"{row['peer']} {row['peer_version']}"),
        "Ratio": f"{row['ratio']:.3g}",
        "Goal": mark if row["goal"] is None else f"{mark}{row['goal']:.3g}",
        "Agreement": plain(row["agreement"]),
    }


def growth() -> None:
    """Curves, then the exponents."""
    run = ledger.kept("growth")
    if run is None:
        st.info("No growth curve was saved yet: `./lab bench growth --save`")
        return
    what = control.select("what", "What grows")
    figure(ledger.growth_figure(run.rows, what), "growth")
    curves = ledger.curves(run.rows)
    table([_curve(row) for row in curves])
    downloads(run.rows, "growth-points", "Download measurements")
    st.caption(f"{run.machine}, one thread, {run.created[:10]}. Again: `./lab bench growth --save`")


def _curve(row: ledger.Row) -> dict[str, str]:
    memory = row["memory_exponent"]
    return {
        "Method": f"**{row['work']}**: {plain(row['method'])}",
        "In": plain(f"{row['axis']}, {row['from']:,} to {row['to']:,}"),
        "Time, measured": f"{row['exponent']:.2f} ± {row['error']:.2f}",
        "Time, theory": row["theory"],
        "Memory, measured": "too small to see" if memory is None else f"{memory:.2f}",
        "Memory, theory": row["memory_theory"],
    }


def body() -> None:
    """The page."""
    st.title("Peers and growth", anchor=False)
    st.markdown("#### What does each method cost beside what one would use instead?")
    st.markdown("**Look for** the races left of the dashed line: there the lab is not good enough.")
    view = control.select("view", "Show")
    if view == "races":
        races()
    else:
        growth()


if __name__ == "__main__":
    body()
