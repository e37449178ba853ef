"""Merging checkpoints on disk: memory against holding everything, a language model, mergekit.

The language model is SmolLM2-135M with two short fine-tunes made here, float32 on disk. mergekit
has no TSV-Merge; task arithmetic and TIES are raced as its users run them, a process from start to
finish, against ``lab merge`` run the same way. For TIES ours is told ``trim=mergekit``: by the
paper's rule 1618 of the 135 million weights came out otherwise, by up to 1.2e-3, because mergekit
keeps a number of entries where we keep all that tie at the threshold (575 in the embedding), and
calls a sum of exactly zero positive (4 there). By its own rule the two files are equal. CPU seconds
and anonymous memory are those of the whole process.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import peers
from labcore.assets import AssetError, fetch
from labcore.assets.causal_lm import converted, load_causal_lm
from labcore.merging.files import SINGLE
from labcore.merging.interference import POLAR_TOL
from labcore.merging.language import MODEL, finetune, texts, write_checkpoint
from labcore.merging.memory import PeakMemory, anonymous
from labcore.merging.streaming import merge_checkpoints
from labcore.merging.tsv import tsv_merge_matrix
from labcore.runtime import limit_threads

Row = dict[str, Any]
Merge = Callable[[Sequence[Tensor]], Tensor]
SAME = 1e-4  # the peer's float32 against our float64
STEPS, WINDOW = 8, 128  # of a short fine-tune
# Method -> what ours is told, what mergekit is told.
SHARED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "task_arithmetic": ([], {"normalize": False}),
    "ties": (["--set", "trim=mergekit", "--set", "keep=0.2"], {"density": 0.2}),
}


class OnDisk:
    """A base checkpoint and fine-tuned copies of it, in a folder."""

    def __init__(self, home: Path, base: Path, tuned: Mapping[str, Path]) -> None:
        self.home, self.base, self.tuned = home, base, dict(tuned)

    def ours(self, out: Path, options: dict[str, Any]) -> None:
        """Our merge."""
        merge_checkpoints(self.base, self.tuned, out, options=options)

    def held(self) -> list[dict[str, Tensor]]:
        """All checkpoints and all task vectors in memory, as the authors' script holds them."""
        files = [
            path / SINGLE if path.is_dir() else path for path in (self.base, *self.tuned.values())
        ]
        states = [{n: v.clone() for n, v in load_file(file).items()} for file in files]
        taus = [{n: v.float() - states[0][n].float() for n, v in s.items()} for s in states[1:]]
        return states + taus

    def coincide(self, name: str) -> bool:
        """Whether kept directions of the tasks are linearly dependent, to ``POLAR_TOL``."""
        states = [load_file(path / SINGLE)[name] for path in (self.base, *self.tuned.values())]
        kept = min(states[0].shape) // len(self.tuned)
        svds = [torch.linalg.svd((s - states[0]).double(), full_matrices=False) for s in states[1:]]
        sides = ([u[:, :kept] for u, _, _ in svds], [vh[:kept].T for _, _, vh in svds])
        values = [torch.linalg.svdvals(torch.cat(side, 1)) for side in sides]
        return any(bool(v[-1] < POLAR_TOL * v[0]) for v in values)

    def merged_in_memory(self, out: Path, merge: Merge) -> None:
        """The authors' whole merge: matrices by their routine, the rest averaged."""
        held = self.held()
        taus = held[1 + len(self.tuned) :]
        result = {}
        for name, value in held[0].items():
            deltas = [tau[name] for tau in taus]
            matrix = value.ndim == 2 and "embed_tokens" not in name
            merged = merge(deltas) if matrix else torch.stack(deltas).mean(0)
            result[name] = (value.float() + merged).to(value.dtype)
        save_file(result, out)


def blocks_on_disk(
    home: Path, shapes: Sequence[tuple[int, int]], blocks: int, tasks: int
) -> OnDisk:
    """A base of ``blocks`` random blocks and noisy copies of it."""
    generator = torch.Generator().manual_seed(0)
    base = {
        f"blocks.{i}.{j}": torch.randn(*shape, generator=generator)
        for i in range(blocks)
        for j, shape in enumerate(shapes)
    }
    save_file(base, home / "base.safetensors")
    paths = {f"t{t}": home / f"t{t}.safetensors" for t in range(tasks)}
    for path in paths.values():
        noisy = {n: v + 0.01 * torch.randn(v.shape, generator=generator) for n, v in base.items()}
        save_file(noisy, path)
    return OnDisk(home, home / "base.safetensors", paths)


