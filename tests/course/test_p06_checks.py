"""Checks of notebook P06: right answers pass however they are written."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from labcore.course import checking
from labcore.course.checks import p06_kv_cache as p06

IDS = [exercise.id for exercise in checking.exercises("P06")]


def test_the_six_exercises_of_the_specification_are_there() -> None:
    assert [f"P06.{number}" for number in range(1, 7)] == IDS


def bytes_by_layer(
    tokens: Any,
    layers: Any,
    key_heads: Any,
    head_dim: Any,
    itemsize: Any,
    keep_ratio: Any = 1.0,
    skipped: Any = 0,
) -> Any:
    kept = [tokens if i < skipped else math.ceil(tokens * keep_ratio) for i in range(layers)]
    return np.int64(2 * key_heads * head_dim * itemsize * sum(kept))


def loss_by_curves(row: torch.Tensor, norms: torch.Tensor) -> list[float]:
    attn, length = row[:-1].numpy(), norms[:-1].numpy()
    best, by_norm = np.sort(attn), attn[np.argsort(-length)]
    area = sum(float(by_norm[:m].sum() - best[:m].sum()) for m in range(1, len(attn) + 1))
    at_random = sum(attn.sum() * m / len(attn) - best[:m].sum() for m in range(1, len(attn) + 1))
    return [area, area / at_random]


def loss_in_torch_scalars(row: torch.Tensor, norms: torch.Tensor) -> tuple[Any, Any]:
    a, n = row[:-1].float(), norms[:-1].float()
    ranks = torch.arange(len(a)).float()
    y = a.sort().values @ ranks - a[n.argsort(descending=True)] @ ranks
    return y, y / (a.sort().values @ ranks - ranks.mean() * a.sum())


def kept_by_topk(keys: torch.Tensor, k: int) -> list[list[int]]:
    lengths = keys.double().pow(2).sum(-1)
    return [sorted(int(j) for j in row.topk(k, largest=False).indices) for row in lengths]


def guarded_by_hand(scores: torch.Tensor, k: int, sinks: int = 0, recent: int = 0) -> np.ndarray:
    n = scores.shape[1]
    safe = [*range(sinks), *range(n - recent, n)]
    rows = []
    for row in scores.tolist():
        rest = sorted(set(range(n)) - set(safe), key=lambda j: (-row[j], j))
        rows.append(sorted([*safe, *rest[: k - len(safe)]]))
    return np.array(rows)


def distances_by_loop(kept: torch.Tensor, seen: int, new: int) -> list[list[int]]:
    keys = [*kept.tolist(), *range(seen, seen + new)]
    return [[seen + i - key for key in keys] for i in range(new)]


def tied_by_order(n: int, d: int, k: int) -> tuple[np.ndarray, range]:
    # 3-4-5: squares that add up to 25 at different places
    keys = np.zeros((n, d))
    for row in range(n):
        first, second = divmod(row, d - 1)
        keys[row, first], keys[row, (first + 1 + second) % d] = 3.0, 4.0
    return keys, range(k)


@pytest.mark.parametrize(
    ("id", "answer"),
    [
        ("P06.1", bytes_by_layer),
        ("P06.2", loss_by_curves),
        ("P06.2", loss_in_torch_scalars),
        ("P06.3", kept_by_topk),
        ("P06.4", guarded_by_hand),
        ("P06.5", distances_by_loop),
        ("P06.6", tied_by_order),
    ],
)
def test_right_answers_in_another_hand_pass(id: str, answer: Callable[..., Any]) -> None:
    for seed in range(5):
        result = checking.run(id, answer, fresh=seed)
        assert result.passed, result.message


def test_numbers_of_the_specification() -> None:
    llama = {"tokens": 4096, **p06.LLAMA_2_7B}
    assert p06.cache_bytes(**llama) == 2 * 2**30
    assert p06.cache_bytes(**llama, keep_ratio=0.5, skipped=2) == 1.0625 * 2**30
    row = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    norms = torch.tensor([1.0, 3.0, 2.0, 9.0], dtype=torch.float64)
    assert p06.attention_loss(row, norms) == pytest.approx((0.1, 1 / 3))


@pytest.mark.parametrize(
    ("id", "answer", "part"),
    [
        ("P06.1", 2**31, "a function is wanted"),
        ("P06.2", lambda row: 0.0, "cannot be called"),
        ("P06.3", lambda keys, k: torch.zeros(k), "wrong shape"),
        ("P06.5", lambda kept, seen, new: torch.zeros(0), "wrong shape"),
        ("P06.6", lambda n, d, k: (torch.zeros(n), [0]), "your code stopped with"),
    ],
)
def test_other_mistakes_are_told(id: str, answer: Any, part: str) -> None:
    result = checking.run(id, answer)
    assert not result.passed
    assert part in result.message


def test_a_set_that_changes_with_the_rotation_is_told() -> None:
    def by_first_coordinate(keys: torch.Tensor, k: int) -> torch.Tensor:
        if keys.shape[-1] == 16 and keys.shape[1] == 40:  # the property's own input
            return keys[..., 0].argsort(dim=-1)[..., :k].sort().values
        return p06.kept_before_rotation(keys, k)

    result = checking.run("P06.3", by_first_coordinate)
    assert "rotated keys give another set" in result.message
