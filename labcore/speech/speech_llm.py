"""A frozen language model that reads an adapter's vectors where its prompt has room for speech.

    X = [Emb(prefix); Z; Emb(suffix); Emb(answer)],   loss = mean CE over the answer and its end

Z are the adapter's outputs. The prefix stands before the speech, so its keys and values are the
same for every clip: they are computed once. Logits are computed at the answer's positions only.
Works with any Hugging Face decoder; nothing of it is trained, and no gradient is kept for it.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from labcore.speech.adapters import Adapter, AdapterOutput
from labcore.speech.layers import padding_mask
from labcore.speech.recipe import Prompt

IGNORED = -100


@dataclass
class FrozenLM:
    """A decoder, its tokenizer and what is computed from them once.

    Args:
        model: A Hugging Face causal language model; its parameters are frozen here.
        tokenizer: Its tokenizer.
        name: How results call it.
    """

    model: Any
    tokenizer: Any
    name: str = ""
    _prefixes: dict[str, tuple[tuple[Tensor, Tensor], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)
        self.embedding = self.model.get_input_embeddings()
        self.width = int(self.embedding.weight.shape[1])
        self.dtype = self.embedding.weight.dtype

    def ids(self, text: str) -> list[int]:
        """Tokens of a text, no special ones added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def embed(self, ids: list[int] | Tensor) -> Float[Tensor, "... d"]:
        """Embeddings as the model's first layer gets them (some models scale them)."""
        return self.embedding(torch.as_tensor(ids, dtype=torch.long))

    def embedding_rms(self) -> float:
        """Root mean square of the embeddings, over 4096 tokens spread over the vocabulary."""
        step = max(len(self.embedding.weight) // 4096, 1)
        some = self.embed(torch.arange(0, len(self.embedding.weight), step)).float()
        return float(some.pow(2).mean().sqrt())

    def start(self, prompt: Prompt) -> list[int]:
        """Tokens of the prefix, with the model's own first token where it has one."""
        begin = self.tokenizer.bos_token_id
        first = [] if begin is None or not self._wants_bos() else [begin]
        return first + self.ids(prompt.prefix)

    def _wants_bos(self) -> bool:
        return self.tokenizer.encode("a")[0] == self.tokenizer.bos_token_id

    @torch.no_grad()
    def prefix_cache(self, prompt: Prompt) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values of the prefix, one pair a layer, (1, heads, p, head_dim); kept."""
        if prompt.prefix not in self._prefixes:
            ids = torch.tensor([self.start(prompt)])
            cache = self.model(input_ids=ids, use_cache=True).past_key_values
            self._prefixes[prompt.prefix] = tuple((x.keys, x.values) for x in cache.layers)
        return self._prefixes[prompt.prefix]

    def cache_for(self, prompt: Prompt, batch: int) -> Any:
        """A cache that starts with the prefix, for ``batch`` rows."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.prefix_cache(prompt)):
            cache.update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), layer)
        return cache

    def hidden(
        self, embeds: Float[Tensor, "b n d"], lengths: Int[Tensor, " b"], cache: Any = None
    ) -> Float[Tensor, "b n d"]:
        """Last hidden states of right-padded rows that follow what ``cache`` holds."""
        past = cache.get_seq_length() if cache is not None else 0
        mask = padding_mask(lengths, embeds.shape[1]).long()
        if past:
            mask = torch.cat([mask.new_ones(len(mask), past), mask], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, past:]
        return self.model.base_model(
            inputs_embeds=embeds.to(self.dtype),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def logits(self, hidden: Float[Tensor, "n d"]) -> Float[Tensor, "n v"]:
        """Logits of some hidden states, float32."""
        out = self.model.get_output_embeddings()(hidden).float()
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return out if cap is None else cap * torch.tanh(out / cap)


@dataclass(frozen=True)
class Batch:
    """Clips of one task: frames (b, t, d), their lengths, prompts' answers as texts."""

    frames: Float[Tensor, "b t d"]
    lengths: Int[Tensor, " b"]
    answers: list[str]
    transcripts: list[str]


class SpeechLLM(nn.Module):
    """A trainable adapter in front of a frozen language model.

    Args:
        adapter: Its output width must be the language model's.
        lm: The frozen language model.
        alphabet: Characters of the CTC head (adapters ``cif`` and ``ctc``).

    Raises:
        ValueError: the widths differ.
    """

    def __init__(self, adapter: Adapter, lm: FrozenLM, alphabet: str):
        super().__init__()
        if adapter.shape.d_out != lm.width:
            raise ValueError(
                f"the adapter gives vectors {adapter.shape.d_out} wide, the language model reads "
                f"{lm.width}: make it with d_out={lm.width}"
            )
        self.adapter = adapter
        self.lm = lm
        self.symbols = {c: i for i, c in enumerate(alphabet)}

    def read(self, batch: Batch) -> AdapterOutput:
        """The adapter's outputs in training: with the targets its auxiliary losses need."""
        words = [self.lm.ids(f" {text}") for text in batch.transcripts]
        letters = [torch.tensor([self.symbols[c] for c in t]) for t in batch.transcripts]
        counts = torch.tensor([len(w) for w in words])
        return self.adapter(batch.frames.float(), batch.lengths, counts, letters)

    def loss(
        self, batch: Batch, prompt: Prompt, read: AdapterOutput | None = None
    ) -> tuple[Tensor, AdapterOutput]:
        """Mean cross-entropy of the answers and their ends; the adapter's outputs beside it."""
        read = self.read(batch) if read is None else read
        rows, labels = self._rows(read, batch.answers, prompt)
        lengths = torch.tensor([len(row) for row in rows])
        cache = self.lm.cache_for(prompt, len(rows))
        hidden = self.lm.hidden(pad_sequence(rows, batch_first=True), lengths, cache)
        wanted = pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        where = wanted != IGNORED
        return F.cross_entropy(self.lm.logits(hidden[where]), wanted[where]), read

    def _rows(
        self, read: AdapterOutput, answers: list[str], prompt: Prompt
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each row's embeddings after the prefix, and at each position the token that follows."""
        suffix, end = self.lm.ids(prompt.suffix), self.lm.ids(prompt.end)
        rows, labels = [], []
        for z, n, answer in zip(read.embeds, read.lengths.tolist(), answers, strict=True):
            wanted = self.lm.ids(f" {answer}") + end
            text = self.lm.embed(suffix + wanted[:-1])
            rows.append(torch.cat([z[:n].to(text.dtype), text]))
            unread = [IGNORED] * (n + len(suffix) - 1)
            labels.append(torch.tensor(unread + wanted))
        return rows, labels

    @torch.no_grad()
    def generate(
        self,
        frames: Float[Tensor, "b t d"],
        lengths: Int[Tensor, " b"],
        prompt: Prompt,
        max_new_tokens: int = 16,
    ) -> list[str]:
        """Greedy answers."""
        read = self.adapter(frames.float(), lengths)
        suffix, (end,) = self.lm.embed(self.lm.ids(prompt.suffix)), self.lm.ids(prompt.end)
        rows = [
            torch.cat([z[:n].to(suffix.dtype), suffix])
            for z, n in zip(read.embeds, read.lengths.tolist(), strict=True)
        ]
        # Padded on the left here, so that the last position is every row's own.
        sizes = torch.tensor([len(row) for row in rows])
        width = int(sizes.max())
        embeds = torch.stack([F.pad(row, (0, 0, width - len(row), 0)) for row in rows])
        cache = self.lm.cache_for(prompt, len(rows))
        past = cache.get_seq_length()
        mask = (torch.arange(width) >= (width - sizes)[:, None]).long()
        mask = torch.cat([mask.new_ones(len(rows), past), mask], dim=1)
        found: list[list[int]] = [[] for _ in rows]
        done = torch.zeros(len(rows), dtype=torch.bool)
        for _ in range(max_new_tokens):
            positions = (mask.cumsum(dim=1) - 1)[:, -embeds.shape[1] :].clamp_min(0)
            out = self.lm.model.base_model(
                inputs_embeds=embeds.to(self.lm.dtype), attention_mask=mask,
                position_ids=positions, past_key_values=cache, use_cache=True,
            )  # fmt: skip
            best = self.lm.logits(out.last_hidden_state[:, -1]).argmax(dim=-1)
            done |= best == end
            for i in torch.nonzero(~done).flatten().tolist():
                found[i].append(int(best[i]))
            if bool(done.all()):
                break
            embeds = self.lm.embed(best)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        return [self.lm.tokenizer.decode(ids).strip() for ids in found]
