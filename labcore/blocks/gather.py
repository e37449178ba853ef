"""Really dropping tokens: rows are copied into a shorter tensor, so later layers cost less.

Masking would keep the cost. The order of the tokens that stay is kept, prefix tokens stay first,
and among equal scores the lower index wins on every device.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def take_rows(x: Float[Tensor, "b n d"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """The tokens at ``index`` in each batch row, copied whole.

    >>> take_rows(torch.arange(6.0).view(1, 3, 2), torch.tensor([[0, 2]])).tolist()
    [[[0.0, 1.0], [4.0, 5.0]]]
    """
    b, n, d = x.shape
    offset = torch.arange(b, device=x.device).unsqueeze(1) * n
    flat = (index + offset).flatten()
    return x.reshape(b * n, d).index_select(0, flat).view(b, index.shape[1], d)


def put_rows(
    x: Float[Tensor, "b n d"], index: Int[Tensor, "b k"], rows: Float[Tensor, "b k d"]
) -> Float[Tensor, "b n d"]:
    """A copy of ``x`` with ``rows`` at ``index``: the way back of :func:`take_rows`.

    >>> put_rows(torch.zeros(1, 3, 1), torch.tensor([[1]]), torch.ones(1, 1, 1)).flatten().tolist()
    [0.0, 1.0, 0.0]
    """
    b, n, d = x.shape
    offset = torch.arange(b, device=x.device).unsqueeze(1) * n
    flat = (index + offset).flatten()
    return x.reshape(b * n, d).index_copy(0, flat, rows.reshape(-1, d)).view(b, n, d)


@torch.no_grad()
def best_tokens(scores: Float[Tensor, "b p"], num_keep: int) -> Int[Tensor, "b k"]:
    """Patch indices of the ``num_keep`` largest scores, ascending; ties go to the lower index.

    Raises:
        ValueError: ``num_keep`` outside 1..p.

    >>> best_tokens(torch.tensor([[0.1, 0.5, 0.5, 0.2]]), 2).tolist()
    [[1, 2]]
    """
    patches = scores.shape[1]
    if not 1 <= num_keep <= patches:
        raise ValueError(f"num_keep must be 1..{patches}, the number of patches, got {num_keep}")
    order = scores.argsort(dim=1, descending=True, stable=True)
    return order[:, :num_keep].sort(dim=1).values


def with_prefix(patches: Int[Tensor, "b k"], num_prefix_tokens: int) -> Int[Tensor, "b m"]:
    """Token indices: all prefix tokens, then the patches moved behind them."""
    first = torch.arange(num_prefix_tokens, device=patches.device).expand(len(patches), -1)
    return torch.cat((first, patches + num_prefix_tokens), dim=1)


def select_tokens(
    x: Float[Tensor, "b n d"],
    scores: Float[Tensor, "b p"],
    num_keep: int,
    num_prefix_tokens: int = 1,
) -> tuple[Float[Tensor, "b m d"], Int[Tensor, "b k"]]:
    """Keep all prefix tokens and the ``num_keep`` patches with the largest scores.

    Args:
        x: Tokens, prefix first.
        scores: One number a patch.
        num_keep: Patches that stay.
        num_prefix_tokens: Tokens at the front that always stay.

    Returns:
        The tokens that stay, and the patch indices of those, ascending.

    Raises:
        ValueError: ``num_keep`` outside 1..p, or scores that do not fit the tokens.

    >>> kept, index = select_tokens(torch.arange(4.0).view(1, 4, 1), torch.tensor([[1., 3, 2]]), 2)
    >>> kept.flatten().tolist(), index.tolist()
    ([0.0, 2.0, 3.0], [[1, 2]])
    """
    if x.shape[1] - num_prefix_tokens != scores.shape[1] or len(x) != len(scores):
        raise ValueError(
            f"scores of shape {tuple(scores.shape)} do not fit {tuple(x.shape)} with "
            f"{num_prefix_tokens} prefix tokens: give one score a patch"
        )
    index = best_tokens(scores, num_keep)
    return take_rows(x, with_prefix(index, num_prefix_tokens)), index
