"""What pages are made of: controls, figures, long work, and the frame around them.

A page looks like this; see ``app/README.md``::

    PARAMETERS = {"k": Range(4, 1, 16, about="vectors kept")}
    control = Controls(PARAMETERS)

    @page("topic", control, claim=..., presets=..., look=..., code=...)
    def body() -> None:
        with st.sidebar:
            k = control.slider("k", "Vectors")
        figure(figures.spectrum(k), "spectrum")

    if __name__ == "__main__":
        body()
"""

from app.ui.catalogue import page_url
from app.ui.controls import Controls, Preset
from app.ui.figures import figure
from app.ui.page import page
from app.ui.parameters import Choice, Flag, Range, Several, Text
from app.ui.sharing import cached, lock, shared
from app.ui.waiting import long_job, need_asset

__all__ = [
    "Choice",
    "Controls",
    "Flag",
    "Preset",
    "Range",
    "Several",
    "Text",
    "cached",
    "figure",
    "lock",
    "long_job",
    "need_asset",
    "page",
    "page_url",
    "shared",
]
