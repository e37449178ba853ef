"""The models of the experiment on disk: made once, resumed after a kill, and packed into one file.

``python -m labcore.merging.checkpoints`` trains both pre-training seeds into ``out/merging``, packs
each (a base, one-shot heads, and every task vector as 8-bit rows with a scale), and puts seed 0
and the page's test pictures among the committed results. The experiment reads packed files only,
so what it measures is what is committed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from labcore.merging import training
from labcore.merging.data import TASKS, pictures
from labcore.merging.vectors import TaskVector, task_vector
from labcore.runs import Progress, replacing, silent

StateDict = dict[str, Tensor]
RESULTS = Path(__file__).parent / "results"
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "out" / "merging"
PICTURES = RESULTS / "pictures.npz"
HELD = 200  # committed test pictures a task
_STEPS = 127.0  # an 8-bit row runs from -127 to 127 times its scale


@dataclass(frozen=True)
class Models:
    """A base, its one-shot heads and the task vectors of its fine-tuned copies.

    Attributes:
        base: State dict of the pre-trained ViT.
        heads: Task -> class prototypes, (classes, features).
        task_vectors: Task -> difference from the base.
    """

    base: StateDict
    heads: dict[str, Tensor]
    task_vectors: dict[str, TaskVector]

    def first(self, tasks: int) -> dict[str, TaskVector]:
        """The task vectors of the first ``tasks`` tasks, in the order of the experiment."""
        return {task: self.task_vectors[task] for task in TASKS[:tasks]}


def make_all(
    seed: int,
    *,
    folder: Path = DEFAULT_FOLDER,
    recipe: training.Recipe | None = None,
    tasks: tuple[str, ...] = TASKS,
    progress: Progress = silent,
) -> Path:
    """Train the base and a model a task that are not yet in ``folder/seed<seed>``, and pack them.

    Returns:
        The packed file, ``folder/seed<seed>/packed.safetensors``.
    """
    recipe = recipe or training.Recipe()
    folder = folder / f"seed{seed}"
    packed = folder / "packed.safetensors"
    if packed.exists():
        return packed
    if not (folder / "base.safetensors").exists():
        _save(training.pretrain(recipe, seed), folder / "base.safetensors")
    base = load_file(folder / "base.safetensors")
    heads = {task: training.prototype_head(base, task, seed) for task in tasks}
    taus = {}
    for done, task in enumerate(tasks):
        progress(done, len(tasks), f"seed {seed}: {task}")
        path = folder / f"{task}.safetensors"
        if not path.exists():
            _save(training.finetune(base, heads[task], task, recipe, seed), path)
        taus[task] = task_vector(base, load_file(path))
    progress(len(tasks), len(tasks), f"seed {seed}")
    return pack(Models(base, heads, taus), packed)


def pack(models: Models, path: Path) -> Path:
    """Write one small file: base and heads in float32, task vectors as 8-bit rows with scales."""
    tensors = {f"base/{name}": value for name, value in models.base.items()}
    tensors |= {f"head/{task}": head for task, head in models.heads.items()}
    for task, tau in models.task_vectors.items():
        for name, value in tau.items():
            rows = value.flatten(1) if value.ndim > 1 else value[None]
            scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / _STEPS
            tensors[f"tau/{task}/{name}"] = (rows / scale).round().to(torch.int8).view(value.shape)
            tensors[f"scale/{task}/{name}"] = scale[:, 0].contiguous()
    _save(tensors, path)
    return path


def unpack(path: Path) -> Models:
    """Read what :func:`pack` wrote.

    Raises:
        FileNotFoundError: no such file; the message has the command that makes it.
        ValueError: the file is no packed set of models.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path.name}: python -m labcore.merging.checkpoints")
    tensors = load_file(path)
    base = _under(tensors, "base/")
    if not base:
        raise ValueError(f"{path.name} is no packed set of models: it has no base/ tensors")
    taus: dict[str, dict[str, Tensor]] = {}
    for key, steps in _under(tensors, "tau/").items():
        task, name = key.split("/", 1)
        scale = tensors[f"scale/{key}"]
        rows = steps.flatten(1) if steps.ndim > 1 else steps[None]
        taus.setdefault(task, {})[name] = (rows.float() * scale[:, None]).view(steps.shape)
    order = [task for task in TASKS if task in taus]
    named = {task: TaskVector({n: taus[task][n] for n in base}) for task in order}
    return Models(base, _under(tensors, "head/"), named)


def models_of(seed: int, progress: Progress = silent) -> Models:
    """The packed models of a pre-training seed: committed, made before, or trained now."""
    committed = committed_path(seed)
    return unpack(committed if committed.exists() else make_all(seed, progress=progress))


def committed_path(seed: int) -> Path:
    """Where the committed models of a seed are, if they are."""
    return RESULTS / f"models_seed{seed}.safetensors"


def save_pictures(path: Path = PICTURES) -> Path:
    """Write the test pictures that come with the lab, 8 bits a pixel."""
    arrays: dict[str, Any] = {}
    for task in TASKS:
        images, labels = pictures(task, "test", HELD)
        arrays[f"{task}/images"] = (255 * images).round().to(torch.uint8).numpy()
        arrays[f"{task}/labels"] = labels.to(torch.uint8).numpy()
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def _under(tensors: StateDict, start: str) -> StateDict:
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def _save(tensors: StateDict, path: Path) -> None:
    with replacing(path) as part:
        save_file({k: v.contiguous() for k, v in tensors.items()}, part)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number in (0, 1):
        made = make_all(number)
        if number == 0:
            _save(load_file(made), committed_path(0))
    save_pictures()
