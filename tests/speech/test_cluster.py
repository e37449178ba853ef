"""The grid of the real experiment, spread over a Dask cluster: the same as in one process."""

from dataclasses import replace

import numpy as np
import pytest

from labcore import assets
from labcore.runs import Result, Table
from labcore.speech import experiment
from labcore.speech.settings import Config

NEEDED = ("whisper", "conformer", "smollm2-135m")
pytestmark = pytest.mark.skipif(
    any(assets.status(name) != "ready" for name in NEEDED), reason="models are not here"
)


def small(**changes: object) -> Config:
    """Both encoders, two adapters, three steps of the warm-up; one of the language model."""
    few = {"adapters": ("conv", "cif"), "warm_steps": 3, "train_clips": 16, "test_clips": 4,
           "live_steps": 1, "resamples": 20, "batch": 2}  # fmt: skip
    return replace(Config.quick(), **few | changes)


def unclocked(rows: Table) -> Table:
    """Rows without their readings of a clock."""
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]


def test_two_dask_workers_give_the_bytes_of_one_process() -> None:
    pytest.importorskip("distributed")
    alone: Result = experiment.run(small())
    spread: Result = experiment.run(small(jobs=2, cluster="local"))
    assert set(alone.arrays) == set(spread.arrays)
    assert len(alone.arrays) > 3
    for name, value in alone.arrays.items():
        assert value.dtype == spread.arrays[name].dtype
        assert value.tobytes() == spread.arrays[name].tobytes(), name
    assert set(alone.tables) == set(spread.tables)
    for name, rows in alone.tables.items():
        assert unclocked(rows) == unclocked(spread.tables[name]), name
    curves = [r["ce"] for r in alone.tables["curves"]]
    assert curves
    assert np.isfinite(curves).all()
