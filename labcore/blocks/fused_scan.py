"""The selective scan tile by tile, with its own gradient.

A tile is some rows of the batch at some steps. ``h_t = w_t + a_t h_{t-1}`` forwards and
``g_t = C_t gy_t + a_{t+1} g_{t+1}`` backwards walk step by step; all else is done for a whole tile
at once, in memory that stays in the cache and serves every tile. Decays and states are computed
again in the backward pass: kept is only the state that enters each tile. Nothing is divided, so
nothing overflows.
"""

from typing import Any

import torch
from torch import Tensor

TILE = 1 << 19  # numbers in a tile, measured: smaller tiles make more calls, larger ones miss
WALK = 1 << 15  # numbers in one step of a tile, if the batch has as many


class FusedScan(torch.autograd.Function):
    """``y_t = h_t C_t`` of ``h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t``, from h = 0.

    Shapes: u and delta (b, t, e), A (e, n), B and C (b, t, n). Source: arXiv 2312.00752.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """Outputs (b, t, e)."""
        rates, y, entered = A.T.contiguous(), torch.empty_like(u), list[Tensor]()
        tiles, memory = _tiles(u, rates), _memory(u, rates, 2)
        for rows, steps in tiles:
            part, state = (rows, steps), entered[-1] if steps.start else None
            _, h = _states(memory, delta[part], delta[part] * u[part], rates, B[part], state)
            y[part] = (C[part][:, :, None] @ h)[:, :, 0]
            if steps.stop < u.shape[1]:
                entered.append(h[:, -1].clone())
        ctx.save_for_backward(u, delta, rates, B, C, *entered)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """Gradients of all five inputs."""
        u, delta, rates, B, C, *entered = ctx.saved_tensors
        gy, memory = grads[0].contiguous(), _memory(u, rates, 4)
        g_u, g_delta, g_B, g_C = (torch.empty_like(x) for x in (u, delta, B, C))
        g_rates, carry = torch.zeros_like(rates), None
        for rows, steps in _tiles(u, rates)[::-1]:
            part, state = (rows, steps), entered.pop() if steps.start else None
            d, wrote = delta[part], delta[part] * u[part]
            a, h = _states(memory, d, wrote, rates, B[part], state)
            g, free = (x.view_as(h) for x in memory[2:, : h.numel()])
            torch.mul(C[part][..., None], gy[part][:, :, None], out=g)
            _walk_back(a, g, carry if steps.stop < u.shape[1] else None)
            torch.sum(torch.mul(h, gy[part][:, :, None], out=free), -1, out=g_C[part])
            torch.sum(torch.mul(g, wrote[:, :, None], out=free), -1, out=g_B[part])
            g_wrote = (B[part][:, :, None] @ g)[:, :, 0]
            carry = a.mul_(g)[:, 0].clone()  # what a state owes to the one before
            q = _times_before(a, h, state, out=g)  # gradient of the exponents delta A
            torch.sum(torch.mul(q, rates, out=free), 2, out=g_delta[part])
            g_delta[part].addcmul_(g_wrote, u[part])
            torch.mul(g_wrote, d, out=g_u[part])
            g_rates += q.mul_(d[:, :, None]).sum((0, 1))
        return g_u, g_delta, g_rates.T, g_B, g_C


def _tiles(u: Tensor, rates: Tensor) -> list[tuple[slice, slice]]:
    """Rows and steps of every tile, the steps of one set of rows in order."""
    (batch, length, _), each = u.shape, rates.numel()
    count, span = _sizes(batch, length, each)
    return [
        (slice(i, min(i + count, batch)), slice(j, min(j + span, length)))
        for i in range(0, batch, count)
        for j in range(0, length, span)
    ]


def _sizes(batch: int, length: int, each: int) -> tuple[int, int]:
    count = min(batch, max(1, WALK // each, TILE // (each * length)))
    return count, min(length, max(1, TILE // (count * each)))


def _memory(u: Tensor, rates: Tensor, arrays: int) -> Tensor:
    """Room for the arrays of one tile, a row each."""
    count, span = _sizes(u.shape[0], u.shape[1], rates.numel())
    return u.new_empty(arrays, count * span * rates.numel())


def _states(
    memory: Tensor, delta: Tensor, wrote: Tensor, rates: Tensor, B: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Decays and states (r, t, n, e) of a tile, in ``memory``; ``state`` is what enters."""
    shape = (*delta.shape[:2], *rates.shape)
    size = delta.shape[0] * delta.shape[1] * rates.numel()
    a, h = (x.view(shape) for x in memory[:2, :size])
    torch.mul(delta[:, :, None], rates, out=a).exp_()
    torch.mul(B[..., None], wrote[:, :, None], out=h)
    states, decays = h.unbind(1), a.unbind(1)
    if state is not None:
        states[0].addcmul_(decays[0], state)
    for before, now, decay in zip(states, states[1:], decays[1:], strict=False):
        now.addcmul_(decay, before)
    return a, h


def _walk_back(a: Tensor, g: Tensor, carry: Tensor | None) -> None:
    """Gradients of the states from what each step reads, in place; ``carry`` comes from later."""
    later, decays = g.unbind(1)[::-1], a.unbind(1)[:0:-1]
    if carry is not None:
        later[0].add_(carry)
    for after, now, decay in zip(later, later[1:], decays, strict=False):
        now.addcmul_(decay, after)


def _times_before(x: Tensor, h: Tensor, state: Tensor | None, *, out: Tensor) -> Tensor:
    """``x_t h_{t-1}`` at every step."""
    torch.mul(x[:, 1:], h[:, :-1], out=out[:, 1:])
    if state is None:
        out[:, 0] = 0
    else:
        torch.mul(x[:, 0], state, out=out[:, 0])
    return out
