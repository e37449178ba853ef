"""Linear recurrences and the layers made of them (chapter 13 of the book).

The one operation is ``h_t = a_t * h_{t-1} + b_t``, element by element. Because two steps compose to
one, ``(a', b') after (a, b) = (a' a, a' b + b')``, it is an associative scan and need not be walked
one step at a time. :func:`scan` has three methods with equal results: the loop (the reference),
doubling (log2 t rounds on the whole sequence) and chunks (two short loops, each over all chunks at
once; the default, in memory of the output's size). Any length, any dtype, complex factors too.

Built on it: the linear recurrent unit (Orvieto et al., arXiv 2303.06349) and the selective scan of
Mamba (Gu and Dao, arXiv 2312.00752); beside it linear attention (Katharopoulos et al., arXiv
2006.16236), whose state is a matrix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

METHODS = ("loop", "doubling", "chunked")
CHUNK = 16  # steps: measured, 8 to 16 are near each other from 1024 to 16384 steps
WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}


def scan(
    a: Tensor,
    b: Tensor,
    *,
    method: str = "chunked",
    dim: int = 1,
    initial: Tensor | None = None,
) -> Tensor:
    """All states of ``h_t = a_t * h_{t-1} + b_t`` with ``h_{-1} = initial`` (zero by default).

    Differentiable in every argument, as often as wanted. Source: section 13.3.

    Args:
        a: Factors, any shape that broadcasts to ``b``'s, real or complex.
        b: Inputs, ``(batch, time, ...)``.
        method: How to compute it; the results agree up to rounding.
        dim: The axis of time.
        initial: State before the first step, ``b``'s shape without the axis of time.

    Returns:
        The states, ``b``'s shape, in the wider of the two dtypes.

    Raises:
        ValueError: Integer inputs, shapes that do not broadcast, no time axis, unknown method.

    >>> scan(torch.tensor(0.5), torch.ones(1, 4)).tolist()
    [[1.0, 1.5, 1.75, 1.875]]
    """
    a, b, dim = _checked(a, b, dim)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    flat = b.ndim == 1
    a, b = (x[None] if flat else x.movedim(dim, 1) for x in (a, b))
    if initial is not None:
        wanted = b.shape[:1] + b.shape[2:]
        if initial.numel() != wanted.numel():
            raise ValueError(
                f"initial has shape {tuple(initial.shape)}, one state is {tuple(wanted)}"
            )
        first = b[:, :1] + a[:, :1] * initial.reshape(wanted)[:, None]
        b = torch.cat((first, b[:, 1:]), 1)
    states = {"loop": _loop, "doubling": _doubling, "chunked": _chunks}[method](a, b)
    return states[0] if flat else states.movedim(1, dim)


def _checked(a: Tensor, b: Tensor, dim: int) -> tuple[Tensor, Tensor, int]:
    for name, x in (("a", a), ("b", b)):
        if not (x.is_floating_point() or x.is_complex()):
            raise ValueError(f"{name} must be real or complex floating point, got {x.dtype}")
    if not -b.ndim <= dim < b.ndim:
        raise ValueError(f"dim={dim} is no axis of b with shape {tuple(b.shape)}")
    try:
        a = a.expand(b.shape)
    except RuntimeError:
        raise ValueError(
            f"a of shape {tuple(a.shape)} does not broadcast to b of shape {tuple(b.shape)}"
        ) from None
    kind = torch.result_type(a, b)
    return a.to(kind), b.to(kind), dim % b.ndim


def _loop(a: Tensor, b: Tensor) -> Tensor:
    """The definition, one step at a time; the reference of the others."""
    if not b.shape[1]:
        return b.clone()
    h, states = torch.zeros_like(b[:, 0]), []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, 1)


def _doubling(a: Tensor, b: Tensor) -> Tensor:
    """Each round composes every step with the one ``reach`` before it (Hillis and Steele, 1986)."""
    reach, length = 1, b.shape[1]
    while reach < length:
        b = torch.cat((b[:, :reach], b[:, reach:] + a[:, reach:] * b[:, :-reach]), 1)
        a = torch.cat((a[:, :reach], a[:, reach:] * a[:, :-reach]), 1)
        reach *= 2
    return b


def _chunks(a: Tensor, b: Tensor) -> Tensor:
    if not b.numel():
        return b.clone()
    shape = b.shape
    flat = (shape[0], shape[1], -1)
    states: Tensor = _Chunked.apply(a.reshape(flat), b.reshape(flat), False)
    return states.view(shape)


class _Chunked(torch.autograd.Function):
    """The scan by chunks; its gradient is the same scan, run backwards in time.

    With G the gradient of the states, ``g_t = G_t + conj(a_{t+1}) g_{t+1}`` is that of ``b`` and
    ``g_t conj(h_{t-1})`` that of ``a``.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, backwards: bool) -> Tensor:
        h = chunked_states(a, b, backwards=backwards)
        ctx.backwards = backwards
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, h = ctx.saved_tensors
        step = 1 if ctx.backwards else -1  # where the state that entered step t stands
        factors = _moved(a.conj() if a.is_complex() else a, -step)
        g: Tensor = _Chunked.apply(factors, grads[0], not ctx.backwards)
        if not ctx.needs_input_grad[0]:
            return None, g, None
        before = _moved(h, step)
        return g * (before.conj() if before.is_complex() else before), g, None


