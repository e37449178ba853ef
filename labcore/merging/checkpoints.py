"""The models of the experiment on disk: made once, kept as safetensors, resumed after a kill."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from labcore.merging import training
from labcore.merging.data import TASKS
from labcore.runs import Progress, replacing, silent

StateDict = dict[str, Tensor]
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "out" / "merging"


def make_all(
    seed: int,
    *,
    folder: Path = DEFAULT_FOLDER,
    recipe: training.Recipe | None = None,
    tasks: tuple[str, ...] = TASKS,
    progress: Progress = silent,
) -> Path:
    """Train the base and a model a task that are not yet in ``folder/seed<seed>``.

    Returns:
        That folder: ``base.safetensors``, ``heads.safetensors``, ``<task>.safetensors``.
    """
    recipe = recipe or training.Recipe()
    folder = folder / f"seed{seed}"
    if not (folder / "base.safetensors").exists():
        _save(training.pretrain(recipe, seed), folder / "base.safetensors")
    base = load_file(folder / "base.safetensors")
    heads = {task: training.prototype_head(base, task, seed) for task in tasks}
    _save(heads, folder / "heads.safetensors")
    for done, task in enumerate(tasks):
        progress(done, len(tasks), f"seed {seed}: {task}")
        if not (folder / f"{task}.safetensors").exists():
            model = training.finetune(base, heads[task], task, recipe, seed)
            _save(model, folder / f"{task}.safetensors")
    progress(len(tasks), len(tasks), f"seed {seed}")
    return folder


def load(folder: Path, tasks: tuple[str, ...] = TASKS) -> tuple[StateDict, dict[str, StateDict]]:
    """The base and the fine-tuned state dicts of a folder that :func:`make_all` filled."""
    base = load_file(folder / "base.safetensors")
    return base, {task: load_file(folder / f"{task}.safetensors") for task in tasks}


def _save(tensors: StateDict, path: Path) -> None:
    with replacing(path) as part:
        save_file({k: v.contiguous() for k, v in tensors.items()}, part)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number in (0, 1):
        make_all(number)
