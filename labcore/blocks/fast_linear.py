"""A linear map by oneDNN's matrix product, where that is faster than torch's usual one.

On a CPU torch multiplies float32 matrices by the library it was built with, mostly Intel's MKL,
which uses the widest vector instructions on its own maker's processors only. oneDNN comes with the
same torch and asks what the processor has: on one of AMD's with AVX-512 it was twice as fast, for
the forward pass and for both products of the backward pass. ``lab bench finetuning`` shows what it
is worth on this machine. The result is the same sum in float32, added up in another order. torch's
counter of FLOPs does not see it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Linear = Callable[..., Tensor]
_IN_USE: ContextVar[Linear] = ContextVar("linear map in use", default=F.linear)
_SMALLEST = 2e6  # multiply-adds; below, the longer way to oneDNN costs more than it saves


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias`` as ``torch.nn.functional.linear`` gives it, errors included.

    By oneDNN where torch has it and both are large float32 matrices on the CPU, else torch's own.

    Args:
        x: (..., k).
        weight: (n, k).
        bias: (n,).

    Returns:
        (..., n).

    >>> fast_linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])).item()
    3.5
    """
    if not _gains(x, weight, bias):
        return F.linear(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)
    return out


@contextmanager
def fast_linears(enabled: bool = True) -> Iterator[None]:
    """While this is open, every linear layer of every model goes through :func:`fast_linear`.

    No model is changed: calls of ``torch.nn.functional.linear`` are caught on their way, in this
    thread. A backward pass uses the products of its forward pass, open or not.

    Args:
        enabled: False changes nothing.

    >>> with fast_linears():
    ...     linear_in_use() is fast_linear
    True
    """
    if not enabled:
        yield
        return
    before = _IN_USE.set(fast_linear)
    try:
        with _Caught():
            yield
    finally:
        _IN_USE.reset(before)


def linear_in_use() -> Linear:
    """:func:`fast_linear` inside :func:`fast_linears`, else torch's own."""
    return _IN_USE.get()


class _Linear(torch.autograd.Function):
    """By oneDNN; the two products of its backward pass are linear maps again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad
        ctx.save_for_backward(x if wanted[1] else None, weight if wanted[0] else None)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad, wanted = grads[0], ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        to_x = fast_linear(grad, weight.t()) if wanted[0] else None
        to_weight = fast_linear(rows.t(), x.flatten(0, -2).t()) if wanted[1] else None
        return to_x, to_weight, rows.sum(0) if wanted[2] else None


class _Caught(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return (fast_linear if func is F.linear else func)(*args, **(kwargs or {}))


def _gains(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN takes these and is worth its call; what does not fit is torch's to refuse."""
    given = (x, weight) if bias is None else (x, weight, bias)
    return bool(
        weight.dim() == 2
        and x.dim() > 1
        and x.numel() * weight.shape[0] >= _SMALLEST
        and x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in given)
        and all(type(t) in (Tensor, nn.Parameter) for t in given)
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.is_autocast_enabled("cpu")
    )
