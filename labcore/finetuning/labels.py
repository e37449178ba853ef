"""Names, colours and symbols of the strategies, shared by all figures."""

from labcore import viz

# strategy -> label, colour, symbol, dash
_STYLES: dict[str, tuple[str, int, int, int]] = {
    "full": ("full fine-tuning", 7, 0, 0),
    "head_only": ("head only", 6, 3, 2),
    "last_k": ("last K layers", 1, 1, 1),
    "random_k": ("random K, all tokens", 2, 2, 1),
    "lora": ("LoRA", 4, 4, 3),
    "alast_paper": ("ALaST, preprint", 5, 5, 2),
    "alast_coauthor": ("ALaST, co-author", 3, 6, 0),
    "alast_calibrated": ("ALaST, calibrated (ours)", 0, 6, 0),
    "alast_lora": ("ALaST + LoRA", 4, 6, 0),
    "alast_embedding": ("calibrated, embedding trained", 0, 2, 2),
    "alast_080": ("calibrated, mean budget 0.8", 0, 7, 1),
}
MODELS = {"small": "the small ViT", "vit-s": "DINOv2 ViT-S", "scratch": "a ViT from scratch"}


def label(strategy: str) -> str:
    """How figures call a strategy; unknown names stay as they are."""
    return _STYLES[strategy][0] if strategy in _STYLES else strategy


def style(strategy: str) -> tuple[str, str, str]:
    """Colour, symbol and dash of a strategy."""
    _, colour, symbol, dash = _STYLES.get(strategy, ("", 6, 0, 4))
    return viz.PALETTE[colour], viz.SYMBOLS[symbol], viz.DASHES[dash]
