"""The experiment: train on contact networks, explain, score, and audit the scores.

For each network and seed: make 300 graphs, train DynGCRNN, explain the validation graphs of class 1
with every explainer, score them beside the trivial baselines, cut contacts, flip signs. Nothing is
chosen on the validation part. Sizes: :mod:`.settings`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from labcore.koopman.names import NAMES, TARGETS, mean_of
from labcore.koopman.settings import Config
from labcore.parts import Findings, Part, run_experiment
from labcore.runs import Progress, Result, Table, committed, silent

__all__ = ["Config", "load_result", "run", "summary", "trained"]
TOPIC = "koopman"


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every network and seed, or resume after those that an earlier session finished.

    Deterministic for a seed.

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.

    Raises:
        AssetError: a network is not on this machine (``lab fetch contacts``).
    """
    from labcore.koopman.parts import measure

    jobs = [(name, config.seed + i) for name, seeds in config.networks for i in range(seeds)]
    preset = "--full" if config == Config.full(config.seed) else "--quick"

    def derive(found: Findings) -> None:
        found.tables["scores"] = _averages(found.tables["explained"], found.arrays, config)

    return run_experiment(
        TOPIC,
        config,
        [Part(f"{name}@{seed}", 60, partial(measure, config, name, seed)) for name, seed in jobs],
        seeds=sorted({seed for _, seed in jobs}),
        command=f"lab run koopman {preset} --seed {config.seed}",
        resume=config.resume,
        progress=progress or silent,
        derive=derive,
    )


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed(TOPIC, which)


def trained(network: str) -> Any:
    """The committed network that was trained on ``network``, first seed, as a ``DynGCRNN``.

    Raises:
        ValueError: the result holds no weights of it.
    """
    import torch

    from labcore.koopman.stgnn import DynGCRNN

    result, start = load_result(), f"{network}/weights/"
    held = {k.removeprefix(start): v for k, v in result.arrays.items() if k.startswith(start)}
    if not held:
        known = dict.fromkeys(row["network"] for row in result.tables["shown"])
        raise ValueError(f"no network trained on {network!r}: choose one of {', '.join(known)}")
    model = DynGCRNN(1, result.config["hidden"], result.config["layers"])
    model.load_state_dict({name: torch.from_numpy(array) for name, array in held.items()})
    return model.eval().requires_grad_(requires_grad=False)


def summary(result: Result) -> Table:
    """Rows for the terminal: each score of each explainer, its spread, and on how many graphs."""
    return [*_training_rows(result), *_score_rows(result), *_audit_rows(result)]


def _training_rows(result: Result) -> Iterator[dict[str, Any]]:
    for row in result.tables["training"]:
        yield {
            "what": f"accuracy, {row['network']} seed {row['seed']}",
            "value": row["accuracy"],
            "sd": None,
            "graphs": row["valid"],
            "note": f"infected-count curve alone {row['curve_accuracy']:.2f}; operator: skill "
            f"against persistence {row['skill']:.2f}",
        }


def _score_rows(result: Result) -> Iterator[dict[str, Any]]:
    for row in result.tables["scores"]:
        if row["target"] in ("time_p", "time_effect"):
            continue
        yield {
            "what": f"{row['target']}, {row['network']}, {row['explainer']}",
            "value": row["mean"],
            "sd": row["sd"],
            "graphs": row["graphs"],
            "note": f"{row['seeds']} seeds: {row['low']:.2f} to {row['high']:.2f}",
        }


def _audit_rows(result: Result) -> Iterator[dict[str, Any]]:
    for row in result.tables["flips"]:
        yield {
            "what": f"edge AUC range over sign flips, {row['network']} seed {row['seed']}, degree "
            f"{row['degree']}, {row['aggregate']}",
            "value": row["range"],
            "sd": row["sd"],
            "graphs": row["graphs"],
            "note": "0 is right: a sign means nothing",
        }
    for row in result.tables["deletion"]:
        if row["cut"] == 10:
            yield {
                "what": f"logit drop, 10 steps cut, {row['network']} seed {row['seed']}, "
                f"{row['explainer']}",
                "value": row["mean"],
                "sd": row["sd"],
                "graphs": row["graphs"],
                "note": "",
            }


def _averages(explained: Table, arrays: dict[str, np.ndarray], config: Config) -> Table:
    """Mean and spread over graphs, and lowest and highest seed, of every score."""
    table: Table = []
    for network, _ in config.networks:
        seeds = [row["seed"] for row in explained if row["network"] == network]
        for target in TARGETS:
            stacks = [arrays[f"{network}@{seed}/{target}"] for seed in seeds]
            for i, name in enumerate(NAMES):
                means = [m for m in (mean_of(s[i]) for s in stacks) if m.n]
                if not means:
                    continue
                found = mean_of(np.concatenate([s[i] for s in stacks]))
                table.append(
                    {
                        "network": network,
                        "explainer": name,
                        "target": target,
                        "mean": found.mean,
                        "sd": found.sd,
                        "graphs": found.n,
                        "seeds": len(means),
                        "low": min(m.mean for m in means),
                        "high": max(m.mean for m in means),
                    }
                )
    return table
