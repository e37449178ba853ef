"""Small models of the novel's characters, for chapters 8, 11 and 13: one recipe, one test set.

The first nine tenths of the text are for training, the rest is for the score, in bits a character.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.blocks.attention import attention, split_heads
from labcore.blocks.kv_cache import KVCache
from labcore.blocks.text import char_vocab
from labcore.book.data import alice
from labcore.runs import Progress, silent

WINDOW, BATCH = 64, 32
PEAK, WARM_UP = 3e-3, 20
DILATIONS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Text:
    """The novel as ids.

    Attributes:
        vocabulary: The characters, sorted.
        train: Ids of the first nine tenths.
        test: Ids of the rest.
    """

    vocabulary: tuple[str, ...]
    train: Int[Tensor, " n"]
    test: Int[Tensor, " m"]

    def ids(self, text: str) -> list[int]:
        """The ids of a text.

        Raises:
            ValueError: A character that the novel does not use.
        """
        place = {c: i for i, c in enumerate(self.vocabulary)}
        if bad := [c for c in text if c not in place]:
            raise ValueError(f"the novel has no character {bad[0]!r}: leave it out")
        return [place[c] for c in text]


def novel() -> Text:
    """The novel's characters, split."""
    text = alice()
    vocabulary = char_vocab(text)
    place = {c: i for i, c in enumerate(vocabulary)}
    ids, cut = torch.tensor([place[c] for c in text]), int(0.9 * len(text))
    return Text(vocabulary, ids[:cut], ids[cut:])


class CausalCNN(nn.Module):
    """An embedding, five gated dilated convolutions with skips, a linear read-out (section 8.3).

    ``z <- z + GLU(conv(z))``, kernels of 3 at dilations 1, 2, 4, 8, 16, padded on the left: what
    stands at t sees the 63 characters that end there.
    """

    def __init__(self, vocabulary: int, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, dilation=d) for d in DILATIONS)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Logits of the character after each."""
        z = self.embed(ids).mT  # (b, d, t)
        for conv, dilation in zip(self.convs, DILATIONS, strict=True):
            z = z + F.glu(conv(F.pad(z, (2 * dilation, 0))), dim=1)
        return self.head(z.mT)


class GPT(nn.Module):
    """A decoder: pre-norm blocks of causal attention and a two-layer map (section 11.1).

    Args:
        vocabulary: Number of tokens.
        width: Features of a token.
        layers: Blocks.
        heads: Query heads.
        kv_heads: Key and value heads, a divisor of ``heads``; as many as ``heads`` by default.
        context: Most tokens.
        shift: Where half of a token's features come from the token before it: "" (nowhere),
            "attention", or "both" (attention and map).
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        kv_heads: int | None = None,
        context: int = WINDOW,
        shift: str = "",
    ) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            GPTBlock(width, heads, kv_heads or heads, shift) for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, ids: Int[Tensor, "b t"], caches: list[KVCache] | None = None
    ) -> Float[Tensor, "b t v"]:
        """Logits of the token after each; with caches, ``ids`` are only those that are new."""
        start = len(caches[0]) if caches else 0
        x = self.embed(ids) + self.place.weight[start : start + ids.shape[1]]
        for number, block in enumerate(self.blocks):
            x = block(x, caches[number] if caches else None)
        return self.head(self.norm(x))

    def caches(self) -> list[KVCache]:
        """Empty caches, one a block."""
        return [KVCache() for _ in self.blocks]


class GPTBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + map(norm(x))``."""

    def __init__(self, width: int, heads: int, kv_heads: int, shift: str) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.shift = heads, kv_heads, shift
        size = width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * kv_heads * size)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Tokens in, tokens out."""
        x = x + self.attend(self._shifted(self.norm1(x), bool(self.shift)), cache)
        return x + self.down(F.gelu(self.up(self._shifted(self.norm2(x), self.shift == "both"))))

    def attend(self, x: Tensor, cache: KVCache | None) -> Tensor:
        """Causal attention; new queries read the cached keys too."""
        query = split_heads(self.query(x), self.heads)
        both = split_heads(self.key_value(x), 2 * self.kv_heads)
        key, value = both.chunk(2, dim=1)
        if cache is not None:
            key, value = cache.append(key, value)
        share = self.heads // self.kv_heads
        if share > 1:
            key, value = (h.repeat_interleave(share, dim=1) for h in (key, value))
        if cache is None:
            read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            read, _ = attention(query, key, value, causal=True, return_weights=True)
        return self.out(read.transpose(1, 2).flatten(2))

    def _shifted(self, x: Tensor, wanted: bool) -> Tensor:
        if not wanted:
            return x
        half = x.shape[-1] // 2
        before = F.pad(x[:, :-1, :half], (0, 0, 1, 0))
        return torch.cat((before, x[..., half:]), -1)


def train(
    make: Callable[[int], nn.Module],
    text: Text,
    *,
    steps: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> nn.Module:
    """AdamW, 32 windows of 64 characters a step, warm-up and linear decay, gradients clipped at 1.

    Args:
        make: Vocabulary size -> model, initialised under ``seed``.
        text: What to learn.
        steps: Updates.
        seed: Of the weights and of the windows drawn.
        progress: Called now and then.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(len(text.vocabulary))
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps))
    report = progress or silent
    for step in range(steps):
        at = torch.randint(len(text.train) - WINDOW, (BATCH, 1), generator=generator)
        window = text.train[at + torch.arange(WINDOW + 1)]
        loss = F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 25 == 0:
            report(step, steps, f"step {step}")
    return model.eval()


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: up over the warm-up, then straight down to zero."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return max(0.0, (steps - step) / max(1, steps - WARM_UP))


def bits(model: nn.Module, ids: Int[Tensor, " n"]) -> float:
    """Bits a character on windows that do not overlap; each has at most 64 characters to go by."""
    count = (len(ids) - 1) // WINDOW
    windows = ids[: count * WINDOW].view(count, WINDOW)
    targets = ids[1 : count * WINDOW + 1].view(count, WINDOW)
    with torch.no_grad():
        loss = F.cross_entropy(model(windows).flatten(0, 1), targets.flatten())
    return loss.item() / math.log(2)


def packed(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights as float16 arrays."""
    return {k: v.numpy().astype(np.float16) for k, v in model.state_dict().items()}


def unpacked(model: nn.Module, arrays: dict[str, np.ndarray], prefix: str) -> nn.Module:
    """Fill a model from arrays that begin with ``prefix``."""
    state = {
        k.removeprefix(prefix): torch.tensor(v.astype(np.float32))
        for k, v in arrays.items()
        if k.startswith(prefix)
    }
    model.load_state_dict(state)
    return model.eval()
