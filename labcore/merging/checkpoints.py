"""The models of the experiment on disk: made once, resumed after a kill, and packed into one file.

``python -m labcore.merging.checkpoints`` trains two pre-training seeds into ``out/merging``, packs
each (a base and one-shot heads in half precision, every task vector in 31 steps a row), and puts
them and the page's test pictures among the committed results. The experiment reads packed files
only, so what it measures is what is committed.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from labcore.merging import training
from labcore.merging.data import TASKS, pictures
from labcore.merging.vectors import TaskVector, apply, task_vector
from labcore.runs import Progress, replacing, silent

StateDict = dict[str, Tensor]
RESULTS = Path(__file__).parent / "results"
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "out" / "merging"
PICTURES = RESULTS / "pictures.npz"
HELD = 200  # committed test pictures a task
SEEDS = (0, 1)  # pre-training seeds that are committed
_STEPS = 15  # a packed row runs from -15 to 15 times its scale


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
    progress: Progress = silent,
) -> Path:
    """Train the base and a model a task that are not yet in ``folder/seed<seed>``, and pack them.

    Returns:
        The packed file, ``folder/seed<seed>/packed.npz``.
    """
    recipe = recipe or training.Recipe()
    folder = folder / f"seed{seed}"
    packed = folder / "packed.npz"
    if packed.exists():
        return packed
    if not (folder / "base.safetensors").exists():
        _save(training.pretrain(recipe, seed), folder / "base.safetensors")
    base = load_file(folder / "base.safetensors")
    heads = {task: training.prototype_head(base, task, seed) for task in TASKS}
    taus = {}
    for done, task in enumerate(TASKS):
        progress(done, len(TASKS), f"seed {seed}: {task}")
        path = folder / f"{task}.safetensors"
        if not path.exists():
            _save(training.finetune(base, heads[task], task, recipe, seed), path)
        taus[task] = task_vector(base, load_file(path))
    progress(len(TASKS), len(TASKS), f"seed {seed}")
    return pack(Models(base, heads, taus), packed)


def pack(models: Models, path: Path) -> Path:
    """Write one small file; a row of a task vector keeps 31 steps between its largest entries."""
    arrays: dict[str, Any] = {f"base/{n}": v.half().numpy() for n, v in models.base.items()}
    arrays |= {f"head/{task}": head.half().numpy() for task, head in models.heads.items()}
    for task, tau in models.task_vectors.items():
        rows = {name: _rows(tau[name]) for name in models.base}
        scales = {n: r.abs().amax(1).clamp_min(1e-12) / _STEPS for n, r in rows.items()}
        steps = [(rows[n] / scales[n][:, None]).round().flatten() for n in rows]
        arrays[f"steps/{task}"] = torch.cat(steps).to(torch.int8).numpy()
        arrays[f"scale/{task}"] = torch.cat(list(scales.values())).numpy()
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def unpack(path: Path) -> Models:
    """Read what :func:`pack` wrote.

    Raises:
        FileNotFoundError: no such file; the message has the command that makes it.
        ValueError: the file is no packed set of models.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path.name}: python -m labcore.merging.checkpoints")
    with np.load(path, allow_pickle=False) as file:
        held = {name: torch.from_numpy(file[name]) for name in file.files}
    base = {name: value.float() for name, value in _under(held, "base/").items()}
    if not base:
        raise ValueError(f"{path.name} is no packed set of models: it has no base/ arrays")
    heads = {task: value.float() for task, value in _under(held, "head/").items()}
    counts = [len(_rows(value)) for value in base.values()]
    taus = {}
    for task, steps in _under(held, "steps/").items():
        scales = dict(zip(base, held[f"scale/{task}"].split(counts), strict=True))
        parts = dict(zip(base, steps.split([v.numel() for v in base.values()]), strict=True))
        taus[task] = TaskVector(
            {n: (_rows(parts[n].view(v.shape)) * scales[n][:, None]).view(v.shape)
             for n, v in base.items()}
        )  # fmt: skip
    return Models(base, heads, {task: taus[task] for task in TASKS if task in taus})


def _rows(value: Tensor) -> Tensor:
    """A matrix of the entries; a vector is one row."""
    return value.flatten(1) if value.ndim > 1 else value.view(1, -1)


def models_of(seed: int, progress: Progress = silent) -> Models:
    """The packed models of a pre-training seed: committed, made before, or trained now."""
    committed = committed_path(seed)
    return unpack(committed if committed.exists() else make_all(seed, progress=progress))


def committed_path(seed: int) -> Path:
    """Where the committed models of a seed are, if they are."""
    return RESULTS / f"models_seed{seed}.npz"


def save_pictures(path: Path = PICTURES) -> Path:
    """Write the test pictures that come with the lab, 8 bits a pixel.

    Beside them stands what the committed base and fine-tuned models of seed 0 score on them.
    """
    models = unpack(committed_path(0))
    arrays: dict[str, Any] = {}
    for task in TASKS:
        images, labels = pictures(task, "test", HELD)
        stored = (255 * images).round().to(torch.uint8)
        arrays[f"{task}/images"] = stored.numpy()
        arrays[f"{task}/labels"] = labels.to(torch.uint8).numpy()
        for name, state in (
            ("base", models.base),
            ("own", apply(models.base, models.task_vectors[task])),
        ):
            model = training.new_model(state).eval()
            score = training.accuracy(model, models.heads[task], stored.float() / 255, labels)
            arrays[f"{task}/{name}"] = np.array(score)
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
    for number in SEEDS:
        made = make_all(number)
        with replacing(committed_path(number)) as copy:
            shutil.copyfile(made, copy)
    save_pictures()
