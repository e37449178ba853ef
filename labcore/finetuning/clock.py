"""What one step of every strategy costs, the strategies taking turns on one clock."""

from statistics import median

import torch

from labcore.finetuning.data import task_of
from labcore.finetuning.models import build
from labcore.finetuning.settings import Trial
from labcore.finetuning.strategies import learner
from labcore.runs import Progress, Table

_WARM_UP = 2  # rounds that are not counted; the budgets find their places in them


def step_costs(trial: Trial, rounds: int, seed: int, report: Progress) -> Table:
    """CPU seconds, saved bytes, FLOPs and tokens of one step, medians over ``rounds`` steps.

    Taking turns, every strategy meets the same load of the machine. Batches are the same too.
    """
    recipe = trial.recipe
    total = rounds + _WARM_UP
    task = task_of(
        recipe.data, recipe.batch * total, 10, image_size=recipe.image_size,
        channels=recipe.channels, seed=seed,
    )  # fmt: skip
    pictures, held = task.train, {}
    for name in trial.strategies:
        model = build(recipe.model, recipe.image_size, classes=task.classes, seed=seed)
        held[name] = learner(
            name, model.to(recipe.device), num_layers=recipe.num_layers, lr=recipe.lr, seed=seed
        )
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in held}
    torch.manual_seed(seed)
    for turn in range(total):
        report(turn, total, "steps in turns")
        part = slice(turn * recipe.batch, (turn + 1) * recipe.batch)
        batch = (
            pictures.images[part].to(recipe.device),
            pictures.labels[part].to(recipe.device),
        )
        for name, one in held.items():
            plain = one.step(batch, False)
            counted = one.step(batch, True)
            if turn >= _WARM_UP:
                tokens = sum(plain.tokens) / len(plain.tokens)
                seen[name].append(
                    (plain.cpu_seconds, float(counted.saved_bytes or 0), plain.flops,
                     plain.flops_spent, tokens)
                )  # fmt: skip
    columns = ("step_seconds", "saved_bytes", "flops", "flops_spent", "tokens")
    return [
        {
            "model": trial.name,
            "strategy": name,
            "rounds": rounds,
            "batch": recipe.batch,
            **{c: median(v) for c, v in zip(columns, zip(*rows, strict=True), strict=True)},
        }
        for name, rows in seen.items()
    ]