def _moved(x: Tensor, by: int) -> Tensor:
    """``x[:, t + by]`` at every t, zero beyond the ends."""
    pad = (0, 0, 0, 1) if by > 0 else (0, 0, 1, 0)
    return F.pad(x[:, 1:] if by > 0 else x[:, :-1], pad)


def chunked_states(a: Tensor, b: Tensor, *, backwards: bool = False) -> Tensor:
    """The scan itself, without autograd: ``a`` and ``b`` are ``(batch, time, features)``.

    Two passes over chunks of ``CHUNK`` steps, all chunks side by side. The first finds only where
    each chunk would end if it began at zero, and the product of its factors; a scan over these ends
    (again by chunks, while they are many) gives the state that enters each chunk; the second pass
    walks from there and writes every state once. Inside a chunk the arithmetic is the loop's; the
    ends are carried in twice the precision, or their rounding would come on top of the loop's.
    Steps that fill no chunk are walked one by one after the others.
    """
    h = torch.empty(b.shape, dtype=b.dtype, device=b.device)
    length = b.shape[1]
    if length <= 2 * CHUNK:
        _walk(a, b, h, 1, backwards)
        return h
    spare = length % CHUNK
    cut = spare if backwards else length - spare
    early, late = slice(0, cut), slice(cut, length)
    whole, rest = (late, early) if backwards else (early, late)
    a_, b_, h_ = (x[:, whole].unflatten(1, (-1, CHUNK)) for x in (a, b, h))
    ends = chunked_states(*_ends(a_, b_, backwards), backwards=backwards).to(b.dtype)
    _walk(a_, b_, h_, 2, backwards, ends)
    if spare:
        last = ends[:, 0] if backwards else ends[:, -1]
        _walk(a[:, rest], b[:, rest], h[:, rest], 1, backwards, last)
    return h


