from typing import Any

import pytest
import torch
from transformers import DynamicCache

from labcore.kvcache import (
    SCORES,
    KeyNormCache,
    LayerState,
    NormCache,
    check_restart,
    compress,
    fork,
    key_norms,
    n_keep,
)
from labcore.kvcache.schedule import make_schedule
from tests.kvcache.conftest import SHAPE, tiny_llama

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def forward(model: Any, ids: torch.Tensor, cache: Any, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, past_key_values=cache, **options).logits


def generate(
    model: Any, ids: torch.Tensor, cache: Any, tokens: int = 12, **options: Any
) -> list[int]:
    options = {"do_sample": False, "min_new_tokens": tokens} | options
    output = model.generate(ids, past_key_values=cache, max_new_tokens=tokens, **options)
    return output[0, ids.shape[1] :].tolist()


def token_by_token(model: Any, ids: torch.Tensor, cache: Any) -> torch.Tensor:
    return torch.cat([forward(model, ids[:, t : t + 1], cache) for t in range(ids.shape[1])], dim=1)


@pytest.mark.parametrize("settings", [{"keep_ratio": 1.0}, {"budget": 500}, {"budget": 60}])
def test_nothing_dropped_is_bit_equal_to_a_dynamic_cache(model, ids, settings):
    plain, ours = DynamicCache(config=model.config), KeyNormCache(model.config, **settings)
    for chunk in ids.split([30, 1, 1, 1, 5, 10], dim=1):
        assert torch.equal(forward(model, chunk, plain), forward(model, chunk, ours))
    fresh = DynamicCache(config=model.config), KeyNormCache(model.config, **settings)
    assert generate(model, ids, fresh[0], 10) == generate(model, ids, fresh[1], 10)


@pytest.mark.parametrize("skip", [(), (0,), (0, 1), (2, 3)])
@pytest.mark.parametrize("attn", ["labcore", "sdpa"])
def test_decoding_after_a_prune_sees_what_it_should(ids, skip, attn):
    """Against a full pass whose mask hides the dropped pairs, at the right positions."""
    model = tiny_llama(attn)
    cache = KeyNormCache(model.config, keep_ratio=0.5, skip_layers=skip)
    forward(model, ids[:, :40], cache)
    kept = [cache.positions(layer) for layer in range(4)]
    ours = token_by_token(model, ids[:, 40:], cache)
    torch.testing.assert_close(ours, masked_reference(ids, kept, 40), **CLOSE)


def masked_reference(ids: torch.Tensor, kept: list[torch.Tensor], prompt: int) -> torch.Tensor:
    """Logits after the prompt when later queries may not see the prompt's dropped pairs."""
    model = tiny_llama("eager")
    n, heads = ids.shape[1], SHAPE["num_attention_heads"]
    masks = []
    for positions in kept:
        seen = torch.zeros(1, positions.shape[1], n, dtype=torch.bool)
        seen = seen.scatter(2, positions, True).repeat_interleave(
            heads // positions.shape[1], dim=1
        )
        seen[..., prompt:] = True
        allowed = torch.ones(n, n).tril().bool().expand(1, heads, n, n).clone()
        allowed[:, :, prompt:] &= seen[:, :, None]
        masks.append(torch.where(allowed, 0.0, -torch.inf))

    def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, kwargs | {"attention_mask": masks[module.layer_idx]}

    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        return model(ids).logits[:, prompt:]


@pytest.mark.parametrize("skip", [(), (0,), (0, 1), (1, 3)])
def test_a_question_is_one_token_at_a_time(model, ids, skip):
    caches = [KeyNormCache(model.config, keep_ratio=0.4, skip_layers=skip) for _ in range(2)]
    for cache in caches:
        forward(model, ids[:, :36], cache)
    at_once = forward(model, ids[:, 36:], caches[0])
    torch.testing.assert_close(at_once, token_by_token(model, ids[:, 36:], caches[1]), **CLOSE)


