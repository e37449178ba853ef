"""The rolling key-norm cache and the attention profile against what people would use instead.

Peers. `l2_compress` of the authors' code fails on current caches, so its rule is written here from
its description: after every token, sort the norms of the whole cache and gather it. `kvpress` needs
transformers before 5.3; its `DecodingPress` with interval 1 is written here too (norms, top-k,
gather), and races itself once ``lab bench --setup-peers kvpress`` has given it an environment.

Both sides get the same model, text and positions, and must keep the same pairs before anything is
timed. Times are CPU seconds, the median over at least 24 tokens, the two sides taking turns.
"""

import ctypes
import gc
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from bench import peers
from labcore.assets import AssetError, fetch
from labcore.kvcache import KeyNormCache, compress, load_model, prefill, profile_attention
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

SKIP = (0, 1)
STEPS = 24
WARM_UP = 3
Row = dict[str, Any]
Prune = Callable[[Tensor, int], Tensor]
GOALS = {("l2", 1024): 1.45, ("l2", 2048): 1.9, ("kvpress", 1024): 1.3, ("kvpress", 2048): 1.6}
PEERS = {
    "l2": ("l2_compress after every token (its rule, written anew)", "arXiv 2406.11430"),
    "kvpress": ("kvpress DecodingPress, interval 1 (its rule, written anew)", "0.5.5"),
}


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each.

    Raises:
        AssetError: The model or the text is not here; the message names the command that gets it.
    """
    limit_threads(1)
    report = progress or silent
    try:
        model, tokenizer = load_model("smollm2-135m")
        text = fetch("moby-dick")["moby-dick.txt"].read_text(encoding="utf-8")
    except AssetError as error:
        raise AssetError(f"{error}; run `lab fetch smollm2-135m moby-dick`") from error
    ids = tokenizer(text[50_000:70_000], return_tensors="pt").input_ids
    steps = STEPS if quick else 2 * STEPS
    races: list[Callable[[], list[Row]]] = [
        lambda: rolling(model, ids, 1024, steps),
        lambda: rolling(model, ids, 2048, steps),
        lambda: plain_decoding(model, ids, 1024, steps),
        lambda: profiling(model, ids[:, :1024], 1 if quick else 3),
        second_load,
    ]
    if peers.is_ready("kvpress"):
        races.append(lambda: kvpress_itself(model, ids, 1024, steps))
    table: list[Row] = []
    with torch.no_grad():
        for done, race in enumerate(races):
            table += race()
            report(done + 1, len(races), "races")
    return table


def rolling(model: Any, ids: Tensor, budget: int, steps: int) -> list[Row]:
    """One pair in, one pair out: whole decoding steps that skip layers 0 and 1, as published, and
    the storing and dropping alone, in all layers.
    """
    last = budget + WARM_UP + steps
    recorded, _ = prefill(model, ids[:, :last])
    pairs = [layer.pairs.ordered() for layer in recorded.layers]
    table = []
    for name, prune in (("l2", l2_prune), ("kvpress", kvpress_prune)):
        agreement = compare_kept(model, pairs, budget, steps, prune)
        ours, peer = race(
            decoding(model, ids, start_ours(model, pairs, budget), budget, steps),
            decoding(model, ids, start_peer(pairs, budget, prune), budget, steps),
        )
        goal = GOALS[name, budget]
        table.append(row(f"rolling decode step, C={budget}", name, ours, peer, goal, agreement))
        ours, peer = race(
            storing(pairs, start_ours(model, pairs, budget, skip=()), budget, steps),
            storing(pairs, start_peer(pairs, budget, prune, skip=()), budget, steps),
        )
        goal = 25.0 if budget == 1024 else None
        task = f"storing and dropping alone, C={budget}"
        table.append(row(task, name, ours, peer, goal, agreement))
    return table


def plain_decoding(model: Any, ids: Tensor, length: int, steps: int) -> list[Row]:
    """Decoding with a rolling cache against a plain cache of the same length."""
    recorded, _ = prefill(model, ids[:, :length])
    pairs = [layer.pairs.ordered() for layer in recorded.layers]
    plain = DynamicCache(config=model.config)
    for index, held in enumerate(pairs):
        plain.update(held.keys, held.values, index)
    ours, peer = race(
        decoding(model, ids, start_ours(model, pairs, length, skip=()), length, steps),
        decoding(model, ids, plain, length, steps),
    )
    named = ("DynamicCache", transformers.__version__)
    return [row(f"decode step, {length} stored", named, ours, peer, 1 / 1.05, "not asked")]


def profiling(model: Any, ids: Tensor, repeats: int) -> list[Row]:
    """Statistics of attention in chunks against full attention maps."""
    found: dict[str, Tensor] = {}

    def ours() -> None:
        found["ours"] = profile_attention(model, ids).received

    def eager() -> None:
        model.set_attn_implementation("eager")
        try:
            maps = model(ids, output_attentions=True, logits_to_keep=1).attentions
        finally:
            model.set_attn_implementation("labcore")
        found["eager"] = torch.stack([layer[0].sum(dim=1) for layer in maps])

    base, _ = peak_and_seconds(lambda: prefill(model, ids))
    measured = [[peak_and_seconds(run) for run in (ours, eager)] for _ in range(repeats)]
    worst = float((found["ours"] - found["eager"]).abs().max())
    if worst > 1e-2:
        raise RuntimeError(f"column sums of attention differ by {worst}")
    agreement = f"column sums to {worst:.0e}"
    medians = np.median(np.array(measured), axis=0)  # (ours and eager, peak and seconds)
    extra, times = (medians[:, 0] - base).tolist(), medians[:, 1].tolist()
    named = ("eager, output_attentions=True", transformers.__version__)
    name = f"profile_attention, N={ids.shape[1]}"
    memory = f"{name}: extra peak memory (GB, not s)"
    return [
        row(name, named, *times, 1 / 0.8, agreement),
        row(memory, named, *extra, 5.0, agreement),
    ]


def second_load() -> list[Row]:
    """Model and tokenizer from the kept safetensors, against reading the GGUF file each time."""
    (gguf,) = fetch("smollm2-135m").values()
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = load_model("smollm2-135m")

    def peer() -> None:
        read = {"gguf_file": gguf.name, "local_files_only": True}
        named = (transformers.AutoModelForCausalLM, transformers.AutoTokenizer)
        found["peer"] = [kind.from_pretrained(gguf.parent, **read) for kind in named]

    transformers.utils.logging.disable_progress_bar()
    times = [cpu_seconds(run) for run in (ours, peer)]
    (one, words), (other, others) = found["ours"], found["peer"]
    weights = dict(other.named_parameters())
    if not all(torch.equal(value, weights[name]) for name, value in one.named_parameters()):
        raise RuntimeError("the two ways to load give other weights")
    if words("Call me Ishmael.").input_ids != others("Call me Ishmael.").input_ids:
        raise RuntimeError("the two ways to load give other tokens")
    named = ("transformers from_pretrained(gguf_file=)", transformers.__version__)
    return [row("second load of SmolLM2-135M", named, *times, 6.0, "same weights and tokens")]


def kvpress_itself(model: Any, ids: Tensor, budget: int, steps: int) -> list[Row]:
    """The real kvpress in an environment of its own, on the same folder, text and budget."""
    length, ratio = 512, 0.5
    job = {
        "model": model.config._name_or_path,
        "ids": ids[0, : budget + steps + 1].tolist(),
        "length": length,
        "presses": [["low_norm", ratio]],
        "budgets": [budget],
        "steps": steps,
    }
    recorded, _ = prefill(model, ids[:, :budget])
    pairs = [layer.pairs.ordered() for layer in recorded.layers]

    def ours() -> list[float]:
        step = decoding(model, ids, start_ours(model, pairs, budget, skip=()), budget, steps)
        return [cpu_seconds(step) for _ in range(WARM_UP + steps)][WARM_UP:]

    before, found, after = ours(), run_peer(job), ours()
    kept = compress(prefill(model, ids[:, :length])[0], keep_ratio=ratio)
    mine = np.stack([kept.positions(layer)[0].numpy() for layer in range(len(pairs))])
    heads = (kept_here.reshape(-1, length // 2) for kept_here in (mine, found["low_norm@0.5"]))
    same = sum(np.isin(a, b).sum() for a, b in zip(*heads, strict=True)) / mine.size
    if same < 0.999:
        raise RuntimeError(f"kvpress keeps other pairs: only {same:.4%} of ours")
    agreement = f"KnormPress at {ratio} keeps {same:.4%} of the same pairs"
    named = ("kvpress DecodingPress, interval 1, itself", str(found["version"]))
    seconds = statistics.median(before + after), float(found[f"seconds@{budget}"])
    name = f"rolling decode step, C={budget}, no layer skipped"
    return [row(name, named, *seconds, 1.3, agreement)]


def run_peer(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the peer environment found."""
    script = Path(__file__).parent / "peers" / "kvpress_run.py"
    with tempfile.TemporaryDirectory() as folder:
        task, out = Path(folder) / "job.json", Path(folder) / "out.npz"
        task.write_text(json.dumps(job), encoding="utf-8")
        command = [str(peers.python("kvpress")), str(script), str(task), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"kvpress failed: {done.stderr.strip()[-500:]}")
        with np.load(out) as found:
            return dict(found)


