"""Tables on the terminal, or as JSON for a program."""

import json
from typing import Any

Rows = list[dict[str, Any]]


def print_rows(rows: Rows, *, as_json: bool, wide: int = 60) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=1, default=str))
        return
    if not rows:
        print("nothing to show")
        return
    columns = list(rows[0])
    text = [[_cell(row.get(c), wide) for c in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in text)) for i, c in enumerate(columns)]
    for line in (columns, ["-" * w for w in widths], *text):
        print("  ".join(value.ljust(w) for value, w in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any, wide: int) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str("" if value is None else value)
    return text if len(text) <= wide else text[: wide - 1] + "…"


def print_records(rows: Rows, *, as_json: bool) -> None:
    """Print rows with long texts one under the other, or as JSON."""
    if as_json:
        print_rows(rows, as_json=True)
        return
    for row in rows:
        wide = max(len(name) for name in row)
        print("\n".join(f"{name:>{wide}}  {_cell(value, 1000)}" for name, value in row.items()))
        print()
