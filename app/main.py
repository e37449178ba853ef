"""The app's entry: navigation by section, then the chosen page. Served by ``app/server.py``."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[1]
ICON = str(ROOT / "app" / "favicon.svg")  # a file: named icons would come from the network
# why a file was refused: Streamlit says it to screen readers, and to others under the mouse only
STYLE = """<style>
[data-testid="stFileChip"]:has([role="alert"]) { flex-wrap: wrap; height: auto; max-width: 100%; }
[data-testid="stFileChip"] [role="alert"] {
  position: static; width: 100%; height: auto; margin: 0; clip: auto; clip-path: none;
  overflow: visible; white-space: normal; font-size: 0.875rem;
}
</style>"""
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from app.ui.catalogue import PAGES, page_file, pages  # noqa: E402
from app.ui.meter import meter  # noqa: E402
from labcore.course.map import short_title  # noqa: E402


def navigation() -> dict[str, list[st.Page]]:
    """Home, a page per work that has one, and the teacher's page; addresses never change."""
    home = st.Page(PAGES / "home.py", title="The map", icon=":material/map:", default=True)
    sections: dict[str, list[st.Page]] = {"": [home], "Papers": [], "Book": []}
    for address, work in pages().items():
        title = f"{work.id}  {short_title(work.id)}"
        entry = st.Page(page_file(address), title=title, url_path=address)
        sections[work.section].append(entry)
    sections["The lab"] = [
        st.Page(PAGES / f"{address}.py", title=title, icon=icon, url_path=address)
        for address, title, icon in (
            ("peers", "Peers and growth", ":material/speed:"),
            ("teacher", "This server", ":material/monitoring:"),
        )
    ]
    return {section: entries for section, entries in sections.items() if entries}


def main() -> None:
    """Draw the page that the address names."""
    meter().count()
    st.set_page_config(page_title="labcore", page_icon=ICON, layout="wide")
    st.html(STYLE)
    st.navigation(navigation()).run()


if __name__ == "__main__":  # a spawned process that imports this file must not draw
    main()
