"""The factors, the polar step, interference and TSV-Merge: the spec's checks in float64."""

import math

import pytest
import torch

from labcore.merging.factors import Factors, lowrank_factors, polar_factor, truncated_svd
from labcore.merging.interference import singular_task_interference
from labcore.merging.tsv import (
    FactorCache,
    tsv_merge,
    tsv_merge_matrix,
    tsv_merge_matrix_reference,
)
from labcore.merging.vectors import MatrixPolicy, TaskVector, apply, task_vector

SHAPES = ((12, 8), (8, 12), (9, 9), (1, 7))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, rtol=1e-10):
    assert (a - b).abs().max() <= rtol * max(1e-300, b.abs().max().item())


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
def test_equals_the_papers_svds(shape):
    deltas = [random(*shape, seed=s) for s in range(4)]
    close(tsv_merge_matrix(deltas), tsv_merge_matrix_reference(deltas, 4), 1e-8)
    singles = [d.float() for d in deltas]
    exact = tsv_merge_matrix_reference([d.double() for d in singles], 4)
    close(tsv_merge_matrix(singles).float().double(), exact, 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["auto", "svd"])
def test_truncation_is_the_best_one(shape, method):
    delta = random(*shape)
    s = torch.linalg.svdvals(delta)
    for k in range(1, min(shape) + 1):
        factors = truncated_svd(delta, k, method=method)
        error = (factors.dense() - delta).norm()
        assert math.isclose(error, (s[k:] ** 2).sum().sqrt(), rel_tol=1e-9, abs_tol=1e-12)
        close(factors.s, s[:k])


@pytest.mark.parametrize("shape", SHAPES)
def test_one_task_at_full_rank_is_the_delta(shape):
    close(tsv_merge_matrix([random(*shape)]), random(*shape))


def test_small_singular_values_fall_back_to_the_svd():
    u, v = torch.linalg.qr(random(10, 6))[0], torch.linalg.qr(random(8, 6, seed=1))[0]
    s = torch.logspace(0, -9, 6, dtype=torch.float64)
    factors = truncated_svd((u * s) @ v.T, 6)
    assert torch.allclose(factors.s, s, rtol=1e-5)
    assert (factors.U.T @ factors.U - torch.eye(6)).abs().max() < 1e-9


def test_orthogonal_tasks_do_not_interfere():
    u, v = torch.linalg.qr(random(12, 6))[0], torch.linalg.qr(random(9, 6, seed=1))[0]
    deltas = [u[:, :3] * torch.tensor([3.0, 2, 1]) @ v[:, :3].T, 2 * u[:, 3:] @ v[:, 3:].T]
    close(tsv_merge_matrix(deltas, rank=3), deltas[0] + deltas[1])
    assert singular_task_interference(deltas, 3).value < 1e-12


def test_polar_factor_keeps_its_digits_where_squaring_would_lose_them():
    g = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(40, 12, generator=g, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(12, 12, generator=g, dtype=torch.float64))
    for least in (1e-2, 1e-4, 1e-5, 1e-6, 2e-7):
        x = (left * torch.logspace(0, math.log10(least), 12, dtype=torch.float64)) @ right.T
        assert (polar_factor(x) - left @ right.T).abs().max() < 1e-7
    gone = (left * torch.cat([torch.ones(11, dtype=torch.float64), torch.tensor([1e-8])])) @ right.T
    least_norm = left[:, :11] @ right[:, :11].T
    assert (polar_factor(gone) - least_norm).abs().max() < 1e-7


@pytest.mark.parametrize("method", ["gram", "svd"])
def test_polar_factor_is_the_nearest_orthonormal_matrix(method):
    x = random(9, 4)
    q = polar_factor(x, method=method)
    close(q.T @ q, torch.eye(4, dtype=q.dtype))
    values, vectors = torch.linalg.eigh(x.T @ x)
    close(q, x @ (vectors * values**-0.5) @ vectors.T)
    for seed in range(100):
        other = torch.linalg.qr(random(9, 4, seed=seed + 1))[0]
        assert (q - x).norm() < (other - x).norm()


