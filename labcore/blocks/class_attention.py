"""What the class token reads, without the attention matrix.

A fused attention kernel returns its output and never the weights. One more product of a single
query with all keys, (b, h, 1, d) x (b, h, d, n), gives the one row that token selection needs, at
1/n of the matrix's cost. Nothing here carries a gradient.
"""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def class_attention(
    query: Float[Tensor, "b h m d"],
    key: Float[Tensor, "b h n d"],
    num_prefix_tokens: int = 1,
) -> Float[Tensor, "b p"]:
    """The class token's attention to each patch, averaged over heads (arXiv 2408.08670).

    ``a_j = mean over heads of softmax_j(q_cls . k_j / sqrt(d))``: the softmax runs over all tokens,
    then the columns of the prefix tokens are left out, so a row sums to less than one.

    Args:
        query: Queries; only the first, the class token's, is read.
        key: Keys of all tokens, prefix tokens first.
        num_prefix_tokens: Class token, registers and the like.

    Raises:
        ValueError: there is no patch behind the prefix tokens.

    >>> class_attention(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 4, 4)).tolist()
    [[0.25, 0.25, 0.25]]
    """
    _check_patches(key.shape[2], num_prefix_tokens)
    logits = query[:, :, :1] @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return logits.softmax(-1)[:, :, 0, num_prefix_tokens:].mean(1)


@torch.no_grad()
def received_attention(
    query: Float[Tensor, "b h n d"],
    key: Float[Tensor, "b h n d"],
    num_prefix_tokens: int = 0,
) -> Float[Tensor, "b p"]:
    """Attention that each patch receives, averaged over heads and queries.

    Our extension for models without a class token; it needs the whole matrix.

    Raises:
        ValueError: there is no patch behind the prefix tokens.

    >>> received_attention(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)).tolist()
    [[0.5, 0.5]]
    """
    _check_patches(key.shape[2], num_prefix_tokens)
    weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
    return weights[..., num_prefix_tokens:].mean((1, 2))


def _check_patches(tokens: int, prefix: int) -> None:
    if not 0 <= prefix < tokens:
        raise ValueError(
            f"num_prefix_tokens={prefix} of {tokens} tokens leaves no patch: give 0..{tokens - 1}"
        )
