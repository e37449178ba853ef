"""Which pages there are, read from their files without running them, and links between them."""

import ast
import os
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app.ui.parameters import Table, checked
from labcore.works import WORKS, Work

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "app" / "pages"


def page_file(page: str) -> Path:
    """The file of a page, there or not."""
    return PAGES / f"{page}.py"


def pages() -> Mapping[str, Work]:
    """Address -> first work shown there, for each work that has a page file."""
    there = set(os.listdir(PAGES))
    found: dict[str, Work] = {}
    for work in WORKS:
        if f"{work.page}.py" in there:
            found.setdefault(work.page, work)
    return found


def built_ids() -> frozenset[str]:
    """Ids of the works that have a page."""
    found = pages()
    return frozenset(work.id for work in WORKS if work.page in found)


def page_assets(page: str) -> tuple[str, ...]:
    """Names in the literal ``ASSETS = (...)`` of a page; none when it declares none."""
    for node in ast.parse(page_file(page).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ASSETS":
            return tuple(ast.literal_eval(node.value))
    return ()


def page_table(page: str) -> Table:
    """``PARAMETERS`` of a page. Imports what the page imports but draws nothing.

    Raises:
        ValueError: there is no such page.
    """
    if not page_file(page).is_file():
        raise ValueError(f"no page {page!r}: there are {', '.join(pages()) or 'none yet'}")
    table: Table = runpy.run_path(str(page_file(page)), run_name="page_table")["PARAMETERS"]
    return checked(table)


def query(table: Table, values: Mapping[str, Any]) -> str:
    """The query string of a setting; values equal to the default are left out.

    Raises:
        ValueError: a key is not in the table, or the page would refuse its value.
    """
    fields: list[tuple[str, str]] = []
    for key, value in values.items():
        if key not in table:
            raise ValueError(f"no parameter {key!r}: the page has {', '.join(table) or 'none'}")
        try:
            texts = table[key].write(value)
        except ValueError as error:
            raise ValueError(f"{key}={value!r} {error}") from error
        if value != table[key].default:
            fields += [(key, text) for text in texts]
    return urlencode(fields)


def page_url(page: str, base: str = "", **values: Any) -> str:
    """A link to a page with a setting, checked against the page's table.

    Args:
        page: Its address, as ``"kvcache"``.
        base: The server, as ``"http://127.0.0.1:8501"``.
        values: Parameters of the page.

    Raises:
        ValueError: no such page or parameter, or a value that the page would refuse.
    """
    text = query(page_table(page), values)
    return f"{base.rstrip('/')}/{page}{'?' if text else ''}{text}"