def test_singular_values_are_the_pooled_ones_and_whitened_interference_vanishes():
    deltas = [random(12, 12, seed=s) for s in range(3)]
    pooled = torch.cat([truncated_svd(d, 4).s for d in deltas]).sort(descending=True).values
    close(torch.linalg.svdvals(tsv_merge_matrix(deltas)), pooled)
    assert singular_task_interference(deltas, whiten=True).value < 1e-9
    assert singular_task_interference(deltas).value > 1


def test_symmetries():
    deltas = [random(10, 8, seed=s) for s in range(2)]
    p, q = torch.linalg.qr(random(10, 10, seed=5))[0], torch.linalg.qr(random(8, 8, seed=6))[0]
    merged, sti = tsv_merge_matrix(deltas), singular_task_interference(deltas)
    close(tsv_merge_matrix(deltas[::-1]), merged)
    close(tsv_merge_matrix([p @ d @ q for d in deltas]), p @ merged @ q)
    close(tsv_merge_matrix([d.T for d in deltas]), merged.T)
    close(tsv_merge_matrix([3 * d for d in deltas]), 3 * merged)
    scaled = singular_task_interference([3 * d for d in deltas])
    assert math.isclose(scaled.value, 3 * sti.value, rel_tol=1e-10)
    assert math.isclose(scaled.normalized, sti.normalized, rel_tol=1e-10)


def test_sign_flips_change_nothing():
    factors = [truncated_svd(random(8, 8, seed=s), 4) for s in range(2)]
    sign = torch.tensor([1.0, -1, -1, 1], dtype=torch.float64)
    flipped = [Factors(f.U * sign, f.s, f.Vh * sign[:, None]) for f in factors]
    close(tsv_merge_matrix(flipped), tsv_merge_matrix(factors))
    a, b = singular_task_interference(flipped), singular_task_interference(factors)
    assert math.isclose(a.value, b.value, rel_tol=1e-12)


def test_known_answer():
    a, b = torch.tensor([0.6, 0.8]).double(), torch.tensor([0.8, 0.6]).double()
    a, b = a / a.norm(), b / b.norm()
    deltas = [torch.tensor([[3.0, 0], [0, 0]]).double(), 2 * a[:, None] * b]
    assert math.isclose(singular_task_interference(deltas, 1).value, 2.4, rel_tol=1e-6)
    root = math.sqrt(2)
    wanted = torch.tensor([[2 * root, -1 / root], [0, 1.5 * root]]).double()
    close(tsv_merge_matrix(deltas, rank=1), wanted, 1e-6)


@pytest.mark.parametrize("tasks", [2, 3])
def test_copies_of_one_model_give_its_truncation(tasks):
    delta = random(12, 12)
    k = 12 // tasks
    close(tsv_merge_matrix([delta] * tasks), truncated_svd(delta, k).dense())
    sti = singular_task_interference([delta] * tasks)
    total = truncated_svd(delta, k).s.sum().item()
    assert math.isclose(sti.value, tasks * (tasks - 1) ** 2 * total, rel_tol=1e-10)
    near = tsv_merge_matrix([delta + 1e-10 * random(12, 12, seed=s) for s in range(tasks)])
    assert near.isfinite().all()
    assert near.norm() <= tasks * delta.norm()


def test_a_frozen_layer_of_one_task_is_left_out():
    deltas = [random(9, 9, seed=1), torch.zeros(9, 9, dtype=torch.float64), random(9, 9, seed=2)]
    close(tsv_merge_matrix(deltas), tsv_merge_matrix([deltas[0], deltas[2]], rank=3))
    assert tsv_merge_matrix([deltas[1]] * 2).abs().max() == 0


def test_rounding_noise_in_null_directions_is_not_kept():
    exact = [random(256, 4, seed=s) @ random(4, 256, seed=s + 9) / 300 for s in range(8)]
    noisy = [d + 1e-13 * random(256, 256, seed=s + 50) for s, d in enumerate(exact)]
    close(tsv_merge_matrix(noisy), tsv_merge_matrix(exact), 1e-6)


