"""The scan of :mod:`labcore.blocks.ssm` against the public parallel scan of mambapy.

Same sequences, one thread, the two sides taking turns; CPU seconds, the median of the rounds.
Agreement is the error of ours against a float64 loop, beside that of the float32 loop.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import peers
from labcore.blocks.ssm import scan
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

LENGTHS = (1024, 1025, 4096, 16384)
CHANNELS = 64
Row = dict[str, Any]


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """One row a length and direction.

    Raises:
        PeerMissing: mambapy is not installed.
    """
    version = peers.use("mambapy")
    from mambapy.pscan import pscan

    limit_threads(1)
    report, table, rounds = progress or silent, [], 7 if quick else 25
    for done, length in enumerate(LENGTHS):
        a, b, weight = _inputs(length)
        error, loops = _errors(a, b)
        theirs = pscan(a[..., None], b[..., None])[..., 0]
        gap = (theirs - scan(a, b)).abs().max().item()

        def ours(a: Tensor = a, b: Tensor = b) -> Tensor:
            return scan(a, b)

        def peer(a: Tensor = a, b: Tensor = b) -> Tensor:
            return pscan(a[..., None], b[..., None])[..., 0]

        for backward in (False, True):
            times = _turns((ours, peer), (a, b), weight if backward else None, rounds)
            way = "forward+backward" if backward else "forward"
            table.append(
                {
                    "name": f"scan, {length} steps, {way}",
                    "work": "book",
                    "peer": "mambapy pscan",
                    "peer_version": version,
                    "ours_s": times[0],
                    "peer_s": times[1],
                    "ratio": times[1] / times[0],
                    "goal": 1.0,
                    "agreement": f"error {error:.1e} (loop {loops:.1e}), to the peer {gap:.1e}",
                    "threads": torch.get_num_threads(),
                }
            )
        report(done + 1, len(LENGTHS), "scan")
    return table


def _inputs(length: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    a = torch.rand(1, length, CHANNELS, generator=generator) * 0.5 + 0.5
    b, weight = (torch.randn(1, length, CHANNELS, generator=generator) for _ in range(2))
    return a, b, weight


def _errors(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Largest error of the chunked scan and of the loop in float32, against the float64 loop."""
    true = scan(a.double(), b.double(), method="loop")
    found = [(scan(a, b, method=m) - true).abs().max().item() for m in ("chunked", "loop")]
    return found[0], found[1]


def _turns(
    sides: tuple[Callable[..., Tensor], ...],
    inputs: tuple[Tensor, Tensor],
    weight: Tensor | None,
    rounds: int,
) -> list[float]:
    found: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds + 2):
        for side, kept in zip(sides, found, strict=True):
            given = [x.clone().requires_grad_(weight is not None) for x in inputs]
            start = time.process_time()
            with torch.set_grad_enabled(weight is not None):
                h = side(*given)
                if weight is not None:
                    h.backward(weight)
            if turn > 1:  # the first two warm up
                kept.append(time.process_time() - start)
    return [statistics.median(kept) for kept in found]
