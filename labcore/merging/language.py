"""A real language model, fine-tuned on three kinds of text here and merged on disk.

``python -m labcore.merging.language`` fine-tunes every weight of SmolLM2-135M a little on a novel,
on speeches and on programs, writes each as a bfloat16 checkpoint, merges them one tensor at a time
into shards, and measures the loss on other text of the three kinds. The checkpoints stay in
``out/merging/language``.
"""

import argparse
import hashlib
import optparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from labcore.assets import fetch
from labcore.assets.causal_lm import converted, load_causal_lm
from labcore.merging.checkpoints import DEFAULT_FOLDER, RESULTS
from labcore.merging.files import SINGLE, copy_companions, open_checkpoint
from labcore.merging.measure import place
from labcore.merging.streaming import merge_checkpoints
from labcore.parts import Findings, Part, run_experiment
from labcore.runs import Progress, Result, Table, replacing, silent

MODEL = "smollm2-135m"
RESULT = RESULTS / "language.npz"
TEXTS = ("novel", "speeches", "programs")
MERGES = ("average", "task_arithmetic", "tsv_m")
SHARD = "100MB"


@dataclass(frozen=True)
class Config:
    """How much to train and to measure.

    Attributes:
        steps: Of AdamW, one window each. lr: Its learning rate.
        window: Tokens. held_out: Windows of other text that are measured, a text.
    """

    steps: int = 16
    lr: float = 5e-5
    window: int = 256
    held_out: int = 3


def texts(kind: str) -> tuple[str, str]:
    """Text to train on, and other text of the same kind to measure.

    The novel is split in its middle; the measured speech is another president's, the measured
    program another module of Python's library.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "novel":
        whole = fetch("moby-dick")["moby-dick.txt"].read_text(encoding="utf-8")
        middle = len(whole) // 2
        return whole[20_000:middle], whole[middle:]
    if kind == "speeches":
        files = fetch("sotu")
        train, other = files["2010.txt"], files["1999.txt"]
    elif kind == "programs":
        train, other = Path(str(argparse.__file__)), Path(str(optparse.__file__))
    else:
        raise ValueError(f"unknown kind of text {kind!r}: {', '.join(TEXTS)}")
    return train.read_text(encoding="utf-8"), other.read_text(encoding="utf-8")


def finetune(model: Any, windows: Tensor, lr: float) -> list[float]:
    """One step of AdamW on each window, all weights; the losses on the way.

    Args:
        model: A transformers causal language model in float32; it is changed.
        windows: (steps, tokens).
        lr: Learning rate.
    """
    model.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    losses = []
    for window in windows:
        loss = model(input_ids=window[None], labels=window[None]).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    model.eval().requires_grad_(False)
    return losses


def write_checkpoint(
    model: Any, base: Path, folder: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """The model's weights beside the base's configuration; tied weights once."""
    weights = {n: v.detach().to(dtype).contiguous() for n, v in model.named_parameters()}
    folder.mkdir(parents=True, exist_ok=True)
    copy_companions(base, folder)
    with replacing(folder / SINGLE) as part:
        save_file(weights, part, metadata={"format": "pt"})


@torch.no_grad()
def loss_of(model: Any, windows: Tensor) -> float:
    """Mean negative log-likelihood of the windows' tokens, nats."""
    return sum(float(model(input_ids=w[None], labels=w[None]).loss) for w in windows) / len(windows)


def run(
    config: Config | None = None,
    progress: Progress | None = None,
    folder: Path = DEFAULT_FOLDER / "language",
) -> Result:
    """Fine-tune, merge and measure; a killed run goes on where it was.

    Raises:
        AssetError: the model or a text is not here and cannot be fetched.
    """
    config = config or Config()
    parts = [Part(f"tune-{kind}", 60, partial(_tune, config, folder, kind)) for kind in TEXTS]
    parts += [
        Part(f"merge-{method}-serial", 60, partial(_merge, folder, method)) for method in MERGES
    ]
    names = ("base", *TEXTS, *MERGES)
    parts += [Part(f"losses-{name}", 30, partial(_measure, config, folder, name)) for name in names]
    return run_experiment(
        "merging",
        config,
        parts,
        seeds=(),
        command="python -m labcore.merging.language",
        resume=True,
        progress=progress or silent,
    )


