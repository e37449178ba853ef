"""Claims of simplicial Mamba (arXiv 2409.12033) and of TopoBench (arXiv 2406.06642).

The rules were written before the full run was looked at. "Competitive" is at most 3 points below,
"better" is better by more than two standard errors over the same splits.
"""

from labcore.claims import Claim, Finding
from labcore.runs import Result
from labcore.topology.tally import Rows, Spread, distinct, paired, pick, score

MAMBA_PAPER, BENCH_PAPER = "arXiv 2409.12033", "arXiv 2406.06642"
SCALE = "hidden size 16 to 32, at most 80 epochs, one core, graphs of at most 4500 nodes"
CLOSE = -0.03
MAMBA, MLP, COUNTS = "SimplicialMamba", "features only (MLP)", "cell counts only"
SIMPLICIAL = ("SCN", "SAN", "SCCN", "SCCNN, signed", "SCCNN, unsigned")
GRAPHS = ("GCN", "GIN", "GAT", "GIN + walk counts")
CONTROLS = ("majority class", MLP, COUNTS, *GRAPHS)


def _said(rows: Rows, data: str, labels: tuple[str, ...]) -> str:
    there = distinct(pick(rows, data=data), "label")
    found = [(name, score(rows, data, name)) for name in labels if name in there]
    return f"{data}: " + ", ".join(f"{name} {s.mean:.3f} ± {s.sd:.3f}" for name, s in found)


def _surely(found: Spread) -> bool:
    return found.mean - 2 * found.error > 0  # NaN of a single seed compares as False


def _best(rows: Rows, data: str, labels: tuple[str, ...]) -> str:
    """The label of best mean VALIDATION accuracy: the test part chooses nothing."""
    there = [name for name in labels if pick(rows, data=data, label=name)]
    return max(there, key=lambda name: score(rows, data, name, "val").mean)


def _competitive(result: Result) -> Finding:
    rows, passed, measured, others = result.tables["runs"], [], [], []
    seeds = 0
    for data in distinct(rows, "data"):
        if not pick(rows, data=data, label=MAMBA) or not pick(rows, data=data, label="SCN"):
            continue
        rival = _best(rows, data, SIMPLICIAL)
        found = paired(rows, data, MAMBA, rival)
        passed.append(found.mean >= CLOSE)
        measured.append(f"{data}: Mamba − {rival} {found.mean:+.3f} ± {found.error:.3f}")
        others.append(_said(rows, data, CONTROLS))
        seeds = max(seeds, found.n)
    return Finding("; ".join(measured), "; ".join(others), f"up to {seeds} seeds", tuple(passed))


def _any_rank(result: Result) -> Finding:
    rows = [r for r in result.tables["runs"] if r["label"].startswith("ablation: ")]
    data = rows[0]["data"]
    passed, measured = [], []
    for label, control in (
        ("ablation: max rank 3", "ablation: max rank 1"),
        ("ablation: max rank 3", "ablation: no sequence model"),
    ):
        found = paired(rows, data, label, control)
        passed.append(_surely(found))
        names = [name.removeprefix("ablation: ") for name in (label, control)]
        measured.append(f"{names[0]} − {names[1]}: {found.mean:+.3f} ± {found.error:.3f}")
    labels = tuple(distinct(rows, "label"))
    said = _said(rows, data, labels).replace("ablation: ", "")
    others = f"{_said(result.tables['runs'], data, CONTROLS)}; changed: {said}"
    return Finding("; ".join(measured), others, f"{data}, {found.n} seeds", tuple(passed))


def _direction(result: Result) -> Finding:
    rows = [r for r in result.tables["runs"] if r["label"].startswith("ablation: ")]
    data = rows[0]["data"]
    found = paired(rows, data, "ablation: max rank 3", "ablation: as published")
    return Finding(
        f"two directions − as published: {found.mean:+.3f} ± {found.error:.3f}",
        _said(result.tables["runs"], data, (*CONTROLS, "ablation: forward only")),
        f"{data}, {found.n} seeds",
        (_surely(found),),
    )


HIGHER = (
    "HGNN", "AllSet", "UniGCN", *SIMPLICIAL, "CWN on cycles", "CCCN on cycles", "GCCN on cofaces",
    "CWN on rings", "CCCN on rings", "SCCNN on rings", "GCCN on pairs",
)  # fmt: skip


