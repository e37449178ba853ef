"""Chapter 8, convolutions beyond images: what the novel's characters tell of the next one.

Entropies by counting, a bigram table, the first merges of byte-pair encoding, and a dilated causal
convolution trained on the first nine tenths. Its weights (seed 0) come with the result.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float

from labcore.blocks.text import bigram_bits, block_entropy, bpe_train, sample
from labcore.book.data import alice
from labcore.book.language import WINDOW, CausalCNN, Text, bits, novel, packed, train, unpacked
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 16
STEPS = 300
MERGES = (("e ", 4377), ("  ", 4208), (" t", 3263), (" a", 2295), (" th", 2206))
PROMPTS = {
    "the Queen": "the Queen shouted at the top of her voice, `Off with her h",
    "the Hatter": "said the Hatter. `You should learn not to make personal re",
    "the tea": "`Take some more tea,' the March Hare said to Alice, very ear",
    "the Rabbit": "Oh dear! Oh dear! I shall be too la",
}


def measure(config: Size, progress: Progress) -> Findings:
    """Count, merge, train."""
    text, whole = novel(), alice()
    numbers = [*_entropies(whole), *_merges(whole)]
    cut = len(text.train)
    table = bigram_bits(whole[:cut], whole[cut:])
    left = f"{len(text.test)} characters"
    numbers.append(number("bits, add-one bigram, last tenth", table, 3.5585, 1e-3, sample=left))
    steps = 40 if config.small else STEPS
    found, arrays = [], {}
    for seed in config.seeds:
        model = train(CausalCNN, text, steps=steps, seed=seed, progress=progress)
        found.append(bits(model, text.test))
        if seed == config.seed:
            arrays = {f"cnn/{k}": v for k, v in packed(model).items()}
    expected = None if config.small else 2.52
    numbers.append(over_seeds(f"bits, causal CNN, {steps} steps", found, expected, 0.08,
                              sample=left))  # fmt: skip
    rows: Table = [
        {"seed": s, "steps": steps, "bits": b} for s, b in zip(config.seeds, found, strict=True)
    ]
    return Findings(arrays, {"numbers": numbers, "cnn": rows})


def _entropies(text: str) -> Table:
    blocks = [0.0, *(block_entropy(text, k) for k in (1, 2, 3))]
    known, sample_ = (4.5129, 3.5017, 2.5107), f"{len(text)} characters"
    return [
        number(f"bits of a character, {k} before it known", blocks[k + 1] - blocks[k], known[k],
               1e-4, sample=sample_)
        for k in range(3)
    ]  # fmt: skip


def _merges(text: str) -> Table:
    learned = bpe_train(text, len(MERGES))
    rows: Table = []
    for i, (wanted, count) in enumerate(MERGES):
        made = learned.tokens[len(learned.chars) + i].replace("\n", "↵")
        same = "" if made == wanted else f" (expected {wanted!r})"
        rows.append(number(f"count of merge {i + 1}, {made!r}{same}", learned.counts[i], count))
    return rows


@cache
def _novel() -> Text:
    return novel()


def next_characters(
    arrays: Mapping[str, np.ndarray],
    prompt: str,
    *,
    context: int,
    temperature: float,
    length: int = 24,
    seed: int = 0,
) -> tuple[tuple[str, ...], Float[np.ndarray, " v"], str]:
    """What the trained network says after the last ``context`` characters of a prompt.

    Args:
        arrays: The result's arrays, with the weights under ``b08/cnn/``.
        prompt: The beginning.
        context: How many of its last characters the network sees.
        temperature: Divides the logits; 0 takes the most likely.
        length: Characters to write.
        seed: Of the drawing.

    Returns:
        (vocabulary, logits of the next character, a continuation).

    Raises:
        ValueError: ``context`` is not positive, or a character that the novel does not use.
    """
    if context < 1:
        raise ValueError(f"context must be at least 1 character, got {context}")
    text = _novel()
    model = unpacked(CausalCNN(len(text.vocabulary)), dict(arrays), "b08/cnn/")
    ids = text.ids(prompt)[-context:]

    def logits(so_far: Sequence[int]) -> torch.Tensor:
        seen = list(so_far[-min(context, WINDOW - 1) :])
        with torch.inference_mode():
            return model(torch.tensor([seen]))[0, -1]

    generator = torch.Generator().manual_seed(seed)
    written = sample(logits, ids, length, temperature=temperature, generator=generator)
    line = "".join(text.vocabulary[i] for i in written)
    return text.vocabulary, logits(ids).numpy(), line
