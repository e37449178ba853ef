"""The selective scan and the Mamba block against mambapy; the sequencer against the public form.

The authors' sequencer (arXiv 2409.12033) cannot run without their private set-up, so its two costs
are written here from its description: a node-cell matrix filled cell by cell with masks over all
nodes, and tokens as a product with that dense mask.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.topology import Row, power_law, row, turns
from labcore.blocks.mamba import MambaBlock
from labcore.blocks.selective import mamba_scan
from labcore.topology.complexes import SimplicialComplex, clique_complex
from labcore.topology.sequences import rank_operators

SCANS = (
    (1024, 4, 4.0), (64, 16, 2.5), (8, 64, 1.8), (2, 256, 1.8), (2, 1024, 1.8),
    (1024, 1, 1.0), (1024, 2, 1.0), (1, 4096, 1.0),
)  # fmt: skip
WIDE = 64


def races(quick: bool, version: str) -> list[Callable[[], Row]]:
    """The races, to be called one by one."""
    sizes = SCANS[:3] if quick else SCANS
    return [
        *(partial(scan, b, t, goal, version) for b, t, goal in sizes),
        partial(block, 2708, 4, version),
        sequencer,
        membership,
    ]


def scan(b: int, t: int, goal: float, version: str) -> Row:
    """Forward and backward, from step sizes to outputs, with all five gradients."""
    from mambapy.pscan import pscan

    g = torch.Generator().manual_seed(0)
    u, delta = torch.randn(b, t, 128, generator=g), 0.1 * torch.rand(b, t, 128, generator=g)
    A = -torch.rand(128, 16, generator=g) - 0.1
    B, C = torch.randn(b, t, 16, generator=g), torch.randn(b, t, 16, generator=g)
    x = [v.requires_grad_() for v in (u, delta, A, B, C)]

    def theirs() -> Tensor:
        h = pscan(torch.exp(delta[..., None] * A), (delta * u)[..., None] * B[:, :, None])
        return (h @ C[..., None]).squeeze(3)

    def error(y: Tensor) -> float:
        wanted = mamba_scan(*x, method="reference").detach()
        return float((y.detach() - wanted).abs().max() / wanted.abs().max())

    ours, peer = error(mamba_scan(*x)), error(theirs())
    if ours > 1e-5:
        raise RuntimeError(f"the scan differs from a float64 loop by {ours:.1e}")
    times = turns(lambda: mamba_scan(*x).sum().backward(), lambda: theirs().sum().backward(), 7)
    name = f"scan forward+backward ({b}, {t}, 128, 16)"
    said = f"error of float64: ours {ours:.0e}, theirs {peer:.0e}"
    return row(name, "mambapy pscan", version, times, goal, said)


def block(n: int, t: int, version: str) -> Row:
    """The whole block on Cora's number of nodes, forward and backward, one set of weights."""
    from mambapy.mamba import MambaBlock as Peer
    from mambapy.mamba import MambaConfig

    ours, theirs = MambaBlock(WIDE), Peer(MambaConfig(d_model=WIDE, n_layers=1))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(n, t, WIDE, generator=torch.Generator().manual_seed(0))
    gap = float((ours(x) - theirs(x)).detach().abs().max())
    if gap > 1e-5:
        raise RuntimeError(f"the blocks differ by {gap:.1e}")
    times = turns(lambda: ours(x).sum().backward(), lambda: theirs(x).sum().backward(), 3)
    name = f"block forward+backward ({n}, {t}, {WIDE})"
    return row(name, "mambapy", version, times, 3.0, f"outputs to {gap:.0e}")


def _cora_size() -> SimplicialComplex:
    return clique_complex(power_law(2708, 2), max_dim=3)


def public_membership(complex_: SimplicialComplex) -> Tensor:
    """One dense node-cell matrix of all ranks, filled cell by cell with a mask over all nodes."""
    nodes = torch.arange(complex_.n)
    columns = []
    for k in range(complex_.dim, 0, -1):
        for cell in complex_.simplices(k).tolist():
            mask = torch.zeros(complex_.n, dtype=torch.bool)
            for v in cell:
                mask |= nodes == v
            columns.append(mask)
    return torch.stack(columns, dim=1)


def sequencer() -> Row:
    """Tokens of all nodes from node features, the operators being made."""
    complex_ = _cora_size()
    operators = rank_operators(complex_)
    x = torch.randn(complex_.n, WIDE, generator=torch.Generator().manual_seed(0))
    masks = [
        torch.from_numpy(complex_.membership(k).toarray()).float()
        for k in range(complex_.dim, 0, -1)
    ]

    def peer() -> Tensor:
        made = [torch.einsum("nc,cd->nd", s, torch.einsum("nc,nd->cd", s, x)) for s in masks]
        return torch.stack([*made, x], dim=1)

    ours: Any = operators.apply(x)
    gap = float((ours - peer()).abs().max() / ours.abs().max())
    if gap > 1e-4:
        raise RuntimeError(f"the tokens differ by {gap:.1e}")
    times = turns(lambda: operators.apply(x), peer, 5)
    task = f"sequencer, {complex_.n} nodes, d = {WIDE}"
    return row(task, "einsum with dense masks", "-", times, 5.0, f"tokens to {gap:.0e}")


def membership() -> Row:
    """The node-cell matrix of all ranks."""
    complex_ = _cora_size()

    def ours() -> list[Any]:
        complex_._kept.clear()  # matrices are kept, the race is about making them
        return [complex_.membership(k) for k in range(complex_.dim, 0, -1)]

    dense = public_membership(complex_)
    mine = torch.cat([torch.from_numpy(s.toarray()) for s in ours()], dim=1)
    if not torch.equal(mine.bool(), dense):
        raise RuntimeError("the node-cell matrices differ")
    times = turns(ours, lambda: public_membership(complex_), 3)
    task = f"node-cell matrix, {complex_.n} nodes, {dense.shape[1]} cells"
    return row(task, "cell by cell with masks", "-", times, 100.0, "entries equal")
