"""The speech adapters' length rules and training loop against what is usually written.

Peers. The authors' code (`Meetween/speechlmm`, Apache-2.0) installs on GPU machines only, so the
functions that are raced are written here from their description: CTC compression that walks over
every frame, CIF that scatters the two parts of each frame, CIF as a plain loop. `jiwer` is raced as
it is. The naive training loop encodes every clip again, padded to 30 s, runs the prompt again at
each step and computes logits everywhere.

Every row first asserts that both sides give the same numbers. Times are CPU seconds, the median of
several turns, the two sides taking turns.
"""

import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from labcore.assets import AssetError
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads
from labcore.speech import cells, corpus, settings
from labcore.speech.audio import SAMPLE_RATE
from labcore.speech.encoders import WhisperEncoder
from labcore.speech.lengths import cif, cif_reference, ctc_compress, ctc_compress_reference
from labcore.speech.metrics import wer
from labcore.speech.speech_llm import SpeechLLM

Row = dict[str, Any]
RELEASED = "Meetween/speechlmm (its rule, written anew)"


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each.

    Raises:
        AssetError: a model is not here; the message names the command that gets it.
    """
    limit_threads(1)
    report = progress or silent
    turns = 3 if quick else 7
    races: list[Callable[[], list[Row]]] = [
        lambda: ctc_races(turns),
        lambda: cif_races(turns),
        lambda: padding(turns),
        lambda: error_rate(turns),
        lambda: step_profile(2 if quick else 3),
        lambda: epoch(1 if quick else 2),
    ]
    table: list[Row] = []
    for done, race in enumerate(races):
        try:
            table += race()
        except AssetError as error:
            raise AssetError(f"{error}; run `lab fetch smollm2-135m whisper conformer`") from error
        report(done + 1, len(races), "races")
    return table


def row(name: str, peer: str, peer_version: str, ours: float, its: float,
        goal: float | None, agreement: str) -> Row:  # fmt: skip
    """One line of the table."""
    return {
        "name": name, "work": "speech", "peer": peer, "peer_version": peer_version,
        "ours_s": ours, "peer_s": its, "ratio": its / ours, "goal": goal,
        "agreement": agreement, "threads": 1,
    }  # fmt: skip


def turns_of(
    sides: list[Callable[[], Any]], turns: int, inner: int = 1, *, rehearsed: bool = False
) -> list[float]:
    """Median CPU seconds of each side, taking turns; short work is done ``inner`` times a turn."""
    spent: list[list[float]] = [[] for _ in sides]
    for turn in range(int(rehearsed), turns + 1):
        for times, side in zip(spent, sides, strict=True):
            start = time.process_time()
            for _ in range(inner):
                side()
            if turn:  # the first is a rehearsal
                times.append((time.process_time() - start) / inner)
    return [statistics.median(times) for times in spent]


def _agree(ours: Tensor, its: Tensor, most: float = 1e-5) -> str:
    difference = float((ours - its).abs().max())
    if difference > most:
        raise AssertionError(f"the two sides differ by {difference:.1e}, at most {most:g} allowed")
    return f"max difference {difference:.1e}"


# --- length rules --------------------------------------------------------------------------------


def ctc_walk(frames: Tensor, symbols: Tensor, lengths: Tensor) -> Tensor:
    """CTC compression frame by frame, clip by clip."""
    found = [
        ctc_compress_reference(f[:n], s[:n])
        for f, s, n in zip(frames, symbols, lengths.tolist(), strict=True)
    ]
    return pad_sequence(found, batch_first=True)


def ctc_races(turns: int) -> list[Row]:
    """Runs of symbols, 8 clips of 15 s, 384 wide; a run lasts 3 frames on average."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(8, 750, 384, generator=generator)
    changes = torch.rand(8, 750, generator=generator) < 1 / 3
    symbols = changes.cumsum(1) % 27
    lengths = torch.tensor([750, 700, 650, 600, 550, 500, 450, 400])

    def fast() -> Tensor:
        return ctc_compress(frames, symbols, lengths, with_assignment=False).frames

    agreement = _agree(fast(), ctc_walk(frames, symbols, lengths))
    ours, its = turns_of([fast, lambda: ctc_walk(frames, symbols, lengths)], turns, 8)
    name = "CTC compression, 8 clips of 15 s"
    return [row(name, RELEASED, "loop over frames", ours, its, 8.0, agreement)]


