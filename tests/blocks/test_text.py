"""Tokens, entropies, sampling: known answers on small texts and on the novel."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labcore.blocks import text
from labcore.book.data import alice


def test_first_merges_of_the_novel() -> None:
    learned = text.bpe_train(alice(), 5)
    assert learned.tokens[len(learned.chars) :] == ("e ", "  ", " t", " a", " th")
    assert learned.counts == (4377, 4208, 3263, 2295, 2206)


@given(st.text(alphabet="ab c", min_size=1, max_size=60), st.integers(0, 8))
def test_decoding_undoes_encoding(string: str, merges: int) -> None:
    learned = text.bpe_train(string, merges)
    ids = text.encode(string, learned)
    assert text.decode(ids, learned) == string
    assert len(ids) <= len(string)


def test_runs_are_counted_with_overlap_and_replaced_without() -> None:
    learned = text.bpe_train("aaab", 1)
    assert (learned.pairs, learned.counts) == (((0, 0),), (2,))
    assert text.encode("aaab", learned) == [2, 0, 1]


def test_ties_go_to_the_smallest_pair() -> None:
    assert text.bpe_train("bcabbc ab", 1).tokens[-1] == "ab"


def test_entropies_of_the_novel() -> None:
    novel = alice()
    blocks = [0.0, *(text.block_entropy(novel, k) for k in (1, 2, 3))]
    steps = [b - a for a, b in itertools.pairwise(blocks)]
    assert steps == pytest.approx([4.5129, 3.5017, 2.5107], abs=1e-4)
    cut = int(0.9 * len(novel))
    assert text.bigram_bits(novel[:cut], novel[cut:]) == pytest.approx(3.5585, abs=1e-4)


def tree(ids: Sequence[int]) -> torch.Tensor:
    p = [0.6, 0.4] if not ids else [0.5, 0.5] if ids[0] == 0 else [0.9, 0.1]
    return torch.tensor(p, dtype=torch.float64).log()


def test_two_beams_find_what_greed_misses() -> None:
    greedy, score = text.beam_search(tree, [], 3, width=1)
    assert (greedy, math.exp(score)) == ([0, 0, 0], pytest.approx(0.15))
    best, score = text.beam_search(tree, [], 3, width=2)
    assert (best, math.exp(score)) == ([1, 0, 0], pytest.approx(0.324))


def test_sampling_follows_the_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.2, 0.8]).log()
    drawn = text.sample(lambda ids: logits, [], 4000, generator=generator)
    assert sum(drawn) / 4000 == pytest.approx(0.8, abs=0.03)
    assert text.sample(lambda ids: logits, [0], 3, temperature=0) == [1, 1, 1]
    cold = text.sample(lambda ids: logits, [], 2000, temperature=0.5, generator=generator)
    assert sum(cold) / 2000 == pytest.approx(0.64 / 0.68, abs=0.03)


def test_bad_inputs_are_named() -> None:
    learned = text.bpe_train("abc", 1)
    with pytest.raises(ValueError, match="empty"):
        text.char_vocab("")
    with pytest.raises(ValueError, match="empty"):
        text.bpe_train("", 3)
    with pytest.raises(ValueError, match="'z' is not in the vocabulary"):
        text.encode("z", learned)
    with pytest.raises(ValueError, match="id 9 is outside"):
        text.decode([9], learned)
    with pytest.raises(ValueError, match=r"k must be 1\.\.2"):
        text.block_entropy("ab", 3)
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        text.sample(tree, [], 1, temperature=-1)
    with pytest.raises(ValueError, match="width and n"):
        text.beam_search(tree, [], 1, width=0)
