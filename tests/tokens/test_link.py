"""What a rate costs, by the formula of the spec; canvases; the door of the budget."""

import pytest
import torch

from labcore.blocks.vit import ViTConfig
from labcore.tokens.data import Pool, pool
from labcore.tokens.evaluate import evaluate_curve
from labcore.tokens.link import LinkBudget, flops, index_bits
from tests.tokens.conftest import semantic

SMALL = ViTConfig(
    image_size=224, patch_size=16, hidden_size=384, depth=12, num_heads=6, mlp_ratio=4
)


def test_flops_are_the_formula() -> None:
    d, r = 384, 4

    def block(n: int) -> float:
        return 2 * n * d * d * (4 + 2 * r) + 4 * n * n * d

    device, server = flops(SMALL, 3, 49)
    assert device == pytest.approx(3 * block(198) + 2 * 196 * d)
    assert server == pytest.approx(9 * block(51))
    whole = sum(flops(SMALL, 3, 196))
    assert whole / (device + server) == pytest.approx(2.3, abs=0.05)
    for bad in ({"split": 0, "tokens": 3}, {"split": 3, "tokens": 500}):
        with pytest.raises(ValueError, match="must lie in"):
            flops(SMALL, **bad)


def test_the_air_part_of_the_exercise_and_the_way_back() -> None:
    link = LinkBudget(symbols_per_second=1e6)
    assert link.latency(10).air == pytest.approx(160e-6)
    assert link.channel_uses(10) == 160
    assert link.bandwidth_ratio(10) == pytest.approx(160 / 49**2)
    for tokens in (1, 10, 49):
        limit = link.latency(tokens).total
        assert link.max_budget(limit) == pytest.approx(tokens / 49)
    with pytest.raises(ValueError, match="one token takes"):
        link.max_budget(1e-9)
    with pytest.raises(ValueError, match="flops_server"):
        LinkBudget(flops_server=0)
    with pytest.raises(ValueError, match="at least one symbol"):
        LinkBudget(num_symbols=0)
    assert index_bits(49, 49) == 0


def test_canvases_know_their_digit(invented: Pool) -> None:
    drawn = invented.canvases(50, torch.Generator().manual_seed(1))
    assert drawn.images.shape == (50, 1, 49, 49)
    assert not (drawn.digit & drawn.clutter).any()
    assert (drawn.clutter.sum(-1) == 6).all()
    cells = drawn.images.view(50, 7, 7, 7, 7).transpose(2, 3).reshape(50, 49, 49)
    assert (cells[drawn.digit].amax(-1) >= 0.5).all()
    blank = ~(drawn.digit | drawn.clutter)
    assert (cells[blank].amax(-1) < 0.5).all()
    plain = invented.canvases(5, torch.Generator().manual_seed(1), fragments=0)
    assert not plain.clutter.any()
    for bad in ({"count": 0}, {"count": 1, "fragments": 40}):
        with pytest.raises(ValueError, match="ask for|must lie"):
            invented.canvases(**bad, generator=torch.Generator())
    with pytest.raises(ValueError, match="split must be"):
        pool("holdout")


def test_a_curve_needs_something_to_measure(invented: Pool) -> None:
    with pytest.raises(ValueError, match="at least one"):
        evaluate_curve(semantic(), invented.canvases(1, torch.Generator()), [])