def test_order_of_storage_does_not_matter(model, ids):
    cache = KeyNormCache(model.config, keep_ratio=0.5)
    forward(model, ids[:, :40], cache)
    shuffled = fork(cache)
    for layer in shuffled.layers:
        order = torch.randperm(layer.pairs.stored)
        index = order.expand(1, 2, -1)
        layer.pairs._buffers = layer.pairs.ordered().take(index)
    torch.testing.assert_close(
        forward(model, ids[:, 40:], shuffled), forward(model, ids[:, 40:], cache), **CLOSE
    )


def test_positions_are_tokens_seen(model, ids):
    cache = KeyNormCache(model.config, keep_ratio=0.25, skip_layers=())
    forward(model, ids, cache)
    assert cache.get_seq_length() == 48
    assert cache.layers[0].get_mask_sizes(5) == (12 + 5, 36)
    forward(model, ids[:, :1], cache)
    assert cache.positions(0)[0, 0, -1] == 48


def test_rolling_holds_the_budget_and_the_newest(model):
    ids = torch.randint(1, 97, (3, 70), generator=torch.Generator().manual_seed(3))
    cache = KeyNormCache(model.config, budget=16, sinks=2, recent=5, skip_layers=(1,))
    for t in range(70):
        forward(model, ids[:, t : t + 1], cache)
        held = cache.positions(2)
        assert held.shape[2] == min(t + 1, 16)
        newest = torch.arange(max(0, t - 4), t + 1)
        assert torch.equal(held[..., -len(newest) :], newest.expand(3, 2, -1))
        assert (held[..., 0] == 0).all()
        assert t < 1 or (held[..., 1] == 1).all()
    assert cache.positions(1).shape[2] == 70
    assert cache.kept_fraction() == pytest.approx((3 * 16 + 70) / (4 * 70))


def test_rolling_logits_are_those_of_selecting_again(model, ids):
    """The published procedure: select from the whole cache after every step."""
    slots = KeyNormCache(model.config, budget=12, recent=3, skip_layers=(0,))
    again = KeyNormCache(model.config, budget=12, recent=3, skip_layers=(0,), when="manual")
    for t in range(48):
        ours = forward(model, ids[:, t : t + 1], slots)
        published = forward(model, ids[:, t : t + 1], again)
        again.compress()
        torch.testing.assert_close(ours, published, **CLOSE)
    for layer in range(4):
        assert torch.equal(slots.positions(layer), again.positions(layer))
        torch.testing.assert_close(slots.norms(layer), again.norms(layer))


def test_scores_that_change_are_computed_anew(model, ids):
    cache = KeyNormCache(model.config, budget=12, recent=3, score="key_difference", skip_layers=())
    for t in range(30):
        forward(model, ids[:, t : t + 1], cache)
    before, keys = cache.positions(3), cache.layer(3).pairs.ordered().keys
    forward(model, ids[:, 30:31], cache)
    new = cache.layer(3).pairs.ordered()
    candidates = torch.cat([keys, new.keys[:, :, -1:]], dim=2)
    state = LayerState(candidates, candidates, torch.arange(13).expand(1, 2, 13))
    score = SCORES["key_difference"](state)
    dropped = score[..., :-3].argmin(dim=-1, keepdim=True)
    every = torch.cat([before, torch.full((1, 2, 1), 30)], dim=2)
    wanted = every.scatter(2, dropped, 99).sort(dim=2).values[..., :12]
    assert torch.equal(new.positions, wanted)


def test_bursts_saw_between_two_sizes(model, ids):
    cache, sizes = KeyNormCache(model.config, budget=10, prune_to=8, recent=2), set()
    for t in range(48):
        forward(model, ids[:, t : t + 1], cache)
        sizes.add(cache.positions(3).shape[2])
    assert max(sizes) == 9
    assert min(sizes - set(range(8))) == 8


def test_default_guard_of_a_rolling_cache(model, ids):
    cache = KeyNormCache(model.config, budget=16)
    forward(model, ids, cache)
    assert (cache.positions(2)[..., -4:] == torch.arange(44, 48)).all()
    assert KeyNormCache(model.config, budget=400).layers[2].pairs.rule.recent == 32
    assert KeyNormCache(model.config, keep_ratio=0.5).layers[2].pairs.rule.recent == 0


