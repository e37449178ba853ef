"""The channel: complex symbols of power 1, white noise, fading, erasure; and the coder around it.

A token's vector becomes k complex symbols (a linear map to 2k reals), which are scaled to
mean power 1 over what one image sends. The receiver undoes the channel and maps back. Noise is
a constant for the gradient, so that the sender learns from what arrives.

For a complex symbol of power 1 the noise has variance 10^(-SNR/10), half of it in each real part.
0 dB is a value like any other (as much noise as signal); ``None`` and infinity mean no noise.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from labcore.tokens.checks import noise_variance, one_of

Kind = Literal["awgn", "rayleigh", "erasure"]
Equalizer = Literal["zf", "mmse"]


def _complex_noise(
    symbols: Complex[Tensor, "*s"], variance: float, generator: torch.Generator | None
) -> Complex[Tensor, "*s"]:
    """CN(0, variance): each real part has half of the variance."""
    real = symbols.real.dtype
    parts = torch.randn(*symbols.shape, 2, generator=generator, dtype=real)
    return torch.view_as_complex(parts) * (variance / 2) ** 0.5


def _require_complex(symbols: Tensor) -> None:
    if not symbols.is_complex():
        raise TypeError(
            f"symbols are {symbols.dtype}, complex ones are wanted: pair reals with "
            "torch.view_as_complex"
        )


def awgn(
    symbols: Complex[Tensor, "*s"],
    snr_db: float | None,
    generator: torch.Generator | None = None,
) -> Complex[Tensor, "*s"]:
    """y = s + n, n ~ CN(0, 10^(-SNR/10)): white noise on symbols of power 1.

    Raises:
        TypeError: real symbols.
        ValueError: SNR is NaN or minus infinity.
    """
    _require_complex(symbols)
    variance = noise_variance(snr_db)
    return symbols + _complex_noise(symbols, variance, generator) if variance else symbols


def rayleigh(
    symbols: Complex[Tensor, "b n k"],
    snr_db: float | None,
    equalizer: Equalizer = "zf",
    generator: torch.Generator | None = None,
) -> Complex[Tensor, "b n k"]:
    """y = h s + n with one fade h ~ CN(0, 1) an image, which the receiver knows and undoes.

    Zero forcing gives y / h: unbiased, and very loud in a deep fade. MMSE gives
    h* y / (|h|^2 + sigma^2): shrunk, with the smaller mean squared error.

    Args:
        symbols: What is sent, power 1; first axis the image.
        snr_db: Mean signal-to-noise ratio in decibels; None for no noise.
        equalizer: ``"zf"`` or ``"mmse"``.
        generator: Draws fade and noise.

    Raises:
        TypeError: real symbols.
        ValueError: SNR is NaN or minus infinity, or an unknown equalizer.
    """
    _require_complex(symbols)
    one_of("equalizer", equalizer, ("zf", "mmse"))
    variance = noise_variance(snr_db)
    fade = _complex_noise(symbols[:, :1, :1], 1.0, generator)
    received = fade * symbols + _complex_noise(symbols, variance, generator)
    if equalizer == "zf":
        return received / fade
    return fade.conj() * received / (fade.abs().square() + variance)


def erasure(
    keep: Bool[Tensor, "b t"], p: float, generator: torch.Generator | None = None
) -> Bool[Tensor, "b t"]:
    """What arrives of the sent tokens when each is lost with probability ``p``, independently.

    Lost tokens are absent for the receiver (masked), not zero.

    Raises:
        ValueError: ``p`` is outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p={p} is outside [0, 1]: it is the probability of losing a token")
    return keep & (torch.rand(keep.shape, generator=generator) >= p)


def normalize_power(
    symbols: Complex[Tensor, "b n k"],
    keep: Tensor | None = None,
    power: Literal["image", "token"] = "image",
) -> Complex[Tensor, "b n k"]:
    """Scale symbols so that their mean power |s|^2 over what is sent is 1.

    Args:
        symbols: (b, n, k) complex.
        keep: Sent tokens (b, n), bool or 0/1; all when None. Others do not count.
        power: ``"image"``: one scale an image, loud tokens stay louder than others. ``"token"``:
            each token has power 1 by itself, so that each is hit by the same noise.

    Raises:
        TypeError: real symbols.
        ValueError: an unknown ``power``.
    """
    _require_complex(symbols)
    one_of("power", power, ("image", "token"))
    energy = torch.view_as_real(symbols).square().sum(-1).mean(-1, keepdim=True)  # (b, n, 1)
    if power == "image":
        sent = torch.ones_like(energy) if keep is None else (keep > 0).to(energy.dtype)[..., None]
        energy = (energy * sent).sum(1, keepdim=True) / sent.sum(1, keepdim=True).clamp_min(1)
    tiny = torch.finfo(energy.dtype).tiny
    return symbols / energy.clamp_min(tiny).sqrt()