# The peers' rules, from their descriptions.


def l2_prune(keys: Tensor, kept: int) -> Tensor:
    """Indices by the published rule: all norms, fully sorted."""
    return keys.norm(p=2, dim=-1).argsort(dim=-1)


def kvpress_prune(keys: Tensor, kept: int) -> Tensor:
    """Indices by the rule of KnormPress: all norms, the best by top-k."""
    return (-torch.linalg.vector_norm(keys, dim=-1, dtype=torch.float32)).topk(kept).indices


class PeerLayer(DynamicLayer):
    """A plain cache layer that prunes itself after every step, with the right positions."""

    def __init__(self, prune: Prune | None, budget: int) -> None:
        super().__init__()
        self.prune, self.budget, self.seen = prune, budget, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Store, then prune what the next step will find."""
        keys, values = super().update(key_states, value_states)
        self.seen += key_states.shape[2]
        if self.prune is not None and keys.shape[2] > self.budget:
            index = self.prune(keys, self.budget)[..., None].expand(-1, -1, -1, keys.shape[-1])
            self.keys = keys.gather(2, index)[:, :, : self.budget]
            self.values = values.gather(2, index)[:, :, : self.budget]
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens seen."""
        return self.seen


def start_ours(
    model: Any, pairs: list[Any], budget: int, skip: tuple[int, ...] = SKIP
) -> KeyNormCache:
    """Our cache, filled up to the budget."""
    cache = KeyNormCache(model.config, budget=budget, recent=0, skip_layers=skip)
    for index, held in enumerate(pairs):
        cache.update(held.keys[:, :, :budget], held.values[:, :, :budget], index)
    return cache


