"""One cell of the grid: an adapter trained between an encoder and a language model, then tested.

A cell is a function of plain parameters, so that :func:`labcore.grid.run_grid` can send it to
another core or machine. What is frozen (models, features) is loaded once a process.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from labcore.assets import fetch, registry
from labcore.assets.causal_lm import load_causal_lm
from labcore.speech import corpus, settings
from labcore.speech.adapters import Adapter, make_adapter
from labcore.speech.encoders import FeatureStore, make_encoder
from labcore.speech.meter import Meter
from labcore.speech.metrics import word_errors
from labcore.speech.names import SPLITS
from labcore.speech.recipe import Prompt, Recipe
from labcore.speech.speech_llm import FrozenLM, SpeechLLM
from labcore.speech.training import (
    Clips,
    History,
    TokenScores,
    train_adapter,
    warm_up,
)

REVISION = 5  # raise it when a cell's code or prompts give other numbers
MAX_TOKENS = {"digits": 16, "commands": 28}  # of an answer


@dataclass(frozen=True)
class Front:
    """An encoder's stored features of the whole corpus."""

    name: str
    dim: int
    frame_rate: float
    parameters: int
    splits: dict[str, Clips]


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 natively; else float32 is used."""
    return bool(torch.cpu._is_avx512_bf16_supported())


@cache
def language_model(name: str, scrambled: bool = False) -> FrozenLM:
    """A registered language model, frozen, bfloat16 where the CPU multiplies it.

    Args:
        name: A registered asset, a folder or a hub id.
        scrambled: Shuffle the entries of every weight matrix but the embeddings: the control for
            "does the language model know anything?".
    """
    dtype = torch.bfloat16 if bfloat16_is_fast() else torch.float32
    source: Any = name
    if name in registry():
        source = next(p for p in fetch(name).values() if p.suffix == ".gguf")
    # Plain attention: few new positions look back at a long prefix, and on a CPU the fused
    # kernel's gradient for that shape takes a third of a whole step.
    model, tokenizer = load_causal_lm(source, dtype=dtype, attn="eager")
    if scrambled:
        generator = torch.Generator().manual_seed(0)
        for key, weight in model.state_dict().items():
            if weight.ndim == 2 and "embed" not in key and "lm_head" not in key:
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return FrozenLM(model, tokenizer, name)


@cache
def front(
    name: str,
    pad: str = "none",
    train_clips: int = 400,
    test_clips: int = 60,
    words: str = "digits",
) -> Front:
    """Features of a corpus by one encoder, computed once and kept on disk."""
    encoder = make_encoder(name, **({"pad": pad} if name == "whisper" else {}))
    store, spoken = FeatureStore(), corpus.load(words)
    splits = {}
    for split in ("train", "valid", "test", "real"):
        if split not in {clip["split"] for clip in spoken.clips}:
            continue  # no real recordings of commands
        numbers = spoken.where(split)[: train_clips if split == "train" else test_clips]
        splits[split] = Clips(
            store.get(encoder, [spoken.sound(i) for i in numbers]),
            [str(spoken.clips[i]["text"]) for i in numbers],
            {task: [spoken.answer(i, task) for i in numbers] for task in corpus.TASKS},
        )
    return Front(name, encoder.dim, encoder.frame_rate, encoder.parameters, splits)


def build(speech: Front, kind: str, lm: FrozenLM, *, unit_scale: bool = False) -> SpeechLLM:
    """An untrained adapter between an encoder and a language model."""
    extra = {"vocab": len(settings.ALPHABET)} if kind in ("cif", "ctc") else {}
    rms = None if unit_scale else lm.embedding_rms()
    adapter = make_adapter(kind, speech.dim, lm.width, speech.frame_rate, output_rms=rms, **extra)
    return SpeechLLM(adapter, lm, settings.ALPHABET)


def run_cell(
    encoder: str,
    adapter: str,
    lm: str,
    repeat: int,
    recipe: dict[str, Any],
    train_clips: int = 400,
    test_clips: int = 60,
    words: str = "digits",
    prompt: str = "examples",
    pad: str = "none",
    unit_scale: bool = False,
    scrambled: bool = False,
    keep: bool = False,
    watch: bool = False,
    splits: Sequence[str] = SPLITS,
    seed: int = 0,
) -> dict[str, Any]:
    """Train and test one cell; scalars, lists and arrays, as a grid's task returns them.

    Args:
        encoder: ``whisper`` or ``conformer``.
        adapter: Kind of adapter.
        lm: Language model, or ``"none"``: warm-up only, read by the nearest token embedding.
        repeat: Seed of the adapter's start and of the order of the clips. It is the same for all
            cells of a repeat, so ``seed``, which a grid makes from the task, is not used.
        recipe: Arguments of :class:`~labcore.speech.training.Recipe`.
        train_clips: Most clips to train on.
        test_clips: Most clips of each set that is scored.
        words: Which corpus: ``"digits"`` or ``"commands"``.
        prompt: ``"examples"`` or ``"plain"``, see :func:`labcore.speech.settings.prompts`.
        pad: ``"30s"`` encodes every clip padded to 30 s (Whisper).
        unit_scale: Start the outputs at 1 instead of the embeddings' size.
        scrambled: Use the language model with shuffled weights.
        keep: Also return the trained weights (float16).
        watch: Also follow the error rate on validation voices; changes nothing else.
        splits: What is scored; the choice of settings scores ``("valid",)`` alone.
        seed: Not used; see ``repeat``.
    """
    del seed
    speech = front(encoder, pad, train_clips, test_clips, words)
    embeddings_of = settings.LMS[0] if lm == settings.NO_LM else lm
    model_of_language = language_model(embeddings_of, scrambled)
    torch.manual_seed(repeat)
    model = build(speech, adapter, model_of_language, unit_scale=unit_scale)
    plan, asked = Recipe(**recipe), settings.prompts(words, prompt)
    generator = torch.Generator().manual_seed(repeat)
    history, began = History(), time.process_time()
    scores = None
    if plan.warm_steps:
        scores = warm_up(model, speech.splits["train"], plan, generator, history)
    most = MAX_TOKENS[words]
    meter = Meter(model, speech.splits["valid"], asked, most if watch else 0)
    warmed = time.process_time()
    if lm != settings.NO_LM:
        trained = train_adapter(
            model, speech.splits["train"], asked, replace(plan, warm_steps=0),
            generator=generator, each=meter, clock=meter.clock,
        )  # fmt: skip
        history.rows = trained.rows
    done = time.process_time()
    found: dict[str, Any] = {
        "parameters": model.adapter.parameters_count,
        "encoder_parameters": speech.parameters,
        "history": history.rows,
        "warm": [round(v, 4) for v in history.warm[:: max(len(history.warm) // 30, 1)]],
        "skipped": history.skipped,
        "warm_seconds": warmed - began,
        "train_seconds": done - warmed - meter.asking,
    }
    spoken = {split: speech.splits[split] for split in splits if split in speech.splits}
    found |= _tested(model, spoken, scores, asked if lm != settings.NO_LM else {}, most)
    found["test_seconds"] = time.process_time() - done
    if keep:
        found |= packed(model.adapter)
    return found


def _tested(
    model: SpeechLLM,
    spoken: dict[str, Clips],
    scores: TokenScores | None,
    asked: dict[str, Prompt],
    most: int,
) -> dict[str, Any]:
    """Answers and errors of each set: with the language model, and by nearest token."""
    found: dict[str, Any] = {}
    for split, clips in spoken.items():
        batch = clips.batch(range(len(clips.frames)), "asr")
        answers: dict[str, list[str]] = {}
        if scores is not None:
            answers["nearest"] = nearest_tokens(model, scores, clips)
        for task, prompt in asked.items():
            answers[task] = model.generate(batch.frames, batch.lengths, prompt, most)
        for task, said in answers.items():
            wanted = clips.answers["asr" if task == "nearest" else task]
            counts = [word_errors(w, s) for w, s in zip(wanted, said, strict=True)]
            found[f"said_{task}_{split}"] = said
            found[f"errors_{task}_{split}"] = np.array([e for e, _ in counts], np.int16)
            found[f"words_{task}_{split}"] = np.array([n for _, n in counts], np.int16)
        with torch.no_grad():
            read = model.adapter(batch.frames.float(), batch.lengths)
        found[f"positions_{split}"] = read.lengths.numpy().astype(np.int16)
        found[f"frames_{split}"] = batch.lengths.numpy().astype(np.int16)
        found[f"empty_{split}"] = read.stats["empty"]
    return found


@torch.no_grad()
def nearest_tokens(model: SpeechLLM, scores: TokenScores, clips: Clips) -> list[str]:
    """What the adapter alone says: CTC reading of the nearest token embeddings."""
    batch = clips.batch(range(len(clips.frames)), "asr")
    read = model.adapter(batch.frames.float(), batch.lengths)
    best = scores(read.embeds).argmax(dim=-1)
    said = []
    for row, n in zip(best.tolist(), read.lengths.tolist(), strict=True):
        ids, before = [], 0
        for symbol in row[:n]:
            if symbol not in (0, before):
                ids.append(scores.ids[symbol - 1])
            before = symbol
        said.append(model.lm.tokenizer.decode(ids).strip())
    return said


def packed(adapter: Adapter) -> dict[str, np.ndarray]:
    """Trained weights as float16 arrays, ``weight/<name>``."""
    return {
        f"weight/{name}": value.detach().numpy().astype(np.float16)
        for name, value in adapter.state_dict().items()
    }


def quantised(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with matrices as bytes: each row by its largest entry over 127.

    >>> sorted(quantised({"weight/a": np.ones((2, 3), np.float16)}))
    ['scale/a', 'weight/a']
    """
    small: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        if value.ndim < 2:
            small[name] = value
            continue
        axes = tuple(range(1, value.ndim))
        scale = np.maximum(np.abs(value).max(axis=axes, keepdims=True).astype(np.float32), 1e-8)
        small[name] = np.round(value.astype(np.float32) / scale * 127).astype(np.int8)
        small[name.replace("weight/", "scale/", 1)] = scale / 127
    return small


def unpack(adapter: Adapter, arrays: Mapping[str, np.ndarray]) -> Adapter:
    """Load what :func:`packed` or :func:`quantised` gave.

    Raises:
        RuntimeError: weights of another adapter.
    """
    state = {}
    for name, value in arrays.items():
        if name.startswith("weight/"):
            scale = arrays.get(name.replace("weight/", "scale/", 1), np.float32(1))
            whole = value.astype(np.float32) * scale
            state[name.removeprefix("weight/")] = torch.from_numpy(whole)
    adapter.load_state_dict(state)
    return adapter.eval()


def data_version() -> str:
    """Hash of the corpus and revision of this code: other clips or code are other tasks."""
    digest = hashlib.sha256()
    for sound in corpus.load().sounds:
        digest.update(corpus.fingerprint(sound).encode())
    return f"{digest.hexdigest()[:16]}-{REVISION}"