@pytest.mark.parametrize("settings", [{"keep_ratio": 0.25}, {"budget": 12}])
def test_prefill_in_chunks_prunes_before_decoding(model, ids, settings):
    cache = KeyNormCache(model.config, **settings, when="decode", skip_layers=())
    for chunk in ids[:, :44].split(11, dim=1):
        forward(model, chunk, cache)
    assert cache.kept_fraction() == 1
    once = KeyNormCache(model.config, **settings, skip_layers=())
    forward(model, ids[:, :44], once)
    for t in range(44, 48):
        torch.testing.assert_close(
            forward(model, ids[:, t : t + 1], cache),
            forward(model, ids[:, t : t + 1], once),
            **CLOSE,
        )
    assert torch.equal(cache.positions(1), once.positions(1))


def test_generate_with_chunked_prefill(model, ids):
    whole = KeyNormCache(model.config, keep_ratio=0.5, when="decode")
    chunks = KeyNormCache(model.config, keep_ratio=0.5, when="decode")
    wanted = generate(model, ids, whole)
    assert generate(model, ids, chunks, prefill_chunk_size=13) == wanted


def test_manual_prunes_when_told(model, ids):
    cache = KeyNormCache(model.config, keep_ratio=0.5, when="manual", skip_layers=())
    forward(model, ids, cache)
    assert cache.kept_fraction() == 1
    cache.compress()
    assert cache.positions(0).shape[2] == 24
    cache.compress()
    assert cache.positions(0).shape[2] == 12


def test_bytes(model, ids):
    cache = KeyNormCache(model.config, keep_ratio=0.3, skip_layers=(0,))
    assert cache.nbytes() == 0
    forward(model, ids.expand(2, -1), cache)
    pairs = 48 + 3 * n_keep(48, 0.3)
    assert cache.nbytes() == pairs * 2 * 2 * 2 * 16 * 4
    for index in range(1, 4):
        buffers = cache.layers[index].pairs._held()
        allocated = (
            buffers.keys.untyped_storage().nbytes() + buffers.values.untyped_storage().nbytes()
        )
        assert allocated == cache.layers[index].pairs.nbytes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_selects_by_float32_norms(ids, dtype):
    model = tiny_llama().to(dtype)
    plain, cache = DynamicCache(config=model.config), KeyNormCache(model.config, keep_ratio=0.5)
    forward(model, ids, plain)
    forward(model, ids, cache)
    for index in (2, 3):
        order = key_norms(plain.layers[index].keys).sort(dim=-1, stable=True).indices[..., :24]
        assert torch.equal(cache.positions(index), order.sort(dim=-1).values)
    assert len(generate(model, ids, KeyNormCache(model.config, budget=20))) == 12


@pytest.mark.parametrize("settings", [{"keep_ratio": 0.5}, {"budget": 20, "recent": 4}])
def test_beams_are_the_same_cache_reordered_by_hand(model, ids, settings):
    """Beam search leaves each beam with the cache that its own tokens would have made."""
    cache = KeyNormCache(model.config, **settings)
    output = model.generate(
        ids,
        past_key_values=cache,
        max_new_tokens=10,
        min_new_tokens=10,
        num_beams=2,
        num_return_sequences=2,
        do_sample=False,
    )
    assert output.shape == (2, 58)
    replay = KeyNormCache(model.config, **settings)
    forward(model, ids.expand(2, -1), replay)
    token_by_token(model, output[:, 48:-1], replay)
    held = {tuple(row) for row in cache.positions(3).flatten(1).tolist()}
    assert tuple(replay.positions(3)[0].flatten().tolist()) in held


