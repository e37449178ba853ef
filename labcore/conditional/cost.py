"""One unit for experts, tokens and depth: the FLOPs that ran, out of those of the whole network.

A multiply-add counts as two FLOPs. Norms, softmax, GELU, biases and the moving of memory are left
out on every side, so ratios are those of the matrix products.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What ran, and what the network without any selection would have run.

    Attributes:
        executed: Units that ran.
        total: Units of the whole network on the same input.
        unit: Their name; only equal units add.

    Raises:
        ValueError: a negative or non-finite number.

    >>> (Cost(2, 4) + Cost(1, 4)).ratio
    0.375
    """

    executed: int | float
    total: int | float
    unit: str = "FLOP"

    def __post_init__(self) -> None:
        for name, value in (("executed", self.executed), ("total", self.total)):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")

    def __add__(self, other: "Cost") -> "Cost":
        if self.unit != other.unit:
            raise ValueError(f"cannot add {self.unit} to {other.unit}: bring both to one unit")
        return Cost(self.executed + other.executed, self.total + other.total, self.unit)

    @property
    def skipped(self) -> float:
        """Units that did not run (negative when the selection itself cost more than it saved)."""
        return self.total - self.executed

    @property
    def ratio(self) -> float:
        """Executed over total; 0 for an empty network."""
        return self.executed / self.total if self.total else 0.0


def attention_flops(tokens: float, hidden: int) -> float:
    """FLOPs of one self-attention layer: 8 N D² for its four matrices, 4 N² D for the tokens.

    >>> attention_flops(1, 1)
    12.0
    """
    return 8.0 * tokens * hidden**2 + 4.0 * tokens**2 * hidden


def mlp_flops(tokens: float, hidden: int, intermediate: int) -> float:
    """FLOPs of a two-matrix MLP: 4 N D H.

    >>> mlp_flops(10, 2, 4)
    320.0
    """
    return 4.0 * tokens * hidden * intermediate


def block_flops(tokens: float, hidden: int, mlp_ratio: float) -> float:
    """FLOPs of one transformer block: 2 N D² (4 + 2r) + 4 N² D."""
    return attention_flops(tokens, hidden) + mlp_flops(tokens, hidden, round(hidden * mlp_ratio))


def moe_flops(tokens: float, hidden: int, intermediate: int, experts: int, active: float) -> float:
    """FLOPs of a mixture layer: its router (2 N D E) and ``active`` experts a token."""
    return 2.0 * tokens * hidden * experts + active * mlp_flops(tokens, hidden, intermediate)
