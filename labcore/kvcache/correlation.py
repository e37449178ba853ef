"""Does the norm predict attention? Maps over layers and heads, and which tokens have small keys."""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from labcore.kvcache import AttentionProfile, data, head_map, profile_attention, special_mask
from labcore.kvcache.workbench import Lab
from labcore.parts import Findings
from labcore.runs import Progress, Table

_MAPS: dict[str, dict[str, Any]] = {
    "relative_alr": {},
    "relative_alr_without_first": {"exclude_first": 1},
    "recency": {"order": "recency"},
    "recency_without_first": {"order": "recency", "exclude_first": 1},
    "spearman": {"metric": "spearman"},
    "spearman_without_first": {"metric": "spearman", "exclude_first": 1},
    "pearson": {"metric": "pearson"},
}


def correlation(lab: Lab, text: str, length: int, progress: Progress) -> Findings:
    """Maps (layer, head) of one text, and which of its tokens have small keys."""
    tokens = data.map_text(lab.tokenizer, text, length)
    profile = profile_attention(lab.model, tokens[None], window=lab.config.window, rows=True)
    found = Findings()
    for done, (name, options) in enumerate(_MAPS.items()):
        progress(done + 1, len(_MAPS) + 1, f"{text}, {length} tokens, {name}")
        values = head_map(profile, **options)
        found.arrays[f"map/{text}@{length}/{name}"] = values.astype(np.float32)
        found.tables.setdefault("maps", []).append(_map_row(text, length, name, values))
    if length == min(lab.config.map_lengths):
        found.tables |= _low_norms(lab, text, profile)
    return found


def _map_row(text: str, length: int, name: str, values: Float[np.ndarray, "l h"]) -> dict[str, Any]:
    """Mean and spread over heads; what counts as better than random depends on the measure."""
    correlation = name.startswith(("spearman", "pearson"))
    good = values > 0 if correlation else values < 1
    return {
        "text": text,
        "length": length,
        "measure": name,
        "heads": int(values.size),
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "good_heads": float(good.mean()),
        "good_layers": float((good.mean(axis=1) > 0.5).mean()),
    }


def norm_percentiles(norms: Float[Tensor, "l g n"]) -> Float[np.ndarray, "l g n"]:
    """Rank of each key's norm within its head, from 0 (smallest) to 1.

    >>> import torch
    >>> norm_percentiles(torch.tensor([[[3.0, 1.0, 2.0]]])).tolist()
    [[[1.0, 0.0, 0.5]]]
    """
    ranks = norms.argsort(dim=-1, stable=True).argsort(dim=-1)
    return (ranks / max(norms.shape[-1] - 1, 1)).numpy()


def _low_norms(lab: Lab, text: str, profile: AttentionProfile) -> dict[str, Table]:
    """The tokens with the smallest keys in each depth band, and what kind of token is kept."""
    percentiles = norm_percentiles(profile.norms)
    special = special_mask(lab.tokenizer, profile.tokens[None])[0].numpy()
    names = data.token_texts(lab.tokenizer, profile.tokens.tolist())
    kinds = np.where(special, "punctuation", "word")
    kinds[0] = "first token"
    tokens: Table = []
    shares: Table = []
    for first, last in lab.config.bands:
        band = percentiles[first : last + 1]
        if not band.size:
            continue  # a shallower model
        where = {"text": text, "first_layer": first, "last_layer": last}
        mean, norms = band.mean(axis=(0, 1)), profile.norms[first : last + 1]
        for rank, position in enumerate(mean.argsort(kind="stable")[:12].tolist()):
            tokens.append(
                where
                | {
                    "rank": rank,
                    "token": names[position],
                    "position": position,
                    "percentile": float(mean[position]),
                    "norm": float(norms[..., position].mean()),
                    "mean_norm": float(norms.mean()),
                }
            )
        kept = band < 0.25
        shares += [
            where
            | {
                "kind": kind,
                "kept_share": float(kept[..., kinds == kind].sum() / kept.sum()),
                "text_share": float((kinds == kind).mean()),
            }
            for kind in ("first token", "punctuation", "word")
        ]
    return {"low_norm_tokens": tokens, "low_norm_kinds": shares}
