"""Attention, positions and the cache against torch, in float64, and their refusals."""

import pytest
import torch
import torch.nn.functional as F

from labcore.blocks import attention as blocks
from labcore.blocks.kv_cache import KVCache, cache_bytes
from labcore.blocks.positions import alibi, rope, sinusoidal


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_torch(causal: bool) -> None:
    q, k, v = draw(2, 3, 7, 4), draw(2, 3, 7, 4, seed=1), draw(2, 3, 7, 5, seed=2)
    ours, weights = blocks.attention(q, k, v, causal=causal, return_weights=True)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7, dtype=torch.float64))
    mask = torch.rand(7, 7, generator=torch.Generator().manual_seed(3)) < 0.6
    mask |= torch.eye(7) > 0
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(blocks.attention(q, k, v, mask=mask), theirs)


def test_the_last_query_stands_at_the_last_key() -> None:
    q, k, v = draw(6, 4), draw(6, 4, seed=1), draw(6, 3, seed=2)
    whole = blocks.attention(q, k, v, causal=True)
    torch.testing.assert_close(blocks.attention(q[-1:], k, v, causal=True), whole[-1:])
    torch.testing.assert_close(blocks.attention(q[-2:], k, v, causal=True), whole[-2:])


@pytest.mark.parametrize("block", [1, 3, 50])
def test_online_softmax_survives_large_scores(block: int) -> None:
    q, k, v = 1000 * draw(5, 4), draw(20, 4, seed=1), draw(20, 3, seed=2)
    found = blocks.online_softmax_attention(q, k, v, block=block)
    torch.testing.assert_close(found, blocks.attention(q, k, v), rtol=1e-9, atol=1e-12)


def test_multi_head_equals_torch() -> None:
    layer = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True).double()
    x = draw(2, 5, 8)
    maps = [w.T for w in layer.in_proj_weight.chunk(3)]
    ours = blocks.multi_head(x, *maps, layer.out_proj.weight.T, 2)
    torch.testing.assert_close(ours, layer(x, x, x)[0], rtol=1e-9, atol=1e-12)


def test_entropy_of_known_weights() -> None:
    rows = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    assert blocks.entropy(rows).tolist() == pytest.approx([0.0, 2.0])


def test_positions_depend_on_the_distance() -> None:
    p = sinusoidal(50, 16)
    torch.testing.assert_close((p * p).sum(-1), torch.full((50,), 8.0, dtype=torch.float64))
    gram = p @ p.T
    for offset in (1, 9):
        assert gram.diagonal(offset).std() < 1e-9
    q, k = (
        rope(draw(1, 8).expand(30, 8), torch.arange(30)),
        rope(draw(1, 8, seed=1).expand(30, 8), torch.arange(30)),
    )
    assert (q @ k.T).diagonal(-4).std() < 1e-9
    torch.testing.assert_close(q.norm(dim=-1).std(), torch.zeros((), dtype=torch.float64))
    assert alibi(4, 8)[0, 3].tolist() == [-1.5, -1.0, -0.5, 0.0]


def test_a_cache_grows_and_counts() -> None:
    cache, k = KVCache(), draw(2, 3, 5, 4)
    for start, end in ((0, 2), (2, 3), (3, 5)):
        keys, values = cache.append(k[:, :, start:end], 2 * k[:, :, start:end])
    assert torch.equal(keys, k)
    assert torch.equal(values, 2 * k)
    assert len(cache) == 5
    wanted = cache_bytes(5, layers=1, kv_heads=3, head_dim=4, itemsize=8, batch=2)
    assert cache.nbytes == wanted
    with pytest.raises(ValueError, match="another batch"):
        cache.append(k[:1], k[:1])


def test_bad_inputs_are_named() -> None:
    q, k, v = draw(3, 4), draw(5, 4), draw(5, 2)
    with pytest.raises(ValueError, match="one width, got 3 and 4"):
        blocks.attention(draw(3, 3), k, v)
    with pytest.raises(ValueError, match="5 keys do not fit 4 values"):
        blocks.attention(q, k, v[:4])
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(ValueError, match=r"query at \(1,\) may read no key"):
        blocks.attention(q, k, v, mask=mask)
    with pytest.raises(ValueError, match="5 queries and 3 keys"):
        blocks.causal_mask(5, 3)
    with pytest.raises(ValueError, match="block must be"):
        blocks.online_softmax_attention(q, k, v, block=0)
    with pytest.raises(ValueError, match="heads=3 must divide"):
        blocks.split_heads(q, 3)
    with pytest.raises(ValueError, match="even"):
        sinusoidal(4, 5)
    with pytest.raises(ValueError, match="2 positions do not fit 3"):
        rope(draw(3, 4), torch.arange(2))
    maps = [draw(4, 4) for _ in range(4)]
    for place, name in enumerate(("w_query", "w_key", "w_value", "w_out")):
        bad = [m[:3] if i == place else m for i, m in enumerate(maps)]
        with pytest.raises(ValueError, match=rf"{name} must have 4 rows, got shape \(3, 4\)"):
            blocks.multi_head(q, *bad, 2)
