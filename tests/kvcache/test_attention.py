import pytest
import torch
from transformers import DynamicCache

from labcore.kvcache import check_no_padding, head_map, norm_health, profile_attention
from labcore.kvcache.attention import labcore_attention, visible
from labcore.kvcache.attention_loss import alr, relative_alr
from tests.kvcache.conftest import tiny_llama


def forward(model, ids, **options):
    with torch.no_grad():
        return model(ids, **options)


def test_prefill_is_bit_equal_to_stock_sdpa(model, ids):
    assert torch.equal(forward(model, ids).logits, forward(tiny_llama("sdpa"), ids).logits)


def test_decoding_is_bit_equal_to_stock_sdpa(model, ids):
    stock, logits = tiny_llama("sdpa"), []
    for each in (model, stock):
        cache = DynamicCache(config=each.config)
        forward(each, ids[:, :40], past_key_values=cache)
        logits.append(
            [forward(each, ids[:, t : t + 1], past_key_values=cache).logits for t in range(40, 48)]
        )
    assert all(torch.equal(a, b) for a, b in zip(*logits, strict=True))


def test_a_chunk_over_a_past_is_one_token_at_a_time(model, ids):
    cache = DynamicCache(config=model.config)
    forward(model, ids[:, :20], past_key_values=cache)
    chunk = forward(model, ids[:, 20:], past_key_values=cache).logits
    torch.testing.assert_close(chunk, forward(model, ids).logits[:, 20:], rtol=1e-4, atol=1e-4)


def test_sliding_windows_are_kept(ids):
    from transformers import MistralConfig, MistralForCausalLM

    from tests.kvcache.conftest import SHAPE

    models = []
    for attn in ("labcore", "eager"):
        torch.manual_seed(0)
        config = MistralConfig(**SHAPE, sliding_window=7)
        models.append(MistralForCausalLM._from_config(config, attn_implementation=attn).eval())
    ours, stock = (forward(model, ids).logits for model in models)
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-4)
    with pytest.warns(UserWarning, match="left as they are"):
        profile = profile_attention(models[0], ids, window=4, rows=True)
    assert (profile.rows[:, :, -1, : 48 - 7] == 0).all()


def test_visible():
    assert visible(3, 3).equal(torch.ones(3, 3).tril().bool())
    assert visible(1, 5).all()
    assert visible(2, 5, sliding_window=2).int().tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]


@pytest.mark.parametrize("chunk", [1, 7, 48, 256])
def test_profile_agrees_with_eager_attention(model, ids, chunk):
    profile = profile_attention(model, ids, window=8, chunk=chunk, rows=True)
    output = forward(tiny_llama("eager"), ids, output_attentions=True)
    attentions = torch.stack(output.attentions)[:, 0]  # (l, h, n, n)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(profile.received, attentions.sum(2), **close)
    torch.testing.assert_close(profile.rows, attentions[:, :, -8:], **close)
    torch.testing.assert_close(profile.window_mean, attentions[:, :, -8:].mean(2), **close)
    torch.testing.assert_close(profile.last, attentions[:, :, -1], **close)
    assert torch.equal(profile.logits, forward(model, ids, logits_to_keep=1).logits[0, -1])
    keys = torch.stack([layer.keys[0] for layer in output.past_key_values.layers])
    torch.testing.assert_close(profile.norms, keys.norm(dim=-1))
    assert profile.heads == (4, 2)
    assert torch.equal(profile.norms_by_query_head()[:, 3], profile.norms[:, 1])


def test_profile_keeps_rows_only_when_asked(model, ids):
    assert profile_attention(model, ids, window=8).rows is None


def test_nothing_is_left_on_the_model(model, ids):
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    profile_attention(model, ids, window=8)
    assert before == {name: set(vars(module)) for name, module in model.named_modules()}


