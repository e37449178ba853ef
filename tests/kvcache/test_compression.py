import pytest
import torch
import torch.nn.functional as F
from transformers import DynamicCache

from labcore.kvcache import (
    SCORES,
    LayerState,
    Policy,
    compress,
    fork,
    key_norms,
    n_keep,
    profile_attention,
    special_mask,
)
from tests.kvcache.conftest import tiny_llama

WINDOW = 6


@pytest.fixture
def profile(model, ids):
    return profile_attention(model, ids, window=WINDOW, rows=True)


@pytest.fixture(scope="module")
def attentions():
    """Full attention maps ``(l, h, n, n)`` and keys ``(l, g, n, d)`` by the library."""
    ids = torch.randint(1, 97, (1, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = tiny_llama("eager")(ids, output_attentions=True)
    keys = torch.stack([layer.keys[0] for layer in output.past_key_values.layers])
    return torch.stack(output.attentions)[:, 0], keys


def grouped(attention):
    return attention.unflatten(0, (2, 2)).mean(1)


EXPECTED = {
    "low_norm": lambda a, k: -k.norm(dim=-1),
    "high_norm": lambda a, k: k.norm(dim=-1),
    "window": lambda a, k: torch.arange(48.0).expand(2, 48),
    "accumulated": lambda a, k: grouped(a.sum(1)),
    "received_mean": lambda a, k: grouped(a.sum(1)) / (48 - torch.arange(48)),
    "last_query": lambda a, k: a[:, -1].mean(0).expand(2, 48),
    "key_difference": lambda a, k: (
        -F.cosine_similarity(k, F.normalize(k, dim=-1).mean(1, keepdim=True), dim=-1)
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("keep_ratio", [0.5, 0.25])
def test_kept_sets_follow_the_definition(profile, attentions, name, keep_ratio):
    cache = compress(profile, name, keep_ratio=keep_ratio)
    k = n_keep(48, keep_ratio)
    for layer in range(4):
        score = EXPECTED[name](attentions[0][layer], attentions[1][layer])
        if name == "last_query":
            score = score.index_fill(1, torch.tensor([47]), 9.0)
        for head in range(2):
            kept = set(cache.positions(layer)[0, head].tolist())
            # Scores that differ by rounding may swap at the edge of the set.
            edge = score[head].sort(descending=True).values[k - 1 : k + 1].mean()
            clear = (score[head] - edge).abs() > 1e-5
            wanted = set(((score[head] > edge) & clear).nonzero()[:, 0].tolist())
            unwanted = set(((score[head] < edge) & clear).nonzero()[:, 0].tolist())
            assert wanted <= kept
            assert not kept & unwanted


def test_observation_pools_before_the_window_and_keeps_it(profile, attentions):
    cache = compress(profile, "observation", keep_ratio=0.5)
    mean = attentions[0][:, :, -WINDOW:].mean(2)[..., :-WINDOW]
    smooth = F.avg_pool1d(mean, 5, stride=1, padding=2)
    for layer in range(4):
        score = grouped(smooth[layer])
        best = score.topk(24 - WINDOW, dim=-1).indices
        window = torch.arange(48 - WINDOW, 48).expand(2, -1)
        wanted = torch.cat([best, window], dim=1).sort(dim=1).values
        assert torch.equal(cache.positions(layer)[0], wanted)


def test_special_tokens_first_then_the_newest(profile):
    special = torch.zeros(1, 48, dtype=torch.bool)
    special[0, [3, 10, 11]] = True
    cache = compress(profile, "special", keep_ratio=0.25, special=special)
    assert cache.positions(2)[0, 0].tolist() == [3, 10, 11, *range(39, 48)]


def test_sink_window_and_guards(profile):
    assert compress(profile, "sink_window", keep_ratio=0.25).positions(1)[0, 1].tolist() == [
        0, 1, 2, 3, *range(40, 48)
    ]  # fmt: skip
    kept = compress(profile, "high_norm", keep_ratio=0.25, sinks=2, recent=3).positions(0)
    assert (kept[..., :2] == torch.arange(2)).all()
    assert (kept[..., -3:] == torch.arange(45, 48)).all()


def test_group_mean_pairs_query_heads_with_their_key_head():
    keys = torch.zeros(1, 2, 3, 4)
    attention = torch.arange(12.0).view(1, 4, 3)
    state = LayerState(keys, keys, torch.arange(3).expand(1, 2, 3))
    assert state.by_group(attention).tolist() == [[[1.5, 2.5, 3.5], [7.5, 8.5, 9.5]]]


def test_sources_stay_and_share_nothing_that_was_pruned(profile, ids, model):
    before = [layer.pairs.ordered().map(torch.clone) for layer in profile.cache.layers]
    cache = compress(profile, keep_ratio=0.5, skip_layers=(0,))
    with torch.no_grad():
        for _ in range(3):
            model(ids[:, :2], past_key_values=cache)
            model(ids[:, :1], past_key_values=cache)
    assert profile.cache.get_seq_length() == 48
    for layer, held in zip(profile.cache.layers, before, strict=True):
        assert torch.equal(layer.pairs.ordered().keys, held.keys)
        assert torch.equal(layer.pairs.ordered().values, held.values)
    fresh = compress(profile, keep_ratio=0.5, skip_layers=(0,))
    own = [layer.pairs._held().keys.untyped_storage().data_ptr() for layer in fresh.layers]
    theirs = [
        layer.pairs._held().keys.untyped_storage().data_ptr() for layer in profile.cache.layers
    ]
    assert own[0] == theirs[0]
    assert not set(own[1:]) & set(theirs[1:])


def test_any_filled_cache_can_be_compressed_again(model, ids, profile):
    plain = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids, past_key_values=plain)
    from_plain, from_profile = (compress(source, keep_ratio=0.5) for source in (plain, profile))
    for layer in range(4):
        assert torch.equal(from_plain.positions(layer), from_profile.positions(layer))
    assert plain.get_seq_length() == 48
    again = compress(from_plain, "window", keep_ratio=0.25)
    assert again.get_seq_length() == 48
    for layer in range(4):
        assert torch.equal(again.positions(layer), from_plain.positions(layer)[..., -6:])


def test_value_norms(model, ids, profile):
    cache = compress(profile, "low_value_norm", keep_ratio=0.25)
    values = profile.cache.layers[2].pairs.ordered().values
    order = key_norms(values).sort(dim=-1, stable=True).indices[..., :12]
    assert torch.equal(cache.positions(2), order.sort(dim=-1).values)


def test_pruning_needs_no_rotation(model, ids):
    """The norm before the rotary embedding is the norm after it, so the kept set is the same."""
    states = {}

    def keep(module, args, output):
        states[module] = output

    projections = [layer.self_attn.k_proj for layer in model.model.layers]
    hooks = [projection.register_forward_hook(keep) for projection in projections]
    profile = profile_attention(model, ids, window=4)
    for hook in hooks:
        hook.remove()
    before = torch.stack([states[p].view(1, 48, 2, 16).transpose(1, 2)[0] for p in projections])
    torch.testing.assert_close(key_norms(before), profile.norms, rtol=1e-5, atol=1e-5)


def test_policies(profile):
    policy = Policy("random", sinks=2, recent=3, seed=4)
    one, two = (policy.compress(profile, keep_ratio=0.5) for _ in range(2))
    other = Policy("random", sinks=2, recent=3, seed=5).compress(profile, keep_ratio=0.5)
    assert torch.equal(one.positions(3), two.positions(3))
    assert not torch.equal(one.positions(3), other.positions(3))
    assert (one.positions(3)[..., :2] == torch.arange(2)).all()


def test_a_compressed_cache_can_be_forked_and_extended(model, ids, profile):
    cache = compress(profile, keep_ratio=0.5)
    twin = fork(cache)
    with torch.no_grad():
        model(ids[:, :3], past_key_values=twin)
    assert cache.get_seq_length() == 48
    assert twin.get_seq_length() == 51
    assert cache.positions(1).shape[2] == 24


def test_special_mask():
    class Tokenizer:
        all_special_ids = (0,)

        def decode(self, ids):
            return ["<s>", " the", ".", "\n\n", "é", " 7"][ids[0]]

    mask = special_mask(Tokenizer(), torch.tensor([[0, 1, 2], [3, 4, 5]]))
    assert mask.tolist() == [[True, False, True], [True, False, False]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "observation", "keep_ratio": 0.1}, "its window of 6 .* got n_keep=5"),
        ({"score": "random", "keep_ratio": 0.5}, "'random' needs a seed"),
        ({"score": "special", "keep_ratio": 0.5}, "'special' needs the special tokens"),
        ({"score": "nonsense", "keep_ratio": 0.5}, "unknown score 'nonsense'"),
        ({"keep_ratio": 2.0}, r"keep_ratio must be in \(0, 1\]"),
        ({"keep_ratio": 0.5, "skip_layers": (7,)}, r"skip_layers \[7\] are outside 0..3"),
        ({"keep_ratio": 0.25, "sinks": 8, "recent": 8}, r"sinks=8 \+ recent=8 exceed the 12 pairs"),
        ({"keep_ratio": 0.5, "sinks": -1}, "must not be negative, got sinks=-1"),
    ],
)
def test_bad_input(profile, settings, message):
    with pytest.raises(ValueError, match=message):
        compress(profile, **settings)


@pytest.mark.parametrize(
    "name", [n for n, s in SCORES.items() if s.needs and s.needs != "generator"]
)
def test_scores_that_need_more_than_a_cache_say_so(profile, name):
    with pytest.raises(ValueError, match=f"score '{name}' needs"):
        compress(profile.cache, name, keep_ratio=0.5)


def test_an_empty_cache_is_refused(model):
    with pytest.raises(ValueError, match="the cache is empty"):
        compress(DynamicCache(config=model.config), keep_ratio=0.5)
