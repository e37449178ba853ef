"""Masked equals packed, dropped means absent, messages, bad input."""

import math

import pytest
import torch

from labcore.tokens.channel import Channel
from labcore.tokens.masked import (
    additive_attention,
    keep_one,
    masked_block,
    multiplicative_attention,
    pack,
)
from labcore.tokens.merging import MergingViT
from labcore.tokens.message import Message
from labcore.tokens.model import SemanticViT
from tests.tokens.conftest import semantic, tiny

G = torch.Generator
OPTIONS = [
    {},
    {"channel": Channel(), "num_symbols": 3},
    {"channel": Channel("rayleigh", "mmse"), "num_symbols": 3, "class_token": "sent"},
    {"select": "topk", "scorer": "class_attention", "fuse_rest": True},
    {"select": "topk", "scorer": "random", "channel": Channel(), "num_symbols": 2},
    {"select": "topk", "scorer": "magnitude", "class_token": "sent"},
    {"select": "topk", "scorer": "predictor", "gated_layers": (0, 1)},
    {"select": "topk"},
    {"scorer": "halting"},
    {"gate": "soft"},
    {"gate": "soft", "split": 2, "gated_layers": (0, 1, 2)},
    {"gate": "concrete"},
    {"scorer": "none", "class_token": "sent", "channel": Channel(), "num_symbols": 3},
    {"split": 2, "gated_layers": (0, 1, 2)},
    {"channel": Channel("erasure", loss=0.2), "num_symbols": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masked_equals_packed(options, dtype, images) -> None:
    model = semantic(**options).to(dtype)
    budget = torch.tensor([0.1, 0.3, 0.5, 0.8, 1.0, 0.0], dtype=dtype)
    with torch.no_grad():
        masked = model(images.to(dtype), budget, 5.0, generator=G().manual_seed(7))
        packed = model.pack_forward(images.to(dtype), budget, 5.0, generator=G().manual_seed(7))
        grouped = model.pack_forward(
            images.to(dtype), budget, 5.0, generator=G().manual_seed(7), groups=3
        )
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(masked.logits, packed.logits, atol=tolerance, rtol=0)
    torch.testing.assert_close(grouped.logits, packed.logits, atol=tolerance, rtol=0)
    assert torch.equal(masked.keep, packed.keep)
    counts = packed.keep.sum(-1)
    if model.select == "threshold" and "gate" in model.scorer:  # unequal, and something is dropped
        assert len(counts.unique()) > 1
        assert counts.max() < 16


def test_everything_kept_is_the_plain_network_with_one_more_token(images) -> None:
    model = semantic(select="topk", scorer="random")
    net = model.backbone
    with torch.no_grad():
        model.server_class.copy_(torch.zeros_like(model.server_class))
        token = model.budget_token(torch.ones(6))
        device = torch.cat((net.embed(images), token), 1)
        device = net.blocks[0](device)
        joined = torch.cat((model.server_class.expand(6, -1, -1), device[:, 1:-1], token), 1)
        for block in net.blocks[1:]:
            joined = block(joined)
        plain = net.head(net.norm(joined[:, 0]))
        torch.testing.assert_close(model(images, 1.0).logits, plain)


def test_mixed_budgets_equal_each_image_alone_and_order_does_not_matter(images) -> None:
    model = semantic(channel=Channel(), num_symbols=3)
    budget = torch.tensor([0.1, 0.3, 0.5, 0.8, 1.0, 0.0])
    with torch.no_grad():
        whole = model(images, budget)
        for i in range(6):
            one = model(images[i : i + 1], float(budget[i]))
            torch.testing.assert_close(one.logits[0], whole.logits[i], atol=1e-5, rtol=0)
        order = torch.tensor([3, 1, 5, 0, 2, 4])
        turned = model(images[order], budget[order])
    torch.testing.assert_close(turned.logits, whole.logits[order], atol=1e-5, rtol=0)


def test_a_patch_dropped_before_any_mixing_changes_nothing(images) -> None:
    model = semantic(gated_layers=(0,))
    with torch.no_grad():
        before = model(images, 0.3)
        dropped = ~before.keep[0]
        assert dropped.any()
        place = int(dropped.nonzero()[0])
        row, column = divmod(place, 4)
        changed = images.clone()
        cell = changed[0, 0, 7 * row : 7 * row + 7, 7 * column : 7 * column + 7]
        cell += 1e-3 * torch.rand(7, 7, generator=G().manual_seed(1))
        after = model(changed, 0.3)
    assert torch.equal(after.keep, before.keep)
    assert torch.equal(after.logits, before.logits)


def test_multiplicative_and_additive_masks_agree_and_zeroing_does_not() -> None:
    parts = [torch.randn(3, 2, 7, 4, generator=G().manual_seed(s)) for s in range(3)]
    mask = (torch.rand(3, 7, generator=G().manual_seed(9)) > 0.5).float()
    mask[:, 0] = 1
    one, other = (f(*parts, mask) for f in (multiplicative_attention, additive_attention))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    alive = mask.clone().requires_grad_()
    multiplicative_attention(*parts, alive).square().sum().backward()
    assert (alive.grad[mask == 0].abs() > 0).all()
    block = tiny().blocks[0]
    x = torch.randn(3, 7, 16, generator=G().manual_seed(4))
    with torch.no_grad():
        gone = masked_block(block, x, mask)[:, :1]
        zeroed = masked_block(block, x * mask[..., None])[:, :1]
        first = masked_block(block, x, mask, first_only=True)
    assert (gone - zeroed).abs().max() > 1e-3
    torch.testing.assert_close(first, gone)
    with pytest.raises(ValueError, match="not both"):
        masked_block(block, x, mask, log_size=mask)


def test_every_parameter_learns_through_a_hard_gate_and_a_channel(images) -> None:
    model = semantic(channel=Channel(), num_symbols=3).train()
    out = model(images, 0.5, 0.0, generator=G().manual_seed(1))
    assert (~out.keep).any()
    (out.logits.square().sum() + (out.counted.mean(-1) - 0.5).square().sum()).backward()
    for name in ("coder.encoder.weight", "gates.1.weight", "gates.1.budget_bias",
                 "budget_token.vectors", "server_class",
                 "backbone.patch_embed.proj.weight"):  # fmt: skip
        grad = dict(model.named_parameters())[name].grad
        assert grad is not None, name
        assert grad.abs().sum() > 0, name


def test_the_answer_moves_the_scores_of_dropped_tokens(images) -> None:
    model = semantic().train()
    seen = []
    hook = model.gates["1"].register_forward_hook(lambda m, a, out: seen.append(out.mask))
    out = model(images, 0.5)
    hook.remove()
    (grad,) = torch.autograd.grad(out.logits.square().sum(), seen[0])
    dropped = ~out.keep
    assert dropped.any()
    assert (grad[dropped] != 0).all()


def test_exact_rates_teach_scores_and_thresholds_apart(images) -> None:
    model = semantic().train()
    own = model(images, 0.5)
    out = model(images, 0.5, exact=True)
    assert (out.keep.sum(-1) == 8).all()
    assert torch.equal(out.counted, own.counted)
    assert not torch.equal(own.keep, out.keep)
    gate = model.gates["1"]
    score = torch.autograd.grad(out.logits.square().sum(), gate.weight, retain_graph=True)
    assert score[0].abs().sum() > 0
    with pytest.raises(RuntimeError):  # the answer does not move the threshold
        torch.autograd.grad(out.logits.square().sum(), gate.budget_bias, retain_graph=True)
    (threshold,) = torch.autograd.grad(out.counted.sum(), gate.budget_bias)
    assert threshold.abs() > 0


def test_the_published_soft_gate_scales_what_it_keeps(images) -> None:
    model = semantic(gate="soft")
    with torch.no_grad():
        chosen = model.device(images, 0.5)
        gate = model.gates["1"]
        margin = chosen.score - chosen.threshold[:, None]
        plain = semantic().device(images, 0.5)
    torch.testing.assert_close(
        chosen.tokens, plain.tokens * margin.clamp_min(0)[..., None], atol=1e-5, rtol=1e-5
    )
    assert torch.equal(chosen.mask > 0, margin > 0)
    torch.testing.assert_close(chosen.counted, margin.clamp_min(0))
    assert gate.gate == "soft"


def test_a_class_token_can_go_alone(images) -> None:
    model = semantic(scorer="none", class_token="sent", channel=Channel(), num_symbols=2)
    with torch.no_grad():
        out = model(images, 0.5)
        assert not out.keep.any()
        assert (out.rates == 1 / 16).all()
        assert model.encode(images, 0.5).lengths.tolist() == [1] * 6


def test_encode_then_decode_is_forward(images, tmp_path) -> None:
    channel = Channel("rayleigh", "mmse")
    model = semantic(channel=channel, num_symbols=3)
    with torch.no_grad():
        out = model(images, 0.4, 3.0, generator=G().manual_seed(2))
        message = model.encode(images, 0.4)
        message.save(tmp_path / "m.safetensors")
        again = Message.load(tmp_path / "m.safetensors")
        assert torch.equal(again.symbols, message.symbols)
        got = model.decode(again.through(channel, 3.0, G().manual_seed(2)))
    torch.testing.assert_close(got, out.logits, atol=1e-5, rtol=0)
    assert torch.equal(message.lengths, out.keep.sum(-1))
    assert torch.equal(message.channel_uses, 3 * message.lengths)
    n = int(message.lengths[0])
    assert message.index_bits[0].item() == pytest.approx(math.log2(math.comb(16, n)))


def test_bad_messages_are_refused(images, tmp_path) -> None:
    model = semantic(channel=Channel(), num_symbols=3)
    m = model.encode(images, 0.4)
    with pytest.raises(ValueError, match="do not fit symbols"):
        Message(m.symbols, m.index, m.lengths + 100, m.budget, m.slots)
    with pytest.raises(ValueError, match="do not fit symbols"):
        Message(m.symbols, m.index, m.lengths - 100, m.budget, m.slots)
    with pytest.raises(ValueError, match="leaves the"):
        Message(m.symbols, m.index + 99, m.lengths, m.budget, m.slots)
    with pytest.raises((ValueError, TypeError)):
        Message(m.symbols, m.index[:2], m.lengths, m.budget, m.slots)
    with pytest.raises(TypeError):
        Message(m.symbols.real, m.index, m.lengths, m.budget, m.slots)
    with pytest.raises(ValueError, match="slots, this model"):
        model.decode(Message(m.symbols, m.index, m.lengths, m.budget, m.slots + 1))
    lost = m.through(Channel("erasure", loss=1.0), None)
    assert not lost.lengths.any()
    assert torch.isfinite(model.decode(lost)).all()
    with pytest.raises(ValueError, match="no symbols"):
        semantic().encode(images, 0.4)
    (tmp_path / "x.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match="no message"):
        Message.load(tmp_path / "x.safetensors")


def test_packing() -> None:
    keep = torch.rand(20, 9, generator=G().manual_seed(0)) > 0.6
    keep[:, 4] = True
    packed = pack(keep)
    for row, index, n in zip(keep, packed.index, packed.lengths, strict=True):
        assert index[:n].tolist() == row.nonzero().flatten().tolist()
    with pytest.raises(ValueError, match="image 1 keeps no token"):
        pack(torch.tensor([[True], [False]]))
    score = torch.tensor([[0.1, 0.3, 0.2], [0.5, 0.4, 0.1]])
    mask = torch.tensor([[0.0, 0, 0], [0, 1, 0]])
    assert keep_one(mask, score).tolist() == [[0, 1, 0], [0, 1, 0]]


def test_an_image_that_would_send_nothing_sends_its_best_token(images) -> None:
    model = semantic()
    with torch.no_grad():
        model.gates["1"].budget_bias.fill_(50.0)
        out = model(images, 0.2)
        chosen = model.device(images, 0.2)
    assert (out.keep.sum(-1) == 1).all()
    assert torch.equal(out.keep.int().argmax(-1), chosen.score.argmax(-1))
    torch.testing.assert_close(out.rates, torch.full((6,), 1 / 16))


def test_a_class_token_that_is_sent_is_counted(images) -> None:
    model = semantic(select="topk", scorer="magnitude", class_token="sent")
    with torch.no_grad():
        assert (model(images, 0.5).rates == 9 / 16).all()


def test_merging_sends_the_count_and_refuses_mixed_ones(images) -> None:
    model = MergingViT(tiny(), 1, Channel(), 3).eval()
    with torch.no_grad():
        assert (model(images, 0.2, 5.0).keep.sum(-1) == 4).all()
        with pytest.raises(ValueError, match="one budget"):
            model(images, torch.tensor([0.1, 0.3, 0.5, 0.8, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": 0}, "split=0"),
        ({"split": 3}, "split=3"),
        ({"split": 1, "gated_layers": (2,)}, "nothing is left"),
        ({"split": 1, "gated_layers": ()}, "gated_layers"),
        ({"split": 1, "channel": Channel()}, "num_symbols"),
        ({"split": 1, "num_symbols": 0}, "at least one symbol"),
        ({"split": 1, "scorer": "random"}, "no threshold"),
        ({"split": 1, "scorer": "taste"}, "scorer="),
        ({"split": 1, "fuse_rest": True}, "topk"),
        ({"split": 1, "scorer": "none"}, "send the class token"),
        (
            {
                "split": 1,
                "num_symbols": 2,
                "class_token": "sent",
                "channel": Channel("erasure", loss=0.1),
            },
            "lose the class token",
        ),
    ],
)
def test_bad_models_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticViT(tiny(), **arguments)


def test_bad_calls_are_refused(images) -> None:
    model = semantic(channel=Channel(), num_symbols=2)
    with pytest.raises(ValueError, match="image 2"):
        model(images, torch.tensor([0.1, 0.2, 1.2, 0.1, 0.1, 0.1]))
    with pytest.raises(ValueError, match="snr_db"):
        model(images, 0.5, math.nan)
    with pytest.raises(ValueError, match="snr_db"):
        model.pack_forward(images, 0.5, math.nan)
    with pytest.raises(ValueError, match="groups"):
        model.pack_forward(images, 0.5, groups=0)
    with pytest.raises(ValueError, match="one number"):
        model(images, torch.tensor([0.5, 0.5]))
