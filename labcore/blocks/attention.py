"""Attention, exact and explicit (chapters 10 and 11 of the book).

Shapes are ``(..., t, d)`` with any leading axes: batch, heads. Positions are in
:mod:`labcore.blocks.positions`, the cache of a decoder in :mod:`labcore.blocks.kv_cache`.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def causal_mask(t_query: int, t_key: int) -> Bool[Tensor, "q k"]:
    """Whom each query may read: everything up to itself, the LAST query standing at the LAST key.

    Raises:
        ValueError: More queries than keys, or none.

    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    if not 1 <= t_query <= t_key:
        raise ValueError(
            f"1 <= t_query <= t_key is wanted, got {t_query} queries and {t_key} keys: "
            "the last query stands at the last key"
        )
    return torch.ones(t_query, t_key, dtype=torch.bool).tril(t_key - t_query)


def attention_scores(
    query: Float[Tensor, "... q d"],
    key: Float[Tensor, "... k e"],
    *,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Float[Tensor, "... q k"]:
    """``Q K^T / sqrt(d)``, minus infinity where a query may not read.

    Raises:
        ValueError: Query and key of unequal width, or a query that may read nothing.
    """
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"query and key must have one width, got {query.shape[-1]} and {key.shape[-1]}"
        )
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    allowed = causal_mask(query.shape[-2], key.shape[-2]) if causal else None
    if mask is not None:
        allowed = mask if allowed is None else mask & allowed
    if allowed is None:
        return scores
    blind = ~allowed.any(-1)
    if bool(blind.any()):
        where = tuple(blind.nonzero()[0].tolist())
        raise ValueError(f"the query at {where} may read no key: leave it at least one")
    return scores.masked_fill(~allowed, -torch.inf)


def attention(
    query: Float[Tensor, "... q d"],
    key: Float[Tensor, "... k e"],
    value: Float[Tensor, "... j v"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """``softmax(Q K^T / sqrt(d)) V``: a dictionary that is read softly (section 10.1).

    Args:
        query: What is asked.
        key: What each entry answers to.
        value: What each entry says.
        mask: True where a query may read a key; broadcasts to (..., q, k).
        causal: Read nothing that comes later; aligned at the end, see :func:`causal_mask`.
        return_weights: Also give the weights.

    Raises:
        ValueError: Unequal widths or lengths, or a query that may read nothing.
    """
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"{key.shape[-2]} keys do not fit {value.shape[-2]} values")
    weights = attention_scores(query, key, mask=mask, causal=causal).softmax(-1)
    return (weights @ value, weights) if return_weights else weights @ value


def online_softmax_attention(
    query: Float[Tensor, "... q d"],
    key: Float[Tensor, "... k e"],
    value: Float[Tensor, "... j v"],
    *,
    block: int,
) -> Float[Tensor, "... q v"]:
    """Attention that sees ``block`` keys at a time and never holds a whole row of weights.

    Keeps the largest score so far, the sum of exponentials and the weighted sum of values; both
    sums are rescaled whenever the maximum grows (arXiv 1805.02867; section 11.2).

    Raises:
        ValueError: ``block`` is not positive, or unequal widths.
    """
    if block < 1:
        raise ValueError(f"block must be at least 1 key, got {block}")
    shape = (*query.shape[:-1], 1)
    top = torch.full(shape, -torch.inf, dtype=query.dtype, device=query.device)
    total = torch.zeros(shape, dtype=query.dtype, device=query.device)
    summed: Tensor = torch.zeros(())
    for start in range(0, key.shape[-2], block):
        part = slice(start, start + block)
        scores = attention_scores(query, key[..., part, :])
        higher = torch.maximum(top, scores.amax(-1, keepdim=True))
        weights, fade = (scores - higher).exp(), (top - higher).exp()
        total = total * fade + weights.sum(-1, keepdim=True)
        summed = summed * fade + weights @ value[..., part, :]
        top = higher
    return summed / total


def split_heads(x: Float[Tensor, "... t d"], heads: int) -> Float[Tensor, "... h t e"]:
    """Cut the features into ``heads`` parts, each a sequence of its own.

    Raises:
        ValueError: The heads do not divide the width.
    """
    if heads < 1 or x.shape[-1] % heads:
        raise ValueError(f"heads={heads} must divide the width {x.shape[-1]}")
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def multi_head(
    x: Float[Tensor, "... t d"],
    w_query: Float[Tensor, "..."],
    w_key: Float[Tensor, "..."],
    w_value: Float[Tensor, "..."],
    w_out: Float[Tensor, "..."],
    heads: int,
    *,
    mask: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Several attentions side by side, their outputs joined and mixed by ``w_out`` (section 10.1).

    Args:
        x: Tokens.
        w_query: (d, e), used as ``x @ w_query``; each head takes its columns.
        w_key: (d, e), likewise.
        w_value: (d, v), likewise.
        w_out: (v, o), mixes the joined heads.
        heads: How many.
        mask: As for :func:`attention`.
        causal: As for :func:`attention`.
        return_weights: Also give the weights (..., heads, t, t).

    Raises:
        ValueError: The heads do not divide a width, or a map does not fit what it is applied to.
    """
    maps = {"w_query": w_query, "w_key": w_key, "w_value": w_value, "w_out": w_out}
    for name, w in maps.items():
        rows = w_value.shape[-1] if name == "w_out" else x.shape[-1]
        if w.ndim != 2 or len(w) != rows:
            raise ValueError(f"{name} must have {rows} rows, got shape {tuple(w.shape)}")
    query, key, value = (split_heads(x @ w, heads) for w in (w_query, w_key, w_value))
    read, weights = attention(query, key, value, mask=mask, causal=causal, return_weights=True)
    out = read.transpose(-2, -3).flatten(-2) @ w_out
    return (out, weights) if return_weights else out


def entropy(weights: Float[Tensor, "... k"]) -> Float[Tensor, "..."]:
    """Bits of each row of weights: 0 reads one key, log2(k) reads all alike."""
    return torch.special.entr(weights).sum(-1) / math.log(2)
