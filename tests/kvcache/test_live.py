"""A typed text: its close-up, and the continuation from a compressed cache, on the real model."""

import numpy as np
import pytest

from labcore import assets, runs
from labcore.kvcache import live

TEXT = (
    "The ship sailed at dawn. The captain, who had not slept, watched the grey water and said "
    "nothing to the crew. By noon the wind had turned, and the sails hung loose in the heat."
)
pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(
        assets.status("smollm2-135m") != "ready", reason="run: ./lab fetch smollm2-135m"
    ),
]


def test_close_up_is_plain_data_of_one_length() -> None:
    seen = live.close_up(TEXT)
    n = len(seen.tokens)
    assert "".join(seen.tokens).replace("␣", " ").split()[:2] == TEXT.split()[:2]
    assert seen.norms.shape == (30, 3, n)
    assert seen.window_mean.shape == (30, 9, n)
    assert seen.window == n // 2
    assert seen.cut == 0
    assert np.all(seen.window_mean.sum(-1) < 1 + 1e-5)
    assert seen.maps["relative_alr"].shape == (30, 9)


def test_the_whole_cache_writes_the_same_and_a_small_one_weighs_less() -> None:
    same = live.continue_text(TEXT, keep_ratio=1.0, new_tokens=6)
    assert same.full == same.compressed
    assert same.same_tokens == same.new_tokens == 6
    assert same.full_bytes == same.kept_bytes
    small = live.continue_text(TEXT, keep_ratio=0.5, skip_layers=(), new_tokens=6)
    n = len(live.close_up(TEXT).tokens)
    assert small.full == same.full
    assert small.full_bytes == 46_080 * n
    assert small.kept_bytes == 46_080 * -(-n // 2)


def test_short_texts_and_cancelling() -> None:
    with pytest.raises(ValueError, match="write 16 or more"):
        live.close_up("Too short.")

    def stop(done: int, total: int, label: str) -> None:
        if done >= 2:
            raise runs.Cancelled

    with pytest.raises(runs.Cancelled):
        live.continue_text(TEXT, keep_ratio=0.5, new_tokens=6, progress=stop)
