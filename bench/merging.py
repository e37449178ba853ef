"""TSV-Merge against the authors' routine, in time and in memory, and on a real language model.

Peer. The authors' script works for CLIP checkpoints only; its routine for one parameter is
written here anew from its description: a full float32 SVD of every task's matrix, of which 1/T is
kept, the pieces side by side, an SVD of each side, and one chain of products. For memory the peer's
pattern is every checkpoint and every task vector in memory, (2T + 1) models. Both sides get the
same tensors and one thread; times are CPU seconds, the best of the repetitions, taking turns.

The matrices are those of one ViT-B block, with a few strong directions and noise over all of them,
as fine-tuning makes them. The language model is SmolLM2-135M with two short fine-tunes made here.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from labcore.assets import AssetError, fetch
from labcore.assets.causal_lm import load_causal_lm
from labcore.merging import live
from labcore.merging.data import TASKS
from labcore.merging.factors import lowrank_factors, truncated_svd
from labcore.merging.memory import PeakMemory
from labcore.merging.streaming import merge_checkpoints
from labcore.merging.tsv import tsv_merge_matrix, tsv_merge_matrix_reference
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

Row = dict[str, Any]
BLOCK = ((2304, 768), (768, 768), (3072, 768), (768, 3072))
PEER = ("the authors' routine, written anew (float32 SVDs)", "arXiv 2412.00081")
LOADED = ("everything in memory, (2T + 1) models", "arXiv 2412.00081")
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
    square = (768, 768)
    truth = tsv_merge_matrix_reference(deltas[square], 768 // tasks)
    errors = {
        side: float((found[f"{side} {square}"].double() - truth).abs().max() / truth.abs().max())
        for side in ("ours", "peer")
    }
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
    agreement = f"{agree(found)}; the page allows itself 0.3 s"
    return [row("re-merge behind the app page, 16 matrices", PEER, times, None, agreement)]


def memory(blocks: int) -> list[Row]:
    """Peak anonymous memory of merging eight checkpoints on disk."""
    tasks = 8
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        names = [f"blocks.{i}.{j}" for i in range(blocks) for j in range(len(BLOCK))]
        generator = torch.Generator().manual_seed(0)
        base = {n: torch.randn(*BLOCK[i % 4], generator=generator) for i, n in enumerate(names)}
        save_file(base, home / "base.safetensors")
        for t in range(tasks):
            noisy = {n: v + 0.01 * torch.randn(v.shape, generator=generator)
                     for n, v in base.items()}  # fmt: skip
            save_file(noisy, home / f"t{t}.safetensors")
        paths = {f"t{t}": home / f"t{t}.safetensors" for t in range(tasks)}
        task = (home / "base.safetensors", paths, home / "out", {"rank": 8, "report": False})
        streamed, seconds = alone(stream_it, *task)
        loaded, _ = alone(hold_it, *task)
    name = f"merge on disk, {tasks} tasks, {blocks} ViT-B blocks: peak memory (GB, not s)"
    agreement = f"merged in {seconds:.0f} CPU s"
    return [row(name, LOADED, (streamed, loaded), 8.0, agreement)]


def alone(work: Callable[..., Any], *task: Any) -> tuple[float, float]:
    """Peak memory (GB) and CPU seconds of some work in a fresh process.

    Memory that an earlier race freed but kept would hide what this one takes.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak, seconds = pool.apply(weighed, (work, *task))
    return peak / 1e9, seconds


def weighed(work: Callable[..., Any], *task: Any) -> tuple[int, float]:
    """Peak memory in bytes and CPU seconds, here."""
    limit_threads(1)
    tsv_merge_matrix([torch.eye(8), torch.eye(8)])  # libraries take their own memory first
    began = time.process_time()
    with PeakMemory() as memory:
        held = work(*task)
    del held
    return memory.peak, time.process_time() - began


def stream_it(base: Path, paths: dict[str, Path], out: Path, options: dict[str, Any]) -> None:
    """Our merge."""
    merge_checkpoints(base, paths, out, options=options)


def hold_it(base: Path, paths: dict[str, Path], out: Path, options: dict[str, Any]) -> Any:
    """The peer's loading pattern, without any merge."""
    return load_everything(base, paths)


def merge_held(base: Path, paths: dict[str, Path], out: Path, options: dict[str, Any]) -> None:
    """The peer's whole merge."""
    save_file(merge_in_memory(base, paths), out)


def language_model() -> list[Row]:
    """SmolLM2-135M and two short fine-tunes, merged on disk."""
    try:
        model, tokenizer = load_causal_lm("smollm2-135m")
        texts = (fetch("moby-dick")["moby-dick.txt"], fetch("sotu")["2010.txt"])
    except AssetError as error:
        raise AssetError(f"{error}; run `lab fetch smollm2-135m moby-dick sotu`") from error
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        origin = {n: v.detach().clone() for n, v in model.named_parameters()}
        save_file({n: v.bfloat16() for n, v in origin.items()}, home / "base.safetensors")
        paths = {}
        for number, text in enumerate(texts):
            ids = tokenizer(
                text.read_text(encoding="utf-8")[:20_000], return_tensors="pt"
            ).input_ids
            short_finetune(model, origin, ids, steps=8)
            paths[f"text{number}"] = home / f"text{number}.safetensors"
            tuned = {n: v.detach().bfloat16() for n, v in model.named_parameters()}
            save_file(tuned, paths[f"text{number}"])
        del model, origin, tuned
        options = {"exclude": ["embed_tokens"], "report": False}
        files = (home / "base.safetensors", paths)
        streamed, ours = alone(stream_it, *files, home / "out", options)
        loaded, peer = alone(merge_held, *files, home / "peer.safetensors", options)
        merged = load_file(home / "peer.safetensors")
        mine = load_file(home / "out" / "model.safetensors")
        name = "model.layers.10.mlp.up_proj.weight"
        gap = float((mine[name].float() - merged[name].float()).abs().max())
    agreement = f"{name}: bfloat16 weights differ by at most {gap:.0e}"
    sizes = (streamed, loaded)
    return [
        row("SmolLM2-135M, two fine-tunes, merged on disk", PEER, (ours, peer), None, agreement),
        row("the same: peak memory (GB, not s)", LOADED, sizes, None, agreement),
    ]


def short_finetune(model: Any, origin: Mapping[str, Tensor], ids: Tensor, steps: int) -> None:
    """A few steps of AdamW on windows of 128 tokens, from the origin."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(origin[name])
    model.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for step in range(steps):
        window = ids[:, 128 * step : 128 * (step + 1)]
        loss = model(input_ids=window, labels=window).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()


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


def load_everything(base: Path, paths: Mapping[str, Path]) -> list[dict[str, Tensor]]:
    """All checkpoints and all task vectors, as the authors' script holds them."""
    states = [{n: v.clone() for n, v in load_file(p).items()} for p in (base, *paths.values())]
    taus = [{n: v.float() - states[0][n].float() for n, v in s.items()} for s in states[1:]]
    return states + taus


def merge_in_memory(base: Path, paths: Mapping[str, Path]) -> dict[str, Tensor]:
    """The peer's whole merge: matrices by its routine, the rest and the embedding averaged."""
    held = load_everything(base, paths)
    origin, taus = held[0], held[1 + len(paths) :]
    out = {}
    for name, value in origin.items():
        deltas = [tau[name] for tau in taus]
        if value.ndim == 2 and "embed_tokens" not in name:
            merged = peer_merge(deltas)
        else:
            merged = torch.stack(deltas).mean(0)
        out[name] = (value.float() + merged).to(value.dtype)
    return out


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
