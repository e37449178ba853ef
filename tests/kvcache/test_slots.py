"""Slots, bursts and growing buffers against the rule written from a list of pairs."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labcore.kvcache import SCORES, key_norms, rolling_reference
from labcore.kvcache.pairs import Pairs, Rule
from labcore.kvcache.slots import SlotTable
from labcore.kvcache.store import PairStore

BATCH, HEADS, DIM, STEPS = 3, 2, 4, 200


def draw(seed: int, steps: int = STEPS, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(BATCH, HEADS, steps, DIM, generator=generator)
    keys = keys.sign() if ties else keys
    return keys, torch.randn(BATCH, HEADS, steps, DIM, generator=generator)


def rolling_store(
    budget: int,
    prune_to: int,
    name: str = "low_norm",
    sinks: int = 0,
    recent: int = 0,
    **options: Any,
) -> PairStore:
    rule = Rule(SCORES[name], SCORES[name].static, sinks, recent)
    return PairStore(rule, slots=budget + (prune_to == budget), **options)


def step(store: PairStore, keys: torch.Tensor, values: torch.Tensor, budget: int, prune_to: int):
    pairs = store.add(keys, values)
    if store.stored >= budget:
        store.keep(prune_to)
    return pairs


def references(scores: torch.Tensor, **settings: Any):
    heads = itertools.product(range(BATCH), range(HEADS))
    runs = [rolling_reference(scores[b, g].tolist(), **settings) for b, g in heads]
    for step in zip(*runs, strict=True):
        yield torch.tensor(step).view(BATCH, HEADS, -1)


@settings(max_examples=40)
@given(
    budget=st.integers(1, 40),
    burst=st.integers(0, 8),
    sinks=st.integers(0, 4),
    recent=st.integers(0, 12),
    name=st.sampled_from(["low_norm", "high_norm", "window", "low_value_norm"]),
    ties=st.booleans(),
    seed=st.integers(0, 999),
)
def test_rolling_agrees_with_the_reference(budget, burst, sinks, recent, name, ties, seed):
    prune_to = max(1, budget - burst)
    if sinks + recent > prune_to:
        return
    keys, values = draw(seed, ties=ties)
    positions = torch.arange(STEPS).expand(BATCH, HEADS, STEPS)
    scores = SCORES[name](_state(keys, values, positions))
    expected = references(scores, budget=budget, prune_to=prune_to, sinks=sinks, recent=recent)
    store = rolling_store(budget, prune_to, name, sinks, recent)
    for t, wanted in enumerate(expected):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], budget, prune_to)
        assert torch.equal(store.positions(), wanted)
        assert store.seen == t + 1
        assert store.stored == wanted.shape[-1] <= budget
        if t % 50 == 49:
            held = store.ordered()
            assert torch.equal(held.keys, keys.gather(2, wanted[..., None].expand_as(held.keys)))
            assert torch.equal(
                held.values, values.gather(2, wanted[..., None].expand_as(held.keys))
            )


def _state(keys, values, positions):
    from labcore.kvcache import LayerState

    return LayerState(keys, values, positions)


def test_layers_that_share_a_table_choose_as_alone():
    tables: dict = {}
    together = [rolling_store(10, 10, recent=3, tables=tables) for _ in range(4)]
    alone = [rolling_store(10, 10, recent=3) for _ in range(4)]
    keys = [draw(seed)[0] for seed in range(4)]
    for t in range(60):
        for one, other, k in zip(together, alone, keys, strict=True):
            step(one, k[:, :, t : t + 1], k[:, :, t : t + 1], 10, 10)
            step(other, k[:, :, t : t + 1], k[:, :, t : t + 1], 10, 10)
    assert len(tables) == 1
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.positions(), other.positions())


def test_a_step_attends_to_all_stored_pairs_and_the_new_one():
    keys, values = draw(1)
    store = rolling_store(5, 5)
    for t in range(40):
        before = set() if t == 0 else {*store.positions()[0, 0].tolist()}
        seen, _ = step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 5, 5)
        wanted = keys[0, 0, sorted(before | {t})]
        got = seen[0, 0]
        assert sorted(got.tolist()) == sorted(wanted.tolist())


@pytest.mark.parametrize("burst", [0, 4])
def test_chunks_of_several_tokens_fall_back_to_selection(burst):
    keys, values = draw(2, 120)
    store, alive = (
        rolling_store(16, 16 - burst, recent=4),
        torch.empty(BATCH, HEADS, 0, dtype=torch.long),
    )
    norms, t = key_norms(keys), 0
    for q in [3, 30, 1, 1, 5, 1, 1, 1, 2, 40, 1, 1]:
        step(store, keys[:, :, t : t + q], values[:, :, t : t + q], 16, 16 - burst)
        alive = torch.cat([alive, torch.arange(t, t + q).expand(BATCH, HEADS, q)], dim=2)
        t += q
        if alive.shape[2] >= 16:
            score = -norms.gather(2, alive)
            score[..., -4:] = torch.inf
            index = score.sort(dim=2, descending=True, stable=True).indices[..., : 16 - burst]
            alive = alive.gather(2, index.sort(dim=2).values)
        assert torch.equal(store.positions(), alive)


def test_storage_is_what_is_stored_and_one_slot():
    keys, values = draw(3)
    store = rolling_store(20, 20)
    for t in range(50):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 20, 20)
    one_pair = 2 * BATCH * HEADS * DIM * 4
    assert store.nbytes == 20 * one_pair
    buffers = store._held()
    allocated = sum(part.untyped_storage().nbytes() for part in (buffers.keys, buffers.values))
    assert allocated == store.nbytes + one_pair


def test_growing_buffers_make_room_in_large_steps():
    keys, values = draw(4, 400)
    store = PairStore()
    store.add(keys[:, :, :50], values[:, :, :50])
    pointers = set()
    for t in range(50, 400):
        seen, _ = store.add(keys[:, :, t : t + 1], values[:, :, t : t + 1])
        pointers.add(seen.data_ptr())
    assert torch.equal(store.ordered().keys, keys)
    assert len(pointers) == 2


def test_what_a_step_returned_survives_the_drop():
    keys, values = draw(5)
    store = PairStore(Rule(SCORES["low_norm"], True))
    seen, _ = store.add(keys, values)
    store.keep(10)
    assert torch.equal(seen, keys)


def test_batch_rows_follow():
    keys, values = draw(6)
    store, twin = rolling_store(12, 12, record=True), rolling_store(12, 12, record=True)
    order = torch.tensor([2, 0, 0, 1])
    for t in range(60):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 12, 12)
        step(twin, keys[order][:, :, t : t + 1], values[order][:, :, t : t + 1], 12, 12)
        if t == 30:
            fresh = rolling_store(12, 12, record=True)
            for s in range(31):
                step(fresh, keys[:, :, s : s + 1], values[:, :, s : s + 1], 12, 12)
            fresh.select_rows(order)
    for t in range(31, 60):
        step(fresh, keys[order][:, :, t : t + 1], values[order][:, :, t : t + 1], 12, 12)
    store.select_rows(order)
    for other in (store, fresh):
        assert torch.equal(other.positions(), twin.positions())
        assert torch.equal(other.dropped_at(), twin.dropped_at())


def test_forks_go_their_own_way():
    keys, values = draw(7)
    store = rolling_store(8, 8)
    for t in range(30):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 8, 8)
    before = store.ordered().map(torch.clone)
    fork = store.fork()
    for t in range(30, 60):
        step(fork, keys[:, :, t : t + 1], values[:, :, t : t + 1], 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(before, store.ordered(), strict=True))
    for t in range(30, 60):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 8, 8)
    assert torch.equal(store.positions(), fork.positions())
    assert torch.equal(store.ordered().keys, fork.ordered().keys)


def test_history_says_when_each_pair_was_dropped():
    keys, values = draw(8)
    store, lives = rolling_store(9, 7, record=True), torch.full((BATCH, HEADS, STEPS), -1)
    alive: set = set()
    for t in range(STEPS):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 9, 7)
        now = {*store.positions()[1, 0].tolist()}
        for gone in (alive | {t}) - now:
            lives[1, 0, gone] = t + 1
        alive = now
    assert torch.equal(store.dropped_at()[1, 0], lives[1, 0])


def test_history_of_slots():
    keys, values = draw(9)
    store = rolling_store(9, 9, record=True)
    for t in range(STEPS):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 9, 9)
    table = store.dropped_at()
    kept = (table == -1).nonzero()[:, 2].view(BATCH, HEADS, -1)
    assert torch.equal(kept, store.positions())
    for t in range(10, STEPS):  # one pair leaves with each new one
        assert ((table == t).sum(dim=2) == 1).all()


def test_inference_mode_and_plain_mode_mix():
    keys, values = draw(10)
    store = rolling_store(8, 8)
    with torch.inference_mode():
        for t in range(20):
            step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 8, 8)
    for t in range(20, 60):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 8, 8)
    wanted = list(references(-key_norms(keys)[..., :60], budget=8))[-1]
    assert torch.equal(store.positions(), wanted)


def test_an_interrupted_pass_is_noticed():
    tables: dict = {}
    first, second = (rolling_store(4, 4, tables=tables) for _ in range(2))
    keys, values = draw(11)
    for t in range(8):
        for store in (first, second):
            step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 4, 4)
    first.positions()
    first.add(keys[:, :, 8:9], values[:, :, 8:9])
    with pytest.raises(ValueError, match="some layers have seen one token more"):
        first.positions()
    for store in (first, second):
        store.clear()
    for t in range(8):
        for store in (first, second):
            step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 4, 4)
    assert torch.equal(first.positions(), second.positions())


def test_values_may_have_other_features_than_keys():
    keys, _ = draw(12)
    values = torch.randn(BATCH, HEADS, STEPS, 7, generator=torch.Generator().manual_seed(0))
    store = rolling_store(6, 6)
    for t in range(40):
        step(store, keys[:, :, t : t + 1], values[:, :, t : t + 1], 6, 6)
    index = store.positions()[..., None].expand(-1, -1, -1, 7)
    assert torch.equal(store.ordered().values, values.gather(2, index))


def test_the_nudge_orders_ties_and_nothing_else():
    scores = torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(13)).sort().values
    scores = torch.cat([scores, scores.nextafter(torch.tensor(torch.inf))], dim=2)
    positions = torch.randint(0, 1 << 20, scores.shape, generator=torch.Generator().manual_seed(14))
    rule = Rule(lambda state: state.keys[..., 0], static=True)
    nudged = rule.scores(scores[..., None], scores[..., None], positions)
    order = nudged.argsort(dim=2, descending=True)[0, 0].tolist()
    flat, place = scores[0, 0].tolist(), positions[0, 0].tolist()
    assert order == sorted(order, key=lambda i: (-flat[i], place[i]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (torch.zeros(1, 2, 0, 4), "no new token: input_ids are not longer than the 5 tokens"),
        (torch.full((1, 2, 1, 4), torch.nan), "keys from position 5 on hold NaN or infinity"),
        (torch.full((1, 2, 1, 4), torch.inf), "keys from position 5 on hold NaN or infinity"),
        (torch.zeros(1, 2, 1, 4, requires_grad=True), r"run the model under torch.no_grad\(\)"),
        (torch.zeros(2, 2, 1, 4), r"keys \(2, 2, 1, 4\) do not fit a cache of \(1, 2, 5, 4\)"),
    ],
)
def test_bad_keys(keys, message):
    store = PairStore()
    store.add(torch.ones(1, 2, 5, 4), torch.ones(1, 2, 5, 4))
    with pytest.raises(ValueError, match=message):
        store.add(keys, keys)
    assert store.seen == store.stored == 5


def test_bad_keys_in_a_slot_are_noticed_at_the_next_step():
    store, keys = rolling_store(2, 2), torch.ones(1, 1, 1, 4)
    for _ in range(4):
        step(store, keys, keys, 2, 2)
    step(store, keys * torch.nan, keys, 2, 2)
    with pytest.raises(ValueError, match="keys from position 4 on hold NaN or infinity"):
        step(store, keys, keys, 2, 2)


def test_empty_stores_say_so():
    with pytest.raises(ValueError, match="the cache is empty"):
        PairStore().ordered()
    with pytest.raises(ValueError, match="record=True"):
        PairStore().dropped_at()
    assert SlotTable(Rule(SCORES["low_norm"], True)).close() is None
    pairs = Pairs(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2), torch.arange(3).view(1, 1, 3))
    assert PairStore.holding(pairs, 9).stored == 3