@pytest.mark.parametrize("settings", [{"keep_ratio": 0.5}, {"budget": 20}])
def test_batch_operations(model, settings):
    ids = torch.randint(1, 97, (2, 40), generator=torch.Generator().manual_seed(5))
    cache = KeyNormCache(model.config, **settings, skip_layers=(0,))
    forward(model, ids[:, :30], cache)
    token_by_token(model, ids[:, 30:34], cache)
    rows = torch.tensor([1, 1, 0])
    expected = KeyNormCache(model.config, **settings, skip_layers=(0,))
    forward(model, ids[rows, :30], expected)
    token_by_token(model, ids[rows, 30:34], expected)
    picked, repeated = fork(cache), fork(cache)
    picked.batch_select_indices(rows)
    reordered = fork(cache)
    reordered.reorder_cache(rows)
    for each in (picked, reordered):
        assert torch.equal(each.positions(2), expected.positions(2))
        logits = forward(model, ids[rows, 34:35], fork(each))
        torch.testing.assert_close(
            logits, forward(model, ids[rows, 34:35], fork(expected)), **CLOSE
        )
    repeated.batch_repeat_interleave(2)
    assert torch.equal(repeated.positions(3)[1], cache.positions(3)[0])
    assert torch.equal(cache.positions(3), KeyNormCache.positions(cache, 3))


def test_reset_makes_it_as_new(model, ids):
    cache = KeyNormCache(model.config, budget=10)
    first = generate(model, ids, cache)
    cache.reset()
    assert cache.get_seq_length() == 0
    assert generate(model, ids, cache) == first


def test_restart_with_the_whole_sequence(model, ids):
    cache = KeyNormCache(model.config, keep_ratio=0.5)
    forward(model, ids[:, :40], cache)
    by_hand = fork(cache)
    logits = forward(model, ids[:, 40:], by_hand)
    assert generate(model, ids, cache, 1) == [logits[0, -1].argmax().item()]


def test_history_and_forks(model, ids):
    cache = KeyNormCache(model.config, budget=12, recent=3, record=True, skip_layers=(0,))
    token_by_token(model, ids, cache)
    assert len(cache.history) == 4
    assert (cache.history[0] == -1).all()
    for layer in range(1, 4):
        table = cache.history[layer]
        assert table.shape == (1, 2, 48)
        kept = (table == -1).nonzero()[:, 2].view(1, 2, -1)
        assert torch.equal(kept, cache.positions(layer))
    twin = fork(cache)
    token_by_token(model, ids, twin)
    assert cache.get_seq_length() == 48
    assert twin.get_seq_length() == 96
    assert cache.history[1].shape[2] == 48


