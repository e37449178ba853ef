"""The chapters' experiments at a small size: known figures, identities, refusals."""

from typing import Any

import numpy as np
import pytest
import torch

from labcore.book import b02, b03, b05, b06, b09, b10, b11, b12, b13, ba, bb, language
from labcore.book.experiment import Config
from labcore.book.numbers import within
from labcore.runs import Result, silent


@pytest.mark.parametrize("module", [b02, b06, ba, bb], ids=lambda m: m.__name__[-3:])
def test_small_runs_reproduce_the_known_figures(module: Any) -> None:
    found = module.measure(Config.quick(), silent)
    assert found.tables["numbers"]
    assert [row for row in found.tables["numbers"] if not within(row)] == []


def test_the_gradient_of_the_landscape_is_right() -> None:
    from labcore.blocks.optim import numeric_gradient

    for x in np.random.default_rng(0).uniform(0, 10, size=(20, 2)):
        np.testing.assert_allclose(
            b02.practice_gradient(x), numeric_gradient(b02.value, x), atol=1e-8
        )


def test_xor_by_hand_and_points_in_the_plane() -> None:
    np.testing.assert_array_equal(b05.solve_by_hand(b05.XOR_X), b05.XOR_Y)
    x, y, new_x, new_y = b05.points("xor", 0)
    assert x.shape == new_x.shape == (200, 2)
    assert set(np.unique(y)) == set(np.unique(new_y)) == {0, 1}
    with pytest.raises(ValueError, match="digits"):
        b05.points("moons", 0)


def test_the_wrong_order_loses_a_payment() -> None:
    steps = b06.wrong_trace(b06.small_graph())
    assert [s.node.name for s in steps][:3] == ["L = p + u", "p = u·s", "u = x²"]
    losses = b06.train_on_tape(np.eye(4), np.array([0, 1, 2, 0]), seed=0, steps=30)
    theirs = b06.train_in_torch(np.eye(4), np.array([0, 1, 2, 0]), seed=0, steps=30)
    np.testing.assert_allclose(losses, theirs, atol=1e-12)


def test_a_sigmoid_stack_loses_a_quarter_and_more_at_every_layer() -> None:
    norms = b06.sigmoid_stack(20, seed=0)
    assert norms[0] / norms[-1] < 0.25**15


def test_divergences_on_the_grid_and_their_best_fits() -> None:
    forward, reverse = ba.best_fits(7.0)
    assert forward == pytest.approx((0.0, np.sqrt(1 + 3.5**2)), abs=1e-3)
    assert reverse[0] == pytest.approx(3.5)
    assert reverse[1] < 1.3
    assert ba.best_fits(4.0)[1][0] == 0.0  # near humps are covered by both


def test_the_sample_of_the_third_chapter(committed: Result) -> None:
    flippers = committed.arrays["b03/flippers"]
    assert len(flippers) == b03.SAMPLE
    assert (np.diff(flippers) >= 0).all()


@pytest.mark.parametrize("kind", b09.KINDS)
def test_a_deep_classifier_has_the_layers_it_says(kind: str) -> None:
    model = b09.DeepClassifier(3, kind, torch.Generator().manual_seed(0))
    x, y = torch.rand(5, 64), torch.arange(5)
    assert model(x).shape == (5, 10)
    assert b09.gradients(model, x, y).shape == (3,)


def test_views_have_no_order() -> None:
    model = b10.ViewClassifier(generator=torch.Generator().manual_seed(0))
    views = torch.rand(4, 6, 64)
    torch.testing.assert_close(model(views), model(views.flip(1)))
    spoilt = b10.spoil(torch.ones(50, 64), 3, torch.Generator().manual_seed(0))
    assert spoilt.shape == (50, 3, 64)
    assert float(spoilt.mean()) == pytest.approx(b10.VISIBLE, abs=0.02)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_a_cache_changes_no_token_also_when_several_arrive(kv_heads: int) -> None:
    model = b11.decoder(context=64, kv_heads=kv_heads)
    start = torch.tensor([[5, 3, 8]])
    slow, fast = (b11.generate(model, start, 20, cached=cached) for cached in (False, True))
    assert torch.equal(slow, fast)
    caches = model.caches()
    with torch.no_grad():
        model(slow[:, :9], caches)
        several, whole = model(slow[:, 9:15], caches), model(slow[:, :15])[:, 9:]
    torch.testing.assert_close(several, whole, rtol=1e-4, atol=1e-5)
    assert len(caches[0]) == 15