def cif_scatter(frames: Tensor, alpha: Tensor, targets: Tensor) -> Tensor:
    """CIF by scattering the part of each frame left and right of a firing."""
    b, t, d = frames.shape
    alpha = alpha * ((targets + 1e-4) / alpha.sum(1))[:, None]
    ends = alpha.cumsum(1, dtype=torch.float64)
    n = int(targets.max())
    right = ends.floor().long().clip(max=n)
    left = F.pad(right[:, :-1], (1, 0))
    fires = right - left
    tail = torch.where(fires > 0, (ends - right).float(), torch.zeros(()))
    head = alpha - tail - (fires - 1).clip(min=0)
    out = frames.new_zeros(b, n + 1, d)
    out.scatter_add_(1, right[..., None].expand(-1, -1, d), tail[..., None] * frames)
    out.scatter_add_(1, left[..., None].expand(-1, -1, d), head[..., None] * frames)
    more, at = (fires - 1).clip(min=0), left
    for _ in range(int(more.max())):
        at = (at + 1).clip(max=n)
        out.scatter_add_(1, at[..., None].expand(-1, -1, d), frames * (more > 0)[..., None])
        more = more - 1
    return out[:, :n] * (torch.arange(n) < targets[:, None])[..., None]


def cif_races(turns: int) -> list[Row]:
    """Integrate and fire, forward and backward, 8 clips of 5 s, 384 wide."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(8, 250, 384, generator=generator)
    alpha = torch.rand(8, 250, generator=generator) * 0.2
    lengths = torch.full((8,), 250)
    targets = torch.tensor([30, 28, 26, 24, 22, 20, 18, 16])
    table = []

    def learn(rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        x, a = frames.clone().requires_grad_(), alpha.clone().requires_grad_()
        out = rule(x, a)
        out.sum().backward()
        return out.detach()

    def ours_rule(x: Tensor, a: Tensor) -> Tensor:
        return cif(x, a, lengths, targets).frames

    def loop_rule(x: Tensor, a: Tensor) -> Tensor:
        scaled = a * ((targets + 1e-4) / a.sum(1))[:, None]
        found = [cif_reference(f, s, residual=2.0)[:n] for f, s, n in
                 zip(x, scaled, targets.tolist(), strict=True)]  # fmt: skip
        return pad_sequence(found, batch_first=True)

    peers: list[tuple[str, str, Callable[[Tensor, Tensor], Tensor], float, float]] = [
        (RELEASED, "scatter", lambda x, a: cif_scatter(x, a, targets), 3.0, 1e-4),
        ("plain loop", "frame by frame", loop_rule, 3.0, 1e-3),
    ]
    for peer, kind, rule, goal, most in peers:
        agreement = _agree(ours_rule(frames, alpha), rule(frames, alpha), most)
        times = turns_of([lambda: learn(ours_rule), lambda rule=rule: learn(rule)], turns, 8)
        name = "CIF with its gradient, 8 clips of 5 s"
        table.append(row(name, peer, kind, times[0], times[1], goal, agreement))
    return table


# --- encoder and metric --------------------------------------------------------------------------


def padding(turns: int) -> list[Row]:
    """A 3 s clip encoded as it is, against padded to 30 s as the model was trained."""
    spoken = corpus.load()
    sound = torch.cat([torch.from_numpy(spoken.sound(i)) for i in spoken.where("real")[:3]])
    clip = sound[: 3 * SAMPLE_RATE].numpy()
    short, long = WhisperEncoder(), WhisperEncoder(pad="30s")
    a, b = short.encode([clip]).features[0], long.encode([clip]).features[0]
    cosine = float(F.cosine_similarity(a, b, dim=-1).mean())
    times = turns_of([lambda: short.encode([clip]), lambda: long.encode([clip])], min(turns, 3))
    return [row("Whisper encoder, 3 s clip", "padded to 30 s", "tiny.en", times[0], times[1],
                10.0, f"mean cosine of frames {cosine:.3f} (not equal by design)")]  # fmt: skip


def error_rate(turns: int) -> list[Row]:
    """Word error rate of a set, against jiwer's."""
    import jiwer

    words = corpus.DIGITS
    generator = torch.Generator().manual_seed(0)

    def text() -> str:
        size = int(torch.randint(2, 12, (1,), generator=generator))
        return " ".join(words[i] for i in torch.randint(0, 10, (size,), generator=generator))

    references, answers = [text() for _ in range(200)], [text() for _ in range(200)]
    ours, its = wer(references, answers).rate, jiwer.wer(references, answers)
    if abs(ours - its) > 1e-12:
        raise AssertionError(f"word error rates differ: {ours} and {its}")
    times = turns_of([lambda: wer(references, answers), lambda: jiwer.wer(references, answers)],
                     turns)  # fmt: skip
    return [row("word error rate of 200 texts", "jiwer", version("jiwer"), times[0], times[1],
                None, f"both {ours:.6f}; jiwer counts in C++")]  # fmt: skip


