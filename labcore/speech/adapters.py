"""The five adapters between a frozen speech encoder and a frozen language model, and one more.

Verdini et al., "How to connect speech foundation models and large language models?", arXiv
2409.17044. A length rule shortens the frames, then Transformer layers and a projection turn them
into vectors of the language model's width. Four share that modality adapter; the window-level query
transformer (``wlq``) is its own. ``stack`` (concatenate a few frames, one linear map) is the usual
projector elsewhere and no part of the study.
"""

from typing import Any

from labcore.speech.adapter_base import Adapter, AdapterOutput, Shape
from labcore.speech.length_adapters import (
    CIFAdapter,
    ConvAdapter,
    CTCAdapter,
    StackAdapter,
    ctc_loss,
)
from labcore.speech.lengths import window_size
from labcore.speech.wlq import WLQAdapter

__all__ = ["KINDS", "Adapter", "AdapterOutput", "ctc_loss", "make_adapter"]
KINDS = ("base", "conv", "cif", "ctc", "wlq")

_CLASSES: dict[str, type[Adapter]] = {
    c.kind: c for c in (Adapter, ConvAdapter, CIFAdapter, CTCAdapter, WLQAdapter, StackAdapter)
}


def make_adapter(
    kind: str,
    d_in: int,
    d_out: int,
    frame_rate: float,
    *,
    hidden: int = 192,
    layers: int = 2,
    heads: int = 4,
    ffn: int | None = None,
    output_rms: float | None = None,
    before_layers: int = 0,
    **options: Any,
) -> Adapter:
    """An adapter between any encoder and any decoder.

    Args:
        kind: ``base``, ``conv``, ``cif``, ``ctc``, ``wlq``, or off the grid ``stack``.
        d_in: Width of the encoder's frames.
        d_out: Width of the language model's embeddings.
        frame_rate: The encoder's frames a second; sets the window of ``wlq``.
        hidden: Width of its layers.
        layers: Number of its layers.
        heads: Heads of each.
        ffn: Width of the feed-forward part; four times ``hidden`` by default.
        output_rms: Root mean square of the outputs at the start: that of the language model's
            embeddings, or None for 1 as released, which starts several times too loud.
        before_layers: Layers in front of the length rule.
        **options: ``vocab`` (cif, ctc), ``run_weights`` (ctc), ``window``, ``queries`` (wlq),
            ``k`` (stack).

    Raises:
        ValueError: unknown kind, or sizes that are no positive numbers or do not fit.
    """
    if kind not in _CLASSES:
        raise ValueError(f"unknown adapter {kind!r}: choose one of {', '.join(_CLASSES)}")
    if min(d_in, d_out, hidden, layers) < 1 or frame_rate <= 0:
        raise ValueError(
            f"widths, layers and frame rate must be positive, got d_in={d_in}, d_out={d_out}, "
            f"hidden={hidden}, layers={layers}, frame_rate={frame_rate}"
        )
    if not 0 <= before_layers <= layers:
        raise ValueError(f"before_layers must be in 0..{layers}, got {before_layers}")
    if kind == "wlq":
        options.setdefault("window", window_size(frame_rate))
    shape = Shape(d_in, d_out, hidden, layers, heads, ffn or 4 * hidden)
    return _CLASSES[kind](shape, output_rms or 1.0, before_layers, **options)