def test_profile_in_bfloat16(ids):
    model = tiny_llama().to(torch.bfloat16)
    profile = profile_attention(model, ids, window=8)
    assert profile.received.dtype == torch.float32
    torch.testing.assert_close(profile.received.sum(-1), torch.full((4, 4), 48.0))


def test_head_map_is_the_loss_of_each_head(model, ids):
    profile = profile_attention(model, ids, window=5, rows=True)
    norms = profile.norms_by_query_head()
    for first in (0, 1):
        losses, at_random = [], []
        for t in range(43, 48):
            row = profile.rows[2, 3, t - 43, first:t].double()
            loss = alr(row, norms[2, 3, first:t])
            losses.append(loss)
            at_random.append(loss / relative_alr(row, norms[2, 3, first:t]))
        expected = sum(losses) / sum(at_random)
        assert head_map(profile, exclude_first=first)[2, 3] == pytest.approx(expected.item())
    loss_map = head_map(profile, metric="alr")
    assert loss_map.shape == (4, 4)
    assert (loss_map >= 0).all()
    assert (head_map(profile, metric="alr_per_key") < loss_map).all()


def test_recency_map_is_perfect_where_only_the_newest_counts(model, ids):
    profile = profile_attention(model, ids, window=4, rows=True)
    recent = torch.arange(48.0).softmax(0).expand_as(profile.rows)
    import dataclasses

    local = dataclasses.replace(profile, rows=recent, window_mean=recent.mean(2))
    assert head_map(local, order="recency") == pytest.approx(0, abs=1e-6)
    assert head_map(local, metric="spearman", order="recency") == pytest.approx(1)


def test_norms_of_a_fresh_qwen3_are_flat(qwen, ids):
    rows = norm_health(profile_attention(qwen, ids, window=8))
    assert len(rows) == 4 * 2
    assert {row["flag"] for row in rows} == {"flat"}
    assert all(row["variation"] < 1e-3 for row in rows)
    assert rows[0]["mean"] == pytest.approx(4, abs=1e-2)  # √16


def test_norm_health_of_llama(model, ids):
    profile = profile_attention(model, ids, window=8)
    rows = norm_health(profile)
    for row in rows:
        norms = profile.norms[row["layer"], row["head"]]
        assert row["variation"] == pytest.approx((norms.std(correction=0) / norms.mean()).item())
        assert row["flag"] == ("sink above mean" if norms[0] > norms.mean() else "")


def test_padding_is_refused():
    check_no_padding(None)
    check_no_padding(torch.ones(2, 5))
    with pytest.raises(ValueError, match="the batch holds 3 padded positions"):
        check_no_padding(torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]]))


def test_what_the_function_does_not_compute_is_refused(model):
    module = model.model.layers[0].self_attn
    query, key = torch.randn(1, 4, 3, 16), torch.randn(1, 2, 3, 16)
    with pytest.raises(ValueError, match="do not pass a 4-d mask"):
        labcore_attention(module, query, key, key, torch.ones(1, 1, 3, 3))
    with pytest.raises(ValueError, match="has no softcap"):
        labcore_attention(module, query, key, key, None, softcap=30.0)
    with pytest.raises(ValueError, match="'labcore' is causal"):
        labcore_attention(module, query, key, key, None, is_causal=False)


def test_bad_profiles(model, ids):
    with pytest.raises(
        ValueError, match="cannot see into 'sdpa': load the model with attn='labcore'"
    ):
        profile_attention(tiny_llama("sdpa"), ids)
    with pytest.raises(ValueError, match="window=64 queries do not fit a text of 48 tokens"):
        profile_attention(model, ids)
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        profile_attention(model, ids, window=8, chunk=0)
    profile = profile_attention(model, ids, window=8)
    with pytest.raises(ValueError, match=r"profile_attention\(..., rows=True\)"):
        head_map(profile)
    with pytest.raises(ValueError, match="exclude_first=40 leaves no key before the window"):
        head_map(profile, metric="pearson", exclude_first=40)
