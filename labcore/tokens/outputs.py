"""What the device decides, and what the server answers."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """What the device decided.

    Attributes:
        tokens: All patch tokens at the split (b, t, d).
        cls: The device's class token there (b, 1, d).
        mask: Which are sent (b, t), with a gradient for gates in training.
        counted: The mask as the rate loss sees it (b, t).
        score: Score of each token (b, t); NaN where nothing was selected.
        threshold: Threshold of each image (b,); NaN without one.
        per_layer_keep: The mask after each gated layer, in order.
        budget: The rate asked for (b,).
    """

    tokens: Float[Tensor, "b t d"]
    cls: Float[Tensor, "b 1 d"]
    mask: Float[Tensor, "b t"]
    counted: Float[Tensor, "b t"]
    score: Float[Tensor, "b t"]
    threshold: Float[Tensor, " b"]
    per_layer_keep: tuple[Float[Tensor, "b t"], ...]
    budget: Float[Tensor, " b"]


@dataclass(frozen=True)
class ViTOutput:
    """Answer of the server, and what it was told.

    Attributes:
        logits: (b, classes).
        keep: Patch tokens that were sent (b, t).
        rates: Their share (b,); a class token that is sent counts.
        mask: The mask with its gradient (b, t).
        counted: The mask as the rate loss sees it (b, t).
        per_layer_keep: The mask after each gated layer.
    """

    logits: Float[Tensor, "b c"]
    keep: Bool[Tensor, "b t"]
    rates: Float[Tensor, " b"]
    mask: Float[Tensor, "b t"]
    counted: Float[Tensor, "b t"]
    per_layer_keep: tuple[Float[Tensor, "b t"], ...]
