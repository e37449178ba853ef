"""The budget token and the gates: what to keep, decided for each token of each image.

Devoto et al., arXiv 2405.02330. A gate compares a score of the token with a threshold that it reads
from the budget token:

    h_i = sigmoid(w . x_i / tau + beta),   theta = sigmoid(v . x_budget + c),   kept iff h_i > theta

so that one network serves every rate. Published is the soft mask max(0, h - theta), which scales
the token; the default here is a hard 0/1 mask with a straight-through gradient, because then the
rate in the loss is the rate that is spent.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from labcore.tokens.checks import as_budgets, one_of

SLOPE = 0.1  # width of the sigmoid whose gradient stands in for the step's
BudgetMode = Literal["scaled", "interpolated", "constant"]
GateMode = Literal["hard", "soft", "concrete"]


class BudgetToken(nn.Module):
    """The wanted rate as a token: alpha u, or alpha u1 + (1 - alpha) u2, or alpha times ones.

    Args:
        hidden_size: Width of the tokens.
        mode: ``"scaled"``, ``"interpolated"`` or ``"constant"`` (nothing to train).
        generator: Draws the start of u.
    """

    def __init__(
        self,
        hidden_size: int,
        mode: BudgetMode = "scaled",
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.mode = one_of("mode", mode, ("scaled", "interpolated", "constant"))
        count = {"scaled": 1, "interpolated": 2, "constant": 0}[mode]
        start = torch.randn(count, hidden_size, generator=generator) * 0.5
        self.vectors = nn.Parameter(start)
        self.hidden_size = hidden_size

    def forward(self, alpha: Float[Tensor, " b"]) -> Float[Tensor, "b 1 d"]:
        """The token of each image.

        Raises:
            ValueError: a budget outside [0, 1].
        """
        alpha = as_budgets(alpha, len(alpha), alpha.dtype)[:, None]
        if self.mode == "constant":
            return alpha.expand(-1, self.hidden_size)[:, None]
        token = alpha * self.vectors[0]
        if self.mode == "interpolated":
            token = token + (1 - alpha) * self.vectors[1]
        return token[:, None]


@dataclass(frozen=True)
class GateOutput:
    """What a gate decided.

    Attributes:
        mask: (b, t); 0 or 1 with a gradient, or the soft weight; 0 for tokens dropped before.
        score: h of each token (b, t), in (0, 1).
        threshold: theta of each image (b,), in (0, 1).
        counted: The mask as the rate loss sees it: equal values; where the gate is decoupled, its
            gradient goes to the threshold only, and that of ``mask`` to the scores only.
    """

    mask: Float[Tensor, "b t"]
    score: Float[Tensor, "b t"]
    threshold: Float[Tensor, " b"]
    counted: Float[Tensor, "b t"]

    @property
    def keep(self) -> Bool[Tensor, "b t"]:
        """Which tokens stay."""
        return self.mask > 0


class TokenGate(nn.Module):
    """A linear score a token, a linear threshold from the budget token.

    Args:
        hidden_size: Width of the tokens.
        temperature: tau, flattens the scores.
        bias: beta > 0, so that training starts with everything kept.
        gate: ``"hard"``: a step with a straight-through gradient. ``"soft"``: the published weight
            max(0, h - theta). ``"concrete"``: in training a hard binary-concrete draw with logit
            (h - theta) / 0.1, at inference the step.
        decoupled: The task's loss moves the scores, the rate loss moves the thresholds (our
            variant). Else both move both, as published: the first pressure on the rate then decides
            what is dropped before the task had a say.
        generator: Draws the start of w.
    """

    def __init__(
        self,
        hidden_size: int,
        temperature: float = 1.0,
        bias: float = 2.0,
        gate: GateMode = "hard",
        *,
        decoupled: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be positive")
        self.gate = one_of("gate", gate, ("hard", "soft", "concrete"))
        self.temperature, self.bias, self.decoupled = temperature, bias, decoupled
        self.weight = nn.Parameter(torch.randn(hidden_size, generator=generator) * 0.02)
        self.budget_weight = nn.Parameter(torch.zeros(hidden_size))
        self.budget_bias = nn.Parameter(torch.zeros(()))

    def scores(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
        """h of each token."""
        return torch.sigmoid(tokens @ self.weight / self.temperature + self.bias)

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        budget: Float[Tensor, "b d"],
        keep: Float[Tensor, "b t"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> GateOutput:
        """Decide which tokens stay.

        Args:
            tokens: Patch tokens as they enter the gated block.
            budget: The budget token of each image, at the same place.
            keep: Mask of an earlier gate: what was dropped stays dropped.
            generator: Noise of the ``"concrete"`` gate in training.
        """
        score = self.scores(tokens)
        threshold = torch.sigmoid(budget @ self.budget_weight + self.budget_bias)
        there = 1.0 if keep is None else keep
        if self.gate == "soft" or not self.decoupled:
            mask = self._step(score - threshold[:, None], generator) * there
            return GateOutput(mask, score, threshold, mask)
        for_task, for_rate = (
            score - threshold.detach()[:, None],
            score.detach() - threshold[:, None],
        )
        mask = self._step(for_task, generator) * there
        counted = straight_through(for_rate, SLOPE) * there
        return GateOutput(mask, score, threshold, counted)

    def _step(
        self, margin: Float[Tensor, "b t"], generator: torch.Generator | None
    ) -> Float[Tensor, "b t"]:
        if self.gate == "soft":
            return margin.clamp_min(0)
        if self.gate == "concrete" and self.training:
            return binary_concrete(margin / SLOPE, generator=generator)
        return straight_through(margin, SLOPE)


def straight_through(margin: Float[Tensor, "*s"], slope: float = SLOPE) -> Float[Tensor, "*s"]:
    """[margin > 0] forwards; backwards the gradient of sigmoid(margin / slope).

    >>> x = torch.tensor([0.0, 0.2], requires_grad=True)
    >>> straight_through(x, 0.1).tolist()
    [0.0, 1.0]
    """
    soft = torch.sigmoid(margin / slope)
    return soft + ((margin > 0).to(soft.dtype) - soft).detach()


def binary_concrete(
    logits: Float[Tensor, "*s"],
    temperature: float = 1.0,
    *,
    hard: bool = True,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*s"]:
    """A relaxed coin with P(1) = sigmoid(logit) (Maddison et al., 2017, 1611.00712).

    sigmoid((logit + L) / temperature), L logistic noise: the *difference of two* Gumbel variables.
    One Gumbel variable alone would give P(1) = 1 - exp(-exp(logit)), 0.632 where 0.5 is meant.

    Args:
        logits: Log-odds.
        temperature: Smaller is closer to 0/1.
        hard: Round forwards, keep the gradient of the relaxed value.
        generator: Source of the noise.
    """
    u = torch.rand(logits.shape, generator=generator, dtype=logits.dtype).clamp(1e-7, 1 - 1e-7)
    soft = torch.sigmoid((logits + torch.log(u) - torch.log1p(-u)) / temperature)
    return soft + ((soft > 0.5).to(soft.dtype) - soft).detach() if hard else soft


def rate_loss(
    keep: Float[Tensor, "b t"], budget: Float[Tensor, " b"], one_sided: bool = False
) -> Float[Tensor, ""]:
    """Mean over images of (kept share - budget)^2; one-sided: only overspending costs.

    Raises:
        ValueError: another number of budgets than images.

    >>> keep = torch.cat([torch.ones(1, 10), torch.zeros(1, 39)], dim=1)
    >>> f"{rate_loss(keep, torch.tensor([0.2])):.3e}"
    '1.666e-05'
    """
    excess = keep.mean(dim=-1) - as_budgets(budget, len(keep), keep.dtype)
    return (excess.clamp_min(0) if one_sided else excess).square().mean()


def top_k(
    scores: Float[Tensor, "b t"],
    budget: Float[Tensor, " b"],
    mask: Float[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t"]:
    """Keep exactly ceil(alpha T) of the highest scores, at least one; of equals the first.

    Scores with a gradient, in (0, 1), get a straight-through one: that of a step at the edge
    between the last score kept and the first one dropped.

    Args:
        scores: One number a token.
        budget: Share to keep, one an image.
        mask: Tokens that are still there (> 0); of fewer than asked for, all are kept.

    Returns:
        Mask of 0 and 1 (b, t).

    >>> top_k(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0.4])).tolist()
    [[0.0, 1.0, 1.0]]
    """
    t, ranked_by = scores.shape[1], scores.detach()
    if mask is not None:
        ranked_by = ranked_by.masked_fill(mask <= 0, -torch.inf)
    count = torch.ceil(budget * t - 1e-4).long().clamp(1, t)[:, None]
    order = ranked_by.argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(scores).scatter(1, order, (torch.arange(t) < count).to(scores.dtype))
    if not scores.requires_grad:
        return keep
    ranked = scores.detach().gather(1, order)
    edge = (ranked.gather(1, count - 1) + ranked.gather(1, count.clamp_max(t - 1))) / 2
    soft = torch.sigmoid((scores - edge) / SLOPE)
    return soft + (keep - soft).detach()
