"""Labels, colours and symbols of explainers: the same in every figure."""

from labcore import viz

# explainer -> label, colour, dash, symbol; what sees no states is black or grey
_STYLES: dict[str, tuple[str, int, int, int]] = {
    "dmd": ("DMD, mode 0", 0, 0, 0),
    "dmd_global": ("DMD, mode 0, global", 0, 1, 1),
    "dmd_left": ("DMD, left mode 0", 0, 2, 2),
    "dmd_modulus": ("DMD, modulus", 0, 3, 3),
    "dmd_mode1": ("DMD, mode 1", 0, 4, 7),
    "dmd_norm": ("DMD, norm of all modes", 0, 5, 4),
    "dmd_max_step": ("DMD, largest step", 0, 1, 6),
    "pca": ("PCA, component 0", 5, 1, 1),
    "sindy2": ("SINDy, degree 2", 2, 0, 2),
    "sindy3": ("SINDy, degree 3", 2, 1, 3),
    "sindy2_signed": ("SINDy, degree 2, signed", 2, 2, 4),
    "sindy3_signed": ("SINDy, degree 3, signed", 2, 3, 7),
    "saliency": ("saliency", 3, 2, 4),
    "integrated_gradients": ("integrated gradients", 1, 3, 3),
    "edge_gradient": ("edge gradient", 4, 1, 6),
    "always": ("always yes", 7, 2, 5),
    "random": ("random", 7, 4, 1),
    "degree": ("contacts of a person", 7, 1, 2),
    "input_flag": ("infected at the end", 7, 3, 6),
    "count_change": ("change of the count", 7, 0, 7),
    "contact_count": ("counts of contacts", 7, 5, 4),
}
NETWORKS = {
    "highschool2012": "high school",
    "primaryschool": "primary school",
    "hospital": "hospital",
    "synthetic": "synthetic",
}


def label(explainer: str) -> str:
    """How figures call an explainer; unknown names stay as they are."""
    return _STYLES[explainer][0] if explainer in _STYLES else explainer


def chosen(explainer: str, mode: int, side: str) -> str:
    """As :func:`label`, with the mode or component that was chosen.

    >>> chosen("dmd", 3, "left"), chosen("pca", 1, "right"), chosen("always", 3, "left")
    ('DMD, left mode 3', 'PCA, component 1', 'always yes')
    """
    if explainer == "dmd":
        return f"DMD, {'left ' if side == 'left' else ''}mode {mode}"
    return f"PCA, component {mode}" if explainer == "pca" else label(explainer)


def style(explainer: str) -> tuple[str, str, str]:
    """Colour, dash and symbol of an explainer."""
    _, colour, dash, symbol = _STYLES.get(explainer, ("", 6, 4, 0))
    return viz.PALETTE[colour], viz.DASHES[dash], viz.SYMBOLS[symbol]


def place(network: str) -> str:
    """How figures call a network."""
    return NETWORKS.get(network, network)
