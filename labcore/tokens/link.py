"""What a rate costs: FLOPs, channel uses, seconds; and the largest rate that a latency allows.

    latency = F_device / f_device + k T(x) / W + F_server / f_server

with FLOPs by the formula of :mod:`labcore.blocks.cost`, k complex symbols a token, W symbols a
second, and f the FLOPs a second of device and server. Nothing here is measured on a radio: the
hardware numbers are the caller's.
"""

import math
from dataclasses import dataclass

from labcore.blocks.cost import ViTSpec, training_flops
from labcore.blocks.vit import ViTConfig


@dataclass(frozen=True)
class Latency:
    """Seconds of one image, by where they go."""

    device: float
    air: float
    server: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.device + self.air + self.server

    @property
    def milliseconds(self) -> float:
        """Their sum in thousandths of a second."""
        return 1e3 * self.total


def flops(config: ViTConfig, split: int, tokens: float, *, gates: int = 1) -> tuple[float, float]:
    """Forward FLOPs of device and server for one image, blocks and gates.

    A block on N tokens takes 2 N D^2 (4 + 2 r) + 4 N^2 D, a gate 2 T D. Class and budget token are
    counted on both sides. The server's last block is counted whole.

    Args:
        config: Sizes of the network.
        split: Blocks on the device.
        tokens: Patch tokens sent.
        gates: Gates on the device.

    Raises:
        ValueError: split out of range, or more tokens than patches.
    """
    if not 1 <= split <= config.depth - 1:
        raise ValueError(f"split={split} must lie in 1..{config.depth - 1}")
    if not 0 <= tokens <= config.num_patches:
        raise ValueError(f"tokens={tokens} must lie in 0..{config.num_patches}")
    whole, sent = config.num_patches + 2, round(tokens) + 2
    spec = ViTSpec(config.depth, config.hidden_size, whole, config.mlp_ratio)
    layers = training_flops(spec, [whole] * split + [sent] * (config.depth - split)).layers
    device = sum(layer.forward for layer in layers[:split])
    gate = 2.0 * gates * config.num_patches * config.hidden_size
    return device + gate, sum(layer.forward for layer in layers[split:])


@dataclass(frozen=True)
class LinkBudget:
    """A device, a radio link and a server.

    Attributes:
        flops_device: FLOPs a second of the device.
        flops_server: FLOPs a second of the server.
        symbols_per_second: Complex symbols a second, W.
        num_symbols: Symbols a token, k.
        config: Sizes of the network.
        split: Blocks on the device.

    Raises:
        ValueError: a number that is not positive, or k < 1.
    """

    flops_device: float = 1e9
    flops_server: float = 1e11
    symbols_per_second: float = 1e5
    num_symbols: int = 16
    config: ViTConfig = ViTConfig(
        image_size=49, hidden_size=64, depth=4, num_heads=4, num_classes=10
    )
    split: int = 1

    def __post_init__(self) -> None:
        for name in ("flops_device", "flops_server", "symbols_per_second"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if self.num_symbols < 1:
            raise ValueError(f"num_symbols={self.num_symbols}: a token needs at least one symbol")

    def channel_uses(self, tokens: float) -> float:
        """Complex symbols for so many tokens, k T(x)."""
        return self.num_symbols * tokens

    def bandwidth_ratio(self, tokens: float) -> float:
        """Symbols sent over numbers in the image, k T(x) / (3 H W) (C channels instead of 3)."""
        size = self.config.in_channels * self.config.image_size**2
        return self.channel_uses(tokens) / size

    def latency(self, tokens: float) -> Latency:
        """Seconds when so many tokens are sent.

        >>> f"{LinkBudget(symbols_per_second=1e6).latency(10).air * 1e6:.0f} us"
        '160 us'
        """
        device, server = flops(self.config, self.split, tokens)
        air = self.channel_uses(tokens) / self.symbols_per_second
        return Latency(device / self.flops_device, air, server / self.flops_server)

    def max_budget(self, latency: float) -> float:
        """The largest alpha with at most so many seconds.

        Raises:
            ValueError: even one token takes longer.
        """
        t = self.config.num_patches
        fitting = [n for n in range(1, t + 1) if self.latency(n).total <= latency]
        if not fitting:
            raise ValueError(
                f"one token takes {self.latency(1).total:.2e} s, more than {latency:.2e} s: allow "
                "more time or a faster link"
            )
        return fitting[-1] / t


def index_bits(tokens: int, sent: int) -> float:
    """Bits that say which ``sent`` of ``tokens`` were sent: log2 of the binomial coefficient.

    >>> round(index_bits(49, 10), 1)
    32.9
    """
    return math.log2(math.comb(tokens, sent))
