"""Scores of merged models: accuracy of each task under its own frozen head."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from labcore.merging import data, training
from labcore.merging.baselines import Tasks, consensus_ta, task_arithmetic, tune_alpha
from labcore.merging.baselines import tall_masks as masks_of
from labcore.merging.checkpoints import Models
from labcore.merging.router import SubspaceRouter
from labcore.merging.tsv import normalized_accuracy
from labcore.merging.vectors import StateDict, TaskVector, apply

Accuracies = dict[str, float]
LAMBDAS = (0.2, 0.3, 0.4, 0.5, 0.6)  # of the TALL masks, chosen a task on validation pictures


@dataclass(frozen=True)
class Bench:
    """Pictures to score models on.

    Attributes:
        models: Base, heads, task vectors.
        tasks: Which tasks, in order.
        test_images: A task. val_images: A task; the only ones that choose anything.
        seed: Decides which pictures.
    """

    models: Models
    tasks: tuple[str, ...]
    test_images: int
    val_images: int
    seed: int = 0

    @cached_property
    def test(self) -> dict[str, data.Pictures]:
        """Test pictures of each task."""
        return {t: data.pictures(t, "test", self.test_images, seed=self.seed) for t in self.tasks}

    @cached_property
    def val(self) -> dict[str, data.Pictures]:
        """Validation pictures of each task."""
        return {t: data.pictures(t, "val", self.val_images, seed=self.seed) for t in self.tasks}

    def score(self, state: StateDict, task: str, *, val: bool = False) -> float:
        """Accuracy of one model on one task."""
        model = training.new_model(dict(state)).eval()
        pictures = (self.val if val else self.test)[task]
        return training.accuracy(model, self.models.heads[task], *pictures)

    def scores(self, state: StateDict, tasks: Sequence[str], *, val: bool = False) -> Accuracies:
        """Accuracy of one model on each of these tasks."""
        return {task: self.score(state, task, val=val) for task in tasks}

    def own(self, *, val: bool = False) -> Accuracies:
        """Each task's accuracy by its own fine-tuned model."""
        taus = self.models.task_vectors
        return {t: self.score(apply(self.models.base, taus[t]), t, val=val) for t in self.tasks}

    def merged(self, delta: TaskVector, alpha: float, tasks: Sequence[str]) -> Accuracies:
        """Test accuracy of base + alpha * delta on each of these tasks."""
        return self.scores(apply(self.models.base, delta, alpha), tasks)

    def tune(
        self, delta: TaskVector, tasks: Sequence[str], own: Mapping[str, float], grid: list[float]
    ) -> tuple[float, list[tuple[float, float]]]:
        """The alpha with the best mean normalised accuracy on validation pictures, and the curve.

        Args:
            delta: What a merger returned.
            tasks: Which tasks count.
            own: Validation accuracy of each fine-tuned model.
            grid: Values of alpha.
        """

        def evaluate(alpha: float) -> float:
            found = self.scores(apply(self.models.base, delta, alpha), tasks, val=True)
            return normalized_accuracy(found, {t: own[t] for t in tasks})[1]

        return tune_alpha(evaluate, grid)

    def tuned_consensus(self, taus: Tasks) -> tuple[TaskVector, dict[str, float]]:
        """Consensus task arithmetic, each task's lambda chosen by its own masked model."""
        total = task_arithmetic(taus)
        by_lambda = {value: masks_of(taus, threshold=value) for value in LAMBDAS}

        def masked(task: str) -> Callable[[float], float]:
            def evaluate(value: float) -> float:
                mask = by_lambda[value][task]
                kept = TaskVector({name: v * mask[name] for name, v in total.items()})
                return self.score(apply(self.models.base, kept), task, val=True)

            return evaluate

        best = {task: tune_alpha(masked(task), LAMBDAS)[0] for task in taus}
        return consensus_ta(taus, threshold=best), best

    def features(self, task: str, *, split: data.Split, n: int) -> Tensor:
        """The base's features of ``n`` pictures of a task."""
        images, _ = data.pictures(task, split, n, seed=self.seed)
        return self.features_of(images)

    def features_of(self, images: Tensor) -> Tensor:
        """The base's features of these pictures."""
        model = training.new_model(self.models.base).eval()
        with torch.no_grad():
            return torch.cat([model(part.unsqueeze(1)) for part in images.split(500)])

    def routed(
        self, taus: Mapping[str, TaskVector], router: SubspaceRouter
    ) -> tuple[Accuracies, Accuracies]:
        """Share of pictures sent to their task, and accuracy when the router chooses the model.

        A picture sent to another task counts as wrong: that task's head has other classes.
        """
        right, correct = {}, {}
        for index, task in enumerate(router.tasks):
            images, labels = self.test[task]
            arrived = router.route(self.features_of(images)) == index
            right[task] = float(arrived.float().mean())
            model = training.new_model(apply(self.models.base, taus[task])).eval()
            hits = 0.0
            if arrived.any():
                share = training.accuracy(
                    model, self.models.heads[task], images[arrived], labels[arrived]
                )
                hits = share * int(arrived.sum())
            correct[task] = hits / len(labels)
        return right, correct
