"""Training: what rests at first, what a lot does, equal steps for all, the same numbers again."""

import copy

import pytest
import torch

from labcore.blocks.vit import VisionTransformer
from labcore.tokens import methods, training
from labcore.tokens.data import Pool
from labcore.tokens.evaluate import evaluate_cell
from labcore.tokens.settings import METHODS
from labcore.tokens.training import BaseTraining, Tuning, fine_tune, train_base

G = torch.Generator


@pytest.fixture(scope="module")
def base() -> VisionTransformer:
    return VisionTransformer(training.VIT, generator=G().manual_seed(0)).eval()


def test_the_base_learns_and_is_the_same_again(invented: Pool) -> None:
    settings = BaseTraining(digit_steps=2, canvas_steps=3, batch=16)
    one, two = (train_base(invented, settings, 4) for _ in range(2))
    other = train_base(invented, settings, 5)
    for a, b, c in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert c.shape == a.shape
    assert not torch.equal(one.head.weight, other.head.weight)


def test_digits_alone_are_read_from_their_sixteen_patches(invented: Pool) -> None:
    drawn = invented.canvases(8, G().manual_seed(1), fragments=0)
    assert (drawn.digit.sum(-1) <= 16).all()
    seen = []
    train_base(invented, BaseTraining(1, 1, 8), 0, lambda *step: seen.append(step))
    assert seen == [(1, 2, "base network"), (2, 2, "base network")]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_measured(
    method: str, base: VisionTransformer, invented: Pool
) -> None:
    model = methods.build(method, base, 1)
    tuning = methods.tuning_of(method, Tuning(steps=2, batch=8))
    before = copy.deepcopy(base.state_dict())
    fine_tune(model, invented, tuning, 1)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), base.state_dict().values(),
                                                 strict=True))  # fmt: skip
    assert not model.training
    data = invented.canvases(20, G().manual_seed(3))
    row = evaluate_cell(model, data, 0.2, 10.0)
    assert 0 < row["rate"] < 1.03  # a class token that is sent counts
    assert row["channel_uses"] == pytest.approx(16 * 49 * row["rate"])
    assert 0 <= row["accuracy"] <= 1
    assert (row["precision"] != row["precision"]) == (method in ("merging", "class_alone"))


def test_blocks_and_coder_rest_at_first(base: VisionTransformer, invented: Pool) -> None:
    model = methods.build("gate", base, 1)
    fine_tune(model, invented, Tuning(steps=2, batch=8, frozen=1.0), 1)
    for (name, now), start in zip(
        model.backbone.named_parameters(), base.parameters(), strict=True
    ):
        assert torch.equal(now, start) == ("head" not in name), name
    assert all(p.requires_grad for p in model.parameters())


def test_cells_are_what_they_say(base: VisionTransformer, invented: Pool) -> None:
    model = methods.build("magnitude", base, 0).eval()
    data = invented.canvases(30, G().manual_seed(2))
    row = evaluate_cell(model, data, 0.2, None)
    with torch.no_grad():
        out = model(data.images, 0.2)
    assert row["accuracy"] == pytest.approx(
        (out.logits.argmax(-1) == data.labels).float().mean().item()
    )
    hit = (out.keep & data.digit).sum().item()
    assert row["precision"] == pytest.approx(hit / 300)
    assert row["recall"] == hit / data.digit.sum().item()
    assert row["rate"] == pytest.approx(10 / 49)
