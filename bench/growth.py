"""How cost grows: time and working memory of each method against the size of its input.

``lab bench growth`` prints a fitted exponent beside the theoretical one for each curve;
``--save`` keeps the measurements for the app's page. Time is the least of several calls; memory is
the peak of the process above what stood before the call, so it counts what the method itself needs
and not its inputs.
"""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

Row = dict[str, Any]
Call = Callable[[], Any]
LEAST_SECONDS = 0.25  # of all repetitions of one size together


@dataclass(frozen=True)
class Curve:
    """One method and one size of its input.

    Attributes:
        method: What is called.
        work: Its topic.
        axis: What grows.
        sizes: The sizes tried.
        prepare: Size -> the call, its input ready; or -> (size that counts, call).
        theory: Exponent of time that theory gives, in words.
        memory_theory: Likewise of working memory.
    """

    method: str
    work: str
    axis: str
    sizes: tuple[int, ...]
    prepare: Callable[[int], Call | tuple[int, Call]]
    theory: str
    memory_theory: str


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every measurement of every curve; ``quick`` leaves out the largest size of each."""
    limit_threads(1)
    report, chosen = progress or silent, curves()
    table: list[Row] = []
    for done, curve in enumerate(chosen):
        for size in curve.sizes[:-1] if quick else curve.sizes:
            table.append(measured(curve, size))
        report(done + 1, len(chosen), curve.method)
    return table


def measured(curve: Curve, size: int) -> Row:
    """One point of a curve."""
    made = curve.prepare(size)
    counted, call = made if isinstance(made, tuple) else (size, made)
    call()  # whatever is built on the first call
    seconds = []
    while sum(seconds) < LEAST_SECONDS or len(seconds) < 3:
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return {
        "method": curve.method,
        "work": curve.work,
        "axis": curve.axis,
        "size": counted,
        "seconds": min(seconds),
        "bytes": peak_bytes(call),
        "theory": curve.theory,
        "memory_theory": curve.memory_theory,
    }


def peak_bytes(call: Call) -> int | None:
    """Peak of resident memory above what stood before; None where the system does not tell."""
    gc.collect()
    with suppress(OSError, AttributeError):  # freed memory goes back, else the peak hides in it
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _high_water()
        kept = call()
        found = _high_water() - before
    except OSError:
        return None
    del kept
    return found if found > 2**18 else None  # below that it is the allocator's noise


def _high_water() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def random(*shape: int) -> torch.Tensor:
    """Normal numbers, the same for the same shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def curves() -> Sequence[Curve]:
    """All of them, by topic."""
    return (*_merging(), *_koopman(), *_sequences(), *_vision(), *_speech(), *_cells())


