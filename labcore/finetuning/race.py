"""A race: every strategy trains the same model for the same CPU time, not for the same steps."""

from collections.abc import Sequence
from dataclasses import replace

from labcore.finetuning.data import Task
from labcore.finetuning.training import Recipe, fine_tune
from labcore.runs import Progress, Table, silent

LOOKS = 4  # at the test accuracy on the way


def race_table(
    strategies: Sequence[str],
    recipe: Recipe,
    task: Task,
    *,
    seconds: float,
    seed: int = 0,
    progress: Progress = silent,
) -> Table:
    """Steps, CPU seconds and test accuracy of each runner at every look.

    Looking costs no time of the race. Who gets how far depends on the machine: that is the point.

    Args:
        strategies: Who runs.
        recipe: Model and learning rate; its epochs are not used.
        task: The pictures.
        seconds: CPU time that each may train.
        seed: Order of the pictures, layers drawn, adapters.
        progress: Called after every step.

    Raises:
        ValueError: no strategy, one that is not known, or no time.
    """
    if not strategies:
        raise ValueError("no strategy given: name one or more")
    if seconds <= 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    table: Table = []
    for number, name in enumerate(strategies):

        def report(done: int, of: int, label: str, before: int = number) -> None:
            progress(before * of + done, len(strategies) * of, label)

        found = fine_tune(
            name, replace(recipe, looks=LOOKS), task, seed=seed, seconds=seconds, progress=report
        )
        table += [
            {"strategy": name, "seed": seed, "look": look, "step": step, "cpu_seconds": spent,
             "accuracy": score}
            for look, (step, spent, score) in enumerate(found.curve)
        ]  # fmt: skip
    return table