def test_random_is_a_fair_sample_that_a_seed_repeats(model, ids):
    def run(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        cache = KeyNormCache(model.config, budget=12, recent=0, score="random", generator=generator)
        token_by_token(model, ids, cache)
        return cache.positions(2)

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    mean = torch.stack([run(seed) for seed in range(6)]).double().mean().item()
    assert mean == pytest.approx(23.5, abs=4)  # old and new positions alike


def test_other_layers_pass_through(ids):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        **SHAPE | {"head_dim": 16, "sliding_window": 8},
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    model = Gemma3ForCausalLM._from_config(config, attn_implementation="labcore").eval()
    with pytest.warns(UserWarning, match=r"layers 0 \(Dynamic.*\), 2 \(Dynamic.*\) are not full"):
        cache = KeyNormCache(config, keep_ratio=0.5, skip_layers=())
    forward(model, ids, cache)
    assert cache.positions(1).shape[2] == 24
    assert cache.layers[0].keys.shape[2] == 7
    assert cache.nbytes() == (2 * 7 + 2 * 24) * 2 * 2 * 16 * 4
    with pytest.raises(ValueError, match="layer 0 .* is not full attention"):
        cache.positions(0)
    with pytest.warns(UserWarning, match="left as they are"):
        whole = KeyNormCache(config, keep_ratio=1.0, skip_layers=())
    forward(model, ids, whole)
    torch.testing.assert_close(
        forward(model, ids[:, :5], whole),
        forward(model, torch.cat([ids, ids[:, :5]], dim=1), DynamicCache(config=config))[:, 48:],
        **CLOSE,
    )
    assert compress(whole, keep_ratio=0.25).positions(3).shape[2] == n_keep(53, 0.25)


def test_a_shared_mask_cannot_fit_layers_of_different_length(ids):
    for attn, question in (("sdpa", 3), ("eager", 3), ("eager", 1)):
        model = tiny_llama(attn)
        cache = KeyNormCache(model.config, keep_ratio=0.5)
        forward(model, ids, cache)
        with pytest.raises(ValueError, match="layers hold different lengths; load the model with"):
            forward(model, ids[:, :question], cache)
    for attn in ("sdpa", "eager"):
        model = tiny_llama(attn)
        cache = KeyNormCache(model.config, keep_ratio=0.5, skip_layers=())
        forward(model, ids, cache)
        at_once = forward(model, ids[:, :3], fork(cache))
        torch.testing.assert_close(at_once, token_by_token(model, ids[:, :3], cache), **CLOSE)


def test_the_alias():
    assert NormCache is KeyNormCache


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either keep_ratio or budget, got keep_ratio=None and budget=None"),
        ({"keep_ratio": 0.5, "budget": 9}, "give either keep_ratio or budget"),
        ({"keep_ratio": 0.0}, r"keep_ratio must be in \(0, 1\], got 0.0"),
        ({"keep_ratio": 1.1}, r"keep_ratio must be in \(0, 1\], got 1.1"),
        ({"budget": 0}, "budget and prune_to must be at least 1, got budget=0"),
        ({"budget": 9, "prune_to": 0}, "budget and prune_to must be at least 1"),
        ({"budget": 9, "prune_to": 10}, "prune_to=10 exceeds budget=9"),
        ({"keep_ratio": 0.5, "prune_to": 10}, "prune_to=10 goes with budget"),
        ({"budget": 9, "sinks": 4, "recent": 6}, r"sinks=4 \+ recent=6 exceed the 9 pairs kept"),
        ({"budget": 9, "recent": -1}, "must not be negative"),
        (
            {"keep_ratio": 0.5, "score": "norm"},
            "unknown score 'norm'; choose one of low_norm, high",
        ),
        ({"keep_ratio": 0.5, "score": "observation"}, "'observation' needs attention"),
        ({"keep_ratio": 0.5, "score": "special"}, "'special' needs the special tokens"),
        ({"keep_ratio": 0.5, "score": "random"}, "'random' needs a seed: pass generator="),
        ({"keep_ratio": 0.5, "skip_layers": (0, 4)}, r"skip_layers \[4\] are outside 0..3"),
        ({"keep_ratio": 0.5, "skip_layers": (-1,)}, r"skip_layers \[-1\] are outside 0..3"),
    ],
)
def test_bad_settings(model, settings, message):
    with pytest.raises(ValueError, match=message):
        KeyNormCache(model.config, **settings)


def test_bad_use(model, ids):
    cache = KeyNormCache(model.config, keep_ratio=0.25, sinks=4, recent=20)
    with pytest.raises(ValueError, match=r"sinks=4 \+ recent=20 exceed the 12 pairs kept"):
        forward(model, ids, cache)
    cache = KeyNormCache(model.config, keep_ratio=0.5)
    forward(model, ids, cache)
    with pytest.raises(NotImplementedError, match="cannot be cropped: pairs dropped since"):
        cache.crop(-1)
    assert not cache.is_croppable
    with pytest.raises(ValueError, match="input_ids hold 20 tokens, the cache has seen 48"):
        check_restart(cache, ids[:, :20])
    with pytest.raises(
        ValueError, match="when must be one of prefill, decode, manual, got 'later'"
    ):
        make_schedule(0.5, None, None, "later")
    with pytest.raises(ValueError, match=r"skip_layers \[9\] are outside"):
        cache.positions(9)
    with pytest.raises(ValueError, match="record=True"):
        cache.history  # noqa: B018
    broken = KeyNormCache(model.config, keep_ratio=0.5)
    with pytest.raises(ValueError, match="NaN or infinity"):
        broken.update(torch.full((1, 2, 3, 16), torch.nan), torch.zeros(1, 2, 3, 16), 0)
