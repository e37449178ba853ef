"""The head explorer's arrays: the right key head, the right keys, refusals."""

import numpy as np
import pytest
import torch

from labcore.kvcache import relative_alr
from labcore.kvcache.explorer import head_view

RNG = np.random.default_rng(0)
L, H, G, N, W = 2, 6, 2, 12, 4
NORMS = RNG.uniform(1, 9, (L, G, N)).astype(np.float32)
ATTENTION = RNG.dirichlet(np.ones(N), (L, H)).astype(np.float32)
TOKENS = [f"t{i}" for i in range(N)]


@pytest.mark.parametrize("head", range(H))
def test_each_query_head_reads_its_key_head(head: int) -> None:
    view = head_view(TOKENS, NORMS, ATTENTION, window=W, layer=1, head=head, keep_ratio=0.5)
    row = NORMS[1, head // 3]
    np.testing.assert_array_equal(view.norms, row)
    assert set(np.flatnonzero(view.kept)) == set(np.argsort(row)[:6])
    np.testing.assert_array_equal(view.percentiles.argsort(), row.argsort())
    np.testing.assert_allclose(view.attention, ATTENTION[1, head, : N - W])
    expected = relative_alr(torch.tensor(view.attention), torch.tensor(row[: N - W]))
    assert view.relative_alr == pytest.approx(float(expected))


def test_guards_stay_and_count_inside() -> None:
    view = head_view(
        TOKENS, NORMS, ATTENTION, window=W, layer=0, head=0, keep_ratio=0.25, sinks=1, recent=2
    )
    assert set(np.flatnonzero(view.kept)) == {0, 10, 11}


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"no layer 5, head 0: give 0\.\.1"):
        head_view(TOKENS, NORMS, ATTENTION, window=W, layer=5, head=0)
    with pytest.raises(ValueError, match="window=11"):
        head_view(TOKENS, NORMS, ATTENTION, window=11, layer=0, head=0)
    with pytest.raises(ValueError, match="exceed"):
        head_view(TOKENS, NORMS, ATTENTION, window=W, layer=0, head=0, keep_ratio=0.1, recent=4)
