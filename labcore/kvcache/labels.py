"""Names, colours and small checks that the figures of this topic share."""

from labcore import viz
from labcore.tally import Rows, distinct

FLOOR = 1e-4  # attention below this is drawn as this, on log scales

# policy -> label, colour, dash, symbol: guards change dash and symbol, the score decides the colour
_STYLES: dict[str, tuple[str, int, int, int]] = {
    "full": ("full cache", 7, 2, 0),
    "low_norm": ("low norm", 0, 0, 0),
    "low_norm+skip": ("low norm, layers 0, 1 whole", 0, 2, 5),
    "low_norm+recent": ("low norm + recent 16", 0, 2, 2),
    "low_norm+guards": ("low norm + guards", 0, 1, 1),
    "random": ("random", 1, 0, 0),
    "random+guards": ("random + guards", 1, 1, 1),
    "high_norm": ("high norm", 3, 0, 0),
    "high_norm+sink": ("high norm + sink", 3, 2, 2),
    "high_norm+guards": ("high norm + guards", 3, 1, 1),
    "low_value_norm": ("low value norm", 5, 2, 4),
    "window": ("window", 2, 2, 3),
    "sink_window": ("sinks + window", 2, 0, 3),
    "observation": ("observation (SnapKV)", 4, 0, 6),
    "accumulated": ("accumulated (H2O)", 4, 1, 4),
    "last_query": ("last query (TOVA)", 4, 3, 7),
    "key_difference": ("key difference (KeyDiff)", 5, 0, 2),
    "special": ("special tokens (FastGen-like)", 7, 3, 5),
}


def hatched(shape: str) -> dict[str, str]:
    """A pattern drawn over the bar's own colour, so that the colour stays readable."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": "white"}


def label(policy: str) -> str:
    """How figures call a policy; unknown names stay as they are."""
    return _STYLES[policy][0] if policy in _STYLES else policy


def style(policy: str) -> tuple[str, str, str]:
    """Colour, dash and symbol of a policy."""
    _, colour, dash, symbol = _STYLES.get(policy, ("", 6, 4, 0))
    return viz.PALETTE[colour], viz.DASHES[dash], viz.SYMBOLS[symbol]


def chosen(rows: Rows, policies: tuple[str, ...] | None) -> list[str]:
    """The policies to draw: those asked for, or all but the full cache.

    Raises:
        ValueError: one that was not measured.
    """
    there = [name for name in distinct(rows, "policy") if name != "full"]
    if policies is None:
        return there
    unknown = [name for name in policies if name not in there]
    if unknown:
        raise ValueError(f"{unknown} were not measured here: choose from {there}")
    return list(policies)


def same_length(name: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless two shapes are equal."""
    if tuple(got) != tuple(wanted):
        raise ValueError(f"{name} has shape {tuple(got)}, {tuple(wanted)} is wanted")


def shown(token: str) -> str:
    """A token as label: spaces visible where they are all there is, markup characters harmless."""
    text = token.strip(" ") or "␣"
    return text.replace("&", "&amp;").replace("<", "&lt;")
