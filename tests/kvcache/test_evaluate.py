import pytest
import torch
from transformers import DynamicCache

from labcore.kvcache import (
    KeyNormCache,
    Policy,
    answer_hits,
    check_restart,
    compress,
    continuation_nll,
    exact_match,
    prefill,
    profile_attention,
    stream_nll,
)
from labcore.runs import Cancelled


def nll_by_hand(logits, targets):
    return -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]


@pytest.fixture
def windows():
    # No token twice: in layer 0 it would have the same norm twice, and rounding would choose.
    generator = torch.Generator().manual_seed(2)
    return torch.stack([torch.randperm(96, generator=generator)[:61] + 1 for _ in range(2)])


def test_full_cache_scores_are_those_of_one_pass(model, ids):
    cache, logits = prefill(model, ids[:, :40])
    with torch.no_grad():
        whole = model(ids).logits
    torch.testing.assert_close(logits, whole[:, 39], rtol=1e-4, atol=1e-4)
    expected = nll_by_hand(whole[:, 40:-1], ids[:, 41:])
    torch.testing.assert_close(
        continuation_nll(model, cache, ids[:, 40:]), expected, rtol=1e-4, atol=1e-4
    )


def test_ratio_one_is_bit_equal_to_a_dynamic_cache(model, ids):
    plain = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids[:, :40], past_key_values=plain)
    ours = compress(profile_attention(model, ids[:, :40], window=4), keep_ratio=1.0)
    losses = [continuation_nll(model, cache, ids[:, 40:]) for cache in (plain, ours)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("make", ["rolling", "pruned", "plain"])
def test_caches_are_left_as_they_were(model, ids, make):
    cache = {
        "rolling": lambda: KeyNormCache(model.config, budget=10),
        "pruned": lambda: KeyNormCache(model.config, keep_ratio=0.5),
        "plain": lambda: DynamicCache(config=model.config),
    }[make]()
    with torch.no_grad():
        model(ids[:, :30], past_key_values=cache)
    first = continuation_nll(model, cache, ids[:, 30:])
    assert cache.get_seq_length() == 30
    assert torch.equal(continuation_nll(model, cache, ids[:, 30:]), first)


def test_start_shifts_the_positions(model, ids):
    cache = compress(prefill(model, ids[:, :40])[0], keep_ratio=0.5)
    right = continuation_nll(model, cache, ids[:, 40:])
    assert torch.equal(right, continuation_nll(model, cache, ids[:, 40:], 40))
    assert not torch.allclose(right, continuation_nll(model, cache, ids[:, 40:], 20))


@pytest.mark.parametrize("keep_ratio", [1.0, 0.5])
def test_exact_match_is_greedy_decoding(model, ids, keep_ratio):
    cache = compress(prefill(model, ids[:, :40])[0], keep_ratio=keep_ratio)
    from labcore.kvcache import fork

    said = model.generate(ids, past_key_values=fork(cache), max_new_tokens=6, do_sample=False)
    said = said[:, 48:]
    assert exact_match(model, cache, ids[:, 40:], said)
    wrong = said.clone()
    wrong[0, 3] = (wrong[0, 3] + 1) % 97
    assert not exact_match(model, cache, ids[:, 40:], wrong)
    assert answer_hits(model, cache, ids[:, 40:], wrong).tolist()[:4] == [True, True, True, False]


def test_a_question_inside_the_prompt(model, ids):
    profile = profile_attention(model, ids, window=4)
    nothing, cache = ids[:, :0], compress(profile, keep_ratio=1.0)
    said = model.generate(ids, max_new_tokens=5, do_sample=False)[:, 48:]
    assert exact_match(model, cache, nothing, said, logits=profile.logits)
    assert exact_match(model, cache, nothing, said[:, :1], logits=profile.logits)
    assert not exact_match(model, cache, nothing, (said[:, :1] + 1) % 97, logits=profile.logits)


POLICIES = {
    "full": None,
    "low": Policy(),
    "guarded": Policy(sinks=2, recent=4),
    "window": Policy("window"),
    "sinks": Policy("sink_window"),
}


@pytest.mark.parametrize("skip", [(), (0, 2)])
@pytest.mark.parametrize("prune_to", [None, 8])
def test_streams_in_one_batch_are_streams_one_by_one(model, windows, prune_to, skip):
    together = stream_nll(
        model, windows, policies=POLICIES, budget=12, prune_to=prune_to, skip_layers=skip
    )
    assert list(together) == list(POLICIES)
    for name, policy in POLICIES.items():
        for row in range(2):
            cache = DynamicCache(config=model.config)
            if policy is not None:
                cache = KeyNormCache(
                    model.config,
                    budget=12,
                    prune_to=prune_to,
                    score=policy.score,
                    sinks=policy.sinks,
                    recent=policy.recent,
                    skip_layers=skip,
                )
            ids, losses = windows[row : row + 1], []
            for t in range(60):
                with torch.no_grad():
                    logits = model(ids[:, t : t + 1], past_key_values=cache).logits
                losses.append(nll_by_hand(logits, ids[:, t + 1 : t + 2])[0, 0])
            torch.testing.assert_close(
                together[name][row], torch.stack(losses), rtol=1e-4, atol=2e-4
            )


def test_a_stream_shorter_than_the_budget_loses_nothing(model, windows):
    result = stream_nll(model, windows, policies={"full": None, "low": Policy()}, budget=100)
    torch.testing.assert_close(result["low"], result["full"], rtol=1e-5, atol=1e-5)


def test_random_streams_repeat(model, windows):
    runs = [
        stream_nll(model, windows, policies={"r": Policy("random", seed=s)}, budget=12)["r"]
        for s in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_progress_and_cancelling(model, windows):
    steps = []

    def report(done, total, label):
        steps.append((done, total))
        if done == 15:
            raise Cancelled

    with pytest.raises(Cancelled):
        stream_nll(model, windows, policies={"low": Policy()}, budget=12, progress=report)
    assert steps == [(13, 60), (14, 60), (15, 60)]


def test_bad_input(model, ids, windows):
    cache, _ = prefill(model, ids[:, :40])
    with pytest.raises(ValueError, match="a continuation needs two tokens or more"):
        continuation_nll(model, cache, ids[:, 40:41])
    with pytest.raises(ValueError, match="start must be .* 0 or more, got -1"):
        continuation_nll(model, cache, ids[:, 40:], -1)
    with pytest.raises(ValueError, match="the answer is empty"):
        answer_hits(model, cache, ids[:, 40:], ids[:, :0])
    with pytest.raises(ValueError, match="pass logits="):
        answer_hits(model, cache, ids[:, :0], ids[:, 40:])
    with pytest.raises(ValueError, match=r"sinks=4 \+ recent=9 exceed the 12 pairs"):
        stream_nll(model, windows, policies={"x": Policy("low_norm", 4, 9)}, budget=12)
    with pytest.raises(ValueError, match="scores of single pairs, not key_difference"):
        stream_nll(model, windows, policies={"x": Policy("key_difference")}, budget=12)
    with pytest.raises(ValueError, match="give either keep_ratio or budget|at least 1"):
        stream_nll(model, windows, policies={"x": Policy()}, budget=0)
    check_restart(cache, ids)
    with pytest.raises(ValueError, match="input_ids hold 40 tokens, the cache has seen 40"):
        check_restart(cache, ids[:, :40])
