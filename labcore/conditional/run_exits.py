"""Experiment 3: early exits on Fashion-MNIST: how heads are trained, rules, calibration, oracle."""

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labcore.blocks.calibration import ece, fit_temperature
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional.budgets import cost_accuracy_curve, fit_thresholds, oracle_curve
from labcore.conditional.data import Pictures, one_domain, to_bytes
from labcore.conditional.exits import EarlyExitNet, ExitRule, exit_layers
from labcore.conditional.settings import Exits
from labcore.conditional.timing import BATCH, batches_of, clock
from labcore.conditional.training import train
from labcore.parts import Findings

THRESHOLDS = tuple(np.linspace(0.0, 1.0, 21).tolist())
FIXED = (0.5, 0.7, 0.9)
BUDGETS = (0.25, 1 / 3, 0.4, 0.5, 0.6, 0.8)
ROUNDS = 12
Tick = Callable[[], None]


def exits(settings: Exits, training: str, seed: int, *, keep: bool, tick: Tick) -> Findings:
    """Train one network with heads ("joint" or "separate") and measure every rule on it.

    Training, validation and test pictures are disjoint; temperatures and budgets are fitted on
    validation pictures only.
    """
    pool = one_domain("fashion", "train", settings.train + settings.val, seed)
    data, val = pool.part(0, settings.train), pool.part(settings.train, len(pool))
    test = one_domain("fashion", "test", settings.test, 1000 + seed)
    net = _trained(settings, training, data, seed, tick)
    on_val, on_test = _logits(net, val), _logits(net, test)
    step = net.step_flops
    costs = [step * (i + 1) for i in range(settings.depth)]
    temperatures = [fit_temperature(head.double().numpy(), val.labels.numpy()) for head in on_val]
    heat = torch.tensor(temperatures, dtype=on_test.dtype)[:, None, None]
    found = Findings()
    facts: dict[str, Any] = {"training": training, "seed": seed, "test": len(test)}
    _heads(found, facts, on_test, on_test / heat, test, temperatures)
    for calibrated, a, b in ((False, on_val, on_test), (True, on_val / heat, on_test / heat)):
        _rules(found, {**facts, "calibrated": calibrated}, a, b, val, test, costs)
    _race(found, facts, net, on_val / heat, val, test, temperatures)
    for row in oracle_curve(on_test, test.labels, costs):
        found.add("oracle", **facts, **row)
    if keep:
        _keep(found, training, on_val, on_test, val, test, temperatures)
    return found


