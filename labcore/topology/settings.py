"""The table of choices that the experiment runs: models, domains and data sets, then ablations."""

from dataclasses import dataclass, replace
from typing import Any

from labcore.topology.pipeline import Choice

Row = tuple[str, str, str, dict[str, Any]]
GRAPH, CLIQUE, CELL, HYPER = "graph/identity", "simplicial/clique", "cell/cycle", "hypergraph/khop"
GIVEN = "simplicial/given"
NODE: tuple[Row, ...] = (
    ("majority class", GRAPH, "majority", {}),
    ("features only (MLP)", GRAPH, "mlp", {}),
    ("cell counts only", CLIQUE, "counts", {}),
    ("GCN", GRAPH, "gcn", {}),
    ("GIN", GRAPH, "gin", {}),
    ("GAT", GRAPH, "gat", {}),
    ("HGNN", HYPER, "hgnn", {}),
    ("AllSet", HYPER, "allset", {}),
    ("SCN", CLIQUE, "scn", {}),
    ("SCCNN, signed", CLIQUE, "sccnn", {}),
    ("SCCNN, unsigned", CLIQUE, "sccnn-unsigned", {}),
    ("SimplicialMamba", CLIQUE, "mamba", {}),
)
MUTAG: tuple[Row, ...] = (
    *(row for row in NODE if row[2] in ("majority", "mlp", "gcn", "gin", "gat", "allset")),
    ("cell counts only", CELL, "counts", {}),
    ("SCCNN, unsigned", CLIQUE, "sccnn-unsigned", {}),
    ("CWN on rings", CELL, "cwn", {}),
    ("SCCNN on rings", CELL, "sccnn-unsigned", {}),
    ("Mamba on edges", CLIQUE, "mamba", {"epochs": 32}),
    ("Mamba on rings", CELL, "mamba", {"epochs": 32}),
)
SURFACES: tuple[Row, ...] = (
    ("majority class", GRAPH, "majority", {}),
    ("cell counts only", GIVEN, "counts", {}),
    ("GCN", GRAPH, "gcn", {}),
    ("GIN", GRAPH, "gin", {}),
    ("SCN", GIVEN, "scn", {}),
    ("SCCNN, signed", GIVEN, "sccnn", {}),
    ("SCCNN, unsigned", GIVEN, "sccnn-unsigned", {}),
    ("SimplicialMamba", GIVEN, "mamba", {"epochs": 28, "width": 16}),
)
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
        """About half a minute: the karate club and a short look at the molecules."""
        few = tuple(row for row in MUTAG if row[2] in ("majority", "mlp", "gin", "cwn"))
        return cls(
            seed,
            (Bench("karate", NODE, 2, 40, 16), Bench("mutag", few, 2, 24, 16)),
            ("karate", 2, 24),
        )

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: about ten minutes on one core."""
        return cls(
            seed,
            (
                Bench("karate", NODE, 8, 60, 16),
                Bench("mutag", MUTAG, 5, 80, 16),
                Bench("digits", NODE, 3, 60, 32),
                Bench("surfaces", SURFACES, 3, 80, 32),
                Bench("torus-or-klein", SURFACES, 3, 80, 32),
            ),
            ("digits-600", 3, 40),
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
