"""Names, colours, dashes and symbols of the methods."""

from labcore import viz

_STYLES: dict[str, tuple[str, int, int, int]] = {
    "gate": ("gate, threshold", 0, 0, 0),
    "gate_topk": ("gate, top-k", 0, 1, 1),
    "class_attention": ("class attention (EViT)", 1, 0, 2),
    "random": ("random", 7, 2, 5),
    "magnitude": ("magnitude", 3, 3, 3),
    "merging": ("merging (ToMe)", 2, 0, 4),
    "predictor": ("predictor (DynamicViT)", 4, 0, 6),
    "gate_sent": ("gate, class token sent", 5, 0, 7),
    "gate_sent_topk": ("gate, class token sent, top-k", 5, 1, 7),
    "gate_joint": ("gate, all trained at once", 5, 2, 1),
    "gate_joint_topk": ("gate, all trained at once, top-k", 5, 3, 1),
    "gate_fixed": ("gate for 0.2 only", 2, 1, 6),
    "gate_fixed_topk": ("gate for 0.2 only, top-k", 2, 2, 6),
    "class_alone": ("class token alone", 6, 0, 6),
    "halting": ("halting for 0.2 (A-ViT)", 4, 1, 3),
}


def label(method: str) -> str:
    """How figures call a method; unknown names stay as they are."""
    return _STYLES[method][0] if method in _STYLES else method


def style(method: str) -> tuple[str, str, str]:
    """Colour, dash and symbol of a method."""
    _, colour, dash, symbol = _STYLES.get(method, ("", 6, 4, 0))
    return viz.PALETTE[colour], viz.DASHES[dash], viz.SYMBOLS[symbol]