def _merging() -> Iterator[Curve]:
    from labcore.merging import tsv_merge_matrix

    def merge(tasks: int, width: int) -> Call:
        deltas = list(random(tasks, width, width).unbind())
        return lambda: tsv_merge_matrix(deltas, rank=width // tasks)

    name, work = "TSV-Merge of one matrix", "merging"
    yield Curve(
        name, work, "tasks (256 wide)", (2, 4, 8, 16, 32), lambda n: merge(n, 256), "0 to 1", "0"
    )
    widths = (128, 192, 256, 384, 512)
    yield Curve(name, work, "width (8 tasks)", widths, lambda n: merge(8, n), "3", "2")


def _koopman() -> Iterator[Curve]:
    from labcore.koopman.dmd import dmd

    def modes(states: int, snapshots: int) -> Call:
        data = np.random.default_rng(0).standard_normal((states, snapshots))
        return lambda: dmd(data, 16, method="gram")

    name, work = "DMD by the Gram matrix", "koopman"
    sizes = (2000, 4000, 8000, 16000, 32000)
    yield Curve(name, work, "state size (100 snapshots)", sizes, lambda n: modes(n, 100), "1", "1")
    sizes = (100, 200, 400, 800)
    yield Curve(
        name, work, "snapshots (4000 states)", sizes, lambda n: modes(4000, n), "2 to 3", "1 to 2"
    )


def _sequences() -> Iterator[Curve]:
    from labcore.blocks.attention import attention
    from labcore.blocks.selective import mamba_scan
    from labcore.kvcache.norms import key_norms, select

    def whole(n: int) -> Call:
        query, key, value = random(3, 1, 4, n, 64)
        return lambda: attention(query, key, value, causal=True)

    def one_token(n: int) -> Call:
        query, (key, value) = random(1, 8, 1, 64), random(2, 1, 8, n, 64)
        return lambda: F.scaled_dot_product_attention(query, key, value)

    def pruning(n: int) -> Call:
        keys = random(1, 8, n, 64)
        return lambda: select(-key_norms(keys), n // 2)

    def scan(n: int) -> Call:
        u, delta = random(1, n, 64), F.softplus(random(1, n, 64))
        A, (B, C) = -torch.rand(64, 16), random(2, 1, n, 16)
        return lambda: mamba_scan(u, delta, A, B, C)

    tokens = "tokens of context"
    sizes = (256, 512, 1024, 2048)
    yield Curve("attention over a whole prompt", "book", tokens, sizes, whole, "2", "2")
    sizes = (4096, 8192, 16384, 32768)
    yield Curve("attention of one new token", "kvcache", tokens, sizes, one_token, "1", "0")
    yield Curve("key norms and their choice", "kvcache", tokens, sizes, pruning, "1", "1")
    sizes = (1024, 2048, 4096, 8192, 16384)
    yield Curve("selective scan", "topology", "sequence length", sizes, scan, "1", "1")


def _vision() -> Iterator[Curve]:
    from labcore.blocks.vit import VisionTransformer, ViTConfig
    from labcore.conditional import MoELayer
    from labcore.finetuning import ALaST, ALaSTConfig

    def tokens(side: int) -> tuple[int, Call]:
        config = ViTConfig(8 * side, 8, 3, 192, 4, 3, 4.0, 10)
        model, images = VisionTransformer(config).eval(), random(4, 3, 8 * side, 8 * side)
        return side * side + 1, lambda: _without_grad(lambda: model(images))

    def experts(count: int) -> Call:
        layer, x = MoELayer(64, 128, count, 2).eval(), random(1, 2048, 64)
        return lambda: _without_grad(lambda: layer(x))

    def layers(count: int) -> Call:
        model = VisionTransformer(ViTConfig(56, 7, 1, 96, 12, 4, 2.0, 10))
        wrapped = ALaST(model, ALaSTConfig(num_trainable_layers=count, spread=0.0))
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        batch = random(16, 1, 56, 56), torch.arange(16) % 10
        trained = list(range(12 - count, 12))

        def step() -> None:
            wrapped.step(F.cross_entropy, batch, optimizer, layers=trained, measure=False)

        return step

    sides = (7, 10, 14, 20)
    yield Curve("ViT on the kept tokens", "tokens", "tokens", sides, tokens, "1 to 2", "1 to 2")
    counts = (4, 8, 16, 32, 64)
    yield Curve("mixture of experts, k = 2", "conditional", "experts", counts, experts, "0", "0")
    counts = (1, 2, 4, 8, 12)
    yield Curve("ALaST step", "finetuning", "trained layers", counts, layers, "0 to 1", "0 to 1")


def _without_grad(call: Call) -> Any:
    with torch.no_grad():
        return call()


def _speech() -> Iterator[Curve]:
    from labcore.speech.lengths import cif, ctc_compress

    def firing(frames: int) -> Call:
        x, alpha = random(4, frames, 192), torch.sigmoid(random(4, frames))
        return lambda: cif(x, alpha, torch.full((4,), frames))

    def runs(frames: int) -> Call:
        x = random(4, frames, 192)
        symbols = torch.randint(0, 30, (4, frames), generator=torch.Generator().manual_seed(0))
        return lambda: ctc_compress(x, symbols, torch.full((4,), frames), with_assignment=False)

    sizes = (250, 500, 1000, 2000)
    yield Curve("integrate-and-fire", "speech", "frames", sizes, firing, "1 to 2", "1 to 2")
    sizes = (500, 1000, 2000, 4000)
    yield Curve("CTC compression", "speech", "frames", sizes, runs, "1", "1")


def _cells() -> Iterator[Curve]:
    from labcore.blocks import autodiff
    from labcore.topology import clique_complex

    def lifting(nodes: int) -> tuple[int, Call]:
        points = np.random.default_rng(0).random((nodes, 2))
        from scipy.spatial import cKDTree

        edges = cKDTree(points).query_pairs(np.sqrt(12 / (np.pi * nodes)), output_type="ndarray")
        cells = sum(clique_complex(edges, nodes).sizes)
        return cells, lambda: clique_complex(edges, nodes)

    def chain(nodes: int) -> Call:
        x = autodiff.Tensor(np.ones(1))
        y = x
        for _ in range(nodes):
            y = y * 0.999 + x
        return lambda: autodiff.backward(y)

    nodes = (1000, 3000, 10000, 30000)
    yield Curve("clique lifting", "topology", "cells (mean degree 12)", nodes, lifting, "1", "1")
    nodes = (500, 1000, 2000, 4000)
    yield Curve("reverse-mode differentiation", "book", "operations", nodes, chain, "1", "1")
