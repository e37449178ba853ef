"""The channel is what it says: noise power, fading, normalisation, gradients, bad input."""

import math

import pytest
import torch

from labcore.tokens.channel import Channel, TokenCoder, awgn, erasure, normalize_power, rayleigh
from labcore.tokens.checks import noise_variance
from tests.tokens.conftest import semantic

G = torch.Generator


def symbols(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize_power(
        torch.view_as_complex(torch.randn(*shape, 2, generator=G().manual_seed(seed)).double())
    )


@pytest.mark.parametrize("snr", [-10.0, 0.0, 20.0])
def test_noise_power_also_at_zero_decibels(snr: float) -> None:
    sent = symbols(1, 1000, 1000)
    noise = awgn(sent, snr, G().manual_seed(1)) - sent
    power = noise.abs().square().mean().item()
    assert power == pytest.approx(10 ** (-snr / 10), rel=0.01)
    parts = torch.view_as_real(noise).square().mean((0, 1, 2))
    assert parts[0].item() == pytest.approx(parts[1].item(), rel=0.02)  # half in each part


def test_no_noise_is_exact() -> None:
    sent = symbols(2, 3, 4)
    for snr in (None, math.inf):
        assert torch.equal(awgn(sent, snr), sent)
        torch.testing.assert_close(rayleigh(sent, snr, generator=G().manual_seed(2)), sent)


def test_zero_forcing_is_unbiased_and_mmse_never_worse() -> None:
    sent = symbols(1, 4, 4).expand(20_000, -1, -1)
    zf = rayleigh(sent, 10.0, "zf", G().manual_seed(1))
    mmse = rayleigh(sent, 10.0, "mmse", G().manual_seed(1))
    errors = (zf - sent).flatten(1)
    median = torch.view_as_real(errors).flatten().median().abs().item()
    assert median < 0.01  # heavy tails: the mean of |1/h|^2 does not exist
    for snr in (-10.0, 0.0, 10.0):
        zf = rayleigh(sent, snr, "zf", G().manual_seed(4))
        mmse = rayleigh(sent, snr, "mmse", G().manual_seed(4))
        assert (mmse - sent).abs().square().mean() < (zf - sent).abs().square().mean()


def test_one_fade_an_image() -> None:
    sent = torch.ones(3, 5, 2, dtype=torch.complex128)
    got = rayleigh(sent, 200.0, "mmse", G().manual_seed(0))
    torch.testing.assert_close(got, sent, atol=1e-6, rtol=0)


def test_power_is_one_over_what_is_sent() -> None:
    raw = torch.view_as_complex(torch.randn(4, 6, 3, 2, generator=G().manual_seed(0)).double())
    keep = torch.rand(4, 6, generator=G().manual_seed(1)) > 0.4
    keep[:, 0] = True
    scaled = normalize_power(raw, keep)
    for row, kept in zip(scaled, keep, strict=True):
        assert row[kept].abs().square().mean().item() == pytest.approx(1.0, abs=1e-12)
    louder = raw.clone()
    louder[~keep] *= 100  # dropped tokens do not count
    torch.testing.assert_close(normalize_power(louder, keep)[keep], scaled[keep])
    torch.testing.assert_close(normalize_power(7 * raw, keep), scaled)
    each = normalize_power(raw, power="token").abs().square().mean(-1)
    torch.testing.assert_close(each, torch.ones_like(each))


def test_erasure_loses_its_share_and_only_what_was_sent() -> None:
    keep = torch.rand(400, 50, generator=G().manual_seed(0)) > 0.5
    left = erasure(keep, 0.3, G().manual_seed(1))
    assert not (left & ~keep).any()
    assert (left.sum() / keep.sum()).item() == pytest.approx(0.7, abs=0.02)
    assert torch.equal(erasure(keep, 0.0), keep)
    assert not erasure(keep, 1.0).any()


CHANNELS = (
    Channel(), Channel("rayleigh"), Channel("rayleigh", "mmse"), Channel(power="token"),
    Channel("erasure", loss=0.3),
)  # fmt: skip


@pytest.mark.parametrize("channel", CHANNELS, ids=str)
def test_the_gradient_reaches_the_encoder_through_every_channel(channel: Channel, images) -> None:
    model = semantic(channel=channel, num_symbols=2).train()
    model(images, 0.5, 0.0, generator=G().manual_seed(1)).logits.square().sum().backward()
    for name in ("weight", "bias"):
        grad = getattr(model.coder.encoder, name).grad
        assert grad is not None
        assert grad.abs().sum() > 0


def test_a_wide_coder_starts_lossless() -> None:
    tokens = torch.randn(50, 4, 8, generator=G().manual_seed(0)) * 3 + 1
    coder = TokenCoder(8, 4).fit(tokens)
    loudness = coder.encode(tokens).abs().square().mean().sqrt()
    back = coder.decode(coder.encode(tokens) / loudness)
    torch.testing.assert_close(back, tokens, atol=1e-3, rtol=1e-3)


def test_bad_input_is_refused() -> None:
    real = torch.ones(1, 2, 3)
    for act in (lambda: awgn(real, 0.0), lambda: rayleigh(real, 0.0), lambda: normalize_power(real),
                lambda: TokenCoder(8, 3).decode(real)):  # fmt: skip
        with pytest.raises(TypeError):
            act()
    for snr in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="snr_db"):
            noise_variance(snr)
    with pytest.raises(ValueError, match="p=1.5"):
        erasure(torch.ones(1, 2) > 0, 1.5)
    with pytest.raises(ValueError, match="at least one symbol"):
        TokenCoder(8, 0)
    with pytest.raises(ValueError, match="this decoder reads 3"):
        TokenCoder(8, 3).decode(symbols(1, 2, 2).to(torch.complex64))
    with pytest.raises((ValueError, TypeError)):
        Channel("wire")
    with pytest.raises(ValueError, match="loss="):
        Channel("erasure", loss=2.0)
    with pytest.raises((ValueError, TypeError)):
        Channel(equalizer="none")