def base_folder() -> Path:
    """The base checkpoint, bfloat16 safetensors."""
    (file,) = (path for path in fetch(MODEL).values() if path.suffix == ".gguf")
    return converted(file, dtype=torch.bfloat16)


def place_of(folder: Path, name: str) -> Path:
    """Where a model is."""
    return base_folder() if name == "base" else folder / name


@cache
def _windows(kind: str, config: Config) -> tuple[Tensor, Tensor]:
    _, tokenizer = _model()
    found = []
    for text, count in zip(texts(kind), (config.steps, config.held_out), strict=True):
        need = count * config.window
        ids = tokenizer(text[: 8 * need], return_tensors="pt").input_ids[0, :need]
        found.append(ids.view(count, config.window))
    return found[0], found[1]


@cache
def _model() -> tuple[Any, Any]:
    return load_causal_lm(MODEL)


def _loaded(folder: Path, name: str) -> Any:
    """The model with these weights, in float32."""
    model, _ = _model()
    files = sorted(set(open_checkpoint(place_of(folder, name)).files.values()))
    held: dict[str, Tensor] = {}
    for file in files:
        held |= load_file(file)
    with torch.no_grad():
        for key, value in model.named_parameters():
            value.copy_(held[key].float())
    return model


def _tune(config: Config, folder: Path, kind: str, progress: Progress) -> Findings:
    model = _loaded(folder, "base")
    losses = finetune(model, _windows(kind, config)[0], config.lr)
    write_checkpoint(model, base_folder(), folder / kind)
    return Findings(tables={"training": [
        {"text": kind, "step": step, "loss": loss} for step, loss in enumerate(losses)
    ]})  # fmt: skip


def _merge(folder: Path, method: str, progress: Progress) -> Findings:
    """Merge the three, as ``lab merge`` does; the report of TSV-Merge is kept."""
    out, wants = folder / method, method == "tsv_m"
    report = merge_checkpoints(
        base_folder(),
        {kind: folder / kind for kind in TEXTS},
        out,
        method,
        max_shard=SHARD,
        progress=progress,
    )
    files = sorted(out.glob("*.safetensors"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    tables: dict[str, Table] = {"merges": [{
        "method": method,
        "shards": len(files),
        "tensors": len(open_checkpoint(out).files),
        "bytes": sum(file.stat().st_size for file in files),
        "peak_bytes": report.peak_bytes,
        "sha256": digest,
    }]}  # fmt: skip
    if wants:
        tables["interference"] = [_row(row) for row in report.rows if row["kind"] == "matrix"]
    return Findings(tables=tables)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    depth, part = place(row["parameter"])
    kept = ("parameter", "rank", "sti", "sti_normalized", "sti_whitened", "condition_left",
            "condition_right", "dropped", "rounding_noise", "seconds")  # fmt: skip
    energy = sum(row["energy"]) / len(row["energy"])
    return {"depth": depth, "part": part, "energy": energy} | {key: row[key] for key in kept}


def _measure(config: Config, folder: Path, name: str, progress: Progress) -> Findings:
    """Loss of a model on the held-out texts; a fine-tuned one on its own kind only."""
    model = _loaded(folder, name)
    return Findings(tables={"losses": [
        {"model": name, "text": kind, "loss": loss_of(model, _windows(kind, config)[1])}
        for kind in ((name,) if name in TEXTS else TEXTS)
    ]})  # fmt: skip


if __name__ == "__main__":
    from labcore.runtime import limit_threads

    limit_threads(1)
    run(progress=lambda done, total, label: print(done, total, label, flush=True)).save(RESULT)