def language_on_disk(home: Path) -> OnDisk:
    """SmolLM2-135M and two short fine-tunes of it.

    Raises:
        AssetError: the model or a text is not here; the message names the command that gets it.
    """
    try:
        model, tokenizer = load_causal_lm(MODEL)
        kinds = {kind: texts(kind)[0] for kind in ("novel", "speeches")}
    except AssetError as error:
        raise AssetError(f"{error}; run `lab fetch {MODEL} moby-dick sotu`") from error
    (file,) = fetch(MODEL).values()
    base = converted(file, dtype=torch.float32)
    origin = {name: value.detach().clone() for name, value in model.named_parameters()}
    paths = {}
    for kind, text in kinds.items():
        need = STEPS * WINDOW
        ids = tokenizer(text[: 8 * need], return_tensors="pt").input_ids[0, :need]
        finetune(model, ids.view(STEPS, WINDOW), 1e-4)
        paths[kind] = home / kind
        write_checkpoint(model, base, paths[kind], torch.float32)
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(origin[name])
    return OnDisk(home, base, paths)


def memory_race(
    shapes: Sequence[tuple[int, int]], blocks: int, tasks: int
) -> tuple[float, float, float]:
    """Peak memory of streaming and of holding everything (GB), and CPU seconds of the former."""
    with tempfile.TemporaryDirectory() as folder:
        disk = blocks_on_disk(Path(folder), shapes, blocks, tasks)
        streamed, seconds = alone(disk.ours, disk.home / "out", {"rank": 8, "report": False})
        loaded, _ = alone(disk.held)
    return streamed, loaded, seconds


def authors_race(merge: Merge) -> tuple[tuple[float, float], tuple[float, float], float, list[str]]:
    """TSV-Merge of the language model: (GB, CPU s) of ours, of the peer's, and the largest gap.

    Last come the matrices left out of the gap, because the kept directions of the two tasks
    coincide there to :data:`POLAR_TOL`: ours drops the null direction, the peer's whitens it.
    """
    with tempfile.TemporaryDirectory() as folder:
        disk = language_on_disk(Path(folder))
        out, other = disk.home / "out", disk.home / "peer.safetensors"
        ours = alone(disk.ours, out, {"exclude": ["embed_tokens"], "report": False})
        peer = alone(disk.merged_in_memory, other, merge)
        apart = [name for name, gap in gaps(out / SINGLE, other).items() if gap > SAME]
        null = [name for name in apart if disk.coincide(name)]
        return ours, peer, largest_gap(out / SINGLE, other, null), null


def mergekit_race(method: str) -> tuple[tuple[float, float], tuple[float, float], float]:
    """The language model by ``lab merge`` and by mergekit: (GB, CPU s) of each, the largest gap.

    Args:
        method: A name in ``SHARED``.

    Raises:
        PeerMissing: mergekit is not installed; the message has the command.
    """
    python = peers.python("mergekit")
    words, parameters = SHARED[method]
    with tempfile.TemporaryDirectory() as folder:
        disk = language_on_disk(Path(folder))
        recipe = {
            "merge_method": method,
            "base_model": str(disk.base),
            "models": [
                {"model": str(path), "parameters": {"weight": 1.0}} for path in disk.tuned.values()
            ],
            "parameters": parameters,
            "dtype": "float32",
        }
        (disk.home / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
        tasks = [f"{task}={path}" for task, path in disk.tuned.items()]
        lab = [sys.executable, "-m", "labcore.cli", "merge", str(disk.base), *tasks]
        ours = watched([*lab, "--out", str(disk.home / "ours"), "--method", method, *words])
        kit = [str(python), "-m", "mergekit.scripts.run_yaml", str(disk.home / "recipe.yaml")]
        peer = watched([*kit, str(disk.home / "kit"), "--quiet", "--no-write-model-card"])
        (merged,) = (disk.home / "kit").glob("*.safetensors")
        return ours, peer, largest_gap(disk.home / "ours" / SINGLE, merged)


def largest_gap(ours: Path, other: Path, without: Sequence[str] = ()) -> float:
    """Largest difference of two files' entries, but for some tensors."""
    return max(gap for name, gap in gaps(ours, other).items() if name not in without)


def gaps(ours: Path, other: Path) -> dict[str, float]:
    """Largest difference of the entries of each tensor of two files.

    Raises:
        RuntimeError: they hold other tensors.
    """
    left, right = load_file(ours), load_file(other)
    if set(left) != set(right):
        raise RuntimeError(
            f"the two sides wrote other tensors: {sorted(set(left) ^ set(right))[:5]}"
        )
    return {n: float((left[n].float() - right[n].float()).abs().max()) for n in left}


def alone(work: Callable[..., Any], *task: Any) -> tuple[float, float]:
    """Peak memory (GB) and CPU seconds of some work in a fresh process.

    Memory that an earlier race freed but kept would hide what this one takes.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
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


def watched(command: Sequence[str]) -> tuple[float, float]:
    """Peak anonymous memory (GB) and CPU seconds of a command, start-up and imports included.

    Raises:
        RuntimeError: the command failed; the message has its last words.
    """
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=os.environ | single
        )
        peak, status = 0, 0
        while not status:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.01)
            status, code, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[2]} failed: {said.read()[-600:]}")
    return peak / 1e9, usage.ru_utime + usage.ru_stime
