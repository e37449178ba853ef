"""TSV-Merge against the authors' routine, in time and in memory, and on a real language model.

Peer. The authors' script works for CLIP checkpoints only; its routine for one parameter is
written here anew from its description: a full float32 SVD of every task's matrix, of which 1/T is
kept, the pieces side by side, an SVD of each side, and one chain of products. For memory the peer's
pattern is every checkpoint and every task vector in memory, (2T + 1) models. Both sides get the
same tensors and one thread; times are CPU seconds, the best of the repetitions, taking turns.

The matrices are those of one ViT-B block, with a few strong directions and noise over all of them,
as fine-tuning makes them. The language model is SmolLM2-135M with two short fine-tunes made here.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench import merging_disk, peers
from labcore.merging import live
from labcore.merging.data import TASKS
from labcore.merging.factors import lowrank_factors, truncated_svd
from labcore.merging.tsv import tsv_merge_matrix, tsv_merge_matrix_reference
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

Row = dict[str, Any]
BLOCK = ((2304, 768), (768, 768), (3072, 768), (768, 3072))
PEER = ("the authors' routine, written anew (float32 SVDs)", "arXiv 2412.00081")
LOADED = ("everything in memory, (2T + 1) models", "arXiv 2412.00081")
ALLOWED = ("0.3 s, as issued", "-")
GOALS = {8: 2.4, 20: 3.5}


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each."""
    limit_threads(1)
    report = progress or silent
    races: list[Callable[[], list[Row]]] = [
        lambda: one_shot(8, 1 if quick else 2),
        lambda: one_shot(20, 1),
        lambda: again_from_cache(1 if quick else 2),
        lambda: lora(3),
        lambda: page(3),
        lambda: memory(3 if quick else 12),
    ]
    if not quick:
        races.append(language_model)
        races += [partial(mergekit, method) for method in merging_disk.SHARED]
    table: list[Row] = []
    for done, race in enumerate(races):
        table += race()
        report(done + 1, len(races), "races")
    return table


