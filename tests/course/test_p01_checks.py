"""Checks of notebook P01: right answers pass however they are written."""

import pytest
import torch

from labcore.course import checking
from labcore.course.checks import p01_task_vectors as p01

IDS = [exercise.id for exercise in checking.exercises("P01")]


def test_the_six_exercises_of_the_specification_are_there() -> None:
    assert [f"P01.{number}" for number in range(1, 7)] == IDS


def test_other_ways_of_writing_pass() -> None:
    def whiten(x: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(x.T @ x)
        return x @ vectors @ torch.diag(values**-0.5) @ vectors.T

    def copies(values: torch.Tensor, tasks: int) -> float:
        ones = torch.ones(tasks, tasks) - torch.eye(tasks)
        return float((ones @ ones).sum() * sum(values[: len(values) // tasks]))

    for id, answer in (("P01.1", whiten), ("P01.4", copies)):
        result = checking.run(id, answer)
        assert result.passed, result.message


def test_the_laws_behind_the_exercises() -> None:
    delta = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = torch.linalg.svdvals(delta)
    for tasks in (2, 3):
        found = p01.interference([delta] * tasks, 12 // tasks)
        assert found == pytest.approx(p01.copies(s, tasks))
    assert p01.ledger(768, 3072, 8) == (614, pytest.approx(8 * 96 * 3841 / (768 * 3072)))
    g = torch.Generator().manual_seed(1)
    pairs = [
        torch.linalg.qr(torch.randn(50, 5, generator=g))[0]
        .T.mm(torch.linalg.qr(torch.randn(50, 5, generator=g))[0])
        .square()
        .sum()
        for _ in range(400)
    ]
    assert float(torch.stack(pairs).mean()) == pytest.approx(p01.chance(50, 5), abs=0.03)
