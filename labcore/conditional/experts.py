"""The experts of a mixture: E small MLPs of one size whose weights are stacked, run in three ways.

All on equally many rows (two batched products), on groups of rows sorted by expert (no padding), or
one expert by itself. Gated experts (SwiGLU, no biases) are those of Mixtral, OLMoE and Qwen-MoE.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Piece = tuple[Tensor, Tensor | None, Tensor, Tensor | None]


class Experts(nn.Module):
    """E MLPs: GELU(x W1 + b1) W2 + b2, or (silu(x Wg) · x Wu) W2 when gated.

    Weights are stacked: ``w1`` (E, D, H), gated (E, D, 2H) with Wg first; ``w2`` (E, H, D).

    Args:
        num_experts: E.
        hidden_size: D.
        intermediate_size: H.
        gated: SwiGLU without biases.
        generator: For the initial weights.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        num_experts: int,
        hidden_size: int,
        intermediate_size: int,
        *,
        gated: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(num_experts, hidden_size, intermediate_size) < 1:
            raise ValueError(
                f"sizes must be at least 1, got {num_experts}, {hidden_size}, {intermediate_size}"
            )
        self.gated = gated
        width = 2 * intermediate_size if gated else intermediate_size
        self.w1 = nn.Parameter(torch.empty(num_experts, hidden_size, width))
        self.w2 = nn.Parameter(torch.empty(num_experts, intermediate_size, hidden_size))
        self.b1 = None if gated else nn.Parameter(torch.zeros(num_experts, intermediate_size))
        self.b2 = None if gated else nn.Parameter(torch.zeros(num_experts, hidden_size))
        nn.init.normal_(self.w1, std=hidden_size**-0.5, generator=generator)
        nn.init.normal_(self.w2, std=intermediate_size**-0.5, generator=generator)

    def forward(self, x: Float[Tensor, "e c d"]) -> Float[Tensor, "e c d"]:
        """Expert e on row e, all at once."""
        return _batched_linear(
            self.activate(_batched_linear(x, self.w1, self.b1)), self.w2, self.b2
        )

    def grouped(self, x: Float[Tensor, "a d"], counts: list[int]) -> Float[Tensor, "a d"]:
        """Rows sorted by expert, ``counts[e]`` of them for expert e."""
        return grouped_linear(
            self.activate(grouped_linear(x, self.w1, self.b1, counts)), self.w2, self.b2, counts
        )

    def pieces(self) -> list[Piece]:
        """Weights of each expert; unbound once, so that backward stacks their gradients once."""
        stacked = (self.w1, self.b1, self.w2, self.b2)
        count = len(self.w1)
        lists = ([None] * count if w is None else list(w.unbind(0)) for w in stacked)
        return list(zip(*lists, strict=True))  # type: ignore[arg-type]

    def one(self, x: Float[Tensor, "n d"], piece: Piece) -> Float[Tensor, "n d"]:
        """The expert with these weights on some tokens."""
        w1, b1, w2, b2 = piece
        hidden = x @ w1 if b1 is None else torch.addmm(b1, x, w1)
        hidden = self.activate(hidden)
        return hidden @ w2 if b2 is None else torch.addmm(b2, hidden, w2)

    def flops(self, rows: float) -> float:
        """FLOPs of so many rows, each on one expert: 4 D H a row, 6 D H when gated."""
        return 2.0 * rows * (self.w1[0].numel() + self.w2[0].numel())

    def activate(self, hidden: Tensor) -> Tensor:
        """GELU, or silu of the first half times the second."""
        if not self.gated:
            return F.gelu(hidden)
        gate, up = hidden.chunk(2, dim=-1)
        return F.silu(gate) * up


def _batched_linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return torch.bmm(x, w) if b is None else torch.baddbmm(b[:, None], x, w)


def grouped_linear(
    x: Float[Tensor, "a d"], w: Float[Tensor, "e d h"], b: Tensor | None, counts: list[int]
) -> Float[Tensor, "a h"]:
    """x_g W_e + b_e for consecutive groups of rows, ``counts[e]`` rows for matrix e.

    One call of torch's grouped product where it applies; :func:`grouped_loop` elsewhere.

    >>> w = torch.tensor([[[2.0]], [[10.0]]])
    >>> grouped_linear(torch.ones(3, 1), w, None, [1, 2]).flatten().tolist()
    [2.0, 10.0, 10.0]
    """
    if not has_grouped_kernel(x, w):
        return grouped_loop(x, w, b, counts)
    rows = torch.tensor(counts)
    out = F.grouped_mm(x, w, offs=rows.cumsum(0, dtype=torch.int32))
    return out if b is None else out + b.repeat_interleave(rows, 0, output_size=len(x))


def has_grouped_kernel(x: Tensor, w: Tensor) -> bool:
    """Whether torch's grouped product takes these: single precision, rows of whole 16 bytes."""
    return (
        hasattr(F, "grouped_mm")
        and x.device.type == "cpu"
        and x.dtype == w.dtype == torch.float32
        and w.shape[1] % 4 == 0
        and w.shape[2] % 4 == 0
    )


def grouped_loop(
    x: Float[Tensor, "a d"], w: Float[Tensor, "e d h"], b: Tensor | None, counts: list[int]
) -> Float[Tensor, "a h"]:
    """:func:`grouped_linear` in any precision, a product a group.

    Products and gradients are written straight into their place of one result: automatic
    differentiation of a loop would allocate and stack a gradient for every group.
    """
    out: Tensor = _Grouped.apply(x, w, b, counts)
    return out


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, counts: list[int]) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.counts, ctx.biased = counts, b is not None
        out = x.new_empty(len(x), w.shape[2])
        groups = zip(x.split(counts), w.unbind(0), out.split(counts), strict=True)
        for e, (rows, weight, place) in enumerate(groups):
            if b is None:
                torch.mm(rows, weight, out=place)
            else:
                torch.addmm(b[e], rows, weight, out=place)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, w = ctx.saved_tensors
        grad = grad.contiguous()
        by_x, by_w = torch.empty_like(x), torch.empty_like(w)
        by_b = w.new_empty(len(w), w.shape[2]) if ctx.biased else None
        rows, above = x.split(ctx.counts), grad.split(ctx.counts)
        for e, place in enumerate(by_x.split(ctx.counts)):
            torch.mm(above[e], w[e].t(), out=place)
            torch.mm(rows[e].t(), above[e], out=by_w[e])
            if by_b is not None:
                torch.sum(above[e], 0, out=by_b[e])
        return by_x, by_w, by_b, None
