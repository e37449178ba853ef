"""The compute budget of each layer: how it is measured, updated, and drawn from.

A budget is a number in (0, 1]. Each step measures how far every layer moves the class token and
updates the budgets; K layers are then drawn, without replacement, with the budgets as weights.

What the published rule implies. Without clipping ``b_i = b_0 + alpha (D_i - D_0)``: a budget has no
memory. With ``b_0 = b_max = 1`` it is one minus alpha times the drawdown of the delta from its
running maximum. The scale of the delta therefore decides everything; ``calibrated`` is our
scale-free rule and no part of the paper.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labcore.finetuning.sampling import draw_layers, inclusion_probabilities, sampling_weights

REDUCTIONS = ("mean", "sum")
CHOICES: dict[str, tuple[str, ...]] = {
    "rule": ("difference", "calibrated"),
    "delta": ("relative", "absolute"),
    "delta_reduction": REDUCTIONS,
    "sampling": ("proportional", "softmax", "top"),
    "drop": ("compound", "global", "bypass", "none"),
}
_DECAY = 0.9  # of the mean that the calibrated rule keeps
_TINY = 1e-12


@dataclass(frozen=True)
class ALaSTConfig:
    """Settings of adaptive layer and token selection.

    Attributes:
        num_trainable_layers: K, layers trained in each step; three quarters of them by default.
        budget_lr: alpha of the difference rule; the optimizer's learning rate by default.
        init_budget: Budget of every layer before the first update.
        bounds: Smallest and largest budget.
        rule: ``difference`` is the published one, ``calibrated`` ours (module docstring).
        mean_budget, spread: Mean and width of the budgets that ``calibrated`` hands out.
        delta: Squared movement of the class token, as it is or over the token's squared length.
        delta_reduction: Over the batch.
        warm_start: The first step only records its deltas; otherwise they count from zero.
        sampling: Weights of the draw: ``b``, ``exp(b)``, or simply the K largest budgets.
        drop: ``compound``: dropped for good, shares multiply. ``global``: shares of the first
            layer's patches. ``bypass``: unselected patches skip the layer and come back. The last
            two are extensions of ours, ``none`` keeps all.
        freeze_embedding: Patch projection, position and class token stay as they are.
        seed: Of the draws.

    Raises:
        ValueError: a value outside its range.
    """

    num_trainable_layers: int | None = None
    budget_lr: float | None = None
    init_budget: float = 0.9
    bounds: tuple[float, float] = (0.5, 1.0)
    rule: str = "calibrated"
    mean_budget: float = 0.9
    spread: float = 0.2
    delta: str = "relative"
    delta_reduction: str = "mean"
    warm_start: bool = True
    sampling: str = "proportional"
    drop: str = "compound"
    freeze_embedding: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not 0 < low <= high <= 1:
            raise ValueError(f"bounds must satisfy 0 < low <= high <= 1, got {self.bounds}")
        for name in ("init_budget", "mean_budget"):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name)} must lie in bounds {self.bounds}")
        if self.num_trainable_layers is not None and self.num_trainable_layers < 0:
            raise ValueError(f"num_trainable_layers must be >= 0, got {self.num_trainable_layers}")
        if not 0 <= self.spread < math.inf:
            raise ValueError(f"spread must be finite and >= 0, got {self.spread}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                given = getattr(self, name)
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {given!r}")
        if self.budget_lr is not None and not 0 <= self.budget_lr < math.inf:
            raise ValueError(f"budget_lr must be finite and >= 0, got {self.budget_lr}")

    @classmethod
    def paper(cls, **changes: Any) -> "ALaSTConfig":
        """As the preprint states it: budgets start at 1, batch-mean absolute deltas."""
        held = cls(init_budget=1.0, bounds=(1e-6, 1.0), rule="difference", delta="absolute")
        return replace(held, **changes)

    @classmethod
    def coauthor(cls, **changes: Any) -> "ALaSTConfig":
        """As in a co-author's later public code: start 0.9 in [0.5, 1], sums, softmax draws."""
        held = cls(
            rule="difference", delta="absolute", delta_reduction="sum", warm_start=False,
            sampling="softmax",
        )  # fmt: skip
        return replace(held, **changes)

    @classmethod
    def calibrated(cls, **changes: Any) -> "ALaSTConfig":
        """Ours, free of the delta's scale: the user sets the mean cost, the data set the shares."""
        return replace(cls(), **changes)

    def layers_of(self, depth: int) -> int:
        """K for a model of ``depth`` layers.

        Raises:
            ValueError: more layers than the model has.
        """
        wanted = self.num_trainable_layers
        if wanted is None:
            return round(0.75 * depth)
        if wanted > depth:
            raise ValueError(f"num_trainable_layers must be 0..{depth}, got {wanted}")
        return wanted


