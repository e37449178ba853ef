"""Early exits: answer at the first head that is sure enough, and find out what "enough" means.

Sources: Scardapane et al., arXiv 2004.12814 (why and how to train exits); Huang et al., arXiv
1703.09844 (budgets); Zhou et al., arXiv 2006.04152 (patience).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from labcore.blocks.vit import VisionTransformer
from labcore.conditional.cost import Cost, block_flops

Kind = Literal["confidence", "entropy", "margin", "patience"]
KINDS = ("confidence", "entropy", "margin", "patience")
SHRINK = 0.25  # share of the batch that must leave before the survivors are copied


@dataclass(frozen=True)
class ExitRule:
    """When a head's answer is good enough; the last head always answers.

    Attributes:
        kind: "confidence" (largest probability >= threshold), "margin" (first minus second >=
            threshold), "entropy" (entropy / log C <= threshold), or "patience" (the class has
            stayed the same for ``threshold`` heads after the first that said it).
        threshold: A number, or one for each head.

    Raises:
        ValueError: unknown kind, or a NaN threshold.
    """

    kind: str = "confidence"
    threshold: int | float | tuple[float, ...] = 0.9

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown rule {self.kind!r}: choose from {', '.join(KINDS)}")
        values = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        if any(math.isnan(v) for v in values):
            raise ValueError("threshold is NaN: give a number")

    def at(self, layer: int) -> float:
        """The threshold of one head."""
        return self.threshold[layer] if isinstance(self.threshold, tuple) else self.threshold


def sureness(logits: Float[Tensor, "*batch c"], kind: str) -> Tensor:
    """How sure a head is, larger is surer: max p, p1 − p2, or minus the normalised entropy.

    Raises:
        ValueError: a kind that one head alone cannot judge.
    """
    log_p = logits.log_softmax(-1)
    if kind == "confidence":
        return log_p.amax(-1).exp()
    if kind == "margin":
        top = log_p.topk(2, dim=-1).values.exp()
        return top[..., 0] - top[..., 1]
    if kind == "entropy":
        return (log_p.exp() * log_p).sum(-1) / math.log(logits.shape[-1])
    raise ValueError(f"{kind!r} needs more than one head: use exit_layers")


class _Leaving:
    """Says, head after head, who leaves; patience needs to remember."""

    def __init__(self, rule: ExitRule, heads: int) -> None:
        self.rule, self.heads = rule, heads
        self.last: Tensor | None = None
        self.streak: Tensor | None = None

    def __call__(self, layer: int, logits: Float[Tensor, "m c"]) -> Bool[Tensor, " m"]:
        if layer == self.heads - 1:
            return torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        wanted = self.rule.at(layer)
        if self.rule.kind == "patience":
            said = logits.argmax(-1)
            same = torch.zeros_like(said) if self.last is None else (said == self.last).long()
            streak = same if self.streak is None else (self.streak + 1) * same
            self.last, self.streak = said, streak
            return streak >= wanted
        sure = sureness(logits, self.rule.kind)
        return sure >= (-wanted if self.rule.kind == "entropy" else wanted)

    def keep(self, stay: Tensor) -> None:
        """Forget those who left."""
        if self.last is not None and self.streak is not None:
            self.last, self.streak = self.last[stay], self.streak[stay]


def exit_layers(logits: Float[Tensor, "l m c"], rule: ExitRule) -> Int[Tensor, " m"]:
    """The head (from 0) at which each sample leaves, given all heads' logits."""
    leaving = _Leaving(rule, len(logits))
    layer = torch.full((logits.shape[1],), len(logits) - 1)
    gone = torch.zeros(logits.shape[1], dtype=torch.bool)
    for i, head in enumerate(logits):
        now = leaving(i, head) & ~gone
        layer[now] = i
        gone |= now
    return layer


