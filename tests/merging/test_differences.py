"""Where the lab differs from the published code on purpose, and the checks that hold it there."""

import math

import pytest
import torch

from labcore.merging.baselines import MERGERS, iso_cts, task_arithmetic
from labcore.merging.compress import tsv_compress
from labcore.merging.factors import rounding_floor, truncated_svd
from labcore.merging.interference import rank_per_task, singular_task_interference
from labcore.merging.router import SubspaceRouter
from labcore.merging.tsv import (
    FactorCache,
    normalized_accuracy,
    tsv_merge,
    tsv_merge_matrix,
    tsv_merge_matrix_reference,
)
from labcore.merging.vectors import MatrixPolicy, TaskVector, apply, task_vector
from tests.merging.test_tsv import close, random


def test_rank_is_integer_division_and_differs_from_the_published_rounding_only_at_49():
    differ = {
        tasks
        for tasks in range(1, 65)
        for r in range(tasks, 4097)
        if int(r * (1 / tasks)) != rank_per_task((r, r), tasks)
    }
    assert differ == {49}


def test_copies_are_not_noise_where_plain_svds_are():
    delta = random(24, 24)
    wanted = truncated_svd(delta, 12).dense()
    close(tsv_merge_matrix([delta, delta]), wanted)
    published = tsv_merge_matrix_reference([delta, delta], 12)
    assert (published - wanted).norm() > 0.5 * wanted.norm(), "this is the error that we avoid"


def test_null_directions_do_not_push_the_real_ones():
    exact = [random(64, 4, seed=s) @ random(4, 64, seed=s + 9) for s in range(4)]
    noisy = [d + 1e-9 * random(64, 64, seed=s + 50) for s, d in enumerate(exact)]
    truth = tsv_merge_matrix(exact)
    assert (tsv_merge_matrix([d.float() for d in noisy]) - truth).norm() < 1e-4 * truth.norm()
    published = tsv_merge_matrix_reference(noisy, 16)
    assert (published - truth).norm() > 0.1 * truth.norm()


def merged_lora(dtype):
    """A bfloat16 checkpoint into which an adapter of rank 4 was merged."""
    base = random(96, 64).to(dtype)
    update = 0.5 * random(96, 4, seed=1) @ random(4, 64, seed=2) / 8
    return base, (base.double() + update).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_tolerance_finds_the_rank_of_a_merged_adapter(dtype):
    base, tuned = merged_lora(dtype)
    taus = {"lora": task_vector({"w": base}, {"w": tuned})}
    _, plain = tsv_merge(taus, base={"w": base}, rank=32)
    assert plain.rows[0]["rounding_noise"] == 28, "told, not dropped, by default"
    _, cut = tsv_merge(taus, base={"w": base}, rank=32, tol="rounding")
    assert cut.rows[0]["dropped"] == 28
    with pytest.raises(ValueError, match="lora: w: .*needs the base"):
        tsv_merge(taus, rank=32, tol="rounding")
    noise = tuned.double() - (base.double() + (tuned.double() - base.double()))
    assert rounding_floor(tuned) > float(torch.linalg.matrix_norm(noise, 2))


def test_randomized_is_labelled_and_not_exact():
    flat = random(80, 60)
    sketch, exact = truncated_svd(flat, 10, method="randomized"), truncated_svd(flat, 10)
    assert sketch.rank == 10
    assert (sketch.dense() - exact.dense()).norm() > 0.05 * exact.dense().norm()
    thin = random(80, 5) @ random(5, 60, seed=1)
    close(truncated_svd(thin, 5, method="randomized").dense(), thin, 1e-8)
    with pytest.raises((ValueError, TypeError), match="method"):
        truncated_svd(flat, 3, method="power")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_dtype_goes_in_and_comes_out(dtype):
    base = {"w": random(12, 8).to(dtype)}
    taus = {str(s): task_vector(base, {"w": (base["w"].double() + 0.1 * random(12, 8, seed=s + 1))
                                       .to(dtype)}) for s in range(2)}  # fmt: skip
    out = apply(base, tsv_merge(taus)[0])
    assert out["w"].dtype == dtype
    truth = base["w"].double() + tsv_merge_matrix([t["w"].double() for t in taus.values()])
    assert (out["w"].double() - truth).abs().max() < 4 * torch.finfo(dtype).eps * truth.abs().max()


