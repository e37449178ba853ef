"""Early exits: answer at the first head that is sure enough, and find out what "enough" means.

Sources: Scardapane et al., arXiv 2004.12814 (why and how to train exits); Zhou et al., arXiv
2006.04152 (patience); Kendall et al., arXiv 1705.07115 (learned weights of losses).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from labcore.blocks.vit import VisionTransformer
from labcore.conditional.cost import Cost, block_flops

KINDS = ("confidence", "entropy", "margin", "patience")


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

    def check(self, heads: int) -> None:
        """Raise ``ValueError`` unless there is one threshold, or one for each of so many heads."""
        if isinstance(self.threshold, tuple) and len(self.threshold) != heads:
            raise ValueError(
                f"{len(self.threshold)} thresholds for {heads} heads: give one number, or one each"
            )

    def at(self, layer: int) -> float:
        """The threshold of one head."""
        return self.threshold[layer] if isinstance(self.threshold, tuple) else self.threshold


def sureness(logits: Float[Tensor, "*batch c"], kind: str) -> Tensor:
    """How sure a head is, larger is surer: max p, p1 − p2, or minus the normalised entropy.

    Raises:
        ValueError: a kind that one head alone cannot judge.
    """
    if kind == "confidence":
        return logits.softmax(-1).amax(-1)
    if kind == "margin":
        top = logits.softmax(-1).topk(2, dim=-1).values
        return top[..., 0] - top[..., 1]
    if kind == "entropy":
        log_p = logits.log_softmax(-1)
        return (log_p.exp() * log_p).sum(-1) / math.log(logits.shape[-1])
    raise ValueError(f"{kind!r} needs more than one head: use exit_layers")


class _Leaving:
    """Says, head after head, what is answered and who leaves; patience needs to remember."""

    def __init__(self, rule: ExitRule, samples: int) -> None:
        self.rule = rule
        self.last = torch.full((samples,), -1)
        self.streak = torch.zeros(samples, dtype=torch.long)

    def __call__(
        self, layer: int, logits: Float[Tensor, "m c"], rows: Int[Tensor, " m"]
    ) -> tuple[Int[Tensor, " m"], Bool[Tensor, " m"]]:
        wanted = self.rule.at(layer)
        if self.rule.kind == "confidence":  # one pass gives both
            sure, said = logits.softmax(-1).max(-1)
            return said, sure >= wanted
        said = logits.argmax(-1)
        if self.rule.kind != "patience":
            sure = sureness(logits, self.rule.kind)
            return said, sure >= (-wanted if self.rule.kind == "entropy" else wanted)
        streak = (self.streak[rows] + 1) * (said == self.last[rows])
        self.last[rows], self.streak[rows] = said, streak
        return said, streak >= wanted


_Group = tuple[Tensor, Tensor]  # which samples (m,), and their tokens (m, n, d)


def _together(waiting: list[_Group], size: int, all_came: bool) -> Iterator[_Group]:
    """Those who wait, in batches of ``size``; who does not fill one goes on waiting for more."""
    here = sum(len(rows) for rows, _ in waiting)
    going = here if all_came else here - here % size
    if not going:
        return
    rows, x = waiting[0] if len(waiting) == 1 else map(torch.cat, zip(*waiting, strict=True))
    waiting[:] = [(rows[going:], x[going:])] if going < here else []
    for start in range(0, going, size):
        end = min(start + size, going)
        yield rows[start:end], x[start:end]


def exit_layers(logits: Float[Tensor, "l m c"], rule: ExitRule) -> Int[Tensor, " m"]:
    """The head (from 0) at which each sample leaves, given all heads' logits.

    Raises:
        ValueError: thresholds that are not one for each head.
    """
    rule.check(len(logits))
    samples = logits.shape[1]
    leaving, rows = _Leaving(rule, samples), torch.arange(samples)
    layer = torch.full((samples,), len(logits) - 1)
    gone = torch.zeros(samples, dtype=torch.bool)
    for i, head in enumerate(logits[:-1]):
        now = leaving(i, head, rows)[1] & ~gone
        layer[now] = i
        gone |= now
    return layer


class EarlyExitNet(nn.Module):
    """A vision transformer with a head after every block.

    Args:
        backbone: Any ViT with ``embed``, ``blocks`` and ``config``.
        heads: One a block, on the class token.
        weights: Weight of each head's loss; ones by default. "learned": one over the head's noise,
            exp(−s_l), with s_l itself added to the loss.
        detach: Stop gradients at the heads, so that exits do not disturb the trunk.

    Raises:
        ValueError: not one head and weight a block.
    """

    def __init__(
        self,
        backbone: VisionTransformer,
        heads: Sequence[nn.Module] | nn.ModuleList,
        weights: Sequence[float] | str | None = None,
        *,
        detach: bool = False,
    ) -> None:
        super().__init__()
        depth = len(backbone.blocks)
        if isinstance(weights, str) and weights != "learned":
            raise ValueError(f'weights must be numbers or "learned", got {weights!r}')
        fixed = [1.0] * depth
        if weights is not None and not isinstance(weights, str):
            fixed = list(weights)
        if len(heads) != depth or len(fixed) != depth:
            raise ValueError(
                f"{depth} blocks need {depth} heads and weights, got {len(heads)}, {len(fixed)}"
            )
        self.backbone, self.heads = backbone, nn.ModuleList(heads)
        self.weights, self.detach = tuple(fixed), detach
        self.log_noise = nn.Parameter(torch.zeros(depth)) if weights == "learned" else None

    @classmethod
    def with_linear_heads(
        cls,
        backbone: VisionTransformer,
        classes: int,
        weights: Sequence[float] | str | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> "EarlyExitNet":
        """A norm and a linear map after every block."""
        d, heads = backbone.config.hidden_size, []
        for _ in backbone.blocks:
            linear = nn.Linear(d, classes)
            nn.init.normal_(linear.weight, std=d**-0.5, generator=generator)
            nn.init.zeros_(linear.bias)
            heads.append(nn.Sequential(nn.LayerNorm(d), linear))
        return cls(backbone, heads, weights)

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
        for i, (weight, head) in enumerate(zip(self.weights, logits, strict=True)):
            entropy = nn.functional.cross_entropy(head, y)
            if self.log_noise is not None:
                entropy = entropy * (-self.log_noise[i]).exp() + self.log_noise[i]
            total = total + weight * entropy
            if distill:
                kl = nn.functional.kl_div(
                    (head / 2).log_softmax(-1), teacher, reduction="batchmean"
                )
                total = total + distill * 4 * kl
        return total

    @torch.inference_mode()
    def predict(
        self,
        images: Float[Tensor, "b c y x"],
        rule: ExitRule,
        temperatures: Sequence[float] = (),
        batch: int | None = None,
    ) -> tuple[Tensor, Tensor, Cost]:
        """Classes (b,), head of each (b,) and the FLOPs; who is sure enough leaves.

        All pictures go at once by default, and those who stay are copied together after each head:
        the deeper, the fewer. A block that works on few pictures takes its overhead all the same.
        Given ``batch``, survivors wait before the next block until so many have come together, and
        every block works on full batches, its last one excepted. The answers are the same.

        Args:
            images: Pictures.
            rule: When to leave.
            temperatures: What each head's logits are divided by first; by default nothing.
            batch: Pictures that a block takes at once; by default all.

        Raises:
            ValueError: thresholds or temperatures that are not one for each head, a batch below 1.
        """
        rule.check(len(self.heads))
        if temperatures and len(temperatures) != len(self.heads):
            raise ValueError(f"{len(temperatures)} temperatures for {len(self.heads)} heads")
        if batch is not None and batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        depth, b = len(self.heads), len(images)
        size = batch or max(b, 1)
        layer, answer = torch.zeros(b, dtype=torch.long), torch.zeros(b, dtype=torch.long)
        waiting: list[list[_Group]] = [[] for _ in range(depth)]  # before each block
        leaving, ran = _Leaving(rule, b), 0
        for start in range(0, b, size):
            part = images[start : start + size]
            rows = torch.arange(start, start + len(part))
            waiting[0].append((rows, self.backbone.embed(part)))
            for i, (block, head) in enumerate(zip(self.backbone.blocks, self.heads, strict=True)):
                for rows, x in _together(waiting[i], size, all_came=start + size >= b):
                    x, ran = block(x), ran + len(rows)
                    logits = head(x[:, 0])
                    if temperatures:
                        logits = logits / temperatures[i]
                    said, leave = leaving(i, logits, rows)
                    answer.index_copy_(0, rows, said)
                    layer.index_fill_(0, rows, i)
                    stay = (~leave).nonzero().view(-1)
                    if i < depth - 1 and len(stay):
                        if len(stay) < len(rows):
                            rows, x = rows.index_select(0, stay), x.index_select(0, stay)
                        waiting[i + 1].append((rows, x))
        step, first = self.step_flops, b * self.embedding_flops
        return answer, layer, Cost(first + step * ran, first + step * depth * b)

    @torch.no_grad()
    def anytime(
        self,
        images: Float[Tensor, "b c y x"],
        seconds: float,
        now: Callable[[], float] = time.perf_counter,
    ) -> tuple[Tensor, int]:
        """Classes (b,) by the deepest head reached when time ran out, and that head (from 0).

        The first block always runs: there is no answer before it. Time is looked at between
        blocks, so the answer comes at most one block late.
        """
        start, x, ran = now(), self.backbone.embed(images), 0
        for block in self.backbone.blocks:
            x, ran = block(x), ran + 1
            if now() - start >= seconds:
                break
        return self.heads[ran - 1](x[:, 0]).argmax(-1), ran - 1

    @cached_property
    def step_flops(self) -> float:
        """FLOPs of one block and its head, for one picture."""
        config = self.backbone.config
        linear = [m for m in self.heads[0].modules() if isinstance(m, nn.Linear)]
        head = 2.0 * sum(m.weight.numel() for m in linear)
        return block_flops(1 + config.num_patches, config.hidden_size, config.mlp_ratio) + head

    @cached_property
    def embedding_flops(self) -> float:
        """FLOPs of what runs before the first block, for one picture."""
        weight = self.backbone.patch_embed.proj.weight
        return 2.0 * self.backbone.config.num_patches * weight.numel()