class EarlyExitNet(nn.Module):
    """A vision transformer with a head after every block.

    Args:
        backbone: Any ViT with ``embed``, ``blocks`` and ``config``.
        heads: One a block, on the class token.
        weights: Weight of each head's loss; ones by default.
        detach: Stop gradients at the heads, so that exits do not disturb the trunk.

    Raises:
        ValueError: not one head and weight a block.
    """

    def __init__(
        self,
        backbone: VisionTransformer,
        heads: Sequence[nn.Module] | nn.ModuleList,
        weights: Sequence[float] | None = None,
        *,
        detach: bool = False,
    ) -> None:
        super().__init__()
        depth = len(backbone.blocks)
        weights = [1.0] * depth if weights is None else list(weights)
        if len(heads) != depth or len(weights) != depth:
            raise ValueError(
                f"{depth} blocks need {depth} heads and weights, got {len(heads)}, {len(weights)}"
            )
        self.backbone, self.heads = backbone, nn.ModuleList(heads)
        self.weights, self.detach = tuple(weights), detach

    @classmethod
    def with_linear_heads(cls, backbone: VisionTransformer, classes: int) -> "EarlyExitNet":
        """A norm and a linear map after every block."""
        d, depth = backbone.config.hidden_size, len(backbone.blocks)
        heads = [nn.Sequential(nn.LayerNorm(d), nn.Linear(d, classes)) for _ in range(depth)]
        return cls(backbone, heads)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "l b k"]:
        """Logits of every head."""
        x, out = self.backbone.embed(images), []
        for block, head in zip(self.backbone.blocks, self.heads, strict=True):
            x = block(x)
            read = x[:, 0]
            out.append(head(read.detach() if self.detach else read))
        return torch.stack(out)

    def loss(
        self, logits: Float[Tensor, "l b k"], y: Int[Tensor, " b"], distill: float = 0.0
    ) -> Tensor:
        """sum of w_l CE(head l), plus ``distill`` times the KL to the last head's soft output."""
        total = logits.new_zeros(())
        teacher = (logits[-1].detach() / 2).softmax(-1)
        for weight, head in zip(self.weights, logits, strict=True):
            total = total + weight * nn.functional.cross_entropy(head, y)
            if distill:
                kl = nn.functional.kl_div(
                    (head / 2).log_softmax(-1), teacher, reduction="batchmean"
                )
                total = total + distill * 4 * kl
        return total

    @torch.no_grad()
    def predict(
        self, images: Float[Tensor, "b c y x"], rule: ExitRule, temperatures: Sequence[float] = ()
    ) -> tuple[Tensor, Tensor, Cost]:
        """Classes (b,), head of each (b,) and the FLOPs; the batch shrinks as samples leave.

        Survivors are copied only when at least a quarter of the batch can leave: a smaller copy
        costs more than it saves. Those who left already are carried along and not read again.
        """
        depth, b = len(self.heads), len(images)
        layer = torch.full((b,), -1)
        answer = torch.zeros(b, dtype=torch.long)
        rows, x, ran = torch.arange(b), self.backbone.embed(images), 0
        leaving = _Leaving(rule, depth)
        for i, (block, head) in enumerate(zip(self.backbone.blocks, self.heads, strict=True)):
            x, ran = block(x), ran + len(rows)
            logits = head(x[:, 0])
            if temperatures:
                logits = logits / temperatures[i]
            now = leaving(i, logits) & (layer[rows] < 0)
            layer[rows[now]], answer[rows[now]] = i, logits[now].argmax(-1)
            stay = layer[rows] < 0
            left = int(stay.sum())
            if not left:
                break
            if left <= (1 - SHRINK) * len(rows):
                rows, x = rows[stay], x[stay]
                leaving.keep(stay)
        step = self.step_flops()
        return answer, layer, Cost(step * ran, step * depth * b)

    def step_flops(self) -> float:
        """FLOPs of one block and its head, for one picture."""
        config = self.backbone.config
        linear = [m for m in self.heads[0].modules() if isinstance(m, nn.Linear)]
        head = 2.0 * sum(m.weight.numel() for m in linear)
        return block_flops(1 + config.num_patches, config.hidden_size, config.mlp_ratio) + head


