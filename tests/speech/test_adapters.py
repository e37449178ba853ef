"""The adapters: shapes, padding, losses, W, and bad input."""

import pytest
import torch

from labcore.speech.adapters import KINDS, ctc_loss, make_adapter
from labcore.speech.layers import padding_mask

ALL = (*KINDS, "stack")
LENGTHS = torch.tensor([40, 23, 9])


def adapter(kind: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return make_adapter(kind, 12, 20, 50.0, hidden=16, heads=2, **options).eval()


def frames() -> torch.Tensor:
    x = torch.randn(3, 40, 12, generator=torch.Generator().manual_seed(1))
    return x * padding_mask(LENGTHS, 40)[..., None]


@pytest.mark.parametrize("kind", ALL)
def test_an_utterance_gives_the_same_alone_and_in_a_batch(kind: str) -> None:
    model = adapter(kind)
    together = model(frames(), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(frames()[row : row + 1, :length], LENGTHS[row : row + 1])
        n = int(alone.lengths)
        assert int(together.lengths[row]) == n
        torch.testing.assert_close(together.embeds[row, :n], alone.embeds[0], atol=1e-5, rtol=0)
        assert not together.embeds[row, n:].any()


@pytest.mark.parametrize("kind", ALL)
def test_what_stands_in_the_padding_does_not_matter(kind: str) -> None:
    model = adapter(kind)
    other = frames() + 7.0 * ~padding_mask(LENGTHS, 40)[..., None]
    torch.testing.assert_close(model(other, LENGTHS).embeds, model(frames(), LENGTHS).embeds)


@pytest.mark.parametrize(
    ("kind", "wanted"), [("base", [40, 23, 9]), ("conv", [10, 6, 3]), ("wlq", [3, 2, 1]),
                         ("stack", [10, 6, 3])]
)  # fmt: skip
def test_lengths_of_the_clockwork_adapters(kind: str, wanted: list[int]) -> None:
    assert adapter(kind)(frames(), LENGTHS).lengths.tolist() == wanted


def test_several_queries_a_window_multiply_the_positions() -> None:
    found = adapter("wlq", queries=2)(frames(), LENGTHS, want_assignment=True)
    assert found.lengths.tolist() == [6, 4, 2]
    assert found.assignment.shape == (3, 40, 6)


@pytest.mark.parametrize("kind", ALL)
def test_the_assignment_is_a_matrix_of_frames_by_positions(kind: str) -> None:
    found = adapter(kind)(frames(), LENGTHS, want_assignment=True)
    weights = found.assignment
    assert weights.shape == (3, 40, found.embeds.shape[1])
    assert bool((weights >= 0).all())
    if kind in ("cif", "ctc", "wlq"):
        for row, n in enumerate(found.lengths.tolist()):
            torch.testing.assert_close(weights[row, :, :n].sum(0), torch.ones(n), atol=1e-5, rtol=0)


def test_cif_has_two_losses_ctc_one_and_the_others_none() -> None:
    targets = [torch.tensor([0, 1, 1]), torch.tensor([2]), torch.tensor([3, 0])]
    for kind in KINDS:
        found = adapter(kind)(frames(), LENGTHS, torch.tensor([3, 1, 2]), targets)
        wanted = {"cif": {"ctc", "quantity"}, "ctc": {"ctc"}}.get(kind, set())
        assert set(found.losses) == wanted
        if kind == "cif":
            assert found.lengths.tolist() == [3, 1, 2]


def test_an_utterance_for_which_nothing_fires_gives_one_position_and_is_counted() -> None:
    model = adapter("cif")
    torch.nn.init.zeros_(model.weigh.weight)
    torch.nn.init.constant_(model.weigh.bias, -200.0)  # every weight is 0
    found = model(frames()[:1], torch.tensor([40]))
    assert found.lengths.tolist() == [1]
    assert found.stats["empty"] == 1
    assert bool(torch.isfinite(found.embeds).all())


def test_ctc_loss_equals_the_sum_over_alignments() -> None:
    logp = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(4)).log_softmax(-1)
    p = logp[0].exp()
    paths = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1)]
    wanted = -torch.log(sum(p[0, a] * p[1, b] * p[2, c] for a, b, c in paths))
    found = ctc_loss(logp, torch.tensor([3]), [torch.tensor([0])])
    torch.testing.assert_close(found, wanted)


