"""Checks of notebook P01: task singular vectors (arXiv 2412.00081)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.course.checking import EXACT, Wrong, register
from labcore.merging.factors import polar_factor, truncated_svd
from labcore.merging.interference import singular_task_interference
from labcore.merging.tsv import tsv_merge_matrix

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


def _tall(rng: Rng) -> tuple[Tensor]:
    return (_normal(rng, int(rng.integers(8, 14)), int(rng.integers(3, 7))),)


# P01.1: the nearest orthonormal columns


def whiten(x: Tensor) -> Tensor:
    """Reference of P01.1: X (X^T X)^(-1/2)."""
    return polar_factor(x, method="svd")


def _orthonormal(answer: Any, rng: Rng) -> str | None:
    (x,) = _tall(rng)
    q = torch.as_tensor(answer(x)).double()
    gap = float((q.T @ q - torch.eye(q.shape[1], dtype=q.dtype)).abs().max())
    return None if gap < 1e-6 else f"QᵀQ differs from the identity by {gap:.2g}"


register(
    "P01.1",
    reference=whiten,
    cases=((torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64),), _tall),
    properties=(_orthonormal,),
    wrong=(
        Wrong(
            "Gram-Schmidt",
            lambda x: torch.linalg.qr(x)[0] * torch.linalg.qr(x)[1].diagonal().sign(),
            "orthonormal, but not the nearest: QR keeps the first column and bends the others",
        ),
        Wrong(
            "columns scaled to length one",
            lambda x: x / x.norm(dim=0),
            "unit length is not enough: the columns must be orthogonal to each other too",
        ),
        Wrong(
            "left factor only",
            lambda x: torch.linalg.svd(x, full_matrices=False)[0],
            "P alone is orthonormal in another order and turned: multiply by Qᵀ to come back",
        ),
    ),
)


# P01.2: TSV-Merge of one matrix


def merge(deltas: Sequence[Tensor]) -> Tensor:
    """Reference of P01.2: rank r // T each, both sides whitened."""
    found = tsv_merge_matrix(list(deltas))
    assert isinstance(found, Tensor)
    return found


def _stacked(deltas: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor, Tensor]:
    kept = [truncated_svd(d, k) for d in deltas]
    return (
        torch.cat([f.U for f in kept], 1),
        torch.cat([f.s for f in kept]),
        torch.cat([f.Vh for f in kept]),
    )


