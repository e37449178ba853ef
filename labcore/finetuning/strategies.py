"""The ways of fine-tuning that are compared: how each one prepares a model and takes a step.

Plain ones (full, head only, last K, LoRA) run the model as it is. The others go through
:class:`labcore.finetuning.alast.ALaST`. Every model starts from the same weights and the same head,
a linear probe on frozen features, so ``head_only`` is that probe trained a little further. All use
torch's own matrix products, so that times differ by the method alone.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.blocks.cost import SavedBytes, ViTSpec, saved_activation_bytes, training_flops
from labcore.finetuning.alast import ALaST, logits_of, sizes_of
from labcore.finetuning.budgets import ALaSTConfig
from labcore.finetuning.reports import Savings, StepReport, seconds_on
from labcore.finetuning.trunk import find_trunk

STRATEGIES = (
    "full", "head_only", "last_k", "random_k", "lora", "alast_paper", "alast_coauthor",
    "alast_calibrated", "alast_lora", "alast_embedding", "alast_080",
)  # fmt: skip
LORA_RANK = 16
LORA_LR = 10.0  # times the learning rate of the weights
HEAD_LR = 10.0


@dataclass
class Learner:
    """A model and how it takes a step.

    Attributes:
        model: What is evaluated.
        step: Batch and whether to measure saved bytes -> what the step cost.
        optimizer: For its learning-rate schedule.
        alast: The wrapper, where there is one.
    """

    model: nn.Module
    step: Callable[[tuple[Tensor, Tensor], bool], StepReport]
    optimizer: torch.optim.Optimizer
    alast: ALaST | None = None


def learner(
    strategy: str, model: nn.Module, *, num_layers: int, lr: float, seed: int = 0
) -> Learner:
    """Prepare a model for a strategy; the model is changed in place.

    Args:
        strategy: One of ``STRATEGIES``.
        model: A vision transformer with a head.
        num_layers: K.
        lr: Learning rate of pre-trained weights; heads and adapters take ten times as much.
        seed: Of the layers drawn and the adapters.

    Raises:
        ValueError: unknown strategy.
        ImportError: a LoRA strategy without peft.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    adapters = strategy in ("lora", "alast_lora")
    if adapters:
        model = with_lora(model, seed=seed)
    model.train()
    trunk = find_trunk(model)
    behind, inside = trunk.behind_blocks(), trunk.in_blocks()
    depth = len(trunk.views)
    if strategy in ("head_only", "last_k"):
        first = depth if strategy == "head_only" else depth - num_layers
        kept = {id(p) for view in trunk.views[first:] for p in view.block.parameters()} | behind
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in kept)
    optimizer = _optimizer(model, behind, inside, lr, adapters)
    if strategy in ("full", "head_only", "last_k", "lora"):
        reached = {"full": 0, "head_only": depth, "last_k": depth - num_layers, "lora": 0}
        weights = () if adapters else tuple(range(reached[strategy], depth))
        step = _plain_step(model, optimizer, weights, reached[strategy])
        return Learner(model, step, optimizer)
    equal = Savings(fast_products=False)
    wrapped = ALaST(model, config_of(strategy, num_layers, seed), savings=equal)

    def alast_step(batch: tuple[Tensor, Tensor], measure: bool) -> StepReport:
        return wrapped.step(F.cross_entropy, batch, optimizer, measure=measure)

    return Learner(model, alast_step, optimizer, wrapped)


def config_of(strategy: str, num_layers: int, seed: int = 0) -> ALaSTConfig:
    """Settings of a strategy that goes through ALaST."""
    shared: dict[str, Any] = {"num_trainable_layers": num_layers, "seed": seed}
    if strategy == "random_k":
        return ALaSTConfig(rule="difference", budget_lr=0.0, init_budget=1.0, drop="none", **shared)
    if strategy == "alast_paper":
        return ALaSTConfig.paper(**shared)
    if strategy == "alast_coauthor":
        return ALaSTConfig.coauthor(**shared)
    if strategy == "alast_embedding":
        return ALaSTConfig.calibrated(freeze_embedding=False, **shared)
    if strategy == "alast_080":
        return ALaSTConfig.calibrated(mean_budget=0.8, **shared)
    return ALaSTConfig.calibrated(**shared)


def with_lora(model: nn.Module, *, rank: int = LORA_RANK, seed: int = 0) -> nn.Module:
    """The model with peft's LoRA on query, key, value and output projection; its head trains too.

    Raises:
        ImportError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError(f"LoRA needs peft: ./lab bench --setup-peers peft ({error})") from error
    joint = any(name.endswith("attn.qkv") for name, _ in model.named_modules())
    targets = ["attn.qkv", "attn.proj"] if joint else ["q_proj", "k_proj", "v_proj", "o_proj"]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
    behind = find_trunk(model).behind_blocks()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: nn.Module = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if id(parameter) in behind:
            parameter.requires_grad_(True)
    return adapted


def _optimizer(
    model: nn.Module, behind: set[int], inside: set[int], lr: float, adapters: bool
) -> torch.optim.Optimizer:
    """Fused AdamW; the pre-trained weights' group comes first, its rate is the budgets' alpha."""
    asked = [p for p in model.parameters() if p.requires_grad]
    head = [p for p in asked if id(p) in behind]
    rest = [p for p in asked if id(p) not in behind]
    groups = [{"params": rest, "lr": lr * (LORA_LR if adapters else 1.0)}] if rest else []
    groups.append({"params": head, "lr": lr * HEAD_LR})
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.01, fused=True)


def _plain_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: tuple[int, ...], reached: int
) -> Callable[[tuple[Tensor, Tensor], bool], StepReport]:
    """Forward, backward, step: the model as it is, all tokens."""
    trunk = find_trunk(model)
    width, ratio = sizes_of(trunk.views[0])
    depth = len(trunk.views)
    seen: list[int] = []

    def count(module: Any, inputs: tuple[Any, ...]) -> None:
        seen[:] = [inputs[0].shape[1]]

    trunk.views[0].block.register_forward_pre_hook(count)

    def step(batch: tuple[Tensor, Tensor], measure: bool) -> StepReport:
        begin = seconds_on(batch[0].device)
        optimizer.zero_grad(set_to_none=True)
        counting = saved_activation_bytes(model) if measure else nullcontext(SavedBytes())
        with counting as counter:
            loss = F.cross_entropy(logits_of(model(batch[0])), batch[1])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = seconds_on(batch[0].device) - begin
        spec = ViTSpec(depth, width, seen[0], ratio)
        flops = training_flops(spec, trainable_layers=weights, reached_from=reached).total
        return StepReport(
            loss=loss.item(),
            layers=tuple(range(reached, depth)),
            tokens=(seen[0],) * depth,
            deltas=(),
            budgets=(1.0,) * depth,
            flops=flops,
            flops_spent=flops,
            cpu_seconds=seconds,
            saved_bytes=counter.total if measure else None,
        )

    return step
