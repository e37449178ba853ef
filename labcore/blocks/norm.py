"""What keeps deep networks trainable: normalisation, dropout, residual paths (chapter 9).

Functions on tensors with the batch first and features last; the state that batch normalisation
keeps goes in and comes out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Running:
    """The statistics that batch normalisation uses at test time: mean and variance (d,)."""

    mean: Float[Tensor, " d"]
    var: Float[Tensor, " d"]

    @classmethod
    def start(cls, d: int) -> "Running":
        """Mean 0 and variance 1, as torch begins."""
        return cls(torch.zeros(d), torch.ones(d))


def batch_norm(
    x: Float[Tensor, "b d"],
    running: Running,
    *,
    scale: Float[Tensor, " d"] | None = None,
    shift: Float[Tensor, " d"] | None = None,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "b d"], Running]:
    """Each feature to mean 0 and deviation 1 over the batch (section 9.3; arXiv 1502.03167).

    In training the biased variance of the batch divides, and the unbiased one goes into the
    running statistics; at test time those divide and stay as they are.

    Returns:
        (normalised, running statistics after this batch).

    Raises:
        ValueError: A training batch of one row, or statistics of another width.
    """
    if running.mean.shape != x.shape[1:]:
        raise ValueError(f"running statistics have {len(running.mean)} features, x {x.shape[1]}")
    mean, var = running.mean, running.var
    if training:
        if len(x) < 2:
            raise ValueError("a batch of 1 row has no variance: give at least 2 in training")
        mean, var = x.mean(0), x.var(0, correction=0)
        unbiased = var.detach() * len(x) / (len(x) - 1)
        running = Running(
            (1 - momentum) * running.mean + momentum * mean.detach(),
            (1 - momentum) * running.var + momentum * unbiased,
        )
    return _affine((x - mean) / (var + eps).sqrt(), scale, shift), running


def layer_norm(
    x: Float[Tensor, "... d"],
    *,
    scale: Float[Tensor, " d"] | None = None,
    shift: Float[Tensor, " d"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "... d"]:
    """Each row to mean 0 and deviation 1 over its own features (arXiv 1607.06450)."""
    mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return _affine((x - mean) / (var + eps).sqrt(), scale, shift)


def rms_norm(
    x: Float[Tensor, "... d"], *, scale: Float[Tensor, " d"] | None = None, eps: float = 1e-6
) -> Float[Tensor, "... d"]:
    """Each row divided by its root mean square; the mean is left alone (arXiv 1910.07467)."""
    return _affine(x / (x.square().mean(-1, keepdim=True) + eps).sqrt(), scale, None)


def dropout(
    x: Float[Tensor, "..."], *, keep: float, generator: torch.Generator | None = None
) -> Float[Tensor, "..."]:
    """Keep each value with probability ``keep``, divided by it; zero the others (inverted dropout).

    The expectation is ``x``, the variance ``x**2 (1 - keep) / keep``. ``torch.nn.Dropout(p)`` takes
    the probability to drop, 1 - keep.

    Raises:
        ValueError: ``keep`` outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be in (0, 1], the probability to KEEP a value, got {keep}")
    mask = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) < keep
    return x * mask / keep


def _affine(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    x = x if scale is None else x * scale
    return x if shift is None else x + shift


class ResidualStack(nn.Module):
    """``depth`` equal layers of one width: h <- relu(W norm(h) + b), or h <- h + that.

    Args:
        depth: Layers.
        width: Features.
        residual: Whether a layer adds to its input or replaces it.
        norm: Whether a layer reads its input through layer normalisation.
        generator: Randomness of the initialisation, that of ``torch.nn.Linear``.
        activation: ``relu`` or ``sigmoid``.

    Raises:
        ValueError: ``depth`` or ``width`` is not positive, or the activation is unknown.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        residual: bool,
        norm: bool,
        *,
        generator: torch.Generator | None = None,
        activation: str = "relu",
    ) -> None:
        if depth < 1 or width < 1:
            raise ValueError(f"depth and width must be at least 1, got {depth} and {width}")
        if activation not in ("relu", "sigmoid"):
            raise ValueError(f"activation must be relu or sigmoid, got {activation!r}")
        super().__init__()
        self.residual, self.norm, self.activation = residual, norm, activation
        self.layers = nn.ModuleList(linear(width, width, generator) for _ in range(depth))

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The last state."""
        return self.states(x)[-1]

    def states(self, x: Float[Tensor, "b d"]) -> list[Tensor]:
        """The input and what every layer makes of it."""
        found, act = [x], getattr(torch, self.activation)
        for layer in self.layers:
            new = act(layer(layer_norm(x) if self.norm else x))
            x = x + new if self.residual else new
            found.append(x)
        return found


def linear(fan_in: int, fan_out: int, generator: torch.Generator | None = None) -> nn.Linear:
    """``torch.nn.Linear`` with its usual initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)),
    drawn from ``generator``."""
    layer, bound = nn.Linear(fan_in, fan_out), fan_in**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
