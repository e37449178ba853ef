"""Text as tokens, and sequences drawn from a model (chapter 8 of the book).

Characters, byte-pair merges on raw characters, block entropies; then sampling and beam search for
any model given as a function from a context to the logits of what comes next.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Logits = Callable[[Sequence[int]], Tensor]
Pair = tuple[int, int]


def char_vocab(text: str) -> tuple[str, ...]:
    """The different characters of a text, sorted; a character's place is its id.

    Raises:
        ValueError: The text is empty.

    >>> char_vocab("hello")
    ('e', 'h', 'l', 'o')
    """
    return tuple(sorted(set(_filled(text))))


@dataclass(frozen=True)
class Merges:
    """A byte-pair vocabulary: its characters, then one new token a merge.

    Attributes:
        chars: The characters, ids 0, 1, ...
        pairs: The merged pairs of ids, in the order in which they were learned.
        counts: How often each pair was counted when it was merged.
    """

    chars: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()
    counts: tuple[int, ...] = ()
    tokens: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        tokens = list(self.chars)
        for left, right in self.pairs:
            tokens.append(tokens[left] + tokens[right])
        object.__setattr__(self, "tokens", tuple(tokens))


def bpe_train(text: str, merges: int) -> Merges:
    """Learn byte-pair merges on the raw characters (section 8.2; Sennrich et al., 1508.07909).

    Each round counts every adjacent pair, those that overlap in a run included; merges the most
    frequent, of equals the smallest pair of ids; replaces it from left to right without overlap.
    Stops early when no pair is left.

    Raises:
        ValueError: Empty text or a negative number of merges.

    >>> bpe_train("aaabdaaabac", 2).tokens
    ('a', 'b', 'c', 'd', 'aa', 'ab')
    """
    chars = char_vocab(text)
    if merges < 0:
        raise ValueError(f"merges must be at least 0, got {merges}")
    place = {c: i for i, c in enumerate(chars)}
    ids, pairs, counts = [place[c] for c in text], [], []
    for new in range(len(chars), len(chars) + merges):
        found = Counter(zip(ids, ids[1:], strict=False))
        if not found:
            break
        pair = min(found, key=lambda p: (-found[p], p))
        pairs.append(pair)
        counts.append(found[pair])
        ids = replace_pair(ids, pair, new)
    return Merges(chars, tuple(pairs), tuple(counts))


def replace_pair(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Put ``new`` in place of each ``pair``, left to right, without overlap.

    >>> replace_pair([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    found, i, left, right = [], 0, *pair
    while i < len(ids):
        if ids[i] == left and i + 1 < len(ids) and ids[i + 1] == right:
            found.append(new)
            i += 2
        else:
            found.append(ids[i])
            i += 1
    return found


def encode(text: str, merges: Merges) -> list[int]:
    """Token ids of a text, by the merges in the order in which they were learned.

    Raises:
        ValueError: A character that the vocabulary does not hold.
    """
    place = {c: i for i, c in enumerate(merges.chars)}
    try:
        ids = [place[c] for c in text]
    except KeyError as error:
        raise ValueError(f"character {error} is not in the vocabulary of this text") from None
    for new, pair in enumerate(merges.pairs, start=len(merges.chars)):
        ids = replace_pair(ids, pair, new)
    return ids


def decode(ids: Sequence[int], merges: Merges) -> str:
    """The text of token ids.

    Raises:
        ValueError: An id outside the vocabulary.
    """
    size = len(merges.tokens)
    if bad := [i for i in ids if not 0 <= i < size]:
        raise ValueError(f"id {bad[0]} is outside the vocabulary 0..{size - 1}")
    return "".join(merges.tokens[i] for i in ids)


def block_entropy(text: str, k: int) -> float:
    """Entropy in bits of blocks of ``k`` neighbouring characters, as they occur in the text.

    ``block_entropy(text, k + 1) - block_entropy(text, k)`` is what a character still tells when the
    ``k`` before it are known.

    Raises:
        ValueError: Empty text, or ``k`` not in 1..len(text).

    >>> block_entropy("abab", 1)
    1.0
    """
    _filled(text)
    if not 1 <= k <= len(text):
        raise ValueError(f"k must be 1..{len(text)} characters, got {k}")
    counts = Counter(text[i : i + k] for i in range(len(text) - k + 1)).values()
    total = sum(counts)
    return -sum(c / total * math.log2(c / total) for c in counts)


def bigram_bits(train: str, test: str) -> float:
    """Bits per character of ``test`` under an add-one bigram model of ``train``.

    The vocabulary is that of both; the first character of ``test`` is not scored.

    Raises:
        ValueError: An empty train text, or a test text of fewer than two characters.
    """
    _filled(train)
    if len(test) < 2:
        raise ValueError(f"test needs at least 2 characters, got {len(test)}")
    size = len(set(train) | set(test))
    pairs, first = Counter(zip(train, train[1:], strict=False)), Counter(train[:-1])
    bits = sum(
        math.log2((first[a] + size) / (pairs[a, b] + 1))
        for a, b in zip(test, test[1:], strict=False)
    )
    return bits / (len(test) - 1)


def sample(
    logits_fn: Logits,
    ctx: Sequence[int],
    n: int,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[int]:
    """Draw ``n`` tokens after ``ctx``, one after the other (section 8.4).

    Temperature 0 takes the most likely token each time.

    Args:
        logits_fn: Context -> logits of the next token, (vocabulary,).
        ctx: Token ids to begin with.
        n: How many tokens.
        temperature: Divides the logits.
        generator: Randomness.

    Raises:
        ValueError: A negative temperature or number of tokens.
    """
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if n < 0:
        raise ValueError(f"n must be at least 0 tokens, got {n}")
    ids = list(ctx)
    for _ in range(n):
        logits = logits_fn(ids)
        if temperature == 0:
            ids.append(int(logits.argmax()))
        else:
            p = (logits / temperature).softmax(-1)
            ids.append(int(torch.multinomial(p, 1, generator=generator)))
    return ids[len(ctx) :]


def beam_search(
    logits_fn: Logits, ctx: Sequence[int], n: int, *, width: int
) -> tuple[list[int], float]:
    """The most likely continuation found when ``width`` beginnings are kept at every step.

    Width 1 is greedy search; a width of vocabulary ** (n - 1) is exact.

    Returns:
        (tokens, log-probability in nats).

    Raises:
        ValueError: ``width`` or ``n`` is not positive.
    """
    if width < 1 or n < 1:
        raise ValueError(f"width and n must be at least 1, got {width} and {n}")
    beams: list[tuple[float, list[int]]] = [(0.0, list(ctx))]
    for _ in range(n):
        grown = []
        for score, ids in beams:
            logp = logits_fn(ids).log_softmax(-1)
            best = logp.topk(min(width, len(logp)))
            for gain, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                grown.append((score + gain, [*ids, token]))
        beams = heapq.nlargest(width, grown, key=lambda beam: beam[0])
    score, ids = beams[0]
    return ids[len(ctx) :], score


def successors(text: str) -> dict[str, Counter[str]]:
    """What follows each character, and how often."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for a, b in zip(text, text[1:], strict=False):
        found[a][b] += 1
    return dict(found)


def _filled(text: str) -> str:
    if not text:
        raise ValueError("the text is empty: give at least one character")
    return text
