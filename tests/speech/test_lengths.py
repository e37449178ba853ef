"""The length rules: known answers, the plain loops, gradients, padding, and bad input."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labcore.speech.lengths import (
    cif,
    cif_assignment,
    cif_reference,
    conv_out_length,
    ctc_compress,
    ctc_compress_reference,
    run_index,
    scale_weights,
    window_size,
    window_split,
)

FRAMES = torch.arange(1.0, 6).view(1, 5, 1)
ALPHA = torch.tensor([[0.4, 0.8, 0.3, 0.7, 0.2]])
FIVE = torch.tensor([5])


def test_cif_known_answers() -> None:
    found = cif(FRAMES, ALPHA, FIVE)
    assert found.lengths.tolist() == [2]
    torch.testing.assert_close(found.frames.flatten(), torch.tensor([1.6, 3.3]))
    more = ALPHA.clone()
    more[0, 3] = 0.9
    found = cif(FRAMES, more, FIVE)
    assert found.lengths.tolist() == [3]
    torch.testing.assert_close(found.frames[0, 2, 0], torch.tensor(13 / 3))


def test_cif_fires_the_target_length_and_epsilon_is_seen() -> None:
    found = cif(FRAMES, ALPHA, FIVE, torch.tensor([3]))
    wanted = torch.tensor([1.49998, 2.62489, 4.24991])
    torch.testing.assert_close(found.frames.flatten(), wanted, atol=1e-4, rtol=0)


def test_cif_columns_hold_one_and_rows_hold_their_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(3, 20, generator=generator, dtype=torch.float64)
    lengths, targets = torch.tensor([20, 13, 7]), torch.tensor([4, 3, 5])
    weights, fires = cif_assignment(alpha, lengths, targets)
    assert fires.tolist() == targets.tolist()
    assert bool((weights >= 0).all())
    for row, n in enumerate(targets.tolist()):
        torch.testing.assert_close(weights[row, :, :n].sum(0), torch.ones(n).double())
        scaled = scale_weights(alpha[row : row + 1, : lengths[row]], targets[row : row + 1])[0]
        inner = weights[row, : lengths[row]].sum(1)[:-1]
        torch.testing.assert_close(inner, scaled[:-1])  # the last loses epsilon


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=24))
def test_cif_equals_the_plain_loop(values: list[float]) -> None:
    alpha = torch.tensor([values], dtype=torch.float64)
    total, step = float(alpha.sum()), 1e-4
    part = total % 1
    if min(part, abs(part - 0.5), 1 - part) < step:
        return  # at the edge of firing one rounding decides
    frames = torch.arange(float(len(values))).double().view(1, -1, 1)
    found = cif(frames, alpha, torch.tensor([len(values)]))
    loop = cif_reference(frames[0], alpha[0])
    if len(loop):
        torch.testing.assert_close(found.frames[0], loop, atol=1e-6, rtol=0)
    else:
        assert found.empty == 1


def test_cif_gradient_equals_finite_differences() -> None:
    frames = torch.randn(1, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    alpha = torch.tensor([[0.31, 0.47, 0.62, 0.18, 0.55, 0.29]], dtype=torch.float64)
    lengths, targets = torch.tensor([6]), torch.tensor([2])

    def total(a: torch.Tensor) -> torch.Tensor:
        return (cif(frames, a, lengths, targets).frames ** 2).sum()

    assert torch.autograd.gradcheck(total, (alpha.requires_grad_(),), eps=1e-7, atol=1e-5)


def test_constant_weights_are_window_means_and_ones_the_identity() -> None:
    frames = torch.randn(1, 12, 3, generator=torch.Generator().manual_seed(2))
    twelve = torch.tensor([12])
    found = cif(frames, torch.full((1, 12), 0.25), twelve).frames[0]
    torch.testing.assert_close(found, window_split(frames, twelve, 4)[0][0].mean(1))
    torch.testing.assert_close(cif(frames, torch.ones(1, 12), twelve).frames, frames)


def test_a_frame_may_fire_more_than_once() -> None:
    frames = torch.tensor([[[1.0], [2.0]]])
    found = cif(frames, torch.tensor([[0.9, 0.1]]), torch.tensor([2]), torch.tensor([10]))
    assert found.lengths.tolist() == [10]
    torch.testing.assert_close(found.frames[0, :8, 0], torch.ones(8))


def test_an_utterance_without_weight_gives_the_mean_and_is_counted() -> None:
    found = cif(FRAMES, torch.zeros(1, 5), torch.tensor([4]))
    assert found.empty == 1
    assert found.lengths.tolist() == [1]
    torch.testing.assert_close(found.frames, torch.tensor([[[2.5]]]))


def test_ctc_known_answers() -> None:
    frames = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]])
    four = torch.tensor([4])
    found = ctc_compress(frames, torch.tensor([[0, 1, 1, 0]]), four)
    torch.testing.assert_close(found.frames.flatten(), torch.tensor([1.0, 3.0, 8.0]))
    wanted = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0, 0.5, 0], [0, 0, 1.0]])
    torch.testing.assert_close(found.assignment[0], wanted)
    torch.testing.assert_close(
        ctc_compress(frames, torch.zeros(1, 4, dtype=torch.long), four).frames.flatten(),
        torch.tensor([3.75]),
    )
    torch.testing.assert_close(ctc_compress(frames, torch.arange(4)[None], four).frames, frames)


def test_ctc_equals_the_plain_loop_and_ignores_padding() -> None:
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(4, 30, 5, generator=generator)
    symbols = torch.randint(0, 3, (4, 30), generator=generator)
    lengths = torch.tensor([30, 17, 1, 24])
    found = ctc_compress(frames, symbols, lengths)
    for row, length in enumerate(lengths.tolist()):
        loop = ctc_compress_reference(frames[row, :length], symbols[row, :length])
        assert int(found.lengths[row]) == len(loop)
        torch.testing.assert_close(found.frames[row, : len(loop)], loop)
    torch.testing.assert_close(found.assignment.transpose(1, 2) @ frames, found.frames)
    other = frames.clone()
    other[1, 17:] = 99.0
    torch.testing.assert_close(ctc_compress(other, symbols, lengths).frames, found.frames)
    order = torch.tensor([2, 0, 3, 1])
    turned = ctc_compress(frames[order], symbols[order], lengths[order])
    torch.testing.assert_close(turned.frames, found.frames[order])


def test_ctc_weights_lean_towards_sure_frames_and_pass_gradients() -> None:
    frames = torch.tensor([[[0.0], [1.0]]], requires_grad=True)
    weights = torch.tensor([[0.25, 0.75]])
    found = ctc_compress(frames, torch.zeros(1, 2, dtype=torch.long), torch.tensor([2]), weights)
    torch.testing.assert_close(found.frames.flatten(), torch.tensor([0.75]))
    found.frames.sum().backward()
    torch.testing.assert_close(frames.grad, weights[..., None])


def test_lengths_after_conv_and_windows() -> None:
    twice = [conv_out_length(conv_out_length(n)) for n in range(1, 11)]
    assert twice == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert conv_out_length(conv_out_length(98)) == 25
    assert conv_out_length(conv_out_length(1500)) == 375
    frames = torch.zeros(1, 1500, 1)
    assert window_split(frames, torch.tensor([1500]), 17)[0].shape == (1, 89, 17, 1)
    assert (window_size(50.0), window_size(6.25)) == (17, 2)


def test_runs_are_counted_inside_each_row_only() -> None:
    runs, counts = run_index(torch.tensor([[1, 1, 2, 2], [5, 5, 5, 5]]), torch.tensor([3, 2]))
    assert counts.tolist() == [2, 1]
    assert runs[0, :3].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": torch.tensor([[1.2, 0, 0, 0, 0]])}, r"\[0, 1\]"),
        ({"alpha": torch.tensor([[float("nan"), 0, 0, 0, 0]])}, "NaN"),
        ({"lengths": torch.tensor([6])}, r"1\.\.5.*\[6\]"),
        ({"lengths": torch.tensor([0])}, r"1\.\.5.*\[0\]"),
        ({"target_lengths": torch.tensor([0])}, r"at least 1, got \[0\]"),
        ({"threshold": 0.0}, "positive, got 0.0"),
    ],
)
def test_cif_refuses_what_does_not_fit(change: dict, message: str) -> None:
    arguments = {"alpha": ALPHA, "lengths": FIVE} | change
    with pytest.raises(ValueError, match=message):
        cif_assignment(**arguments)


def test_windows_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        window_split(FRAMES, FIVE, 0)
    with pytest.raises(ValueError, match=r"1\.\.5"):
        ctc_compress(FRAMES, torch.zeros(1, 5, dtype=torch.long), torch.tensor([9]))
