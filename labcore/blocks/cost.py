"""What a vision transformer costs: FLOPs by formula, saved activations by measurement.

One multiply-add is two FLOPs; norms, GELU and softmax are not counted, as in every published
figure. With n tokens in, m out (m = n where nothing is dropped), width D and MLP ratio r a layer's
forward pass takes

    query, key, value   2 n D^2 * 3
    output              2 m D^2
    MLP                 2 m D^2 * 2 r
    attention           4 m n D

Backward: the gradient of the input costs the linear part once and attention twice; the gradient of
the weights the linear part once more, in trainable layers only. Layers below the lowest trainable
one need no backward pass when the embedding is frozen.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ViTSpec:
    """Sizes that the FLOPs depend on.

    Raises:
        ValueError: a size that is not positive.
    """

    depth: int
    hidden_size: int
    num_tokens: int
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        for name in ("depth", "hidden_size", "num_tokens", "mlp_ratio"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class LayerFlops:
    """FLOPs of one layer for one picture."""

    forward: float
    input_gradient: float
    weight_gradient: float


@dataclass(frozen=True)
class Flops:
    """FLOPs of one picture in one training step.

    Attributes:
        layers: One entry a layer, first to last.
    """

    layers: tuple[LayerFlops, ...]

    @property
    def forward(self) -> float:
        """Forward pass."""
        return sum(layer.forward for layer in self.layers)

    @property
    def backward(self) -> float:
        """Gradients of inputs and weights."""
        return sum(layer.input_gradient + layer.weight_gradient for layer in self.layers)

    @property
    def total(self) -> float:
        """Both."""
        return self.forward + self.backward


DEIT_TINY = ViTSpec(12, 192, 197)
DEIT_SMALL = ViTSpec(12, 384, 197)
VIT_BASE = ViTSpec(12, 768, 197)


def training_flops(
    spec: ViTSpec,
    tokens_per_layer: Sequence[int] | None = None,
    trainable_layers: Sequence[int] | None = None,
    *,
    freeze_embedding: bool = True,
    tokens_out: Sequence[int] | None = None,
    reached_from: int | None = None,
) -> Flops:
    """FLOPs of one step for one picture, blocks only.

    Args:
        spec: Sizes.
        tokens_per_layer: Tokens (prefix included) that enter each layer; all by default.
        trainable_layers: Zero-based layers that train; all by default.
        freeze_embedding: Layers below the lowest trainable one then need no backward pass.
        tokens_out: Tokens whose result each layer computes. By default those that entered: the
            published method. Fewer where dropped tokens are left out before attention and MLP.
        reached_from: Lowest layer with a backward pass, where that is not the lowest trainable
            one: adapters ask for input gradients and hardly any weight gradients.

    Raises:
        ValueError: lists of another length than ``depth``, layers outside it, tokens out of range.

    >>> round(training_flops(DEIT_SMALL).forward / 1e9, 3)
    9.081
    """
    depth = spec.depth
    entering = _tokens(tokens_per_layer, [spec.num_tokens] * depth, "tokens_per_layer")
    leaving = _tokens(tokens_out, entering, "tokens_out")
    trained = set(range(depth)) if trainable_layers is None else set(trainable_layers)
    if not trained <= set(range(depth)):
        raise ValueError(f"trainable_layers {sorted(trained)} must be within 0..{depth - 1}")
    if any(not 1 <= out <= n for n, out in zip(entering, leaving, strict=True)):
        raise ValueError("every layer needs 1 <= tokens_out <= tokens_per_layer")
    lowest = min(trained, default=depth) if freeze_embedding else 0
    lowest = lowest if reached_from is None else reached_from
    unit, layers = 2 * spec.hidden_size**2, []
    for layer, (n, out) in enumerate(zip(entering, leaving, strict=True)):
        linear = unit * (3 * n + (1 + 2 * spec.mlp_ratio) * out)
        attention = 4.0 * n * out * spec.hidden_size
        reached = layer >= lowest
        layers.append(
            LayerFlops(
                forward=linear + attention,
                input_gradient=linear + 2 * attention if reached else 0.0,
                weight_gradient=linear if layer in trained else 0.0,
            )
        )
    return Flops(tuple(layers))


def _tokens(given: Sequence[int] | None, default: list[int], name: str) -> list[int]:
    if given is None:
        return default
    if len(given) != len(default):
        raise ValueError(f"{name} has {len(given)} entries, the model {len(default)} layers")
    return [int(n) for n in given]


def kept_tokens(
    budgets: Sequence[float], num_patches: int, *, num_prefix_tokens: int = 1
) -> tuple[int, ...]:
    """Tokens that enter each layer when layer l keeps ``floor(b_l n_l)`` patches for the next.

    >>> kept_tokens([0.9] * 6, 196)
    (197, 177, 159, 143, 128, 115)
    """
    patches, entering = num_patches, []
    for budget in budgets:
        entering.append(num_prefix_tokens + patches)
        patches = keep_count(budget, patches)
    return tuple(entering)


def keep_count(budget: float, patches: int) -> int:
    """``max(1, floor(b n))``; a hair is added so that 0.9 * 10 is nine and not eight.

    >>> keep_count(0.9, 10), keep_count(0.01, 10)
    (9, 1)
    """
    return max(1, int(budget * patches + 1e-9))


@dataclass
class SavedBytes:
    """Bytes that autograd held for the backward pass, each storage once."""

    total: int = 0
    tensors: int = 0
    _seen: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def forget(self) -> None:
        """Let the storages go; the count stays."""
        self._seen.clear()


@contextmanager
def saved_activation_bytes(model: nn.Module | None = None) -> Iterator[SavedBytes]:
    """Count what the forward passes inside the block save for backward.

    Views of one storage count once; parameters and buffers of ``model`` are left out.

    >>> x = torch.ones(8, 4, requires_grad=True)
    >>> with saved_activation_bytes() as saved:
    ...     y = (x * x).sum()
    >>> saved.total
    128
    """
    saved = SavedBytes()
    own = set() if model is None else {
        t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())
    }  # fmt: skip

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        pointer = storage.data_ptr()
        if pointer and pointer not in own and pointer not in saved._seen:
            saved._seen[pointer] = tensor.detach()  # held, so that no other storage takes its place
            saved.total += storage.nbytes()
            saved.tensors += 1
        return tensor.detach()  # a result that held itself would never be freed

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield saved
    finally:
        saved.forget()
