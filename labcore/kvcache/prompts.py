"""Retrieval prompts of an exact length: a pass key in filler, a sentence in a text.

What the filler is decides the result. In a short text repeated over and over the repeated words get
large keys, so the pass key's digits stand out as small ones; in ordinary prose they do not.
"""

import random
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

INTRODUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there.\n"
)
GRASS = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


@dataclass(frozen=True)
class Prompt:
    """A retrieval task in token ids.

    Attributes:
        context: Text with the hidden sentence ``(1, n)``; what is compressed.
        question: What follows the context ``(1, q)``.
        answer: The expected continuation ``(1, a)``.
        evidence: Positions in the context of the tokens to be found ``(e,)``.
        text: Context, question and answer as text.
    """

    context: Int[Tensor, "1 n"]
    question: Int[Tensor, "1 q"]
    answer: Int[Tensor, "1 a"]
    evidence: Int[Tensor, " e"]
    text: str


def passkey_prompt(
    tokenizer: Any,
    length: int,
    *,
    depth: float,
    seed: int,
    filler: Literal["repeat", "prose"] = "repeat",
    text: str | None = None,
    chat: bool = False,
) -> Prompt:
    """A five-digit pass key in filler (Mohtashami and Jaggi, arXiv 2305.16300).

    Args:
        tokenizer: A Hugging Face tokenizer.
        length: Tokens of the context, exactly.
        depth: Where the key stands, from 0 (start) to 1 (end).
        seed: Decides the key.
        filler: ``"repeat"`` repeats a few short sentences; ``"prose"`` takes ``text``.
        text: The prose.
        chat: Put the prompt into the tokenizer's chat template.

    Raises:
        ValueError: ``filler="prose"`` without text, and what :func:`needle_prompt` raises.
    """
    if filler not in ("repeat", "prose"):
        raise ValueError(f"filler must be 'repeat' or 'prose', got {filler!r}")
    if filler == "prose" and text is None:
        raise ValueError("filler='prose' needs text=, for example a chapter of a novel")
    key = str(random.Random(seed).randrange(10_000, 100_000))
    return needle_prompt(
        tokenizer,
        length,
        depth=depth,
        text=GRASS * (length // 8 + 1) if text is None or filler == "repeat" else text,
        needle=f" The pass key is {key}. Remember it. {key} is the pass key.",
        question="\n\nWhat is the pass key? The pass key is",
        answer=f" {key}",
        evidence=key,
        introduction=INTRODUCTION,
        chat=chat,
    )


def needle_prompt(
    tokenizer: Any,
    length: int,
    *,
    depth: float,
    text: str,
    needle: str,
    question: str,
    answer: str,
    evidence: str | None = None,
    introduction: str = "",
    chat: bool = False,
) -> Prompt:
    """A sentence hidden in a text, at the last full stop before ``depth``.

    The parts are turned into tokens one by one, so that the same needle is the same tokens at every
    depth; begin the needle, the question and the answer with the space or newline that they need.

    Args:
        tokenizer: A Hugging Face tokenizer.
        length: Tokens of the context, exactly.
        depth: Where the needle stands, from 0 (start) to 1 (end).
        text: The haystack; long enough to fill the context.
        needle: The sentence to hide.
        question: What is asked after the context.
        answer: The expected continuation.
        evidence: The part of the needle to mark in ``Prompt.evidence``; all of it by default.
        introduction: What stands before the haystack.
        chat: Put the prompt into the tokenizer's chat template.

    Raises:
        ValueError: ``depth`` outside 0..1, a context too short for the needle, or a text too short
            for the context.
    """
    if not 0 <= depth <= 1:
        raise ValueError(f"depth must be in 0..1, got {depth}")
    opening, closing = _chat_frame(tokenizer) if chat else ("", "")
    head = tokenizer("").input_ids + _ids(tokenizer, opening + introduction)
    hidden = _ids(tokenizer, needle)
    room = length - len(head) - len(hidden)
    if room < 0:
        raise ValueError(f"length={length} tokens are too short: {length - room} are needed")
    hay = _ids(tokenizer, text)[:room]
    if len(hay) < room:
        raise ValueError(f"text holds {len(hay)} tokens, {room} are needed to fill the context")
    cut = _sentence_end(tokenizer, hay, round(depth * room))
    context = head + hay[:cut] + hidden + hay[cut:]
    asked, said = _ids(tokenizer, _framed(question, closing)), _ids(tokenizer, answer)
    marked = _marked(tokenizer, hidden, needle if evidence is None else evidence)
    return Prompt(
        context=torch.tensor([context]),
        question=torch.tensor([asked], dtype=torch.int64),
        answer=torch.tensor([said], dtype=torch.int64),
        evidence=torch.tensor([len(head) + cut + index for index in marked], dtype=torch.int64),
        text=tokenizer.decode(context + asked + said),
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _sentence_end(tokenizer: Any, tokens: list[int], cut: int) -> int:
    """The last cut at or before ``cut`` that follows a full stop; 0 when there is none."""
    while cut > 0 and "." not in tokenizer.decode([tokens[cut - 1]]):
        cut -= 1
    return cut


def _marked(tokenizer: Any, tokens: list[int], wanted: str) -> list[int]:
    """Indices of the tokens that overlap an occurrence of ``wanted`` in the text."""
    ends = [len(tokenizer.decode(tokens[: index + 1])) for index in range(len(tokens))]
    text = tokenizer.decode(tokens)
    marked = []
    for index, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        left, right = max(0, start - len(wanted) + 1), end + len(wanted) - 1
        if wanted in text[left:right]:
            marked.append(index)
    return marked


def _chat_frame(tokenizer: Any) -> tuple[str, str]:
    """What the chat template puts before and after a user's message."""
    marker = "\u2063"
    turn = [{"role": "user", "content": marker}]
    framed = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    opening, closing = framed.split(marker)
    return opening, closing


def _framed(question: str, closing: str) -> str:
    """The question inside the user's turn; what follows its question mark begins the reply."""
    if not closing:
        return question
    asked, mark, begun = question.rpartition("?")
    return f"{asked}{mark}{closing}{begun.lstrip()}"
