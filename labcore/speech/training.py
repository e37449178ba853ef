"""Training an adapter, and nothing else: first against the token embeddings, then the model.

The warm-up trains the adapter alone: its outputs score the training tokens by cosine with the
language model's frozen embeddings, under a CTC loss. It is the same for every adapter and can be
left out. Then the language model's own loss takes over. The learning rate rises for 3 % of the
steps and falls along a cosine, AdamW without weight decay, as in the study.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from labcore.runs import Progress, silent
from labcore.speech.adapters import ctc_loss
from labcore.speech.recipe import FILLER, Prompt, Recipe
from labcore.speech.speech_llm import Batch, SpeechLLM

CLIP = 1.0  # largest gradient norm


@dataclass
class History:
    """What was seen while training: one row a step of the language model's loss."""

    rows: list[dict[str, float | str]] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    skipped: int = 0  # clips of the warm-up with fewer outputs than tokens


@dataclass(frozen=True)
class Clips:
    """Stored features and texts of a split."""

    frames: Sequence[Tensor]
    transcripts: Sequence[str]
    answers: dict[str, Sequence[str]]  # task -> what is to be written

    def batch(self, numbers: Sequence[int], task: str) -> Batch:
        """Some clips as a padded batch."""
        frames = [self.frames[i] for i in numbers]
        return Batch(
            pad_sequence(frames, batch_first=True),
            torch.tensor([len(f) for f in frames]),
            [self.answers[task][i] for i in numbers],
            [self.transcripts[i] for i in numbers],
        )


def rate_at(step: int, steps: int, peak: float, rise: float) -> float:
    """Learning rate: linear to the peak, then half a cosine to zero.

    >>> round(rate_at(0, 100, 1.0, 0.1), 2), round(rate_at(10, 100, 1.0, 0.1), 2)
    (0.1, 1.0)
    """
    up = max(round(rise * steps), 1)
    if step < up:
        return peak * (step + 1) / up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - up) / max(steps - up, 1)))


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Endless batches of clip numbers, each clip once a round."""
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        for at in range(0, count - size + 1, size):
            yield order[at : at + size]


class TokenScores(nn.Module):
    """Log-probabilities of the training tokens and a blank, by scaled cosine; nothing is trained.

    The blank is the embedding of a filler that the prompt's worked examples show between words, so
    that after the warm-up the outputs look like a text the model has just seen copied.

    Args:
        filler: Embedding (d,) of the filler, column 0.
        embeddings: The language model's embeddings of the tokens (v, d).
        ids: Which tokens these are.
    """

    SCALE = 10.0
    table: Tensor

    def __init__(self, filler: Tensor, embeddings: Tensor, ids: Sequence[int]):
        super().__init__()
        self.ids = list(ids)
        table = torch.cat([filler[None], embeddings]).float()
        self.register_buffer("table", F.normalize(table, dim=-1))

    def forward(self, embeds: Tensor) -> Tensor:
        """(b, n, d) to (b, n, v + 1)."""
        scores = F.normalize(embeds, dim=-1) @ self.table.T
        return (self.SCALE * scores).log_softmax(dim=-1)


def warm_up(
    model: SpeechLLM,
    clips: Clips,
    recipe: Recipe,
    generator: torch.Generator,
    history: History,
    progress: Progress = silent,
) -> TokenScores:
    """Train the adapter alone, so that its outputs point where the right tokens' embeddings do."""
    words = [model.lm.ids(f" {text}") for text in clips.transcripts]
    vocabulary = sorted({w for row in words for w in row})
    place = {w: i for i, w in enumerate(vocabulary)}
    targets = [torch.tensor([place[w] for w in row]) for row in words]
    (filler,) = model.lm.embed(model.lm.ids(FILLER))
    scores = TokenScores(filler, model.lm.embed(vocabulary), vocabulary)
    optimizer = _optimizer(list(model.adapter.parameters()), recipe.warm_lr)
    pick = batches(len(words), recipe.warm_batch, generator)
    for step in range(recipe.warm_steps):
        numbers = next(pick)
        read = model.read(clips.batch(numbers, "asr"))
        chosen = [targets[i] for i in numbers]
        history.skipped += sum(
            len(t) > n for t, n in zip(chosen, read.lengths.tolist(), strict=True)
        )
        loss = ctc_loss(scores(read.embeds), read.lengths, chosen) + sum(read.losses.values())
        _step(optimizer, loss, rate_at(step, recipe.warm_steps, recipe.warm_lr, recipe.rise))
        history.warm.append(float(loss.detach()))
        progress(step + 1, recipe.warm_steps, "warm-up")
    return scores


def train_adapter(
    model: SpeechLLM,
    clips: Clips,
    prompts: dict[str, Prompt],
    recipe: Recipe,
    *,
    generator: torch.Generator,
    progress: Progress = silent,
    each: Callable[[int], dict[str, float]] | None = None,
    clock: Callable[[], float] = time.process_time,
) -> History:
    """Warm-up, then the language model's loss; tasks take turns. Only the adapter is changed.

    Args:
        model: Adapter and frozen language model.
        clips: The training split.
        prompts: Task -> prompt.
        recipe: How long and how fast.
        generator: Order of the clips.
        progress: Called after each step; raise :class:`labcore.runs.Cancelled` in it to stop.
        each: More columns for a step's row, given its number (for instance a score).
        clock: Seconds, for the column ``cpu_seconds``.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    history = History()
    if recipe.warm_steps:
        warm_up(model, clips, recipe, generator, history, progress)
    tasks = list(prompts)
    optimizer = _optimizer(list(model.adapter.parameters()), recipe.lr)
    pick = batches(len(clips.transcripts), recipe.batch, generator)
    started = clock()
    for step in range(recipe.steps):
        task = tasks[step % len(tasks)]
        loss, read = model.loss(clips.batch(next(pick), task), prompts[task])
        rate = rate_at(step, recipe.steps, recipe.lr, recipe.rise)
        _step(optimizer, loss + sum(read.losses.values()), rate)
        row: dict[str, float | str] = {
            "step": step + 1, "task": task, "ce": float(loss.detach()), "lr": rate,
            "compression": read.stats["compression"],
            "cpu_seconds": clock() - started,
        }  # fmt: skip
        row |= {name: float(value.detach()) for name, value in read.losses.items()}
        if not math.isfinite(float(row["ce"])):
            raise FloatingPointError(f"the loss is {row['ce']} at step {step + 1}: lower the rate")
        row.update(each(step) if each is not None else {})
        history.rows.append(row)
        progress(step + 1, recipe.steps, f"{task}, loss {row['ce']:.2f}")
    return history


@torch.no_grad()
def listens(model: SpeechLLM, batch: Batch, prompt: Prompt) -> float:
    """Does it listen? Loss with other clips' audio minus loss with the right one, nats a token.

    About zero: the answer is guessed from the text alone.
    """
    # As in use: without the transcripts, which would tell CIF how often to fire.
    right = model.adapter(batch.frames.float(), batch.lengths)
    turned = torch.roll(torch.arange(len(batch.answers)), 1)
    wrong = model.adapter(batch.frames[turned].float(), batch.lengths[turned])
    with_right = model.loss(batch, prompt, right)[0]
    return float(model.loss(batch, prompt, wrong)[0] - with_right)


def _optimizer(parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)


def _step(optimizer: torch.optim.AdamW, loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], CLIP)
    optimizer.step()