def test_outputs_start_at_the_size_asked_for() -> None:
    for rms, wanted in ((0.1356, 0.1356), (None, 1.0)):
        found = adapter("base", output_rms=rms)(frames(), LENGTHS).embeds[0]
        torch.testing.assert_close(found.pow(2).mean().sqrt(), torch.tensor(wanted), rtol=0.02,
                                   atol=0)  # fmt: skip


@pytest.mark.parametrize("kind", ["conv", "cif", "ctc", "stack"])
def test_layers_may_stand_before_the_length_rule(kind: str) -> None:
    found = adapter(kind, before_layers=1)(frames(), LENGTHS)
    assert found.embeds.shape[-1] == 20
    assert torch.isfinite(found.embeds).all()


def test_equal_input_and_output_width_is_still_an_adapter() -> None:
    model = make_adapter("base", 12, 12, 50.0, hidden=12, heads=2)
    assert not torch.allclose(model(frames(), LENGTHS).embeds, frames())


def test_run_weights_of_ctc() -> None:
    for weights in ("mean", "weighted", "softmax"):
        found = adapter("ctc", run_weights=weights)(frames(), LENGTHS, want_assignment=True)
        n = int(found.lengths[0])
        torch.testing.assert_close(found.assignment[0, :, :n].sum(0), torch.ones(n))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "mlp"}, "unknown adapter 'mlp': choose one of base"),
        ({"d_in": 0}, "d_in=0"),
        ({"frame_rate": 0.0}, "frame_rate=0.0"),
        ({"before_layers": 3}, r"0\.\.2, got 3"),
        ({"heads": 5}, "5 heads do not divide"),
        ({"kind": "wlq", "window": 0}, "at least 1 frame, got 0"),
        ({"kind": "wlq", "before_layers": 1}, "before_layers must be 0"),
        ({"kind": "ctc", "run_weights": "best"}, "'best'"),
    ],
)
def test_make_adapter_refuses(change: dict, message: str) -> None:
    arguments = {"kind": "base", "d_in": 12, "d_out": 20, "frame_rate": 50.0, "hidden": 16}
    with pytest.raises(ValueError, match=message):
        make_adapter(**(arguments | change))(frames(), LENGTHS)


def test_forward_refuses() -> None:
    model = adapter("cif")
    with pytest.raises(ValueError, match="13 wide, this adapter takes 12"):
        model(torch.zeros(1, 5, 13), torch.tensor([5]))
    with pytest.raises(ValueError, match=r"1\.\.40.*\[41, 23, 9\]"):
        model(frames(), torch.tensor([41, 23, 9]))
    with pytest.raises(ValueError, match="CTC target is empty"):
        model(frames(), LENGTHS, ctc_targets=[torch.tensor([], dtype=torch.long)] * 3)
    logp = torch.zeros(1, 2, 4).log_softmax(-1)
    with pytest.raises(ValueError, match=r"need \[3\] frames, there are \[2\]"):
        ctc_loss(logp, torch.tensor([2]), [torch.tensor([1, 1])], strict=True)


@pytest.mark.parametrize("kind", ALL)
def test_shuffled_frames_give_the_same_vectors_with_base_alone(kind: str) -> None:
    """Without positions the base adapter is permuted with its input: the order is the LM's job."""
    model = adapter(kind)
    x, forty = frames()[:1], torch.tensor([40])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    straight, turned = model(x, forty).embeds[0], model(x[:, order], forty).embeds[0]
    apart = (turned[:, None] - straight).norm(dim=-1)
    nearest = apart.amin(dim=1).max()
    assert (nearest < 1e-3) == (kind == "base")
    if kind == "base":
        torch.testing.assert_close(turned, straight[order], atol=1e-5, rtol=1e-4)
