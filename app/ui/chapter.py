"""The frame of a chapter's page, so that fifteen pages do not repeat it.

The decorated body draws the centre-piece from the committed result; besides what :func:`.page` puts
around it there are the chapter's measured figures and the works that follow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app.ui.catalogue import built_ids
from app.ui.controls import Controls, Preset
from app.ui.page import page
from app.ui.sharing import shared
from app.ui.tables import plain, table
from labcore.book.experiment import load_result
from labcore.book.numbers import shown
from labcore.course.map import short_title
from labcore.runs import Result
from labcore.works import work

Draw = Callable[[Result], None]


def chapter(
    id: str,
    control: Controls,
    *,
    claim: str,
    look: str,
    code: Sequence[Callable[..., Any]] = (),
    presets: Sequence[Preset] = (),
    then: Sequence[str] = (),
) -> Callable[[Draw], Callable[[], None]]:
    """Make ``body(result)`` the page of a chapter.

    Args:
        id: The chapter, as ``"B04"``.
        control: The page's controls.
        claim: What the centre-piece shows, in one sentence.
        look: What there is to discover (Markdown).
        code: Functions of ``labcore`` whose source is offered.
        presets: Buttons that lead to the discovery.
        then: Ids of works that go on from here.

    Raises:
        ValueError: no such chapter.
    """
    name = work(id).page

    def after() -> None:
        _numbers(shared(load_result), name)
        if then:
            st.markdown(f"**Where this goes:** {' · '.join(map(_link, then))}")

    frame = page(name, control, claim=claim, presets=presets, look=look, code=code, after=after)

    def decorate(body: Draw) -> Callable[[], None]:
        return frame(lambda: body(shared(load_result)))

    return decorate


def _numbers(result: Result, name: str) -> None:
    rows = result.tables.get(f"{name}/numbers", [])
    if rows:
        with st.expander("The figures of this chapter, measured", icon=":material/straighten:"):
            table(shown(rows))


def _link(id: str) -> str:
    """A work's name, as a link where its page is there."""
    text = plain(f"{id} {short_title(id)}")
    return f"[{text}](/{work(id).page})" if id in built_ids() else text
