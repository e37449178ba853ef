"""What was measured once on SmolLM2-135M must come out again."""

import pytest
import torch
from transformers import DynamicCache

from labcore.kvcache import (
    KeyNormCache,
    compress,
    continuation_nll,
    exact_match,
    head_map,
    key_norms,
    norm_health,
    passkey_prompt,
    profile_attention,
)

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def ids(real, moby_dick):
    return real[1](moby_dick[50_000:56_000], return_tensors="pt").input_ids[:, :577]


@pytest.fixture(scope="module")
def profile(real, ids):
    return profile_attention(real[0], ids[:, :512], rows=True)


def test_norms_predict_attention_as_measured(profile):
    losses = head_map(profile)
    assert losses.shape == (30, 9)
    assert losses.mean() == pytest.approx(0.50, abs=0.02)
    assert (losses < 1).mean() == pytest.approx(0.96, abs=0.02)
    assert head_map(profile, exclude_first=1).mean() == pytest.approx(0.75, abs=0.02)
    assert head_map(profile, order="recency").mean() == pytest.approx(0.99, abs=0.02)
    assert head_map(profile, metric="spearman").mean() == pytest.approx(0.33, abs=0.02)
    assert losses[0].mean() == pytest.approx(1.05, abs=0.03)
    assert losses[3:9].mean() == pytest.approx(0.30, abs=0.03)
    assert head_map(profile, exclude_first=1)[12:].mean() == pytest.approx(0.91, abs=0.03)


def test_the_first_token_is_a_sink_with_a_small_key(profile):
    rows = norm_health(profile)
    assert not any(row["flag"] == "flat" for row in rows)
    late = [row["sink"] for row in rows if row["layer"] >= 12]
    assert max(late) < 0.7
    assert sum(late) / len(late) < 0.35


def test_the_rotary_embedding_keeps_the_norm(real, ids):
    model, states = real[0], {}
    projections = [layer.self_attn.k_proj for layer in model.model.layers]
    hooks = [
        p.register_forward_hook(lambda m, _, out: states.update({m: out})) for p in projections
    ]
    profile = profile_attention(model, ids[:, :64], window=8)
    for hook in hooks:
        hook.remove()
    before = torch.stack([states[p].view(1, 64, 3, 64).transpose(1, 2)[0] for p in projections])
    torch.testing.assert_close(key_norms(before), profile.norms, rtol=1e-5, atol=1e-5)


def test_perplexity_at_ratio_one_is_bit_equal_and_falls_off_as_measured(real, ids, profile):
    model, rest = real[0], ids[:, 512:]
    plain = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids[:, :512], past_key_values=plain)
    full = continuation_nll(model, plain, rest)
    assert torch.equal(full, continuation_nll(model, compress(profile, keep_ratio=1.0), rest))
    half = continuation_nll(model, compress(profile, keep_ratio=0.5), rest).mean()
    mirror = continuation_nll(model, compress(profile, "high_norm", keep_ratio=0.5), rest).mean()
    assert full.mean() < half < mirror
    assert half - full.mean() < 0.5
    assert mirror - full.mean() > 0.7


def test_wrong_positions_cost_dearly(real, ids, profile):
    cache, rest = compress(profile, keep_ratio=0.5), ids[:, 512:]
    right = continuation_nll(real[0], cache, rest).mean()
    wrong = continuation_nll(real[0], cache, rest, start=256).mean()
    assert wrong - right > 0.2


@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"num_beams": 2}])
def test_generate(real, settings):
    model, tokenizer = real
    prompt = tokenizer("The capital of France is", return_tensors="pt").input_ids
    cache = KeyNormCache(model.config, budget=64)
    said = model.generate(
        prompt, past_key_values=cache, max_new_tokens=4, do_sample=False, **settings
    )
    assert "Paris" in tokenizer.decode(said[0])


def test_generate_in_bfloat16(real):
    from labcore.kvcache import load_model

    model, tokenizer = load_model("smollm2-135m", dtype=torch.bfloat16)
    prompt = tokenizer("The capital of France is", return_tensors="pt").input_ids
    cache = KeyNormCache(model.config, keep_ratio=0.9, sinks=1)
    said = model.generate(prompt, past_key_values=cache, max_new_tokens=4, do_sample=False)
    assert "Paris" in tokenizer.decode(said[0])
    assert cache.nbytes() < 23_040 * 9


def test_pass_key_survives_half_the_cache(real):
    model, tokenizer = real
    prompt = passkey_prompt(tokenizer, 512, depth=0.4, seed=0)
    assert prompt.context.shape == (1, 512)
    profile = profile_attention(model, prompt.context)
    assert exact_match(model, profile.cache, prompt.question, prompt.answer)
    kept = compress(profile, keep_ratio=0.75, skip_layers=(0, 1))
    assert exact_match(model, kept, prompt.question, prompt.answer)
    gone = compress(profile, "high_norm", keep_ratio=0.5)
    assert not exact_match(model, gone, prompt.question, prompt.answer)


def test_exact_bytes(profile):
    assert profile.cache.nbytes() == 512 * 46_080