@dataclass(frozen=True)
class Channel:
    """Which channel the symbols take.

    Attributes:
        kind: ``"awgn"``, ``"rayleigh"`` or ``"erasure"`` (tokens lost, symbols exact).
        equalizer: ``"zf"`` or ``"mmse"``, of the Rayleigh channel.
        power: Normalisation over one ``"image"`` or one ``"token"``.
        loss: Probability of losing a token, of the erasure channel.

    Raises:
        ValueError: a value that is not one of these.
    """

    kind: Kind = "awgn"
    equalizer: Equalizer = "zf"
    power: Literal["image", "token"] = "image"
    loss: float = 0.0

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("awgn", "rayleigh", "erasure"))
        one_of("equalizer", self.equalizer, ("zf", "mmse"))
        one_of("power", self.power, ("image", "token"))
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss={self.loss} is outside [0, 1]")

    def send(
        self,
        symbols: Complex[Tensor, "b n k"],
        snr_db: float | None,
        generator: torch.Generator | None = None,
    ) -> Complex[Tensor, "b n k"]:
        """What the receiver has after equalising."""
        if self.kind == "awgn":
            return awgn(symbols, snr_db, generator)
        if self.kind == "rayleigh":
            return rayleigh(symbols, snr_db, self.equalizer, generator)
        return symbols

    def arrived(
        self, keep: Bool[Tensor, "b t"], generator: torch.Generator | None = None
    ) -> Bool[Tensor, "b t"]:
        """Which of the sent tokens arrive."""
        return erasure(keep, self.loss, generator) if self.kind == "erasure" else keep


class TokenCoder(nn.Module):
    """Linear maps token -> k complex symbols -> token.

    Args:
        hidden_size: Width of a token, D.
        num_symbols: Complex symbols a token, k.

    Raises:
        ValueError: k < 1.
    """

    def __init__(self, hidden_size: int, num_symbols: int) -> None:
        super().__init__()
        if num_symbols < 1:
            raise ValueError(f"num_symbols={num_symbols}: a token needs at least one symbol")
        self.num_symbols = num_symbols
        self.encoder = nn.Linear(hidden_size, 2 * num_symbols)
        self.decoder = nn.Linear(2 * num_symbols, hidden_size)

    def encode(self, tokens: Float[Tensor, "b n d"]) -> Complex[Tensor, "b n k"]:
        """Symbols, before their power is normalised."""
        return torch.view_as_complex(self.encoder(tokens).unflatten(-1, (self.num_symbols, 2)))

    def decode(self, symbols: Complex[Tensor, "b n k"]) -> Float[Tensor, "b n d"]:
        """Tokens again.

        Raises:
            TypeError: real symbols.
            ValueError: another number of symbols a token.
        """
        _require_complex(symbols)
        if symbols.shape[-1] != self.num_symbols:
            raise ValueError(
                f"{symbols.shape[-1]} symbols a token, this decoder reads {self.num_symbols}"
            )
        return self.decoder(torch.view_as_real(symbols).flatten(-2))

    @torch.no_grad()
    def fit(self, tokens: Float[Tensor, "b n d"]) -> "TokenCoder":
        """Start from the principal directions of some tokens (the best linear code without noise).

        Args:
            tokens: Tokens as they leave the device.

        Returns:
            This coder.
        """
        flat = tokens.flatten(0, 1).double()
        mean = flat.mean(0)
        _, axes = torch.linalg.eigh(torch.cov((flat - mean).T))
        width = min(2 * self.num_symbols, axes.shape[0])
        axes = axes.flip(1)[:, :width].T  # (w, d), largest variance first
        codes = (flat - mean) @ axes.T
        loudness = (codes.square().sum(-1).mean() / self.num_symbols).sqrt()
        self.encoder.weight.zero_()
        self.decoder.weight.zero_()
        self.encoder.weight[:width] = axes.to(self.encoder.weight)
        self.encoder.bias.zero_()
        self.encoder.bias[:width] = -(axes @ mean).to(self.encoder.bias)
        self.decoder.weight[:, :width] = (axes.T * loudness).to(self.decoder.weight)
        self.decoder.bias.copy_(mean)
        return self
