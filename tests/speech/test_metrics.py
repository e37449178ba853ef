"""Error rates against jiwer, known answers, chrF."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.speech.metrics import cer, chrf, edits, normalise, wer, word_errors

TEXT = st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=6).map(" ".join)


def test_known_error_rates() -> None:
    assert wer(["a b"], ["a b"]).rate == 0
    assert wer(["a b"], [""]).rate == 1
    found = wer(["a b c"], ["a x c d"])
    assert (found.substitutions, found.insertions, found.deletions, found.n) == (1, 1, 0, 3)
    assert found.rate == pytest.approx(2 / 3)
    assert cer(["abcd"], ["abxd"]).rate == 0.25


@given(TEXT, TEXT)
def test_word_error_rate_is_jiwers(reference: str, answer: str) -> None:
    jiwer = pytest.importorskip("jiwer")
    assert wer([reference], [answer]).rate == pytest.approx(jiwer.wer(reference, answer))
    assert word_errors(reference, answer)[0] == sum(edits(reference.split(), answer.split()))


def test_an_empty_answer_misses_every_word() -> None:
    assert word_errors("one two", "") == (2, 2)


def test_references_must_have_words_and_lists_one_length() -> None:
    with pytest.raises(ValueError, match="a reference is empty"):
        wer([""], ["a"])
    with pytest.raises(ValueError, match="2 references and 1 answers"):
        wer(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="0 references"):
        chrf([], [])


def test_chrf_lies_between_nothing_and_everything() -> None:
    assert chrf(["sette uno"], ["sette uno"]) == 1
    assert chrf(["sette uno"], ["xxxx"]) == 0
    some = chrf(["sette uno"], ["sette due"])
    assert 0.3 < some < 1
    # Unigrams only: precision 5/7 and recall 5/8 give F2 = 5 P R / (4 P + R).
    precision, recall = 5 / 7, 5 / 8
    wanted = 5 * precision * recall / (4 * precision + recall)
    assert chrf(["sette uno"], ["settexx"], n=1) == pytest.approx(wanted)


def test_normalising_is_separate() -> None:
    assert wer(["Seven, two."], ["seven two"]).rate == 1
    assert wer([normalise("Seven, two.")], ["seven two"]).rate == 0
