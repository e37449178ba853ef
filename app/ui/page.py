"""The frame around a page: title, question, expected problems in one sentence, footer."""

import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

import streamlit as st

from app.ui.catalogue import ROOT, query
from app.ui.controls import Controls, Preset
from app.ui.figures import show_code
from app.ui.tables import claim_rows, claims_table, plain, verdict
from labcore.assets import AssetError
from labcore.course.map import short_title
from labcore.runs import ResultError
from labcore.runtime import versions
from labcore.works import WORKS, Work

LOG = logging.getLogger("labcore.app")
EXPECTED = (AssetError, ResultError, FileNotFoundError, MemoryError)
Body = Callable[[], None]


def page(
    name: str,
    control: Controls,
    *,
    claim: str = "",
    presets: Sequence[Preset] = (),
    look: str = "",
    code: Sequence[Callable[..., Any]] = (),
    after: Body = lambda: None,
) -> Callable[[Body], Body]:
    """Make a function the body of the page at address ``name``.

    Around the body stand the work's title and question, the presets, the claim, what to look for,
    the code, for a paper its claims, and the footer. Problems that can be expected become one
    sentence and the command that mends them; the footer stays, so the setting is not lost.

    Args:
        name: The page's address: a topic or a chapter id, as in ``labcore.works``.
        control: The page's controls, for the settings in the footer.
        claim: One sentence; for a paper the id of a row of the ledger, which has the verdict too.
        presets: Buttons that lead to the discovery.
        look: What there is to discover (Markdown).
        code: Functions of ``labcore`` whose source is offered.
        after: Draws what follows.

    Raises:
        ValueError: no work has this page.
    """
    works = [work for work in WORKS if work.page == name]
    if not works:
        raise ValueError(f"no work has the page {name!r}: name the file after Work.page")
    topic = works[0].topic

    def decorate(body: Body) -> Body:
        def whole() -> None:
            control.presets(presets)
            _claim(claim, topic)
            body()
            if look:
                look_for(look)
            if topic != "book":
                with st.expander("The published claims, judged here", icon=":material/gavel:"):
                    claims_table(claim_rows(topic))
            for function in code:
                show_code(function)
            after()

        @wraps(body)
        def framed() -> None:
            _head(works)
            guard(whole, topic)
            _foot(name, works, control)

        return framed

    return decorate


def _claim(claim: str, topic: str) -> None:
    """The claim in one sentence; with its verdict when it is a row of the ledger."""
    found = {row["id"]: row for row in claim_rows(topic)} if topic != "book" else {}
    if row := found.get(claim):
        st.markdown(f"**Claim.** {plain(row['claim']).rstrip('.')}. {verdict(row['verdict'])}")
    elif claim:
        st.markdown(f"**Claim.** {claim}")


def guard(body: Body, topic: str) -> None:
    """Run ``body``; an expected problem becomes one sentence and a command."""
    try:
        body()
    except EXPECTED as error:
        st.error(problem_text(error), icon=":material/build:")
        st.code(repair(error, topic), language="bash")


def problem_text(error: Exception) -> str:
    """One sentence about an expected problem."""
    if isinstance(error, MemoryError):
        return "The machine has too little free memory for this: close other programs, try again."
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"The file {error.filename} is not there; the command below makes it."
    return " ".join(str(error).split())


def repair(error: Exception, topic: str) -> str:
    """The command that mends an expected problem."""
    if isinstance(error, AssetError):
        return "./lab assets"
    if isinstance(error, MemoryError):
        return "./lab doctor"
    return f"./lab run {topic} --full --out labcore/{topic}/results"


def on_script_error(error: Exception) -> bool:
    """Log an unexpected error under a short id; show the id, and the error with LAB_DEBUG=1."""
    number = secrets.token_hex(2)
    LOG.error("page error %s", number, exc_info=error)
    st.error(
        f"Something went wrong (id {number}). Your settings are in the address bar.",
        icon=":material/error:",
    )
    if os.environ.get("LAB_DEBUG") == "1":
        st.exception(error)
    return True


def look_for(text: str) -> None:
    """The folded hint of what there is to discover in the figure."""
    with st.expander("What to look for", icon=":material/visibility:"):
        st.markdown(text)


def open_in_notebook(work_id: str, cell: str = "") -> None:
    """Where the work's notebook is, how to open it, and a cell that goes on from this setting.

    Draws nothing when the notebook is not built.
    """
    found = sorted((ROOT / "notebooks" / "student").rglob(f"{work_id}_*.ipynb"))
    if not found:
        return
    path = found[0].relative_to(ROOT).as_posix()
    with st.popover("Open in notebook", icon=":material/menu_book:", type="tertiary"):
        st.markdown(f"`{path}`")
        st.code(f".venv/bin/jupyter lab {path}", language="bash")
        if cell:
            st.code(cell, language="python")
        st.download_button(
            "Download the notebook",
            data=found[0].read_bytes,
            file_name=found[0].name,
            mime="application/x-ipynb+json",
            on_click="ignore",
            key=f"notebook-{work_id}",
        )


def copy_settings(name: str, control: Controls) -> None:
    """The page's setting as JSON and as a link, to paste elsewhere."""
    values = control.settings()
    text = query(control.table, values)
    with st.popover("Copy settings", icon=":material/content_copy:", type="tertiary"):
        st.code(settings_json(name, values), language="json")
        st.code(f"/{name}{'?' if text else ''}{text}", language=None)


@cache
def installed() -> dict[str, str]:
    """Package versions, looked up once: reading them costs as much as drawing a figure."""
    return versions()


def settings_json(name: str, values: dict[str, Any]) -> str:
    """What is needed to come back: page, parameters, package versions."""
    return json.dumps({"page": name, "parameters": values, "versions": installed()}, indent=1)


def _head(works: list[Work]) -> None:
    st.title(short_title(works[0].id), anchor=False)
    st.markdown(f"#### {works[0].question}")


def _foot(name: str, works: list[Work], control: Controls) -> None:
    st.divider()
    with st.container(horizontal=True, gap="small"):
        for work in works:
            open_in_notebook(work.id)
        copy_settings(name, control)
    for work in works:
        st.caption(f"{work.title}. {reference(work.source)}")


def reference(source: str) -> str:
    """The source with its arXiv id as a link.

    >>> reference("A, 2024, arXiv 2406.11430")
    'A, 2024, [arXiv 2406.11430](https://arxiv.org/abs/2406.11430)'
    """
    head, mark, tail = source.partition("arXiv ")
    number, comma, rest = tail.partition(",")
    if not mark:
        return source
    return f"{head}[arXiv {number}](https://arxiv.org/abs/{number}){comma}{rest}"
