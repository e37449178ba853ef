"""What a step of ALaST may save, what it saw, and what it reports."""

import time
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Savings:
    """Which of the exact savings are used; they change the cost and nothing else.

    Attributes:
        no_graph_prefix: Layers below the lowest drawn one run without a graph.
        early_drop: Dropped tokens are left out of their last block's attention and MLP.
        class_only: The last block computes only what the head reads.
        lean_mlp: A GELU's result is computed again in the backward pass instead of kept.
        fast_products: Large linear maps go through oneDNN (:mod:`labcore.blocks.fast_linear`). It
            has nothing to do with the method and would make any other step faster as well.
    """

    no_graph_prefix: bool = True
    early_drop: bool = True
    class_only: bool = True
    lean_mlp: bool = True
    fast_products: bool = True


@dataclass(frozen=True)
class StepReport:
    """What one step did and cost.

    Attributes:
        loss: Mean loss of the batch.
        layers: Layers that were trained, zero-based.
        tokens: Tokens, prefix included, that entered each layer.
        deltas: How far each layer moved the class token.
        budgets: Budgets after the step.
        flops: FLOPs of one picture as the method states them (:mod:`labcore.blocks.cost`).
        flops_spent: FLOPs of one picture with the exact savings.
        cpu_seconds: CPU time of the whole step; wall time on a GPU.
        saved_bytes: Bytes held for backward; None if they were not counted.
    """

    loss: float
    layers: tuple[int, ...]
    tokens: tuple[int, ...]
    deltas: tuple[float, ...]
    budgets: tuple[float, ...]
    flops: float
    flops_spent: float
    cpu_seconds: float
    saved_bytes: int | None

    def __str__(self) -> str:
        trained = ", ".join(str(layer) for layer in self.layers) or "none"
        saved = "not counted" if self.saved_bytes is None else f"{self.saved_bytes / 1e6:.1f} MB"
        return (
            f"loss {self.loss:.3f}; layers {trained}; {sum(self.tokens) / len(self.tokens):.1f} "
            f"tokens a layer; {self.cpu_seconds:.3f} CPU s; {self.flops / 1e9:.3f} GFLOPs a "
            f"picture ({self.flops_spent / 1e9:.3f} spent); saved for backward: {saved}"
        )


@dataclass
class Trace:
    """What one forward pass saw: tokens and kept patches by layer, deltas."""

    entered: list[int] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    kept: list[Int[Tensor, "b k"] | None] = field(default_factory=list)
    deltas: list[Tensor] = field(default_factory=list)


def seconds_on(device: torch.device) -> float:
    """A clock: CPU time, or wall time with a GPU's work done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
