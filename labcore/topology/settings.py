"""The table of choices that the experiment runs: models, domains and data sets, then ablations."""

from dataclasses import dataclass, replace
from typing import Any

from labcore.topology.pipeline import Choice

Row = tuple[str, str, str, dict[str, Any]]
GRAPH, CLIQUE, CELL, HYPER = "graph/identity", "simplicial/clique", "cell/cycle", "hypergraph/khop"
COFACE = "simplicial/clique+combinatorial/coface"
FACES = "hypergraph/khop+combinatorial/faces"
GIVEN = "simplicial/given"
WIDE_CELLS = {"lift_options": {"basis": "fundamental"}}  # too many cycles for a minimum basis
BASE: tuple[Row, ...] = (
    ("majority class", GRAPH, "majority", {}),
    ("features only (MLP)", GRAPH, "mlp", {}),
)
GRAPHS: tuple[Row, ...] = (
    ("GCN", GRAPH, "gcn", {}),
    ("GIN", GRAPH, "gin", {}),
    ("GAT", GRAPH, "gat", {}),
)
HYPERS: tuple[Row, ...] = (
    ("HGNN", HYPER, "hgnn", {}),
    ("AllSet", HYPER, "allset", {}),
    ("UniGCN", HYPER, "unigcn", {}),
)
MAMBA = {"lr": 0.003}
CONTROLS: tuple[Row, ...] = (*BASE, ("cell counts only", CLIQUE, "counts", {}), *GRAPHS)
NODE: tuple[Row, ...] = (
    *CONTROLS,
    *HYPERS,
    ("SCN", CLIQUE, "scn", {}),
    ("SAN", CLIQUE, "san", {}),
    ("SCCN", CLIQUE, "sccn", {}),
    ("SCCNN, signed", CLIQUE, "sccnn", {"features": "gradient"}),
    ("SCCNN, unsigned", CLIQUE, "sccnn-unsigned", {}),
    ("SimplicialMamba", CLIQUE, "mamba", MAMBA),
    ("CWN on cycles", CELL, "cwn", WIDE_CELLS),
    ("CCCN on cycles", CELL, "cccn", WIDE_CELLS),
    ("GCCN on cofaces", COFACE, "gccn", {}),
)
MUTAG: tuple[Row, ...] = (
    *BASE,
    ("cell counts only", CELL, "counts", {}),
    *GRAPHS,
    ("GIN + walk counts", GRAPH, "gin", {"preprocess": "walk"}),
    *HYPERS,
    ("SCN", CLIQUE, "scn", {}),
    ("SCCNN, unsigned", CLIQUE, "sccnn-unsigned", {}),
    ("CWN on rings", CELL, "cwn", {}),
    ("CCCN on rings", CELL, "cccn", {}),
    ("SCCNN on rings", CELL, "sccnn-unsigned", {}),
    ("GCCN on pairs", FACES, "gccn", {}),
    ("Mamba on edges", CLIQUE, "mamba", {**MAMBA, "epochs": 48}),
    ("Mamba on rings", CELL, "mamba", {**MAMBA, "epochs": 48}),
)
SURFACES: tuple[Row, ...] = (
    BASE[0],
    ("cell counts only", GIVEN, "counts", {}),
    *GRAPHS[:2],
    ("GIN + walk counts", GRAPH, "gin", {"preprocess": "walk"}),
    ("SCN", GIVEN, "scn", {}),
    ("SCCNN, signed", GIVEN, "sccnn", {"features": "random"}),
    ("SCCNN, unsigned", GIVEN, "sccnn-unsigned", {}),
    ("SimplicialMamba", GIVEN, "mamba", {**MAMBA, "epochs": 28, "width": 16}),
    (
        "Mamba + cell counts",
        GIVEN,
        "mamba",
        {**MAMBA, "epochs": 28, "width": 16, "features": "counts"},
    ),
)
LABELS = ("majority class", "GCN", "GIN", "SCN", "SCCNN, signed", "SimplicialMamba")
RANDOM = tuple(row for row in SURFACES if row[0] in LABELS)
ABLATION: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("max rank 1", {"max_dim": 1}, {}),
    ("max rank 2", {"max_dim": 2}, {}),
    ("max rank 3", {"max_dim": 3}, {}),
    ("max rank 4", {"max_dim": 4}, {}),
    ("GRU", {"max_dim": 3}, {"sequence_model": "gru"}),
    ("LSTM", {"max_dim": 3}, {"sequence_model": "lstm"}),
    ("transformer", {"max_dim": 3}, {"sequence_model": "transformer"}),
    ("S4D", {"max_dim": 3}, {"sequence_model": "s4d"}),
    ("no sequence model", {"max_dim": 3}, {"sequence_model": "none"}),
    ("forward only", {"max_dim": 3}, {"bidirectional": "none"}),
    ("as published", {"max_dim": 3}, {"bidirectional": "as_published"}),
    ("ascending ranks", {"max_dim": 3}, {"order": "ascending"}),
)


@dataclass(frozen=True)
class Bench:
    """One data set with the rows that are run on it.

    Attributes:
        data: Name of the data set.
        rows: (label, lifting, model, changes to the choice).
        seeds: Splits, each with its own initial weights.
        epochs: Unless a row says otherwise.
        width: Hidden size, unless a row says otherwise.
    """

    data: str
    rows: tuple[Row, ...]
    seeds: int
    epochs: int = 60
    width: int = 32

    def choices(self) -> list[Choice]:
        """The rows as choices."""
        whole = Choice(self.data, GRAPH, "mlp", epochs=self.epochs, width=self.width)
        return [
            replace(whole, lifting=lifting, model=model, label=label, **changes)
            for label, lifting, model, changes in self.rows
        ]


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: Added to the number of every split.
        benches: Data sets and rows.
        ablation: Data set, seeds and epochs of the ablation of SimplicialMamba.
    """

    seed: int
    benches: tuple[Bench, ...]
    ablation: tuple[str, int, int]

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """About twenty CPU seconds: the karate club and a short look at the molecules."""
        few = tuple(row for row in MUTAG if row[2] in ("majority", "mlp", "gin", "cwn"))
        return cls(
            seed,
            (Bench("karate", NODE, 2, 40, 16), Bench("mutag", few, 2, 24, 16)),
            ("karate", 2, 24),
        )

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: about a quarter of an hour on one core."""
        return cls(
            seed,
            (
                Bench("karate", NODE, 8, 60, 16),
                Bench("mutag", MUTAG, 5, 80, 16),
                Bench("digits", NODE, 3, 60, 32),
                Bench("surfaces", SURFACES, 3, 80, 32),
                Bench("surfaces-random", RANDOM, 3, 80, 32),
                Bench("torus-or-klein", SURFACES, 3, 80, 32),
                Bench("digits-600", CONTROLS, 5, 40, 16),
            ),
            ("digits-600", 5, 40),
        )

    def choices(self) -> list[tuple[Choice, int]]:
        """Every (choice, seed of split) of the run."""
        found = [
            (choice, self.seed + s)
            for bench in self.benches
            for choice in bench.choices()
            for s in range(bench.seeds)
        ]
        data, seeds, epochs = self.ablation
        whole = Choice(data, CLIQUE, "mamba", epochs=epochs, width=16)
        for label, lift_options, model_options in ABLATION:
            one = replace(whole, label=f"ablation: {label}", lift_options=lift_options,
                          model_options=model_options)  # fmt: skip
            found += [(one, self.seed + s) for s in range(seeds)]
        return found