def _trained(settings: Exits, training: str, data: Pictures, seed: int, tick: Tick) -> EarlyExitNet:
    config = ViTConfig(hidden_size=64, depth=settings.depth, mlp_ratio=2.0)
    generator = torch.Generator().manual_seed(seed)
    trunk = VisionTransformer(config, generator=generator)
    net = EarlyExitNet.with_linear_heads(trunk, 10, generator=generator)

    def fit(loss: Callable[[Tensor, Tensor], Tensor], what: list[Any], epochs: float) -> None:
        train(what, loss, data, epochs=epochs, seed=seed, after=lambda step: tick())

    def joint(images: Tensor, labels: Tensor) -> Tensor:
        return net.loss(net(images), labels)

    if training == "joint":
        fit(joint, list(net.parameters()), settings.epochs)
        return net

    def last_only(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(net(images)[-1], labels)

    fit(last_only, [*trunk.parameters(), *net.heads[-1].parameters()], settings.epochs)
    net.detach = True  # the trunk is finished: heads only
    fit(joint, [p for head in net.heads[:-1] for p in head.parameters()], settings.epochs / 2)
    return net


@torch.no_grad()
def _logits(net: EarlyExitNet, data: Pictures) -> Tensor:
    return torch.cat([net(data.part(i, i + 500).images) for i in range(0, len(data), 500)], dim=1)


def _heads(
    found: Findings, facts: dict[str, Any], raw: Tensor, heated: Tensor, test: Pictures,
    temperatures: list[float],
) -> None:  # fmt: skip
    y = test.labels.numpy()
    for i, (head, warm) in enumerate(zip(raw, heated, strict=True)):
        found.add(
            "heads", **facts, head=i + 1,
            accuracy=float((head.argmax(-1) == test.labels).float().mean()),
            ece=ece(head.double().softmax(-1).numpy(), y),
            ece_calibrated=ece(warm.double().softmax(-1).numpy(), y), temperature=temperatures[i],
        )  # fmt: skip


def _rules(
    found: Findings, facts: dict[str, Any], on_val: Tensor, on_test: Tensor, val: Pictures,
    test: Pictures, costs: list[float],
) -> None:  # fmt: skip
    heads = len(on_test)
    for kind in ("confidence", "margin", "entropy"):
        for row in cost_accuracy_curve(on_test, test.labels, costs, kind, THRESHOLDS):
            found.add("rules", **facts, **row)
    patience = tuple(float(j) for j in range(heads))
    for row in cost_accuracy_curve(on_test, test.labels, costs, "patience", patience):
        found.add("rules", **facts, **row)
    for theta in FIXED:
        for row in cost_accuracy_curve(on_test, test.labels, costs, "confidence", (theta,)):
            found.add("fixed", **facts, **row)
    for budget in BUDGETS:
        rule = fit_thresholds(on_val, val.labels, costs, budget * costs[-1])
        found.add(
            "budgets", **facts, budget=budget, val_ratio=_spent(on_val, rule, costs),
            ratio=_spent(on_test, rule, costs), accuracy=_right(on_test, rule, test.labels),
        )  # fmt: skip
    whole = float((on_test[-1].argmax(-1) == test.labels).float().mean())
    found.add("whole", **facts, accuracy=whole)


def _race(
    found: Findings, facts: dict[str, Any], net: EarlyExitNet, on_val: Tensor, val: Pictures,
    test: Pictures, temperatures: list[float],
) -> None:  # fmt: skip
    """CPU time of the budgets' rules, and of every head when time runs out, against all blocks.

    Batches of 64: each alone, which shrinks as pictures leave, and eight whose survivors refill.
    """
    batches, heads = batches_of(test.images, ROUNDS), len(on_val)
    groups = batches_of(test.images, 4, 8 * BATCH)
    for budget in BUDGETS:
        rule = fit_thresholds(on_val, val.labels, range(1, heads + 1), budget * heads)

        def leave(x: Tensor, rule: ExitRule = rule) -> object:
            return net.predict(x, rule, temperatures, BATCH)

        def whole(x: Tensor) -> object:
            return [net(part) for part in x.split(BATCH)]

        for refilled, images in ((False, batches), (True, groups)):
            took = clock(leave, whole, images)
            found.add("race", **facts, budget=budget, refilled=refilled, time_ratio=took.ratio)
    for head in range(1, heads + 1):

        def stop(x: Tensor, head: int = head) -> object:
            return net.anytime(x, head, count().__next__)  # a clock that ticks once a block

        right = 0
        for start in range(0, len(test), 500):
            part = test.part(start, start + 500)
            said, _ = net.anytime(part.images, head, count().__next__)
            right += int((said == part.labels).sum())
        took = clock(stop, net, batches)
        found.add("anytime", **facts, head=head, ms=1e3 * took.ours, time_ratio=took.ratio,
                  accuracy=right / len(test))  # fmt: skip


def _spent(logits: Tensor, rule: ExitRule, costs: list[float]) -> float:
    price = torch.tensor(costs, dtype=torch.float64)
    return float(price[exit_layers(logits, rule)].mean() / price[-1])


def _right(logits: Tensor, rule: ExitRule, labels: Tensor) -> float:
    said = logits.argmax(-1).gather(0, exit_layers(logits, rule)[None])[0]
    return float((said == labels).float().mean())


def _keep(
    found: Findings, training: str, on_val: Tensor, on_test: Tensor, val: Pictures,
    test: Pictures, temperatures: list[float],
) -> None:  # fmt: skip
    arrays = found.arrays
    arrays[f"exits/{training}/test"] = on_test.numpy().astype(np.float16)
    arrays[f"exits/{training}/val"] = on_val.numpy().astype(np.float16)
    arrays[f"exits/{training}/temperatures"] = np.array(temperatures)
    if training != "joint":
        return
    arrays["exits/test_labels"] = test.labels.numpy().astype(np.int8)
    arrays["exits/val_labels"] = val.labels.numpy().astype(np.int8)
    surest = on_test[0].softmax(-1).amax(-1).argsort(descending=True)
    unsure = on_test[-1].softmax(-1).amax(-1).argsort()
    for name, order in (("easiest", surest), ("hardest", unsure)):
        arrays[f"exits/{name}"] = to_bytes(test.images[order[:12]])
        arrays[f"exits/{name}_rows"] = order[:12].numpy().astype(np.int16)
