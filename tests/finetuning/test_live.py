"""What the page does live: a picture of any shape in the model, and a race."""

import numpy as np
import pytest

from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.finetuning import live
from labcore.finetuning.settings import BUDGETS
from labcore.runs import Cancelled
from tests.finetuning.test_experiment import random_task


@pytest.fixture
def tiny(monkeypatch):
    config = ViTConfig(224, 56, 3, 24, depth=3, num_heads=3)
    monkeypatch.setattr(live, "real_vit", lambda size: VisionTransformer(config))
    live._loaded.cache_clear()
    yield
    live._loaded.cache_clear()


@pytest.mark.parametrize("shape", [(40, 70, 3), (300, 20, 3)])
def test_a_picture_of_any_shape_gives_a_sheet_for_every_budget(tiny, shape):
    seen = live.look(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    assert seen.pixels.shape == (160, 160, 3)
    assert seen.kept.shape == (len(BUDGETS), 3, 16)
    assert seen.kept[0].all()
    assert seen.kept[-1].sum(1).tolist() == [8, 4, 2]
    assert (seen.absolute > 0).all()
    assert (seen.relative > 0).all()


def test_a_picture_that_is_too_small_is_refused_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr(live, "_loaded", lambda: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=r"\(5, 200\) pixels is too small: 14 or more"):
        live.look(np.zeros((5, 200, 3), np.uint8))


def test_a_live_race_has_the_rows_of_the_committed_one_and_can_be_stopped(monkeypatch):
    monkeypatch.setattr(live, "clothing", lambda train, test, seed: random_task("", 60, 20))
    rows = live.race_now(("full", "alast_080"), seconds=0.1)
    assert {row["strategy"] for row in rows} == {"full", "alast_080"}
    assert {"model", "seed", "look", "step", "cpu_seconds", "accuracy"} <= rows[0].keys()
    with pytest.raises(ValueError, match="no strategy"):
        live.race_now(())

    def stop(done, of, label):
        raise Cancelled

    with pytest.raises(Cancelled):
        live.race_now(("full",), seconds=0.1, progress=stop)
