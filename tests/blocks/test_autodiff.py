"""The tape against torch, in float64; its order, its laziness, its forward mode."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from labcore.blocks import autodiff as ad
from labcore.blocks.autodiff import Tensor, backward, checkpoint, jvp

rng = np.random.default_rng(0)
EXPRESSIONS: dict[str, Callable[..., Any]] = {
    "mul": lambda a, b: (a * b * 2.0 - a).sum(),
    "div": lambda a, b: (a / (b * b + 1.0)).sum() + (1.0 / (a * a + 2.0)).sum(),
    "matmul": lambda a, b: (a @ b.T).tanh().sum(),
    "power, mean": lambda a, b: ((a * a + 1.0) ** 1.5).mean() + (b**3).mean(0).sum(),
    "exp, log": lambda a, b: ((a.exp() + 1.0).log() * b.sigmoid()).sum(),
    "relu, reshape": lambda a, b: (a.relu().reshape(2, 6) @ b.relu().reshape(6, 2)).sum(),
    "reuse": lambda a, b: ((a * a.sin() + a) * a).sum() + (b - a).sum(),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_gradients_equal_torch(name: str) -> None:
    f = EXPRESSIONS[name]
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    ours = Tensor(a), Tensor(b)
    value = f(*ours)
    theirs = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    wanted = f(*theirs)
    wanted.backward()
    np.testing.assert_allclose(value.value, wanted.item(), rtol=1e-12)
    found = backward(value)
    for mine, its in zip(ours, theirs, strict=True):
        grad = np.zeros(mine.shape) if its.grad is None else its.grad.numpy()
        np.testing.assert_allclose(
            found.get(mine, np.zeros(mine.shape)), grad, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_forward_mode_is_the_adjoint_of_reverse_mode(name: str) -> None:
    b = Tensor(rng.normal(size=(3, 4)))
    x, u = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    leaf = Tensor(x)
    reverse = backward(EXPRESSIONS[name](leaf, b)).get(leaf, np.zeros(x.shape))
    value, pushed = jvp(lambda t: EXPRESSIONS[name](t, Tensor(b.value, constant=True)), x, u)
    np.testing.assert_allclose(pushed, (reverse * u).sum(), rtol=1e-9, atol=1e-12)
    assert value.shape == ()


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 1), (), (1, 1), (3, 4)])
def test_broadcasting_is_undone(shape: tuple[int, ...]) -> None:
    a, b = rng.normal(size=(3, 4)), rng.normal(size=shape)
    ours = Tensor(a), Tensor(b)
    found = backward((ours[0] * ours[1] + ours[1]).sum())
    theirs = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    (theirs[0] * theirs[1] + theirs[1]).sum().backward()
    for mine, its in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found[mine], its.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize(("a", "b"), [((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4))])
def test_matrix_and_vector(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = rng.normal(size=a), rng.normal(size=b)
    ours = Tensor(x), Tensor(y)
    found = backward((ours[0] @ ours[1]).sum())
    theirs = [torch.tensor(v, requires_grad=True) for v in (x, y)]
    (theirs[0] @ theirs[1]).sum().backward()
    for mine, its in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found[mine], its.grad.numpy(), rtol=1e-12)


def test_known_answer_of_the_chapter() -> None:
    x = Tensor(1.5)
    u = x * x
    out = u * u.sin() + u
    assert out.value == pytest.approx(4.000665, abs=1e-6)
    assert backward(out)[x] == pytest.approx(1.094048, abs=1e-6)


def test_a_node_fires_once_after_all_its_consumers() -> None:
    x = Tensor(1.0)
    y = x
    for _ in range(12):
        y = y + y  # 4096 paths
    steps = ad.trace(y)
    assert len(steps) == 13
    assert sum(bool(step.sent) for step in steps) == 12
    assert backward(y)[x] == 4096
    place = {step.node: i for i, step in enumerate(steps)}
    for step in steps:
        assert all(place[parent] > place[step.node] for parent, _ in step.sent)


def test_long_chains_need_no_recursion_and_values_stay() -> None:
    x = Tensor(np.array([0.1, 0.2]))
    before = x.value.copy()
    y = x
    for _ in range(10_000):
        y = y * 1.0001
    found = backward(y.sum())[x]
    np.testing.assert_allclose(found, 1.0001**10_000, rtol=1e-9)
    np.testing.assert_array_equal(x.value, before)


def test_checkpoint_same_gradient_fewer_values_one_more_forward() -> None:
    calls = []

    def block(x: Tensor, w: Tensor) -> Tensor:
        calls.append(1)
        for _ in range(5):
            x = (x @ w).tanh()
        return x

    x, w = rng.normal(size=(4, 3)), rng.normal(size=(3, 3)) / 2
    plain, kept = [], []
    for f, into in ((block, plain), (checkpoint(block), kept)):
        calls.clear()
        leaves = Tensor(x), Tensor(w)
        out = f(*leaves).sum()
        stored = ad.stored_values(out)
        found = backward(out)
        into += [found[leaves[0]], found[leaves[1]], stored, len(calls)]
    np.testing.assert_allclose(plain[0], kept[0], rtol=1e-12)
    np.testing.assert_allclose(plain[1], kept[1], rtol=1e-12)
    assert kept[2] < plain[2]
    assert (plain[3], kept[3]) == (1, 2)
    _, pushed = jvp(
        lambda t: checkpoint(block)(t, Tensor(w, constant=True)).sum(), x, np.ones((4, 3))
    )
    np.testing.assert_allclose(pushed, plain[0].sum(), rtol=1e-9)


def test_constants_are_skipped() -> None:
    x, w = Tensor(np.ones((2, 3))), Tensor(np.ones((3, 1)), constant=True)
    found = backward((x @ w).sum())
    assert w not in found
    assert x in found


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: backward(Tensor(np.ones(3))), "give a seed"),
        (lambda: backward(Tensor(np.ones(3)), np.ones(2)), "shape"),
        (lambda: Tensor(np.ones((2, 3))) @ Tensor(np.ones((2, 3))), "do not fit"),
        (lambda: jvp(lambda x: x, np.ones(3), np.ones(2)), "shape"),
    ],
)
def test_bad_input_is_refused(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()


def test_an_exponent_that_is_a_tensor_is_refused() -> None:
    with pytest.raises(TypeError):
        Tensor(2.0) ** Tensor(3.0)  # type: ignore[operator]