def fit_thresholds(
    logits: Float[Tensor, "l m c"],
    y: Int[Tensor, " m"],
    costs: Sequence[float],
    budget: float,
    *,
    kind: str = "confidence",
) -> ExitRule:
    """Thresholds whose expected cost on *validation* samples meets a budget (MSDNet).

    The share that leaves at head l is taken proportional to q^l; one number q decides the cost, and
    is found by bisection; each threshold then lets that share of the remaining samples go.

    Args:
        logits: All heads on validation samples, calibrated if the rule will be.
        y: Their classes; only their number is looked at.
        costs: Cost of leaving at each head, increasing.
        budget: Mean cost a sample.
        kind: "confidence", "margin" or "entropy".

    Raises:
        ValueError: no samples, sizes that differ, or a budget below the first exit's cost.
    """
    heads, samples = logits.shape[:2]
    if not samples:
        raise ValueError("no validation samples: thresholds cannot be fitted on an empty set")
    if len(y) != samples or len(costs) != heads:
        raise ValueError(
            f"{heads} heads and {samples} samples, but {len(costs)} costs and {len(y)} classes"
        )
    if budget < costs[0]:
        raise ValueError(
            f"budget {budget:g} is below the first exit's cost {costs[0]:g}: nothing can be met"
        )
    price = np.asarray(costs, dtype=np.float64)
    low, high = -20.0, 20.0  # log q
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _shares(middle, heads) @ price <= budget else (low, middle)
    share = _shares(low, heads)
    thresholds, here = [], torch.arange(samples)
    for i in range(heads - 1):
        sure = sureness(logits[i, here], kind)
        leave = min(round(float(share[i]) * samples), len(here))
        ordered = sure.sort(descending=True).values
        limit = float(ordered[leave - 1]) if leave else math.inf
        here = here[sure < limit]
        thresholds.append(-limit if kind == "entropy" else limit)
    last = math.inf if kind == "entropy" else -math.inf
    return ExitRule(kind, (*thresholds, last))


def _shares(log_q: float, heads: int) -> np.ndarray:
    power = log_q * np.arange(heads)
    weights = np.exp(power - power.max())
    return weights / weights.sum()


def cost_accuracy_curve(
    logits: Float[Tensor, "l m c"],
    y: Int[Tensor, " m"],
    costs: Sequence[float],
    kind: str = "confidence",
    thresholds: Sequence[float] = tuple(np.linspace(0, 1, 21).tolist()),
) -> list[dict[str, Any]]:
    """Accuracy and mean cost of a rule over its thresholds.

    Returns:
        Rows with threshold, accuracy, cost, ratio (of the last exit's cost) and mean layers.
    """
    price = torch.as_tensor(list(costs), dtype=torch.float64)
    right = logits.argmax(-1) == y  # (l, m)
    rows = []
    for threshold in thresholds:
        layer = exit_layers(logits, ExitRule(kind, float(threshold)))
        cost = float(price[layer].mean())
        rows.append(
            {
                "rule": kind,
                "threshold": float(threshold),
                "accuracy": float(right.gather(0, layer[None])[0].float().mean()),
                "cost": cost,
                "ratio": cost / float(price[-1]),
                "layers": float(layer.float().mean()) + 1,
            }
        )
    return rows


def oracle_layers(logits: Float[Tensor, "l m c"], y: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """The first head that is right, the very first where none is: the best any rule can do."""
    right = logits.argmax(-1) == y
    first = right.int().argmax(0)
    return torch.where(right.any(0), first, 0)


def oracle_curve(
    logits: Float[Tensor, "l m c"], y: Int[Tensor, " m"], costs: Sequence[float]
) -> list[dict[str, Any]]:
    """The oracle that may use the first l heads, for l = 1..L."""
    price = torch.as_tensor(list(costs), dtype=torch.float64)
    rows = []
    for heads in range(1, len(logits) + 1):
        layer = oracle_layers(logits[:heads], y)
        right = (logits[:heads].argmax(-1) == y).any(0)
        cost = float(price[layer].mean())
        rows.append(
            {
                "heads": heads,
                "accuracy": float(right.float().mean()),
                "cost": cost,
                "ratio": cost / float(price[-1]),
                "layers": float(layer.float().mean()) + 1,
            }
        )
    return rows