def _ends(a: Tensor, b: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
    """Product of every chunk's factors, and where the chunk ends if it begins at zero.

    The last step is taken in the wider dtype, so that nothing is rounded before the carry is added.
    """
    turn = -1 if backwards else 1
    (_, *factors), (first, *inputs) = a.unbind(2)[::turn], b.unbind(2)[::turn]
    end, last = first.clone(), factors.pop()
    for factor, added in zip(factors, inputs[:-1], strict=True):
        torch.addcmul(added, factor, end, out=end)
    end = end.to(WIDER.get(b.dtype, b.dtype)).mul_(last).add_(inputs[-1])
    return a.prod(2).to(end.dtype), end


def _walk(
    a: Tensor, b: Tensor, h: Tensor, dim: int, backwards: bool, before: Tensor | None = None
) -> None:
    """The loop over axis ``dim``, into ``h``; ``before`` is the state that enters.

    Over chunks (axis 2) it is the state at the end of each, which enters the next one.
    """
    turn = -1 if backwards else 1
    (factor, *factors), (added, *inputs), (now, *later) = (x.unbind(dim)[::turn] for x in (a, b, h))
    now.copy_(added)
    if before is not None and dim == 1:
        now.addcmul_(factor, before)
    elif before is not None:
        come, go = (slice(1, None), slice(0, -1))[::turn]
        now[:, come].addcmul_(factor[:, come], before[:, go])
    for factor, added, following in zip(factors, inputs, later, strict=True):
        torch.addcmul(added, factor, now, out=following)
        now = following


def compose(first: tuple[Tensor, Tensor], then: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One step that does what two do: ``(Z, z)`` then ``(V, v)`` is ``(V Z, V z + v)``.

    The associative operator of section 13.3, with full matrices.

    Args:
        first: Transition ``(..., n, n)`` and input ``(..., n)`` of the earlier step.
        then: Those of the later step.

    >>> double, half = torch.tensor([[2.0]]), torch.tensor([[0.5]])
    >>> [x.flatten().tolist() for x in compose((double, torch.ones(1)), (half, torch.ones(1)))]
    [[1.0], [1.5]]
    """
    (earlier, z), (later, v) = first, then
    return later @ earlier, (later @ z[..., None])[..., 0] + v


def impulse_response(lam: complex | Tensor, n: int) -> Complex[Tensor, "... n"]:
    """What one unit of input leaves in the state: ``lam**0 .. lam**(n - 1)``.

    Args:
        lam: Eigenvalue, or a tensor of them.
        n: Steps, at least 1.

    Raises:
        ValueError: ``n`` is not positive.

    >>> [round(x, 6) for x in impulse_response(0.9, 3).real.tolist()]
    [1.0, 0.9, 0.81]
    """
    if n < 1:
        raise ValueError(f"n must be at least 1 step, got {n}")
    value = torch.as_tensor(lam, dtype=torch.complex128)
    return value[..., None] ** torch.arange(n)


def selective_scan(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "..."],
    A: Inexact[Tensor, "..."],
    B: Inexact[Tensor, "..."],
    C: Inexact[Tensor, "..."],
    D: Float[Tensor, "..."] | None = None,
    *,
    method: str = "chunked",
) -> Float[Tensor, "b t d"]:
    """Mamba's layer: a diagonal state-space model whose step size the input chooses.

    ``h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t`` and ``y_t = Re <C_t, h_t> + D x_t``, with a
    state of n numbers for each of d channels. With ``A < 0`` a large step forgets and writes, a
    step of 0 keeps the state as it is. Source: arXiv 2312.00752, algorithm 2; section 13.4.

    Args:
        x: Input.
        delta: Step sizes (b, t, d), at least 0.
        A: Rates (d, n), negative (real part) for a state that fades.
        B: What each step writes (b, t, n).
        C: What each step reads (b, t, n).
        D: Skip connection (d), none by default.
        method: As for :func:`scan`.

    Raises:
        ValueError: A negative step size, or shapes that do not fit.
    """
    size = A.shape[-1:]
    wanted = {"delta": x.shape, "A": x.shape[2:] + size, "B": x.shape[:2] + size,
              "C": x.shape[:2] + size, "D": x.shape[2:]}  # fmt: skip
    for (name, shape), given in zip(wanted.items(), (delta, A, B, C, D), strict=True):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} must be {tuple(shape)}, got {tuple(given.shape)}")
    if delta.numel() and bool((delta < 0).any()):
        raise ValueError(
            f"delta must be >= 0, its least value is {delta.min().item():.3g}: apply softplus first"
        )
    factors = torch.exp(delta[..., None] * A)  # (b, t, d, n)
    inputs = (delta * x)[..., None] * B[:, :, None]  # (b, t, d, n)
    states = scan(factors, inputs, method=method)
    y = torch.einsum("btdn,btn->btd", states, C.to(states.dtype))
    y = y.real if y.is_complex() else y
    return y if D is None else y + D * x


@dataclass(frozen=True)
class LRU:
    """Parameters of a linear recurrent unit (arXiv 2303.06349, section 3).

    Attributes:
        nu: ``log`` of minus log of the radius, (n,): the eigenvalue is always inside the circle.
        theta: Angle of the eigenvalue in radians, (n,).
        B: Complex (n, d), what enters.
        C: Complex (e, n), what is read.
        D: Real (e, d), the skip connection.
    """

    nu: Float[Tensor, " n"]
    theta: Float[Tensor, " n"]
    B: Complex[Tensor, "n d"]
    C: Complex[Tensor, "e n"]
    D: Float[Tensor, "e d"]

    @property
    def eigenvalues(self) -> Complex[Tensor, " n"]:
        """``exp(-exp(nu) + i theta)``."""
        return torch.exp(torch.complex(-self.nu.exp(), self.theta))


def lru(
    x: Float[Tensor, "b t _"], params: LRU, *, method: str = "chunked"
) -> Float[Tensor, "b t e"]:
    """The linear recurrent unit: ``s_t = lam s_{t-1} + gamma B x_t``, ``y_t = Re(C s_t) + D x_t``.

    ``gamma = sqrt(1 - |lam|^2)`` keeps the state's size that of the input, however long the memory.

    Raises:
        ValueError: Features that the parameters are not made for.
    """
    if x.shape[2] != params.B.shape[1]:
        raise ValueError(f"the parameters take {params.B.shape[1]} features, x has {x.shape[2]}")
    lam = params.eigenvalues
    gamma = (1 - lam.abs().square()).clamp_min(0).sqrt()
    inputs = torch.einsum("nd,btd->btn", params.B, x.to(params.B.dtype)) * gamma
    states = scan(lam, inputs, method=method)
    return torch.einsum("en,btn->bte", params.C, states).real + x @ params.D.T


def elu_plus_one(x: Tensor) -> Tensor:
    """The feature map of arXiv 2006.16236: positive everywhere, so that weights can be formed."""
    return F.elu(x) + 1


def linear_attention(
    query: Float[Tensor, "... t k"],
    key: Float[Tensor, "... _ _"],
    value: Float[Tensor, "... _ v"],
    *,
    feature: Callable[[Tensor], Tensor] = elu_plus_one,
    recurrent: bool = False,
) -> Float[Tensor, "... t v"]:
    """Causal attention with ``exp(q k)`` replaced by ``phi(q) phi(k)``, in either of its two forms.

    Parallel: weights ``phi(Q) phi(K)^T``, zero above the diagonal, rows divided by their sum.
    Recurrent: a state ``S_t = S_{t-1} + phi(k_t) v_t^T``, its norm ``z_t = z_{t-1} + phi(k_t)``,
    and ``y_t = phi(q_t) S_t / phi(q_t) z_t``. Source: section 13.1, arXiv 2006.16236.

    Raises:
        ValueError: Widths or lengths of query, key and value that do not fit.
    """
    if query.shape != key.shape or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(
            "query and key must have one shape, value the same length: got "
            f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        )
    query, key = feature(query), feature(key)
    if not recurrent:
        weights = (query @ key.transpose(-1, -2)).tril()
        return weights @ value / weights.sum(-1, keepdim=True)
    state = torch.zeros(*key.shape[:-2], key.shape[-1], value.shape[-1]).to(value)
    total, outputs = torch.zeros_like(key[..., 0, :]), []
    for t in range(key.shape[-2]):
        q, k, v = query[..., t, :], key[..., t, :], value[..., t, :]
        state = state + k[..., :, None] * v[..., None, :]
        total = total + k
        top = (q[..., None, :] @ state)[..., 0, :]
        outputs.append(top / (q * total).sum(-1, keepdim=True))
    return torch.stack(outputs, -2)
