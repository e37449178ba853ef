"""Tables as text, which wraps, prints and is read aloud; and their rows for download."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from labcore import claims

Rows = Sequence[Mapping[str, Any]]
VERDICT_MARKS = {
    "holds": ("✔", "green"),
    "holds in part": ("◐", "orange"),
    "does not hold here": ("✘", "red"),
    "not testable here": ("○", "gray"),
}


def table(rows: Rows) -> None:
    """Rows of short texts (Markdown allowed) under the keys of the first one."""
    if not rows:
        return
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    st.markdown("\n".join(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines))


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def plain(text: Any) -> str:
    """A text that Markdown must not read as markup.

    >>> plain("a*b $c$ [d]")
    'a\\\\*b \\\\$c\\\\$ \\\\[d\\\\]'
    """
    return "".join(f"\\{c}" if c in "\\`*_$[]<>#~:" else c for c in str(text))


def to_csv(rows: Rows) -> bytes:
    """Rows as CSV, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def to_json(rows: Rows) -> bytes:
    """Rows as JSON."""
    return json.dumps(list(rows), indent=1, default=str).encode()


def verdict(name: str) -> str:
    """A verdict with its symbol, so that colour is not needed to tell it.

    >>> verdict("holds")
    ':green-badge[✔ holds]'
    """
    mark, colour = VERDICT_MARKS[name]
    return f":{colour}-badge[{mark} {name}]"


@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def claim_rows(work: str | None = None) -> list[dict[str, Any]]:
    """Claims and verdicts, from the committed results."""
    return claims.table(work)


def tally(rows: Rows) -> str:
    """How many claims have which verdict, in symbols and words.

    >>> tally([{"verdict": "holds"}, {"verdict": "holds"}])
    '✔ 2 holds'
    """
    counts = Counter(row["verdict"] for row in rows)
    marks = ((VERDICT_MARKS[name][0], name) for name in VERDICT_MARKS)
    return " · ".join(f"{mark} {counts[name]} {name}" for mark, name in marks if counts[name])


def claims_table(rows: Rows) -> None:
    """Claims, one under the other: verdict, what was published, what was measured and how."""
    st.markdown("\n\n---\n\n".join(_claim(row) for row in rows))


def _claim(row: Mapping[str, Any]) -> str:
    lines = [
        f"{verdict(row['verdict'])} **{plain(row['claim'])}**",
        f"Published: {plain(row['published'])}",
        f"Measured here: {plain(row['measured'])}",
        f":gray[Baselines: {plain(row['baselines'])}]",
        f":gray[Scale: {plain(row['scale'])}]",
        f":gray[Rule: {plain(row['rule'])}]",
    ]
    return "  \n".join(lines)  # two spaces: a new line, not a new paragraph


def downloads(rows: Rows, name: str, label: str) -> None:
    """Buttons for the rows as CSV and as JSON."""
    with st.container(horizontal=True, gap="small"):
        for suffix, make, mime in (
            ("csv", to_csv, "text/csv"),
            ("json", to_json, "application/json"),
        ):
            st.download_button(
                f"{label} ({suffix.upper()})",
                data=partial(make, rows),
                file_name=f"{name}.{suffix}",
                mime=mime,
                icon=":material/download:",
                key=f"{name}-{suffix}",
                on_click="ignore",
            )