def test_zero_deltas_take_no_svd(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("an SVD was run")

    monkeypatch.setattr("labcore.merging.factors._triples", refuse)
    assert not tsv_merge_matrix([torch.zeros(9, 9)] * 3).any()


def test_projections_in_one_matrix_can_be_split():
    taus = {str(s): TaskVector({"qkv.weight": random(24, 8, seed=s)}) for s in range(2)}
    whole, _ = tsv_merge(taus)
    split, report = tsv_merge(taus, policy=MatrixPolicy(split={"qkv": 3}))
    assert len(report.rows) == 3
    assert not torch.allclose(whole["qkv.weight"], split["qkv.weight"])
    parts = [t["qkv.weight"][:8] for t in taus.values()]
    close(split["qkv.weight"][:8], tsv_merge_matrix(parts))
    with pytest.raises(ValueError, match="qkv.weight: split into 5"):
        tsv_merge(taus, policy=MatrixPolicy(split={"qkv": 5}))


def test_interference_norms_and_weights():
    factors = [truncated_svd(random(12, 9, seed=s), 3) for s in range(3)]
    found = {
        n: singular_task_interference(factors, 3, norm=n) for n in ("entrywise", "induced", "fro")
    }
    assert found["induced"].value < found["entrywise"].value
    assert found["fro"].value < found["entrywise"].value
    plain = found["entrywise"]
    assert math.isclose(float(plain.blocks.sum()), plain.value, rel_tol=1e-12)
    total = sum(float(f.s.sum()) for f in factors)
    assert math.isclose(plain.normalized, plain.value / total)
    pair = singular_task_interference([factors[0], factors[2]], 3).value
    assert math.isclose(float(plain.pairwise[0, 2]), pair, rel_tol=1e-12)


def test_report_says_what_was_done():
    taus = {
        str(s): TaskVector({"w": random(12, 8, seed=s), "b": random(8, seed=s)}) for s in range(2)
    }
    _, report = tsv_merge(taus)
    row = report.rows[0]
    assert (row["kind"], row["rank"], row["dropped"], row["dtypes"]) == (
        "matrix", 4, 0, ["torch.float64"],
    )  # fmt: skip
    assert row["sti"] > 0 > row["sti_whitened"] - 1e-9
    assert row["condition_left"] > 1
    assert len(row["energy"]) == 2
    assert len(report.to_pandas()) == 2
    quiet, empty = tsv_merge(taus, report=False)
    assert empty.rows == []
    assert torch.equal(quiet["w"], tsv_merge(taus)[0]["w"])


def test_iso_cts_at_its_ends():
    taus = {str(s): TaskVector({"w": random(20, 16, seed=s)}) for s in range(3)}
    alone = iso_cts(taus, common=1.0)["w"]
    close(alone, MERGERS["iso_c"](taus)["w"], 1e-8)
    s = torch.linalg.svdvals(iso_cts(taus, common=0.5)["w"])
    assert (s - s.mean()).abs().max() < 1e-8 * s.mean(), "one singular value for all directions"
    with pytest.raises(ValueError, match="common"):
        iso_cts(taus, common=0.0)


def test_breadcrumbs_consensus_and_rank_cut_at_their_ends():
    taus = {str(s): TaskVector({"w": random(8, 8, seed=s)}) for s in range(2)}
    total = task_arithmetic(taus)["w"]
    close(MERGERS["breadcrumbs"](taus, beta=0.0, gamma=1.0)["w"], total)
    close(MERGERS["rank_cut"](taus, rank=8)["w"], total)


def test_one_task_is_its_own_merge():
    base = {"w": random(6, 6), "b": random(6)}
    tuned = {"w": random(6, 6, seed=1), "b": random(6, seed=2)}
    taus = {"t": task_vector(base, tuned)}
    for name in ("average", "task_arithmetic", "tsv_m"):
        out = apply(base, MERGERS[name](taus))
        close(out["w"], tuned["w"])
        close(out["b"], tuned["b"])


def test_energy_picks_the_rank_of_each_matrix():
    s = torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    tau = TaskVector({"steep": torch.diag(s), "flat": torch.eye(4, dtype=torch.float64)})
    packed = tsv_compress({"t": tau}, energy=0.9)  # 9, 13, 14 of 14; quarters
    assert packed.entries["t"]["steep"].rank == 2
    assert packed.entries["t"]["flat"].rank == 4
    assert packed.energy("t") == pytest.approx((13 + 4) / (14 + 4), rel=1e-6)
    for bad in ({"energy": 1.5}, {"energy": 0.5, "fraction": 0.5}):
        with pytest.raises(ValueError, match="energy"):
            tsv_compress({"t": tau}, **bad)


def test_router_finds_separate_tasks():
    def features(task, n, seed):
        g = torch.Generator().manual_seed(seed)
        basis = torch.randn(24, 3, generator=torch.Generator().manual_seed(task))
        return torch.randn(n, 3, generator=g) @ basis.T + basis[:, 0]

    router = SubspaceRouter.fit({str(t): features(t, 40, t) for t in range(3)}, rank=3)
    for t in range(3):
        assert (router.route(features(t, 30, 77 + t)) == t).all()
    with pytest.raises(ValueError, match="a: rank must be in"):
        SubspaceRouter.fit({"a": torch.randn(4, 8)}, rank=5)
    with pytest.raises(ValueError, match="at least one task"):
        SubspaceRouter.fit({})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tsv_merge({"t": TaskVector({"w": torch.ones(3, 3, dtype=torch.long)})}),
         "w: torch.int64"),
        (lambda: task_vector({"w": torch.ones(2, dtype=torch.cfloat)}, {"w": torch.ones(2)}),
         "w: complex"),
        (lambda: tsv_merge({"t": TaskVector({"w": random(3, 3)})}, rank=0), "rank"),
        (lambda: tsv_merge({"t": TaskVector({"w": random(3, 3)})}, vector_rule="max"),
         "vector_rule"),
        (lambda: tsv_merge({"t": TaskVector({"w": random(3, 3)})}, tol=2.0), "tol"),
        (lambda: tsv_merge({"a": TaskVector({"w": random(3, 3)}),
                            "b": TaskVector({"w": random(4, 3)})}), "w: shapes differ"),
        (lambda: tsv_merge({"greek": TaskVector({"w": random(3, 3) / 0})}),
         "greek: w: .*non-finite"),
        (lambda: tsv_merge_matrix([random(3, 3), random(4, 3)]), "shapes differ"),
        (lambda: singular_task_interference([random(3, 3)], 4), "rank must be in 1..3"),
        (lambda: singular_task_interference([random(3, 3)], norm="max"), "norm"),
        (lambda: normalized_accuracy({"a": 1.0}, {"b": 1.0}), "same tasks"),
        (lambda: normalized_accuracy({"a": 1.0}, {"a": 0.0}), "positive"),
        (lambda: apply({"w": random(2)}, {"v": random(2)}), "names that the base has not: v"),
        (lambda: FactorCache({}), "at least one task"),
    ],
)  # fmt: skip
def test_more_bad_input_is_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