def one_shot(tasks: int, repeats: int) -> list[Row]:
    """All four matrices of a block, from differences to merged matrices."""
    deltas = {shape: updates(shape, tasks) for shape in BLOCK}
    found: dict[str, Tensor] = {}

    def ours() -> None:
        for shape in BLOCK:
            merged = tsv_merge_matrix(deltas[shape])
            found[f"ours {shape}"] = as_tensor(merged).float()

    def peer() -> None:
        for shape in BLOCK:
            found[f"peer {shape}"] = peer_merge(deltas[shape])

    times = race(ours, peer, repeats)
    errors = {"ours": 0.0, "peer": 0.0}
    for shape in BLOCK[1], BLOCK[3]:
        truth = tsv_merge_matrix_reference(deltas[shape], 768 // tasks)
        for side in errors:
            gap = (found[f"{side} {shape}"].double() - truth).abs().max() / truth.abs().max()
            errors[side] = max(errors[side], float(gap))
    if errors["ours"] > 1e-6:
        raise RuntimeError(f"our error against float64 is {errors['ours']:.1e}, want 1e-6")
    agreement = f"of float64: ours {errors['ours']:.0e}, peer {errors['peer']:.0e}"
    return [row(f"one-shot merge, ViT-B block, T={tasks}", PEER, times, GOALS[tasks], agreement)]


def again_from_cache(repeats: int) -> list[Row]:
    """Another subset (six of eight tasks, 96 components each) from cached factors."""
    table = []
    for shape in ((768, 768), (3072, 768)):
        deltas = updates(shape, 8)
        factors = [truncated_svd(delta, 128) for delta in deltas][:6]
        found: dict[str, Tensor] = {}

        def ours(factors: Any = factors, found: Any = found) -> None:
            found["ours"] = as_tensor(tsv_merge_matrix(factors, rank=96))

        def peer(deltas: Any = deltas, found: Any = found) -> None:
            found["peer"] = peer_merge(deltas[:6], 96)

        times = race(ours, peer, repeats + 1)
        name = f"re-merge of six tasks from cache, {shape[0]}x{shape[1]}"
        table.append(row(name, PEER, times, 3.0, agree(found)))
    return table


def lora(repeats: int) -> list[Row]:
    """Eight adapters of rank 16 on a 1024 x 1024 matrix, merged without forming it."""
    generator = torch.Generator().manual_seed(0)
    pairs = [
        (
            torch.randn(1024, 16, generator=generator),
            torch.randn(16, 1024, generator=generator) / 32,
        )
        for _ in range(8)
    ]
    found: dict[str, Any] = {}

    def ours() -> None:
        factors = [lowrank_factors(b, a) for b, a in pairs]
        found["factors"] = tsv_merge_matrix(factors, rank=16, return_factors=True)

    def peer() -> None:
        found["peer"] = peer_merge([b @ a for b, a in pairs], 16)

    times = race(ours, peer, repeats)
    found["ours"] = as_tensor(found.pop("factors"))
    return [row("LoRA merge, 8 x rank 16 on 1024x1024, kept as factors", PEER, times, 100.0,
                agree(found))]  # fmt: skip


def page(repeats: int) -> list[Row]:
    """The app page's re-merge of the committed ViT, eight tasks, against doing it all again."""
    bench = live.open_workbench()
    tasks = TASKS[:8]
    found: dict[str, Tensor] = {}
    last = bench.parameters[-1]

    def ours() -> None:
        found["ours"] = live.merge(tasks, "tsv_m")[last].double()

    def peer() -> None:
        for name in bench.parameters:
            taus = [bench.models.task_vectors[task][name] for task in tasks]
            found["peer"] = peer_merge(taus)

    times = race(ours, peer, repeats)
    name, agreement = "re-merge behind the app page, 8 tasks, 16 matrices", agree(found)
    return [
        row(name, PEER, times, None, agreement),
        row(f"{name}: the time it may take", ALLOWED, (times[0], 0.3), 1.0, agreement),
    ]


def memory(blocks: int) -> list[Row]:
    """Peak anonymous memory of merging eight checkpoints on disk."""
    streamed, loaded, seconds = merging_disk.memory_race(BLOCK, blocks, 8)
    name = f"merge on disk, 8 tasks, {blocks} ViT-B blocks: peak memory (GB, not s)"
    agreement = f"merged in {seconds:.0f} CPU s"
    return [row(name, LOADED, (streamed, loaded), 8.0, agreement)]


def language_model() -> list[Row]:
    """TSV-Merge of SmolLM2-135M and two short fine-tunes, on disk."""
    ours, peer, gap, null = merging_disk.authors_race(peer_merge)
    name = "SmolLM2-135M, two fine-tunes, TSV-Merge on disk"
    agreement = within(gap, merging_disk.SAME)
    if null:
        agreement += f"; {len(null)} matrices apart, where two tasks share a direction to 1e-7"
    return [
        row(name, PEER, (ours[1], peer[1]), None, agreement),
        row(f"{name}: peak memory (GB, not s)", LOADED, (ours[0], peer[0]), None, agreement),
    ]


def mergekit(method: str) -> list[Row]:
    """The same checkpoints by a method that mergekit has too, each a process of its own."""
    ours, peer, gap = merging_disk.mergekit_race(method)
    name = f"SmolLM2-135M, two fine-tunes, {method} on disk"
    kit = (
        "mergekit, from start to finish",
        peers.PEERS["mergekit"].requirements[0].partition("==")[2],
    )
    agreement = within(gap, 1e-6)
    return [
        row(name, kit, (ours[1], peer[1]), None, agreement),
        row(f"{name}: peak memory (GB, not s)", kit, (ours[0], peer[0]), None, agreement),
    ]


def within(gap: float, limit: float) -> str:
    """How far the weights of two merged checkpoints are apart.

    Raises:
        RuntimeError: farther than the limit.
    """
    if gap > limit:
        raise RuntimeError(f"the two merged checkpoints differ by {gap:.1e}, want {limit:.0e}")
    return f"weights differ by at most {gap:.0e}"


# The peer, from its description.


def peer_merge(deltas: Sequence[Tensor], rank: int | None = None) -> Tensor:
    """One parameter: full SVDs in float32, pieces side by side, an SVD of each side."""
    m, n = deltas[0].shape
    k = min(m, n) // len(deltas) if rank is None else rank
    u, v = torch.zeros(m, k * len(deltas)), torch.zeros(k * len(deltas), n)
    s = torch.zeros(k * len(deltas))
    for number, delta in enumerate(deltas):
        left, values, right = torch.linalg.svd(delta, full_matrices=False)
        part = slice(number * k, (number + 1) * k)
        u[:, part], s[part], v[part] = left[:, :k], values[:k], right[:k]
    p_u, _, q_u = torch.linalg.svd(u, full_matrices=False)
    p_v, _, q_v = torch.linalg.svd(v, full_matrices=False)
    return torch.linalg.multi_dot((p_u, q_u, torch.diag(s), p_v, q_v))


# Data and clocks.


def updates(shape: tuple[int, int], tasks: int) -> list[Tensor]:
    """Differences with sixteen strong directions and noise, one a task, float32."""
    m, n = shape
    out = []
    for task in range(tasks):
        generator = torch.Generator().manual_seed(1000 * task + m + n)
        left, right = (torch.randn(size, 16, generator=generator) for size in (m, n))
        noise = torch.randn(m, n, generator=generator)
        out.append(left @ right.T / 40 + 0.05 * noise)
    return out


def as_tensor(value: Any) -> Tensor:
    """The dense matrix."""
    return value if isinstance(value, Tensor) else value.dense()


def agree(found: Mapping[str, Tensor]) -> str:
    """How far the two results are apart, of the largest entry.

    Raises:
        RuntimeError: more than float32 explains.
    """
    gap = found["ours"].double() - found["peer"].double()
    share = float(gap.abs().max() / found["peer"].abs().max())
    if share > 1e-2:
        raise RuntimeError(f"the two sides differ by {share:.1e} of the largest entry")
    return f"to {share:.0e} of the largest entry"


def race(ours: Callable[[], None], peer: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Least CPU seconds of each, taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, seconds in zip((ours, peer), times, strict=True):
            began = time.process_time()
            run()
            seconds.append(time.process_time() - began)
    return min(times[0]), min(times[1])


def row(
    name: str,
    peer: tuple[str, str],
    measured: tuple[float, float],
    goal: float | None,
    agreement: str,
) -> Row:
    """One line of the table; the ratio says how many times cheaper ours is."""
    ours, theirs = measured
    return {
        "name": name,
        "work": "merging",
        "peer": peer[0],
        "peer_version": peer[1],
        "ours_s": ours,
        "peer_s": theirs,
        "ratio": theirs / ours,
        "goal": goal,
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
