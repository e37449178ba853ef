"""The selective scan of Mamba with a state to start from and one to hand on, and its relatives.

The recurrence is that of :mod:`labcore.blocks.ssm`. For short sequences in large batches (a node of
a complex reads four tokens) there is a fused form in :mod:`.fused_scan`. Beside it Blelloch's tree,
and Mamba-2's scan as matrix products.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from labcore.blocks.fused_scan import FusedScan
from labcore.blocks.ssm import scan

SCANS = ("auto", "fused", "sequential", "associative", "blelloch", "chunked", "reference")
_SSM = {"sequential": "loop", "associative": "doubling", "chunked": "chunked"}


def mamba_scan(
    u: Float[Tensor, "b t e"],
    delta: Float[Tensor, "..."],
    A: Float[Tensor, "..."],
    B: Float[Tensor, "..."],
    C: Float[Tensor, "..."],
    D: Float[Tensor, "..."] | None = None,
    z: Float[Tensor, "..."] | None = None,
    *,
    h0: Float[Tensor, "..."] | None = None,
    return_state: bool = False,
    method: str = "auto",
    discretization: str = "euler",
) -> Any:
    """``h_t = exp(delta_t A) h_{t-1} + w_t B_t u_t``, ``y_t = h_t C_t + D u_t``, times ``silu(z)``.

    With ``euler`` the weight w is ``delta``, as in every public implementation; with ``zoh`` it is
    ``(exp(delta A) - 1) / A``, the zero-order hold of the paper. They differ by O(delta^2).

    Args:
        u: Input.
        delta: Step sizes (b, t, e), not negative.
        A: Rates (e, n), all negative.
        B: What each step writes, (b, t, n).
        C: What each step reads, (b, t, n).
        D: Skip connection (e,), none by default.
        z: Gate (b, t, e), none by default.
        h0: State before the first step (b, e, n), zero by default.
        return_state: Also return the last state (b, e, n).
        method: ``fused`` (short sequences), ``sequential``, ``associative`` (Hillis-Steele),
            ``blelloch``, ``chunked``, ``reference`` (a float64 loop), or ``auto``.
        discretization: See above.

    Raises:
        ValueError: shapes that do not fit (the sizes are named), an empty sequence, mixed dtypes,
            a rate that is not negative, NaN or negative steps, an unknown name.
    """
    _check_scan(u, delta, A, B, C, D, z, h0, method, discretization)
    plain = h0 is None and not return_state and discretization == "euler"
    if method == "auto":
        method = "fused" if plain else "chunked"
    if method == "fused" and not plain:
        raise ValueError("fused works with euler, without h0 and return_state: use method='auto'")
    last: Tensor | None = None
    if method == "fused":
        y: Tensor = FusedScan.apply(u, delta, A, B, C)
    elif method == "reference":
        u_, d_, a_, b_, c_ = (x.double() for x in (u, delta, A, B, C))
        start = None if h0 is None else h0.double()
        y, last = _scanned(u_, d_, a_, b_, c_, start, "sequential", discretization)
        y, last = y.to(u.dtype), last.to(u.dtype)
    else:
        y, last = _scanned(u, delta, A, B, C, h0, method, discretization)
    if D is not None:
        y = y + D * u
    if z is not None:
        y = y * F.silu(z)
    return (y, last) if return_state else y


def _check_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    h0: Tensor | None,
    method: str,
    discretization: str,
) -> None:
    if method not in SCANS:
        raise ValueError(f"method must be one of {', '.join(SCANS)}, got {method!r}")
    if discretization not in ("euler", "zoh"):
        raise ValueError(f"discretization must be euler or zoh, got {discretization!r}")
    b, t, e = u.shape
    n = A.shape[-1] if A.ndim == 2 else 0
    if t == 0 or n < 1:
        raise ValueError(f"empty input: {t} steps and a state of {n}; both must be 1 or more")
    wanted = {
        "delta": (delta, (b, t, e)),
        "A": (A, (e, n)),
        "B": (B, (b, t, n)),
        "C": (C, (b, t, n)),
        "D": (D, (e,)),
        "z": (z, (b, t, e)),
        "h0": (h0, (b, e, n)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, u of {tuple(u.shape)} wants {shape}"
            )
        if tensor.dtype != u.dtype:
            raise ValueError(f"{name} is {tensor.dtype}, u is {u.dtype}: cast one of them")
    if bool((A >= 0).any()):
        raise ValueError(f"A must be negative, its largest value is {A.max().item():.3g}")
    if not bool(torch.isfinite(delta).all()) or bool((delta < 0).any()):
        raise ValueError("delta holds NaN, infinite or negative steps: apply softplus first")


def _scanned(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    h0: Tensor | None,
    method: str,
    discretization: str,
) -> tuple[Tensor, Tensor]:
    exponent = delta[..., None] * A  # (b, t, e, n)
    inputs = (delta * u)[..., None] * B[:, :, None]
    if discretization == "zoh":
        inputs = inputs * zoh_factor(exponent)
    factors = torch.exp(exponent)
    if method == "blelloch":
        if h0 is not None:
            first = inputs[:, :1] + factors[:, :1] * h0[:, None]
            inputs = torch.cat((first, inputs[:, 1:]), 1)
        states = blelloch(factors, inputs)
    else:
        states = scan(factors, inputs, method=_SSM[method], initial=h0)
    return torch.einsum("bten,btn->bte", states, C), states[:, -1]


def zoh_factor(x: Tensor) -> Tensor:
    """``(exp(x) - 1) / x``, by its series ``1 + x/2 + x^2/6`` where ``|x| < 1e-4``."""
    small = x.abs() < 1e-4
    safe = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, 1 + x / 2 + x * x / 6, torch.expm1(safe) / safe)


def blelloch(a: Tensor, b: Tensor) -> Tensor:
    """The scan in two sweeps of a tree: up for sums of halves, down for what came before.

    Does at most twice the work of the loop, in 2 log2 t rounds; axis 1 is time.
    """
    length = b.shape[1]
    size = 1 << max(0, (length - 1).bit_length())
    pad = [0, 0] * (b.ndim - 2) + [0, size - length]
    levels = [(F.pad(a, pad, value=1.0), F.pad(b, pad))]
    while levels[-1][1].shape[1] > 1:
        fa, fb = levels[-1]
        levels.append((fa[:, 1::2] * fa[:, ::2], fa[:, 1::2] * fb[:, ::2] + fb[:, 1::2]))
    before = torch.zeros_like(levels[-1][1])  # the state that enters each node of the tree
    for fa, fb in reversed(levels[:-1]):
        right = fa[:, ::2] * before + fb[:, ::2]
        before = torch.stack((before, right), 2).flatten(1, 2)
    return (a * before[:, :length]) + b


def combine_counts(length: int) -> dict[str, tuple[int, int]]:
    """Combines and rounds that each algorithm needs for a scan of ``length`` steps.

    >>> combine_counts(4)
    {'sequential': (3, 3), 'hillis-steele': (5, 2), 'blelloch': (6, 4)}
    """
    size = 1 << max(0, (length - 1).bit_length())
    rounds = size.bit_length() - 1
    doubling = sum(length - (1 << i) for i in range(rounds))
    return {
        "sequential": (length - 1, length - 1),
        "hillis-steele": (doubling, rounds),
        "blelloch": (2 * (size - 1), 2 * rounds),
    }


def segsum(log_a: Float[Tensor, "*b t"]) -> Float[Tensor, "*b t t"]:
    """``S[i, j] = log_a[j+1] + ... + log_a[i]`` below the diagonal, 0 on it, -inf above.

    Its exponential is the decay from step j to step i. Summed pair by pair, so that nothing is
    subtracted and nothing overflows (arXiv 2405.21060).
    """
    t = log_a.shape[-1]
    wide = log_a[..., :, None].expand(*log_a.shape, t)
    below = torch.ones(t, t, dtype=torch.bool, device=log_a.device).tril(-1)
    summed = wide.masked_fill(~below, 0.0).cumsum(-2)
    return summed.masked_fill(~torch.ones_like(below).tril(), -math.inf)


def ssd(
    u: Float[Tensor, "b t h p"],
    delta: Float[Tensor, "b t h"],
    a: Float[Tensor, " h"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    *,
    chunk: int = 64,
) -> Float[Tensor, "b t h p"]:
    """The scan of Mamba-2 with one rate a head, as matrix products in chunks (arXiv 2405.21060).

    Inside a chunk ``(decay * C B^T) u``, between chunks one state (p, n) a head.

    Raises:
        ValueError: ``chunk`` below 1, or a rate that is not negative.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be 1 or more, got {chunk}")
    if bool((a >= 0).any()):
        raise ValueError("rates must be negative")
    state = torch.zeros(u.shape[0], u.shape[2], u.shape[3], B.shape[-1], dtype=u.dtype)
    outputs = []
    for i in range(0, u.shape[1], chunk):
        part = slice(i, i + chunk)
        log = delta[:, part] * a  # (b, c, h)
        x, b_, c_ = u[:, part] * delta[:, part, :, None], B[:, part], C[:, part]
        decay = torch.exp(segsum(log.transpose(1, 2)))  # (b, h, c, c)
        inside = torch.einsum("btn,bsn,bhts,bshp->bthp", c_, b_, decay, x)
        reach = torch.exp(log.cumsum(1))
        outputs.append(inside + torch.einsum("btn,bhpn,bth->bthp", c_, state, reach))
        left = torch.exp(log.flip(1).cumsum(1).flip(1) - log)
        written = torch.einsum("bsn,bsh,bshp->bhpn", b_, left, x)
        state = state * reach[:, -1, :, None, None] + written
    return torch.cat(outputs, 1)
