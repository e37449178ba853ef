"""One fine-tuning run: a strategy, a seed, a number of steps, and what they cost."""

import ctypes
import gc
import resource
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.vit import VisionTransformer
from labcore.finetuning.alast import StepReport
from labcore.finetuning.data import Split, Task
from labcore.finetuning.models import build, features, head_of, linear_probe
from labcore.finetuning.strategies import learner
from labcore.runs import Progress, silent

MEASURE_EVERY = 10  # steps between two counts of saved bytes


@dataclass(frozen=True)
class Recipe:
    """How much to train.

    Attributes:
        model: ``small``, ``scratch`` or ``vit-s``.
        image_size: Pixels.
        train, test: Pictures.
        epochs, batch: Passes over the training pictures, pictures in a step.
        lr: Highest learning rate of the pre-trained weights; a tenth of the steps warm up, then it
            falls linearly.
        num_layers: K.
        look_every: Steps between two looks at the test accuracy, for the curves; 0 looks only at
            the end.
    """

    model: str
    image_size: int
    train: int
    test: int
    epochs: int
    batch: int
    lr: float
    num_layers: int
    look_every: int = 0

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
    strategy: str, recipe: Recipe, task: Task, *, seed: int = 0, progress: Progress = silent
) -> FineTuningRun:
    """Fine-tune a fresh model by a strategy.

    Deterministic for a seed, except the seconds and the peak memory.

    Args:
        strategy: One of :data:`labcore.finetuning.strategies.STRATEGIES`.
        recipe: Model and amount of training.
        task: The pictures.
        seed: Order of the pictures, layers drawn, adapters.
        progress: Called after every step; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    model = build(recipe.model, recipe.image_size, seed=seed)
    start_head(model, task.train)
    held = learner(strategy, model, num_layers=recipe.num_layers, lr=recipe.lr, seed=seed)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        held.optimizer, lambda step: _rate(step, recipe.steps)
    )
    found = FineTuningRun(strategy, seed)
    found.trained = sum(p.numel() for g in held.optimizer.param_groups for p in g["params"])
    generator = torch.Generator().manual_seed(10_000 + seed)
    spent, before = 0.0, _reset_peak()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(task.train), generator=generator)
        for index in order[: recipe.steps // recipe.epochs * recipe.batch].split(recipe.batch):
            done = len(found.reports)
            if recipe.look_every and done % recipe.look_every == 0:
                found.curve.append((done, spent, accuracy(held.model, task.test)))
            batch = task.train.images[index], task.train.labels[index]
            report = held.step(batch, done % MEASURE_EVERY == 0)
            schedule.step()
            spent += report.cpu_seconds
            found.reports.append(report)
            progress(done + 1, recipe.steps, f"{strategy}, seed {seed}")
    found.peak_bytes = _peak_since(before)
    found.accuracy = accuracy(held.model, task.test)
    found.curve.append((len(found.reports), spent, found.accuracy))
    return found


def start_head(model: VisionTransformer, train: Split) -> None:
    """Give the model the linear probe on its frozen features as head."""
    weight, bias = linear_probe(features(model, train.images), train.labels)
    with torch.no_grad():
        head_of(model).weight.copy_(weight)
        head_of(model).bias.copy_(bias)


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, batch: int = 100) -> float:
    """Share of pictures that get their label; the model is left in training mode."""
    model.eval()
    right = 0
    for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
        right += int((model(images).argmax(-1) == labels).sum())
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


def _rate(step: int, steps: int) -> float:
    """A tenth of the steps up, then linearly down."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)


def _reset_peak() -> int | None:
    """Start a new high-water mark of resident memory and return where it stands."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    gc.collect()
    with suppress(OSError, AttributeError):  # give freed memory back, or the peak hides in it
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _high_water()


def _peak_since(before: int | None) -> int | None:
    if before is None:
        return None
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated()) - before
    return _high_water() - before


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
