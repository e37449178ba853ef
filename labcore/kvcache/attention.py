"""Attention for caches whose layers hold different lengths, and what it can tell about itself.

transformers builds one mask per forward pass, from the first full-attention layer, and hands it to
all layers. That breaks as soon as one layer was pruned and another was not. The function registered
here under the name ``"labcore"`` asks for no mask at all: it builds its own from the number of
queries and keys that it is given, aligned at the lower right, because stored pairs are always past.
It is bit-equal to the library's ``sdpa`` on a plain prompt.

The same place is where attention can be observed. A collector travels with the call, as a keyword
argument that the model passes down; models are shared between threads, so nothing is left on them.

Like every cache of this package, the function sees no padding: :func:`check_no_padding`.
"""

from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from transformers import AttentionInterface

NAME = "labcore"
_NOT_OFFERED = ("softcap", "s_aux", "position_bias")  # other models' extras that change the result


@runtime_checkable
class Collector(Protocol):
    """Watches the attention of one forward pass, handed over as ``collector=``."""

    def add(
        self, layer: int, query: Tensor, key: Tensor, scaling: float, sliding_window: int | None
    ) -> None:
        """Called once a layer, with queries ``(b, h, q, d)`` and keys ``(b, g, n, d)``."""


def visible(
    queries: int,
    keys: int,
    sliding_window: int | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "{queries} {keys}"]:
    """Which keys each query sees when the last query belongs to the last key.

    >>> visible(2, 4)
    tensor([[ True,  True,  True, False],
            [ True,  True,  True,  True]])
    """
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return mask if sliding_window is None else mask.triu(keys - queries - sliding_window + 1)


def labcore_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "b h q d"],
    key: Float[Tensor, "b g n d"],
    value: Float[Tensor, "b g n e"],
    attention_mask: Shaped[Tensor, "..."] | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    collector: Collector | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "b q h e"], None]:
    """Scaled dot-product attention with a lower-right aligned causal mask of its own.

    The signature is the one that transformers calls; ``collector`` is the addition.

    Raises:
        ValueError: A mask was given, attention is not causal, or the model asks for something that
            this function does not compute.
    """
    _check(module, attention_mask, others)
    queries, keys = query.shape[2], key.shape[2]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if collector is not None:
        collector.add(cast(int, module.layer_idx), query, key, scaling, sliding_window)
    banded = sliding_window is not None and sliding_window < keys
    mask = None
    if banded or 1 < queries < keys:
        mask = visible(queries, keys, sliding_window if banded else None, query.device)
    mixed = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None and queries > 1,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return mixed.transpose(1, 2).contiguous(), None  # (b, q, h, e)


def load_model(source: str | Path = "smollm2-135m", **options: Any) -> tuple[Any, Any]:
    """A causal language model that uses this attention, and its tokenizer.

    Args:
        source: A named asset of the lab, a directory, a ``.gguf`` file or a hub id.
        options: As for :func:`labcore.assets.causal_lm.load_causal_lm`: ``dtype``, ``device``, ...
    """
    from labcore.assets.causal_lm import load_causal_lm

    return load_causal_lm(source, attn=NAME, **options)


def check_no_padding(attention_mask: Shaped[Tensor, "..."] | None) -> None:
    """Raise ``ValueError`` when a mask hides any token.

    A cache never sees the mask, and this attention takes none, so padded tokens would receive
    attention like any other. Use prompts of one length, or run them one by one.
    """
    if attention_mask is not None and not bool(attention_mask.all()):
        hidden = int((attention_mask == 0).sum())
        raise ValueError(
            f"the batch holds {hidden} padded positions, which a compressed cache cannot hide: "
            "use prompts of one length, or run them one by one"
        )


def _check(module: torch.nn.Module, attention_mask: Tensor | None, others: dict[str, Any]) -> None:
    if attention_mask is not None:
        raise ValueError("attention 'labcore' builds its own causal mask: do not pass a 4-d mask")
    if others.get("is_causal", getattr(module, "is_causal", True)) is False:
        raise ValueError("attention 'labcore' is causal: load this model with attn='sdpa'")
    for name in _NOT_OFFERED:
        if others.get(name) is not None:
            raise ValueError(
                f"attention 'labcore' has no {name}: load this model with attn='eager'"
            )


AttentionInterface.register(NAME, labcore_attention)