def start_peer(pairs: list[Any], budget: int, prune: Prune, skip: tuple[int, ...] = SKIP) -> Cache:
    """A peer's cache, filled up to the budget."""
    layers = [PeerLayer(None if index in skip else prune, budget) for index in range(len(pairs))]
    cache = Cache(layers=layers)
    for index, held in enumerate(pairs):
        cache.update(held.keys[:, :, :budget], held.values[:, :, :budget], index)
    return cache


def compare_kept(model: Any, pairs: list[Any], budget: int, steps: int, prune: Prune) -> str:
    """Feed both the same keys; the keys that they end with must be the same, in any order."""
    ours = start_ours(model, pairs, budget, skip=())
    peer = start_peer(pairs, budget, prune, skip=())
    for cache in (ours, peer):
        step = storing(pairs, cache, budget, steps)
        for _ in range(steps):
            step()
    heads = 0
    for index, layer in enumerate(peer.layers):
        mine = ours.layer(index).pairs.ordered().keys.norm(dim=-1).sort(dim=-1).values
        theirs = layer.keys.norm(dim=-1).sort(dim=-1).values
        if not torch.equal(mine, theirs):
            raise RuntimeError(f"layer {index}: the two sides keep different pairs")
        heads += mine.shape[1]
    return f"same pairs in {heads} heads after {steps} tokens"


# Clocks.


def decoding(model: Any, ids: Tensor, cache: Cache, start: int, steps: int) -> Callable[[], None]:
    """A function that decodes the next token each time it is called."""
    tokens = iter(ids[0, start : start + WARM_UP + steps].tolist())

    def step() -> None:
        model(torch.tensor([[next(tokens)]]), past_key_values=cache)

    return step


def storing(pairs: list[Any], cache: Cache, start: int, steps: int) -> Callable[[], None]:
    """A function that stores the next token's recorded pairs in every layer."""
    positions = iter(range(start, start + WARM_UP + steps))

    def step() -> None:
        t = next(positions)
        for index, held in enumerate(pairs):
            cache.update(held.keys[:, :, t : t + 1], held.values[:, :, t : t + 1], index)

    return step


def race(ours: Callable[[], None], peer: Callable[[], None]) -> tuple[float, float]:
    """Median CPU seconds of each, taking turns until their tokens run out."""
    times: tuple[list[float], list[float]] = ([], [])
    while True:
        try:
            for run, seconds in zip((ours, peer), times, strict=True):
                seconds.append(cpu_seconds(run))
        except StopIteration:
            break
    return statistics.median(times[0][WARM_UP:]), statistics.median(times[1][WARM_UP:])


def cpu_seconds(run: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_and_seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """How far the resident memory rises above where it stood (GB, Linux only), and CPU seconds."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, peak, done = resident(), [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak.append(max(peak.pop(), resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seconds = cpu_seconds(run)
    finally:
        done.set()
        watcher.join()
    return (peak[0] - before) / 1e9, seconds


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def row(
    name: str,
    peer: str | tuple[str, str],
    ours_s: float,
    peer_s: float,
    goal: float | None,
    agreement: str,
) -> Row:
    """One line of the table; the ratio says how many times cheaper ours is."""
    named, version = PEERS[peer] if isinstance(peer, str) else peer
    return {
        "name": name,
        "work": "kvcache",
        "peer": named,
        "peer_version": version,
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "goal": goal,
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
