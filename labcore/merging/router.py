"""Guess the task of a picture from the base model's feature, for TSV-Compress without an index.

Not part of the paper, whose evaluation is told the task: accuracies with a router are reported
apart. Each task gets the mean and the leading directions of its training features; a picture goes
to the task that leaves the smallest residual.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.merging.factors import check_matrix, check_rank


@dataclass(frozen=True)
class SubspaceRouter:
    """One affine subspace of features a task.

    Attributes:
        tasks: Names, in the order of the indices that :meth:`route` returns.
        means: (tasks, d). bases: (tasks, d, k) with orthonormal columns.
    """

    tasks: tuple[str, ...]
    means: Float[Tensor, "t d"]
    bases: Float[Tensor, "t d k"]

    @classmethod
    def fit(cls, features: Mapping[str, Float[Tensor, "n d"]], rank: int = 16) -> "SubspaceRouter":
        """Means and ``rank`` principal directions of each task's features.

        Raises:
            ValueError: no task, features that are not finite matrices, or a rank that one of them
                cannot give.
        """
        if not features:
            raise ValueError("features: want at least one task, got none")
        means, bases = [], []
        for task, value in features.items():
            check_matrix(task, value)
            check_rank(task, rank, min(value.shape))
            mean = value.mean(0)
            _, _, vh = torch.linalg.svd(value - mean, full_matrices=False)
            means.append(mean)
            bases.append(vh[:rank].T)
        return cls(tuple(features), torch.stack(means), torch.stack(bases))

    def residuals(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n t"]:
        """Distance of each feature from each task's subspace."""
        centred = features[:, None] - self.means  # (n, t, d)
        inside = torch.einsum("ntd,tdk->ntk", centred, self.bases)
        squared = centred.square().sum(-1) - inside.square().sum(-1)
        return squared.clamp_min(0).sqrt()

    def route(self, features: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """Index of the task with the smallest residual."""
        return self.residuals(features).argmin(1)
