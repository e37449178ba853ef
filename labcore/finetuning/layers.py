"""Running one block on the tokens that matter.

:func:`run_block_reference` is the plain version: the whole block, then the drop. :func:`run_block`
gives the same tokens and gradients for less. A dropped token is read once more, as key and value of
this block's attention, and never again; so its row of the attention, its output projection and its
MLP are left out. The last block, whose head reads only the class token, is the same case with one
survivor.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from labcore.blocks.class_attention import class_attention, received_attention
from labcore.blocks.gather import best_tokens, put_rows, take_rows, with_prefix
from labcore.finetuning.trunk import BlockView


@dataclass(frozen=True)
class Passed:
    """What a block hands on.

    Attributes:
        tokens: Tokens for the next block.
        kept: Indices of the patches that stay, among those that entered; None if all stay.
    """

    tokens: Float[Tensor, "b n d"]
    kept: Int[Tensor, "b k"] | None


@torch.no_grad()
def patch_scores(
    view: BlockView, query: Float[Tensor, "b n d"], key: Tensor, token: str, prefix: int
) -> Float[Tensor, "b p"]:
    """How much each patch is attended to in this block, without a gradient."""
    if token == "mean":  # noqa: S105
        return received_attention(view.heads(query), key, prefix)
    return class_attention(view.heads(query[:, :1]), key, prefix)


def run_block(
    view: BlockView,
    x: Float[Tensor, "b n d"],
    num_keep: int,
    *,
    prefix: int = 1,
    token: str = "class",  # noqa: S107
    only_first: int | None = None,
    lean: bool = True,
) -> Passed:
    """One block, and the drop of all but ``num_keep`` patches, at the cost of those that stay.

    Args:
        view: Parts of the block.
        x: Tokens that enter.
        num_keep: Patches that stay, by this block's own attention.
        prefix: Tokens that always stay.
        token: Whose attention decides.
        only_first: Compute only this many leading tokens (the last block); overrules ``num_keep``.
        lean: Compute the MLP's GELU again in the backward pass instead of keeping it.

    Raises:
        ValueError: ``num_keep`` outside 1..patches.
    """
    everything = only_first is None and num_keep == x.shape[1] - prefix
    if everything and not lean:
        return Passed(view.block(x), None)
    query, key, value = view.project(view.norm1(x))
    kept = None
    if only_first is not None:
        x, query = x[:, :only_first], query[:, :only_first]
    elif not everything:
        kept = best_tokens(patch_scores(view, query, key, token, prefix), num_keep)
        index = with_prefix(kept, prefix)
        x, query = take_rows(x, index), take_rows(query, index)
    return Passed(_rest(view, x, query, key, value, lean=lean), kept)


def _rest(
    view: BlockView, x: Tensor, query: Tensor, key: Tensor, value: Tensor, *, lean: bool
) -> Tensor:
    """Attention and MLP of the tokens ``x``, whose queries are given."""
    dropped = view.dropout()
    read = F.scaled_dot_product_attention(view.heads(query), key, value, dropout_p=dropped)
    x = x + view.output(read.transpose(1, 2).flatten(2))
    return x + (view.lean_mlp if lean else view.mlp)(view.norm2(x))


def run_block_reference(
    view: BlockView,
    x: Float[Tensor, "b n d"],
    num_keep: int,
    *,
    prefix: int = 1,
    token: str = "class",  # noqa: S107
) -> Passed:
    """The whole block on all tokens, then the drop: the published order of things."""
    if num_keep == x.shape[1] - prefix:
        return Passed(view.block(x), None)
    query, key, value = view.project(view.norm1(x))
    out = _rest(view, x, query, key, value, lean=False)
    kept = best_tokens(patch_scores(view, query, key, token, prefix), num_keep)
    return Passed(take_rows(out, with_prefix(kept, prefix)), kept)


def run_bypassed(
    view: BlockView,
    x: Float[Tensor, "b n d"],
    num_keep: int,
    *,
    prefix: int = 1,
    token: str = "class",  # noqa: S107
    lean: bool = True,
) -> Passed:
    """The block on the best ``num_keep`` patches only; the others go around it and come back.

    Scores come from this block's queries and keys of all tokens, computed without a graph. Our
    extension.
    """
    if num_keep == x.shape[1] - prefix:
        return run_block(view, x, num_keep, prefix=prefix, token=token, lean=lean)
    with torch.no_grad():
        query, key, _ = view.project(view.norm1(x))
        kept = best_tokens(patch_scores(view, query, key, token, prefix), num_keep)
    index = with_prefix(kept, prefix)
    passed = run_block(view, take_rows(x, index), num_keep, prefix=prefix, token=token, lean=lean)
    return Passed(put_rows(x, index, passed.tokens), kept)
