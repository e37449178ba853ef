"""What pictures need: some clips' frames, assignment matrices, nearest tokens and answers.

Computed from trained adapters; everything comes back as plain arrays and rows, so that a page opens
on it without a model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from labcore.parts import Findings
from labcore.runs import Progress, Table, silent
from labcore.speech import cells, corpus, settings
from labcore.speech.encoders import FeatureStore, make_encoder, transcript
from labcore.speech.layers import padding_mask
from labcore.speech.length_adapters import CIFAdapter, CTCAdapter
from labcore.speech.speech_llm import SpeechLLM

NEAREST = 5
DIGIT_CLIPS = 4  # of each test set
ENCODER = "conformer"  # whose trained adapters are kept


def clips() -> list[int]:
    """Numbers of the clips that are shown: some of each test set, and the longer recordings."""
    spoken = corpus.load()
    some = [i for split in ("test", "real") for i in spoken.where(split)[:DIGIT_CLIPS]]
    return some + spoken.where("exhibit")


def strip(frames: Float[Tensor, "t d"]) -> UInt8[np.ndarray, "t 3"]:
    """Three principal components of the frames as red, green, blue."""
    x = frames.float() - frames.float().mean(dim=0)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    scores = u[:, :3] * s[:3]
    if scores.shape[1] < 3:
        scores = F.pad(scores, (0, 3 - scores.shape[1]))
    low, high = scores.amin(dim=0), scores.amax(dim=0)
    return (255 * (scores - low) / (high - low).clamp_min(1e-9)).numpy().astype(np.uint8)


def encoders_view(progress: Progress = silent) -> Findings:
    """Each clip's frames as colours, and both encoders' own transcripts."""
    spoken, store = corpus.load(), FeatureStore()
    numbers = clips()
    found = Findings(tables={"exhibits": []})
    both = {name: make_encoder(name) for name in settings.ENCODERS}
    for done, number in enumerate(numbers):
        sound = spoken.sound(number)
        row: dict[str, Any] = {"clip": number, **spoken.clips[number]}
        for name, encoder in both.items():
            (frames,) = store.get(encoder, [sound])
            found.arrays[f"strip/{name}/{number}"] = strip(frames)
            row[f"{name}_says"] = transcript(encoder, sound)
        found.tables["exhibits"].append(row)
        progress(done + 1, len(numbers), "exhibits")
    return found


def trained(
    kind: str, weights: Mapping[str, np.ndarray], lm_name: str, encoder: str = ENCODER
) -> SpeechLLM:
    """A model with a trained adapter, from what :func:`labcore.speech.cells.packed` gave."""
    lm = cells.language_model(lm_name)
    speech = make_encoder(encoder)
    empty = cells.Front(encoder, speech.dim, speech.frame_rate, speech.parameters, {})
    model = cells.build(empty, kind, lm)
    cells.unpack(model.adapter, dict(weights))
    return model


def adapter_view(kind: str, weights: Mapping[str, np.ndarray], lm_name: str) -> Findings:
    """One adapter on every exhibited clip: W, CIF's weights, CTC's symbols, tokens, answers."""
    model = trained(kind, weights, lm_name)
    spoken, store = corpus.load(), FeatureStore()
    encoder = make_encoder(ENCODER)
    rows: Table = []
    found = Findings(tables={"answers": rows, "nearest": []})
    for number in clips():
        frames = store.get(encoder, [spoken.sound(number)])[0].float()[None]
        seen = look(model, frames)
        found.arrays |= {f"{k}/{kind}/{number}": v for k, v in seen["arrays"].items()}
        rows.append({"clip": number, "adapter": kind, **seen["answers"]})
        found.tables["nearest"] += [
            {"clip": number, "adapter": kind, "position": n, "tokens": "\t".join(words)}
            for n, words in enumerate(seen["tokens"])
        ]
    return found


@torch.no_grad()
def look(model: SpeechLLM, frames: Float[Tensor, "1 t d"]) -> dict[str, Any]:
    """What one adapter makes of one clip, and what the language model answers."""
    adapter, lengths = model.adapter, torch.tensor([frames.shape[1]])
    read = adapter(frames, lengths, want_assignment=True)
    words, cosines = nearest(model, read.embeds[0])
    arrays: dict[str, np.ndarray] = {
        "w": _half(read.assignment[0] if read.assignment is not None else frames[0, :, :0]),
        "cosine": _half(cosines),
    }
    if isinstance(adapter, CIFAdapter):
        arrays["alpha"] = _half(adapter.alphas(frames, lengths)[0])
    if isinstance(adapter, (CIFAdapter, CTCAdapter)):
        valid = padding_mask(lengths, frames.shape[1])[..., None]
        symbols = adapter.head.linear(frames * valid)[0].argmax(dim=-1)
        arrays["symbols"] = symbols.numpy().astype(np.uint8)
    answers = {
        task: model.generate(frames, lengths, prompt)[0]
        for task, prompt in settings.PROMPTS.items()
    }
    return {"arrays": arrays, "tokens": words, "answers": answers}


def nearest(
    model: SpeechLLM, embeds: Float[Tensor, "n d"]
) -> tuple[list[list[str]], Float[Tensor, "n k"]]:
    """The tokens whose embeddings have the largest cosine with each vector."""
    table = F.normalize(model.lm.embedding.weight.float(), dim=-1)
    best = (F.normalize(embeds, dim=-1) @ table.T).topk(NEAREST, dim=-1)
    words = [[model.lm.tokenizer.decode([i]) for i in row] for row in best.indices.tolist()]
    return words, best.values


def _half(values: Tensor) -> np.ndarray:
    return values.numpy().astype(np.float16)
