"""What crosses the channel: the symbols of the kept tokens, and which tokens they are."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Complex, Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from labcore.runs import replacing
from labcore.tokens.channel import Channel


@dataclass(frozen=True)
class Message:
    """Symbols of a batch of images.

    Attributes:
        symbols: (b, n, k) complex, mean power 1 over what an image sends; padding is 0.
        index: Slot of each token (b, n), ascending, padded with 0.
        lengths: Tokens that each image sends (b,).
        budget: The rate that each image asked for (b,), side information of one number.
        slots: How many slots there are.

    Raises:
        TypeError: symbols are not complex.
        ValueError: shapes, lengths or slots that do not fit each other.
    """

    symbols: Complex[Tensor, "b n k"]
    index: Int[Tensor, "b n"]
    lengths: Int[Tensor, " b"]
    budget: Float[Tensor, " b"]
    slots: int

    def __post_init__(self) -> None:
        if not self.symbols.is_complex():
            raise TypeError(f"symbols are {self.symbols.dtype}, complex ones are wanted")
        b, n, _ = self.symbols.shape
        shapes = (tuple(self.index.shape), tuple(self.lengths.shape), tuple(self.budget.shape))
        if shapes != ((b, n), (b,), (b,)):
            raise ValueError(
                f"{b} images of {n} tokens need index, lengths, budget to match: {shapes}"
            )
        if b and not (int(self.lengths.min()) >= 0 and int(self.lengths.max()) <= n):
            raise ValueError(
                f"lengths {self.lengths.tolist()} do not fit symbols for {n} tokens: each must lie "
                f"in 0..{n}"
            )
        if b and not 0 <= int(self.index.min()) <= int(self.index.max()) < self.slots:
            raise ValueError(f"index leaves the {self.slots} slots of an image")

    @property
    def valid(self) -> Bool[Tensor, "b n"]:
        """Which tokens are no padding."""
        return torch.arange(self.index.shape[1]) < self.lengths[:, None]

    @property
    def channel_uses(self) -> Int[Tensor, " b"]:
        """Complex symbols that each image sends (b,)."""
        return self.lengths * self.symbols.shape[-1]

    @property
    def index_bits(self) -> Float[Tensor, " b"]:
        """log2 of the number of sets of that size: bits that say which tokens were kept (b,)."""
        bits = [math.log2(math.comb(self.slots, int(n))) for n in self.lengths]
        return torch.tensor(bits, dtype=torch.float64)

    def through(
        self, channel: Channel, snr_db: float | None, generator: torch.Generator | None = None
    ) -> "Message":
        """What the receiver has after the channel; lost tokens are gone from it.

        The noise belongs to the slot, not to the place in the message: for one generator it is what
        :meth:`SemanticViT.forward` draws.
        """
        b, _, k = self.symbols.shape
        where = self.index[..., None].expand(-1, -1, k)
        valid = self.valid
        wide = torch.zeros(b, self.slots, k, dtype=self.symbols.dtype)
        wide = wide.scatter_add(1, where, self.symbols * valid[..., None])
        received = channel.send(wide, snr_db, generator)
        if channel.kind == "erasure":
            from labcore.tokens.masked import pack

            sent = torch.zeros(b, self.slots, dtype=torch.long)
            sent = sent.scatter_add(1, self.index, valid.long()) > 0
            packed = pack(channel.arrived(sent, generator), allow_empty=True)
            taken = received.gather(1, packed.index[..., None].expand(-1, -1, k))
            taken = taken * packed.valid[..., None]
            return replace(self, symbols=taken, index=packed.index, lengths=packed.lengths)
        return replace(self, symbols=received.gather(1, where) * valid[..., None])

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        path = Path(path)
        tensors = {
            "symbols": torch.view_as_real(self.symbols).contiguous(),
            "index": self.index.contiguous(),
            "lengths": self.lengths.contiguous(),
            "budget": self.budget.contiguous(),
        }
        with replacing(path) as part:
            save_file(tensors, part, metadata={"slots": str(self.slots)})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Message":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the file is no message, or its parts do not fit.
        """
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                slots = int((file.metadata() or {})["slots"])
            symbols = torch.view_as_complex(found["symbols"])
            return cls(symbols, found["index"], found["lengths"], found["budget"], slots)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{Path(path).name} is no message of this lab: {error}") from error
