"""The Mamba block (arXiv 2312.00752): projections, a short convolution, a selective scan, a gate.

Parameters carry the names of the public implementations, so that their weights can be loaded. The
scan itself is in :mod:`.selective`.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.blocks.selective import mamba_scan


class Cache(NamedTuple):
    """What one step of a block needs from the past: state (b, e, n), newest inputs (b, w-1, e)."""

    h: Tensor
    inputs: Tensor


class MambaBlock(nn.Module):
    """One Mamba block, (b, t, d) -> (b, t, d).

    Args:
        d_model: Width d.
        d_state: State size n of each channel, 1 or more.
        expand: Channels are ``expand * d_model``.
        d_conv: Width of the causal convolution.
        dt_rank: Rank of the step size's projection; ``"auto"`` is ``ceil(d / 16)``.
        discretization: As in :func:`mamba_scan`.
        method: As in :func:`mamba_scan`.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        expand: int = 2,
        d_conv: int = 4,
        dt_rank: int | Literal["auto"] = "auto",
        *,
        discretization: str = "euler",
        method: str = "auto",
    ) -> None:
        super().__init__()
        if min(d_model, d_state, expand, d_conv) < 1:
            raise ValueError(f"sizes must be 1 or more: {d_model}, {d_state}, {expand}, {d_conv}")
        e = expand * d_model
        self.rank = math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank
        self.d_state, self.discretization, self.method = d_state, discretization, method
        self.in_proj = nn.Linear(d_model, 2 * e, bias=False)
        self.conv1d = nn.Conv1d(e, e, d_conv, groups=e, padding=d_conv - 1)
        self.x_proj = nn.Linear(e, self.rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.rank, e)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(e, 1))
        self.D = nn.Parameter(torch.ones(e))
        self.out_proj = nn.Linear(e, d_model, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        dt = torch.exp(torch.empty(e).uniform_(math.log(1e-3), math.log(1e-1))).clamp_min(1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus gives dt again

    def forward(self, x: Tensor) -> Tensor:
        """All steps at once."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self._convolved(u))
        delta, B, C = self.selection(u)
        y = mamba_scan(
            u,
            delta,
            -torch.exp(self.A_log),
            B,
            C,
            self.D,
            method=self.method,
            discretization=self.discretization,
        )
        out: Tensor = self.out_proj(y * F.silu(z))
        return out

    def selection(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step sizes (b, t, e), what is written (b, t, n) and read (b, t, n), from the input."""
        low, B, C = self.x_proj(u).split([self.rank, self.d_state, self.d_state], dim=-1)
        return F.softplus(self.dt_proj(low)), B.contiguous(), C.contiguous()

    def inner(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(u, delta, B, C) that the scan sees, for pictures."""
        u = F.silu(self._convolved(self.in_proj(x).chunk(2, dim=-1)[0]))
        return (u, *self.selection(u))

    @property
    def _bias(self) -> Tensor:
        assert self.conv1d.bias is not None
        return self.conv1d.bias

    def _convolved(self, u: Tensor) -> Tensor:
        """The causal depthwise convolution, tap by tap: short sequences, wide channels."""
        taps, t = self.conv1d.weight[:, 0], u.shape[1]  # (e, w)
        width = taps.shape[1]
        if t > 64:
            return self.conv1d(u.transpose(1, 2))[..., :t].transpose(1, 2)
        out = self._bias + u * taps[:, -1]
        for back in range(1, min(width, t)):
            out = out + F.pad(u[:, :-back] * taps[:, width - 1 - back], (0, 0, back, 0))
        return out

    def init_cache(self, batch: int) -> Cache:
        """The cache before the first step."""
        e, n = self.A_log.shape
        like = self.A_log
        return Cache(
            like.new_zeros(batch, e, n), like.new_zeros(batch, self.conv1d.kernel_size[0] - 1, e)
        )

    def step(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """One step, (b, d) -> (b, d), in constant memory."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        window = torch.cat((cache.inputs, u[:, None]), 1)  # (b, w, e)
        mixed = torch.einsum("bwe,ew->be", window, self.conv1d.weight[:, 0]) + self._bias
        u = F.silu(mixed)[:, None]
        delta, B, C = self.selection(u)
        rates = -torch.exp(self.A_log)
        y, h = mamba_scan(
            u,
            delta,
            rates,
            B,
            C,
            self.D,
            h0=cache.h,
            return_state=True,
            discretization=self.discretization,
        )
        return self.out_proj(y[:, 0] * F.silu(z)), Cache(h, window[:, 1:])


class Bidirectional(nn.Module):
    """Two sequence models, one in each direction, their outputs added.

    Args:
        forward_block: Reads from the first token on.
        backward_block: Reads from the last token on; None for ``mode="none"``.
        mode: ``true``; ``none`` (forward only); or ``as_published``, which repeats a slip in the
            authors' code: the backward output is replaced by the flipped forward output, so the
            backward block gets no gradient.

    Raises:
        ValueError: unknown mode, or a missing backward block.
    """

    def __init__(
        self, forward_block: nn.Module, backward_block: nn.Module | None, mode: str = "true"
    ) -> None:
        super().__init__()
        if mode not in ("true", "none", "as_published"):
            raise ValueError(f"mode must be true, none or as_published, got {mode!r}")
        if mode != "none" and backward_block is None:
            raise ValueError(f"mode {mode!r} needs a backward block")
        self.mode, self.forward_block, self.backward_block = mode, forward_block, backward_block

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        ahead: Tensor = self.forward_block(x)
        if self.mode == "none" or self.backward_block is None:
            return ahead
        back: Tensor = self.backward_block(x.flip(1)).flip(1)
        return ahead + (ahead.flip(1) + 0 * back if self.mode == "as_published" else back)