# --- training ------------------------------------------------------------------------------------

CLIPS = 8


def naive_loss(model: SpeechLLM, encoder: WhisperEncoder, clips: list[Any], texts: list[str]
               ) -> Tensor:  # fmt: skip
    """Encode again, padded; prompt, speech and answer in one row; logits everywhere."""
    lm, prompt = model.lm, settings.PROMPTS["asr"]
    read = model.adapter(*_frames(encoder, clips))
    prefix, suffix, end = lm.start(prompt), lm.ids(prompt.suffix), lm.ids(prompt.end)
    embeds, labels = [], []
    for z, n, text in zip(read.embeds, read.lengths.tolist(), texts, strict=True):
        wanted = lm.ids(f" {text}") + end
        embeds.append(torch.cat([lm.embed(prefix), z[:n].to(lm.dtype), lm.embed(suffix + wanted)]))
        labels.append(torch.tensor([-100] * (len(prefix) + n + len(suffix)) + wanted))
    mask = pad_sequence([torch.ones(len(e)) for e in embeds], batch_first=True).long()
    out = lm.model(inputs_embeds=pad_sequence(embeds, batch_first=True), attention_mask=mask,
                   use_cache=False).logits.float()  # fmt: skip
    after = pad_sequence(labels, batch_first=True, padding_value=-100)[:, 1:]
    return F.cross_entropy(out[:, :-1].flatten(0, 1), after.flatten())


def _frames(encoder: WhisperEncoder, clips: list[Any]) -> tuple[Tensor, Tensor]:
    out = encoder.encode(clips)
    return out.features, out.lengths


def epoch(rounds: int) -> list[Row]:
    """One pass over 8 clips with gradients: stored features against the naive loop."""
    lm = cells.language_model("smollm2-135m")
    encoder, spoken = WhisperEncoder(pad="30s"), corpus.load()
    speech = cells.front("whisper", "30s", CLIPS, 1)
    torch.manual_seed(0)
    model = cells.build(speech, "wlq", lm)
    train, prompt = speech.splits["train"], settings.PROMPTS["asr"]
    sounds = [spoken.sound(i) for i in spoken.where("train")[:CLIPS]]

    def ours() -> float:
        loss = model.loss(train.batch(range(CLIPS), "asr"), prompt)[0]
        loss.backward()
        return float(loss.detach())

    def naive() -> float:
        loss = naive_loss(model, encoder, sounds, list(train.transcripts[:CLIPS]))
        loss.backward()
        return float(loss.detach())

    a, b = ours(), naive()
    if abs(a - b) > 0.02 * b:  # bfloat16 and float16 features
        raise AssertionError(f"the losses differ: {a} and {b}")
    times = turns_of([ours, naive], rounds, rehearsed=True)
    return [row("an epoch of 8 clips with gradients, WLQ", "naive loop", "encode again, 30 s",
                times[0], times[1], 10.0, f"losses {a:.3f} and {b:.3f}")]  # fmt: skip


def step_profile(turns: int) -> list[Row]:
    """Where a training step's time goes: the adapter alone against the whole step."""
    lm = cells.language_model("smollm2-135m")
    speech = cells.front("conformer", "none", CLIPS, 1)
    table = []
    for kind in ("base", "conv", "wlq"):
        torch.manual_seed(0)
        model = cells.build(speech, kind, lm)
        batch = speech.splits["train"].batch(range(CLIPS), "asr")

        def whole(model: SpeechLLM = model, batch: Any = batch) -> None:
            model.loss(batch, settings.PROMPTS["asr"])[0].backward()

        def alone(model: SpeechLLM = model, batch: Any = batch) -> None:
            model.read(batch).embeds.sum().backward()

        small, big = turns_of([alone, whole], turns)
        table.append(row(f"step, {kind}: adapter alone against whole step", "SmolLM2-135M",
                         "frozen, in the step", small, big, 2.0,
                         f"adapter {small / big:.0%} of the step"))  # fmt: skip
    return table