@torch.no_grad()
def class_token_delta(
    cls_in: Float[Tensor, "b d"],
    cls_out: Float[Tensor, "b d"],
    reduction: str = "mean",
    relative: bool = False,
) -> Float[Tensor, ""]:
    """How far a layer moved the class token: ``||c_l - c_{l-1}||^2`` over the batch, detached.

    Args:
        cls_in: Class token before the layer.
        cls_out: After it.
        reduction: ``mean`` or ``sum`` over the batch.
        relative: Divide each picture's distance by ``||c_{l-1}||^2``.

    Raises:
        ValueError: unknown reduction.

    >>> class_token_delta(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]])).item()
    4.0
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction must be "mean" or "sum", got {reduction!r}')
    moved = (cls_out - cls_in).square().sum(-1)
    if relative:
        moved = moved / cls_in.square().sum(-1).clamp_min(_TINY)
    return moved.mean() if reduction == "mean" else moved.sum()


class BudgetSchedule:
    """Budgets of all layers over the steps of a run.

    Args:
        num_layers: L.
        config: Rule and its settings.

    Raises:
        ValueError: no layers, or more to train than there are.
    """

    def __init__(self, num_layers: int, config: ALaSTConfig) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.config = config
        self.num_layers = num_layers
        self.num_trainable = config.layers_of(num_layers)
        self._budgets = torch.full((num_layers,), config.init_budget, dtype=torch.float64)
        self._previous: Tensor | None = None  # last deltas, or their running mean if calibrated
        self.history: list[list[float]] = [self._budgets.tolist()]
        self.deltas: list[list[float]] = []

    @property
    def budgets(self) -> Float[Tensor, " l"]:
        """A copy of the present budgets."""
        return self._budgets.clone()

    def sample_layers(self, generator: torch.Generator | None = None) -> tuple[int, ...]:
        """K different layers, ascending, drawn one after the other by the configured weights."""
        weights = sampling_weights(self._budgets, self.config.sampling)
        return draw_layers(weights, self.num_trainable, self.config.sampling, generator)

    def inclusion_probabilities(self) -> Float[Tensor, " l"]:
        """Exact probability of each layer to be among the K (at most 16 layers)."""
        weights = sampling_weights(self._budgets, self.config.sampling)
        return inclusion_probabilities(weights, self.num_trainable, self.config.sampling)

    def check(self, deltas: Float[Tensor, " l"]) -> None:
        """Refuse deltas that would spoil the budgets.

        Raises:
            ValueError: another number than L, or one that is negative, NaN or infinite.
        """
        if deltas.shape != (self.num_layers,):
            raise ValueError(f"{deltas.numel()} deltas for {self.num_layers} layers: give one each")
        for layer, value in enumerate(deltas.tolist()):
            if not 0 <= value < math.inf:
                raise ValueError(
                    f"the delta of layer {layer} is {value}: budgets were left as they are; "
                    "lower the learning rate or look at the inputs"
                )

    def update(self, deltas: Float[Tensor, " l"], lr: float | None = None) -> Float[Tensor, " l"]:
        """Take in one step's deltas and return the new budgets.

        Args:
            deltas: How far each layer moved the class token in this step.
            lr: alpha where the configuration leaves it to the optimizer's learning rate.

        Raises:
            ValueError: deltas refused by :meth:`check`, or no alpha given anywhere.
        """
        self.check(deltas)
        deltas = deltas.detach().double().cpu()
        if self.config.rule == "calibrated":
            self._calibrate(deltas)
        else:
            alpha = self.config.budget_lr if self.config.budget_lr is not None else lr
            if alpha is None:
                raise ValueError("no alpha: set budget_lr or give lr, the optimizer's")
            self._move(deltas, alpha)
        self.history.append(self._budgets.tolist())
        self.deltas.append(deltas.tolist())
        return self.budgets

    def _move(self, deltas: Tensor, alpha: float) -> None:
        """``b <- clip(b + alpha (D - D_previous))``."""
        previous = self._previous
        if previous is None:
            previous = deltas if self.config.warm_start else torch.zeros_like(deltas)
        low, high = self.config.bounds
        self._budgets = (self._budgets + alpha * (deltas - previous)).clamp(low, high)
        self._previous = deltas

    def _calibrate(self, deltas: Tensor) -> None:
        """Shares by the rank-preserving log of the running mean, around the wanted mean budget."""
        before = self._previous
        mean = deltas if before is None else _DECAY * before + (1 - _DECAY) * deltas
        self._previous = mean
        level = mean.clamp_min(_TINY).log()
        width = (level.max() - level.min()).clamp_min(_TINY)
        share = (level - level.min()) / width
        wanted = self.config.mean_budget + self.config.spread * (share - share.mean())
        self._budgets = wanted.clamp(*self.config.bounds)

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which :meth:`load_state_dict` goes on with equal budgets."""
        previous = None if self._previous is None else self._previous.tolist()
        return {
            "config": asdict(self.config),
            "budgets": self._budgets.tolist(),
            "previous": previous,
            "history": [list(row) for row in self.history],
            "deltas": [list(row) for row in self.deltas],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: the state belongs to another number of layers or another configuration.
        """
        if len(state["budgets"]) != self.num_layers:
            raise ValueError(
                f"the state has {len(state['budgets'])} layers, this model {self.num_layers}"
            )
        held = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.config).items()}
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in state["config"].items()}
        if held != given:
            other = sorted(k for k in held if held[k] != given.get(k))
            raise ValueError(f"the state was made with another {', '.join(other)}: use that config")
        self._budgets = torch.tensor(state["budgets"], dtype=torch.float64)
        previous = state["previous"]
        self._previous = None if previous is None else torch.tensor(previous, dtype=torch.float64)
        self.history = [list(row) for row in state["history"]]
        self.deltas = [list(row) for row in state["deltas"]]
