"""One fine-tuning run: a strategy, a seed, a number of steps, and what they cost."""

import ctypes
import gc
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.finetuning.alast import logits_of
from labcore.finetuning.data import Split, Task
from labcore.finetuning.models import build, features, head_of, linear_probe
from labcore.finetuning.reports import StepReport
from labcore.finetuning.strategies import learner
from labcore.runs import Progress, silent

MEASURE_EVERY = 10  # steps between two counts of saved bytes


@dataclass(frozen=True)
class Recipe:
    """How much to train.

    Attributes:
        model: As for :func:`labcore.finetuning.models.build`.
        image_size: Pixels.
        train, test: Pictures.
        epochs, batch: Passes over the training pictures, pictures in a step.
        lr: Highest learning rate of the pre-trained weights; a tenth of the steps warm up, then it
            falls linearly.
        num_layers: K.
        data: As for :func:`labcore.finetuning.data.task_of`.
        device: Where the model runs; on a GPU seconds are wall time.
        looks: At the test accuracy on the way, for a curve, besides the one at the end.
    """

    model: str
    image_size: int
    train: int
    test: int
    epochs: int
    batch: int
    lr: float
    num_layers: int
    data: str = "fashion-mnist"
    device: str = "cpu"
    looks: int = 0

    @property
    def channels(self) -> int:
        """The small model sees grey pictures, others colours."""
        return 1 if self.model in ("small", "scratch") else 3

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.epochs * (self.train // self.batch)


@dataclass
class FineTuningRun:
    """What one run gave.

    Attributes:
        strategy, seed: Which.
        accuracy: On the test pictures, at the end.
        reports: One a step.
        curve: Step, CPU seconds spent in steps so far, test accuracy, at every look.
        peak_bytes: Highest resident memory above where the run began (Linux), or of the GPU.
        trained: Parameters that the optimizer holds.
    """

    strategy: str
    seed: int
    accuracy: float = 0.0
    reports: list[StepReport] = field(default_factory=list)
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    peak_bytes: int | None = None
    trained: int = 0

    def costs(self) -> dict[str, float]:
        """CPU time and what was saved: medians and means over the steps."""
        saved = [r.saved_bytes for r in self.reports if r.saved_bytes is not None]
        count = len(self.reports)
        plain = [r.cpu_seconds for r in self.reports if r.saved_bytes is None]
        return {
            "cpu_seconds": sum(r.cpu_seconds for r in self.reports),
            "step_seconds": median(plain or [r.cpu_seconds for r in self.reports]),
            "gflops": sum(r.flops for r in self.reports) / count / 1e9,
            "gflops_spent": sum(r.flops_spent for r in self.reports) / count / 1e9,
            "saved_bytes": sum(saved) / len(saved),
            "mean_tokens": sum(sum(r.tokens) / len(r.tokens) for r in self.reports) / count,
        }


def fine_tune(
    strategy: str,
    recipe: Recipe,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
    frozen: Float[Tensor, "n d"] | None = None,
    progress: Progress = silent,
) -> FineTuningRun:
    """Fine-tune a fresh model by a strategy.

    Deterministic for a seed, except the seconds and the peak memory (and what ``seconds`` decides).

    Args:
        strategy: One of :data:`labcore.finetuning.strategies.STRATEGIES`.
        recipe: Model and amount of training.
        task: The pictures.
        seed: Order of the pictures, layers drawn, adapters.
        seconds: Train for this CPU time, instead of for the recipe's epochs.
        frozen: What the head reads of the training pictures before any training, if it is known.
        progress: Called after every step; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    model = build(recipe.model, recipe.image_size, classes=task.classes, seed=seed)
    model.to(recipe.device)
    start_head(model, task.train, frozen)
    held = learner(strategy, model, num_layers=recipe.num_layers, lr=recipe.lr, seed=seed)
    highest = [group["lr"] for group in held.optimizer.param_groups]
    found = FineTuningRun(strategy, seed)
    found.trained = sum(p.numel() for g in held.optimizer.param_groups for p in g["params"])
    batches = _batches(task.train, recipe, seed)
    spent, before = 0.0, _reset_peak(recipe.device)
    while (done := spent / seconds if seconds else len(found.reports) / recipe.steps) < 1:
        if recipe.looks and len(found.curve) <= int(recipe.looks * done):
            found.curve.append((len(found.reports), spent, accuracy(held.model, task.test)))
        for group, lr in zip(held.optimizer.param_groups, highest, strict=True):
            group["lr"] = lr * _rate(done)
        report = held.step(next(batches), len(found.reports) % MEASURE_EVERY == 0)
        spent += report.cpu_seconds
        found.reports.append(report)
        progress(int(1000 * done), 1000, f"{strategy}, seed {seed}")
    found.peak_bytes = _peak_since(before, recipe.device)
    found.accuracy = accuracy(held.model, task.test)
    found.curve.append((len(found.reports), spent, found.accuracy))
    return found


def _batches(train: Split, recipe: Recipe, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for ever, each pass over the pictures in an order of its own."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    while True:
        order = torch.randperm(len(train), generator=generator)
        for index in order[: len(train) // recipe.batch * recipe.batch].split(recipe.batch):
            yield train.images[index].to(recipe.device), train.labels[index].to(recipe.device)


def start_head(model: nn.Module, train: Split, frozen: Float[Tensor, "n d"] | None = None) -> None:
    """Give the model the linear probe on its frozen features as head."""
    read = features(model.eval(), train.images) if frozen is None else frozen
    weight, bias = linear_probe(read, train.labels)
    with torch.no_grad():
        head_of(model).weight.copy_(weight)
        head_of(model).bias.copy_(bias)


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, batch: int = 100) -> float:
    """Share of pictures that get their label; the model is left in training mode."""
    model.eval()
    right, device = 0, next(model.parameters()).device
    for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
        right += int((logits_of(model(images.to(device))).argmax(-1).cpu() == labels).sum())
    model.train()
    return right / len(split)


def baselines(
    task: Task, frozen: Float[Tensor, "n d"], held: Float[Tensor, "m d"]
) -> dict[str, float]:
    """Accuracy of the trivial baselines: the commonest class, plain pixels, frozen features."""
    labels = task.train.labels
    commonest = int(labels.bincount().argmax())
    scores = {"commonest class": (task.test.labels == commonest).float().mean().item()}
    for name, train, test in (
        ("pixels, logistic regression", task.train_pixels, task.test_pixels),
        ("frozen features, logistic regression", frozen, held),
    ):
        weight, bias = linear_probe(train, labels)
        guessed = (test @ weight.T + bias).argmax(-1)
        scores[name] = (guessed == task.test.labels).float().mean().item()
    return scores


def _rate(done: float) -> float:
    """Up during the first tenth, then linearly down."""
    return max(done, 0.01) / 0.1 if done < 0.1 else (1 - done) / 0.9


def _reset_peak(device: str) -> int | None:
    """Start a new high-water mark of memory and return where it stands."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    gc.collect()
    with suppress(OSError, AttributeError):  # give freed memory back, or the peak hides in it
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _high_water()


def _peak_since(before: int | None, device: str) -> int | None:
    if before is None:
        return None
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated(device)) - before
    return _high_water() - before


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