def test_lora_path_equals_the_dense_path():
    pairs = [(random(20, 3, seed=s), random(3, 16, seed=s + 9)) for s in range(4)]
    thin = [lowrank_factors(b, a, 0.5) for b, a in pairs]
    dense = [0.5 * b @ a for b, a in pairs]
    close(tsv_merge_matrix(thin, rank=3), tsv_merge_matrix(dense, rank=3), 1e-9)


def vectors(tasks=3):
    def one(t):
        extra = {
            "w": random(12, 8, seed=t),
            "b": random(8, seed=t + 20),
            "conv": random(4, 2, 3, 3),
        }
        return TaskVector(extra)

    return {f"t{t}": one(t) for t in range(tasks)}


def test_cache_re_merges_a_subset_as_from_scratch():
    taus = vectors()
    cache = FactorCache(taus)
    subset = {name: taus[name] for name in ("t0", "t2")}
    cached, fresh = cache.merge(["t0", "t2"], rank=3)[0], tsv_merge(subset, rank=3)[0]
    for name in fresh:
        close(cached[name], fresh[name])
    with pytest.raises(KeyError, match="t9"):
        cache.merge(["t9"])


def test_what_is_not_a_matrix_is_the_mean_and_the_report_says_so():
    merged, report = tsv_merge(vectors())
    close(merged["b"], sum(v["b"] for v in vectors().values()) / 3)
    kinds = {row["parameter"]: row["kind"] for row in report.rows}
    assert kinds == {"w": "matrix", "b": "vector", "conv": "vector"}
    close(tsv_merge(vectors(), vector_rule="sum")[0]["b"], 3 * merged["b"])


def test_policy():
    policy = MatrixPolicy(conv="flatten", embeddings=False, split={"qkv": 3})
    w = random(6, 4)
    assert policy.kind("text_projection", w) == "vector"
    assert policy.kind("embed.weight", w) == "vector"
    assert policy.kind("conv", random(4, 2, 3, 3)) == "matrix"
    assert policy.kind("count", torch.ones(2, 2, dtype=torch.long)) == "skip"
    assert [b.shape for b in policy.blocks("qkv.weight", w)] == [torch.Size([2, 4])] * 3


def test_apply_keeps_dtype_ties_and_integers():
    shared = random(3, 3).bfloat16()
    base = {"a": shared, "tied": shared, "ids": torch.arange(3)}
    tuned = {**base, "a": base["a"] + 1, "tied": base["a"] + 1}
    tau = task_vector(base, tuned)
    assert set(tau) == {"a", "tied"}
    out = apply(base, tau)
    assert out["a"].dtype == torch.bfloat16
    assert out["a"].data_ptr() == out["tied"].data_ptr()
    assert torch.equal(out["ids"], base["ids"])
    assert torch.equal(out["a"], tuned["a"])


def test_more_tasks_than_directions():
    taus = {str(t): TaskVector({"w": random(2, 5, seed=t)}) for t in range(3)}
    with pytest.raises(ValueError, match="w: rank 0"):
        tsv_merge(taus)
    mean = tsv_merge(taus, on_zero_rank="mean")[0]["w"]
    close(mean, sum(t["w"] for t in taus.values()) / 3)
    assert tsv_merge(taus, on_zero_rank="keep_one")[0]["w"].isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: task_vector({"a": random(2)}, {"b": random(2)}), "differ in 2 names: a, b"),
        (lambda: task_vector({"a": random(2)}, {"a": random(3)}), "a: shapes differ"),
        (lambda: task_vector({"a": random(2)}, {"a": random(2) / 0}), "a: the fine-tuned"),
        (lambda: apply({"a": random(2)}, {"a": random(2)}, math.nan), "alpha"),
        (lambda: tsv_merge({}), "at least one task"),
        (lambda: tsv_merge_matrix([]), "at least one task"),
        (lambda: truncated_svd(random(3, 3), 4, name="w"), "w: rank must be in 1..3, got 4"),
        (lambda: truncated_svd(random(3, 3), 0), "rank"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