def _variant(left: bool, right: bool, share: bool = True) -> Callable[..., Tensor]:
    def wrong(deltas: Sequence[Tensor]) -> Tensor:
        r = min(deltas[0].shape)
        u, s, vh = _stacked(deltas, r // len(deltas) if share else r)
        u = polar_factor(u) if left else u
        vh = polar_factor(vh.T).T if right else vh
        return u * s @ vh

    return wrong


def _draw_deltas(rng: Rng) -> tuple[list[Tensor]]:
    m, n, tasks = (int(rng.integers(low, high)) for low, high in ((7, 12), (7, 12), (2, 4)))
    return ([_normal(rng, m, n) for _ in range(tasks)],)


_E1 = torch.tensor([[3.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
_AB = 2 * torch.tensor([[0.48, 0.36], [0.64, 0.48]], dtype=torch.float64)

register(
    "P01.2",
    reference=merge,
    cases=(([_E1, _AB],), _draw_deltas),
    points=2,
    wrong=(
        Wrong(
            "no whitening",
            _variant(left=False, right=False),
            "this is the sum of the truncations: replace U and V by their whitened versions",
        ),
        Wrong(
            "left side only",
            _variant(left=True, right=False),
            "the left vectors are orthogonal now; do the same to the right ones",
        ),
        Wrong(
            "every component kept",
            _variant(left=True, right=True, share=False),
            "give each task its share of the directions: k = min(m, n) // T",
        ),
    ),
)


# P01.3: interference


def interference(deltas: Sequence[Tensor], k: int) -> float:
    """Reference of P01.3: sum of |(U^T U - I) S (V^T V - I)|."""
    return singular_task_interference(list(deltas), k).value


def _overlap(
    combine: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Callable[[Sequence[Tensor], int], float]:
    def wrong(deltas: Sequence[Tensor], k: int) -> float:
        u, s, vh = _stacked(deltas, k)
        return float(combine(u.T @ u, s, vh @ vh.T))

    return wrong


def _less_identity(gram: Tensor) -> Tensor:
    return gram - torch.eye(len(gram), dtype=gram.dtype)


def _draw_interference(rng: Rng) -> tuple[list[Tensor], int]:
    return _draw_deltas(rng)[0], int(rng.integers(1, 3))


register(
    "P01.3",
    reference=interference,
    cases=(([_E1, _AB], 1), _draw_interference),
    wrong=(
        Wrong(
            "identity left in",
            _overlap(lambda left, s, right: (left * s @ right).abs().sum()),
            "subtract the identity on both sides, or every vector interferes with itself",
        ),
        Wrong(
            "no singular values",
            _overlap(
                lambda left, s, right: (_less_identity(left) @ _less_identity(right)).abs().sum()
            ),
            "weigh by S in the middle: an overlap of weak components hardly counts",
        ),
        Wrong(
            "Frobenius norm",
            _overlap(
                lambda left, s, right: (_less_identity(left) * s @ _less_identity(right)).norm()
            ),
            "the norm is the sum of absolute entries, not the root of the sum of squares",
        ),
    ),
)


# P01.4: T copies of one model


def copies(singular_values: Tensor, tasks: int) -> float:
    """Reference of P01.4: T (T - 1)^2 times the sum of the kept singular values."""
    values = torch.as_tensor(singular_values).double()
    return float(tasks * (tasks - 1) ** 2 * values[: len(values) // tasks].sum())


def _counted(factor: Callable[[int], int], keep: bool = True) -> Callable[[Tensor, int], float]:
    def wrong(singular_values: Tensor, tasks: int) -> float:
        k = len(singular_values) // tasks if keep else len(singular_values)
        return float(factor(tasks) * singular_values[:k].sum())

    return wrong


def _draw_spectrum(rng: Rng) -> tuple[Tensor, int]:
    values = np.sort(rng.random(int(rng.integers(12, 30))))[::-1].copy()
    return torch.from_numpy(values), int(rng.integers(3, 6))


register(
    "P01.4",
    reference=copies,
    cases=((torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64), 2), _draw_spectrum),
    wrong=(
        Wrong(
            "off-diagonal blocks only",
            _counted(lambda t: t * (t - 1)),
            "each block (i, j) sums over every task l other than i and j, and the diagonal blocks "
            "count too",
        ),
        Wrong(
            "one factor of T missing",
            _counted(lambda t: (t - 1) ** 2),
            "(J - I)² has entries T - 1 and T - 2: add up all T² of them",
        ),
        Wrong(
            "whole spectrum",
            _counted(lambda t: t * (t - 1) ** 2, keep=False),
            "only the kept singular values count: the first r // T of them",
        ),
    ),
)


# P01.5: what TSV-Compress costs


def ledger(m: int, n: int, tasks: int) -> tuple[int, float]:
    """Reference of P01.5: the largest rank that still saves, and all tasks at r // T in copies."""
    k = min(m, n) // tasks
    return (m * n - 1) // (m + n + 1), tasks * k * (m + n + 1) / (m * n)


def _draw_shape(rng: Rng) -> tuple[int, int, int]:
    m, n = (64 * int(rng.integers(2, 49)) for _ in range(2))
    return m, n, int(rng.integers(2, 21))


register(
    "P01.5",
    reference=ledger,
    cases=((768, 3072, 8), (5, 5, 2), _draw_shape),
    wrong=(
        Wrong(
            "singular values forgotten",
            lambda m, n, tasks: (
                (m * n - 1) // (m + n),
                tasks * (min(m, n) // tasks) * (m + n) / (m * n),
            ),
            "a triple is a column of U, a row of Vᵀ AND a singular value: m + n + 1 numbers",
        ),
        Wrong(
            "one task",
            lambda m, n, tasks: (
                (m * n - 1) // (m + n + 1),
                (min(m, n) // tasks) * (m + n + 1) / (m * n),
            ),
            "the second number is for all T tasks together",
        ),
        Wrong(
            "rank rounded up",
            lambda m, n, tasks: ((m * n - 1) // (m + n + 1) + 1, ledger(m, n, tasks)[1]),
            "at that rank the factors are no smaller than the matrix: one less",
        ),
    ),
    tolerance=EXACT,
)


# P01.6: chance


def chance(m: int, k: int) -> float:
    """Reference of P01.6: expected ||U_1^T U_2||_F^2 of random k-dimensional subspaces of R^m."""
    return k * k / m


register(
    "P01.6",
    reference=chance,
    cases=((96, 12), (50, 5), lambda rng: (int(rng.integers(20, 200)), int(rng.integers(2, 15)))),
    wrong=(
        Wrong(
            "one direction",
            lambda m, k: k / m,
            "k/m is the share of ONE random unit vector that falls into the subspace; there are k",
        ),
        Wrong(
            "all of it",
            lambda m, k: float(k),
            "k is what a subspace shares with itself; a random one catches a part",
        ),
    ),
)