def _domain(result: Result) -> Finding:
    rows, passed, measured, others = result.tables["runs"], [], [], []
    seeds = 0
    for data in distinct(rows, "data"):
        if not any(pick(rows, data=data, label=name) for name in HIGHER):
            continue
        graph, higher = _best(rows, data, GRAPHS), _best(rows, data, HIGHER)
        found = paired(rows, data, higher, graph)
        passed.append(_surely(found))
        measured.append(f"{data}: {higher} − {graph} {found.mean:+.3f} ± {found.error:.3f}")
        others.append(_said(rows, data, ("majority class", MLP, COUNTS, graph)))
        seeds = max(seeds, found.n)
    return Finding("; ".join(measured), "; ".join(others), f"up to {seeds} seeds", tuple(passed))


def _rings(result: Result) -> Finding:
    rows = result.tables["runs"]
    if not pick(rows, data="mutag", label="Mamba on rings"):
        return Finding("not run", "not run", "0 seeds", ())
    found = paired(rows, "mutag", "Mamba on rings", "Mamba on edges")
    other = paired(rows, "mutag", "CWN on rings", _best(rows, "mutag", GRAPHS))
    return Finding(
        f"Mamba, rings − edges {found.mean:+.3f} ± {found.error:.3f}; CWN on rings − best graph "
        f"model {other.mean:+.3f} ± {other.error:.3f}",
        _said(rows, "mutag", CONTROLS),
        f"{found.n} seeds x 48 test molecules",
        (_surely(found), _surely(other)),
    )


def _orientation(result: Result) -> Finding:
    rows, data = result.tables["runs"], "torus-or-klein"
    if not pick(rows, data=data):
        return Finding("not run", "not run", "0 seeds", ())
    signed = score(rows, data, "SCCNN, signed")
    graph = score(rows, data, _best(rows, data, GRAPHS))
    return Finding(
        _said(rows, data, (*SIMPLICIAL, MAMBA)),
        _said(rows, data, ("majority class", COUNTS, *GRAPHS)),
        f"{signed.n} seeds x 100 test surfaces",
        (signed.mean - 2 * signed.error > 0.5, graph.mean - 2 * graph.error <= 0.5),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="topology-mamba-competitive",
        claim="Simplicial Mamba is competitive with simplicial networks",
        source=f"{MAMBA_PAPER}, abstract",
        published="competitive on node tasks (no figure quoted: the table could not be checked)",
        scale=f"{SCALE}; on surfaces Mamba has width 16 and 28 epochs, its rivals 32 and 80",
        rule="mean test accuracy at most 3 points below the simplicial network of best validation "
        "accuracy, on the same splits; one part a data set",
        measure=_competitive,
    ),
    Claim(
        id="topology-any-rank",
        claim="Reading cells of all ranks in one sequence helps, without message passing by rank",
        source=f"{MAMBA_PAPER}, method and ablation",
        published="state-space model ahead of other sequence models",
        scale=SCALE,
        rule="SimplicialMamba with ranks 1 to 3 better by more than two standard errors (1) than "
        "with edges only, (2) than the same tokens summed without a sequence model",
        measure=_any_rank,
    ),
    Claim(
        id="topology-two-directions",
        claim="Reading in both directions helps",
        source=f"{MAMBA_PAPER}, bidirectional block; the published code drops the backward pass",
        published="bidirectional blocks used throughout",
        scale=SCALE,
        rule="both directions better than the block as published by more than two standard errors",
        measure=_direction,
    ),
    Claim(
        id="topology-higher-order",
        claim="Lifting to a higher domain gives a richer representation and better predictions",
        source=f"{BENCH_PAPER}, cross-domain table",
        published="higher order first or tied on most sets, often narrowly (Cora 88.9, GIN 87.2)",
        scale=SCALE,
        rule="the higher-order network of best validation accuracy better than the graph network "
        "of best validation accuracy by more than two standard errors on test; one part a data set",
        measure=_domain,
    ),
    Claim(
        id="topology-rings",
        claim="On molecules, cells on rings help where simplices cannot (there are no triangles)",
        source=f"{BENCH_PAPER}, MUTAG",
        published="MUTAG: CWN 80.4 ± 1.8, GIN 79.6 ± 6.1, GCN 69.8 ± 6.8",
        scale=SCALE,
        rule="better by more than two standard errors: (1) Mamba with rings than with edges only, "
        "(2) CWN than the graph network of best validation accuracy",
        measure=_rings,
    ),
    Claim(
        id="topology-orientation",
        claim="Signed simplicial networks see whether a surface is orientable, graph ones do not",
        source=f"{BENCH_PAPER}, MANTRA orientability",
        published="SCCNN 86.3, SCN 69.6, GCN 47.9, GIN 56.3",
        scale=f"{SCALE}; torus or Klein bottle, whose counts of cells are equal",
        rule="(1) signed SCCNN above one half by more than two standard errors; (2) the best graph "
        "network not above one half by as much",
        measure=_orientation,
    ),
)
