"""A tiny encoder's features and a tiny language model: the method without the real weights."""

import pytest
import torch

from labcore.speech.speech_llm import FrozenLM
from labcore.speech.training import Clips

WORDS = ("zero", "one", "two", "three")


class WordTokenizer:
    """One token a word; 0 is the comma, 1 the line end, 2 a colon."""

    bos_token_id = None

    def __init__(self) -> None:
        self.words = [",", "\n", ":", *[f" {w}" for w in WORDS], "Text", "Audio"]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Longest match first."""
        ids, at = [], 0
        while at < len(text):
            found = [w for w in self.words if text.startswith(w, at)]
            if not found:
                raise ValueError(f"no token for {text[at:]!r}")
            best = max(found, key=len)
            ids.append(self.words.index(best))
            at += len(best)
        return ids

    def decode(self, ids: list[int]) -> str:
        """The words."""
        return "".join(self.words[i] for i in ids)


@pytest.fixture
def lm() -> FrozenLM:
    """A Llama of two layers with random weights, in float32."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=9, hidden_size=24, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        initializer_range=0.2,
    )  # fmt: skip
    return FrozenLM(transformers.LlamaForCausalLM(config), WordTokenizer(), "tiny")


@pytest.fixture
def clips() -> Clips:
    """Twelve clips of one to three words; each word is five frames of its own direction."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(len(WORDS), 10, generator=generator)
    texts, frames = [], []
    for i in range(12):
        picks = torch.randint(0, len(WORDS), (1 + i % 3,), generator=generator).tolist()
        x = torch.cat([torch.cat([codes[p].expand(5, -1), torch.zeros(2, 10)]) for p in picks])
        frames.append(x + 0.05 * torch.randn(x.shape, generator=generator))
        texts.append(" ".join(WORDS[p] for p in picks))
    return Clips(frames, texts, {"asr": texts})