def test_the_work_is_the_sum_of_its_steps() -> None:
    for tokens in (1, 2, 7, 40):
        assert b11.work_with_cache(tokens) == sum(range(1, tokens + 1))
        steps = (t * (t + 1) // 2 for t in range(1, tokens + 1))
        assert b11.work_without_cache(tokens) == sum(steps)


@pytest.mark.parametrize("make", [language.CausalCNN, language.GPT, b13.RecurrentLM])
def test_a_model_of_the_novel_does_not_see_the_future(make: Any) -> None:
    torch.manual_seed(0)
    model = make(11).eval()
    ids = torch.randint(11, (1, 40))
    other = ids.clone()
    other[0, 25] = (other[0, 25] + 1) % 11
    with torch.no_grad():
        before, after = model(ids), model(other)
    torch.testing.assert_close(before[:, :25], after[:, :25])
    assert not torch.equal(before[:, 25], after[:, 25])


def test_a_learning_rate_rises_and_falls() -> None:
    shares = [language.rate(step, 100) for step in range(101)]
    assert shares[0] == 1 / language.WARM_UP
    assert max(shares) == 1.0
    assert shares[-1] == 0.0


def test_a_network_without_the_graph_knows_two_members_only() -> None:
    from labcore.book.data import karate

    raw, labels = karate()
    a, clubs = torch.tensor(raw, dtype=torch.float32), torch.tensor(labels)
    for graph, least, most in ((a, 0.9, 1.0), (0 * a, 0.3, 0.75)):
        logits = b12.train_gcn(graph, clubs, seeds=(0, 1))
        assert least <= float((logits.argmax(-1) == clubs).double().mean()) <= most


def test_networks_side_by_side_are_those_trained_alone() -> None:
    from labcore.book.data import karate

    raw, labels = karate()
    a, clubs = torch.tensor(raw, dtype=torch.float32), torch.tensor(labels)
    together = b12.train_gcn(a, clubs, depth=3, steps=20, seeds=(4, 9))
    for own, seed in zip(together, (4, 9), strict=True):
        alone = b12.train_gcn(a, clubs, depth=3, steps=20, seeds=(seed,))[0]
        torch.testing.assert_close(own, alone, rtol=1e-3, atol=1e-4)


def test_diffusion_from_the_leaders_by_hand() -> None:
    from labcore.book.data import karate

    a = karate()[0].astype(np.float64)
    states, energies = b12.spread_opinions(a, share=0.5, steps=7)
    lap = np.diag(a.sum(1)) - a
    x = np.zeros(34)
    x[[0, 33]] = -1, 1
    for state, energy in zip(states, energies, strict=True):
        np.testing.assert_allclose(state, x, rtol=1e-9, atol=1e-12)
        assert energy == pytest.approx(x @ lap @ x)
        x = x - lap @ x / np.linalg.eigvalsh(lap)[-1]


def test_selective_copying_asks_for_what_it_showed() -> None:
    task = b13.Copying(kinds=3, symbols=2, length=6)
    ids, said = task.draw(50, torch.Generator().manual_seed(0))
    assert ids.shape == (50, 8)
    for row, answer in zip(ids, said, strict=True):
        shown = row[: task.length]
        assert shown[shown > 0].tolist() == answer.tolist()
        assert set(row[task.length :].tolist()) == {task.kinds + 1}


def test_a_fixed_layer_has_one_step_size_for_all_tokens() -> None:
    torch.manual_seed(0)
    for selective in (True, False):
        model = b13.RecurrentLM(8, width=16, selective=selective)
        steps = model.step_sizes(torch.tensor([[0, 1, 2, 3]]))
        assert steps.shape == (2, 1, 4, 16)
        assert bool((steps[:, :, 0] == steps[:, :, 1]).all()) != selective
