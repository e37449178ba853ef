"""The keys and values that a decoder keeps, so that it computes them once (section 11.2)."""

import torch
from jaxtyping import Float
from torch import Tensor


class KVCache:
    """Keys and values of one layer, (batch, heads, tokens, head_dim), growing as tokens arrive.

    >>> cache = KVCache()
    >>> keys, _ = cache.append(torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 4, 8))
    >>> keys.shape, cache.nbytes
    (torch.Size([1, 3, 4, 8]), 768)
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __len__(self) -> int:
        """Tokens held."""
        return 0 if self.keys is None else self.keys.shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        held = [x for x in (self.keys, self.values) if x is not None]
        return sum(x.numel() * x.element_size() for x in held)

    def append(
        self, key: Float[Tensor, "b h t d"], value: Float[Tensor, "b h t e"]
    ) -> tuple[Tensor, Tensor]:
        """Add new pairs behind those held; gives all keys and all values.

        Raises:
            ValueError: Another batch size, number of heads or width than the pairs held.
        """
        for name, new, held in (("key", key, self.keys), ("value", value, self.values)):
            if held is not None and _but_time(new) != _but_time(held):
                raise ValueError(
                    f"the new {name} has (batch, heads, width) {_but_time(new)}, the cache holds "
                    f"{_but_time(held)}: begin a new cache for another batch"
                )
        self.keys = key if self.keys is None else torch.cat((self.keys, key), -2)
        self.values = value if self.values is None else torch.cat((self.values, value), -2)
        return self.keys, self.values


def cache_bytes(
    tokens: int, *, layers: int, kv_heads: int, head_dim: int, itemsize: int, batch: int = 1
) -> int:
    """Bytes of the caches of all layers: two vectors a token, layer and key head.

    >>> cache_bytes(1, layers=30, kv_heads=3, head_dim=64, itemsize=4)
    46080
    """
    return 2 * batch * tokens * layers * kv_heads * head_dim * itemsize


def _but_time(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], x.shape[3]
