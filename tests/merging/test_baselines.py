"""The baselines against their definitions."""

import pytest
import torch

from labcore.merging.baselines import (
    MERGERS,
    breadcrumbs,
    consensus_ta,
    dare,
    iso_c,
    task_arithmetic,
    ties,
    weight_average,
)
from labcore.merging.vectors import TaskVector


def tasks(count=3, positive=False):
    def one(seed):
        g = torch.Generator().manual_seed(seed)
        values = {"w": torch.randn(9, 12, generator=g), "b": torch.randn(12, generator=g)}
        return TaskVector({k: v.abs() if positive else v for k, v in values.items()})

    return {f"t{i}": one(i) for i in range(count)}


@pytest.mark.parametrize("name", sorted(MERGERS))
def test_every_merger_gives_all_names_and_leaves_its_inputs(name):
    taus = tasks()
    before = {t: {n: v.clone() for n, v in tau.items()} for t, tau in taus.items()}
    merged = MERGERS[name](taus)
    assert set(merged) == {"w", "b"}
    assert all(
        merged[n].isfinite().all() and merged[n].shape == taus["t0"][n].shape for n in merged
    )
    assert all(torch.equal(before[t][n], taus[t][n]) for t in taus for n in taus[t])


def test_average_is_task_arithmetic_over_t():
    average, total = weight_average(tasks()), task_arithmetic(tasks())
    assert torch.allclose(average["w"], total["w"] / 3)


def test_ties_of_positive_untrimmed_vectors_is_the_mean():
    taus = tasks(positive=True)
    assert torch.allclose(ties(taus, keep=1.0)["w"], weight_average(taus)["w"])


def test_ties_by_hand():
    rows = ([3.0, -1.0, 0.1, 2.0], [1.0, -2.0, 5.0, -4.0])
    taus = {str(i): TaskVector({"w": torch.tensor([r])}) for i, r in enumerate(rows)}
    # keep half: [3, 0, 0, 2] and [0, 0, 5, -4]
    assert ties(taus, keep=0.5)["w"].tolist() == [[3.0, 0.0, 5.0, -4.0]]


def mergekit_ties(deltas, keep):
    """mergekit 0.1.5's rule on one tensor, read in its source, one entry after the other."""
    trimmed = []
    for delta in deltas:
        order = delta.abs().flatten().argsort(descending=True).tolist()
        kept = set(order[: max(1, int(keep * delta.numel()))])
        trimmed.append([v if i in kept else 0.0 for i, v in enumerate(delta.flatten().tolist())])
    out = []
    for column in zip(*trimmed, strict=True):
        sign = 1 if sum(column) >= 0 else -1
        agree = [v for v in column if v * sign > 0]
        out.append(sum(agree) / max(1, len(agree)))
    return torch.tensor(out).view(deltas[0].shape)


@pytest.mark.parametrize("keep", [0.07, 0.2, 0.5, 1.0])
def test_ties_as_mergekit_keeps_a_number_and_calls_zero_positive(keep):
    g = torch.Generator().manual_seed(5)  # few distinct magnitudes, as after a step of Adam
    deltas = [torch.randint(-3, 4, (9, 12), generator=g) / 8 for _ in range(3)]
    taus = {str(i): TaskVector({"w": d}) for i, d in enumerate(deltas)}
    found = ties(taus, keep=keep, trim="mergekit")["w"]
    assert torch.allclose(found, mergekit_ties(deltas, keep))
    assert not torch.allclose(found, ties(taus, keep=keep, trim="tensor")["w"])
    opposed = {"a": TaskVector({"w": torch.ones(1, 1)}), "b": TaskVector({"w": -torch.ones(1, 1)})}
    assert ties(opposed, keep=1.0, trim="mergekit")["w"].item() == 1.0
    assert ties(opposed, keep=1.0, trim="tensor")["w"].item() == 0.0
    with pytest.raises(ValueError, match="trim must be one of global, tensor, mergekit, got 'no'"):
        ties.__wrapped__(taus, trim="no")  # past the type check of the test run


def test_dare_is_unbiased_and_seeded():
    taus = tasks()
    total = task_arithmetic(taus)["b"]
    mean = torch.stack([dare(taus, p=0.5, seed=s)["b"] for s in range(2000)]).mean(0)
    assert (mean - total).abs().max() < 0.25
    assert torch.equal(dare(taus, seed=3)["w"], dare(taus, seed=3)["w"])
    assert torch.allclose(dare(taus, p=0.0)["w"], task_arithmetic(taus)["w"])


def test_breadcrumbs_keeps_the_middle():
    tau = TaskVector({"w": torch.arange(1.0, 11.0).view(2, 5)})
    merged = breadcrumbs({"t": tau}, beta=0.5, gamma=0.9)
    assert merged["w"].flatten().tolist() == [0, 0, 0, 0, 0, 6, 7, 8, 9, 0]


def test_consensus_at_its_ends():
    assert torch.equal(consensus_ta(tasks(), at_least=0)["w"], task_arithmetic(tasks())["w"])
    with pytest.warns(UserWarning, match="at_least"):
        assert not consensus_ta(tasks(), at_least=4)["w"].any()


def test_iso_c_has_equal_singular_values_and_the_nuclear_norm_of_the_sum():
    s = torch.linalg.svdvals(iso_c(tasks())["w"].double())
    assert (s - s.mean()).abs().max() < 1e-5
    total = torch.linalg.svdvals(task_arithmetic(tasks())["w"].double()).sum()
    assert torch.isclose(s.sum(), total, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dare(tasks(), p=1.0), "p must be in"),
        (lambda: ties(tasks(), keep=0.0), "keep must be in"),
        (lambda: breadcrumbs(tasks(), beta=1.0), "beta"),
        (lambda: weight_average({}), "at least one task"),
    ],
)
def test_bad_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
