"""The first page: the map of the lab, its works, its claims, its models and data."""

from itertools import groupby
from typing import Any

import streamlit as st

from app.ui.catalogue import built_ids, page_assets, page_file
from app.ui.figures import figure
from app.ui.parameters import Table
from app.ui.tables import claim_rows, claims_table, downloads, plain, table, tally
from labcore import assets
from labcore.course.map import course_map, short_title
from labcore.works import WORKS, Work, work

PARAMETERS: Table = {}
STATES = {"ready": "✔ ready", "missing": "○ not here", "corrupt": "✘ damaged"}


@st.cache_data(ttl=5, max_entries=1, show_spinner=False)
def asset_rows() -> list[dict[str, Any]]:
    """The models and data sets with their state."""
    return assets.table()


def the_map() -> None:
    """The map; a click on an open work goes to its page."""
    picked = figure(
        course_map(WORKS, built_ids()), "map", on_select=True, modes=("points",), tools=False
    )
    if not picked:
        return
    chosen = work(str(picked[0]["customdata"]))
    if chosen.id in built_ids():
        st.switch_page(page_file(chosen.page))
    st.toast(f"{chosen.id} {short_title(chosen.id)} is coming.", icon=":material/schedule:")


def works_table() -> None:
    """The works that are open, with what they need."""
    states = {row["name"]: row["state"] for row in asset_rows()}
    rows = [_work_row(entry, states) for entry in WORKS if entry.id in built_ids()]
    if rows:
        table(rows)
    coming = [f"{w.id} {short_title(w.id)}" for w in WORKS if w.id not in built_ids()]
    if coming:
        st.caption(f"Coming: {', '.join(coming)}.")


def _work_row(entry: Work, states: dict[str, str]) -> dict[str, str]:
    needs = [f"{name} {STATES[states[name]]}" for name in page_assets(entry.page)]
    title = plain(entry.title)
    return {
        "": f"**{entry.id}**",
        "Work": f"**{title}**"
        if entry.section == "Book"
        else f"**{short_title(entry.id)}**. {title}",
        "Question": plain(entry.question),
        "Models and data": ", ".join(needs) or "none: opens as it is",
    }


def the_claims() -> None:
    """Every claim that was tested, by work."""
    rows = claim_rows()
    if not rows:
        st.caption("No claim has been tested yet.")
        return
    st.markdown(tally(rows))
    for topic, group in groupby(rows, key=lambda row: row["work"]):
        of_work = list(group)
        title = "The book" if topic == "book" else short_title(work(topic).id)
        with st.expander(f"**{title}**  {tally(of_work)}"):
            claims_table(of_work)
    downloads(rows, "claims", "Download claims")


def the_assets() -> None:
    """Models and data sets: size, licence, state."""
    table(
        [
            {
                "Name": f"`{row['name']}`",
                "What it is": plain(row["about"]),
                "Size": f"{row['size'] / 1e6:.0f} MB",
                "Licence": plain(row["data_licence"]),
                "State": STATES[row["state"]],
            }
            for row in asset_rows()
        ]
    )
    st.caption("`./lab fetch NAME` brings one here, once; after that the lab runs offline.")


def body() -> None:
    """The page."""
    st.title("labcore", anchor=False)
    st.markdown("#### Ten works on modern neural networks, to run, see, change and check.")
    the_map()
    st.header("Works", anchor="works")
    works_table()
    st.header("Claims", anchor="claims")
    st.markdown(
        "Each published claim, the experiment that tests it here, and a verdict that code "
        "computes from the numbers."
    )
    the_claims()
    st.header("Models and data", anchor="assets")
    the_assets()


if __name__ == "__main__":
    body()
