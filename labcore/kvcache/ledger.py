"""What a key-value cache weighs, exactly: no model and no torch needed."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class CacheShape:
    """The numbers that decide the size of a cache."""

    name: str
    layers: int
    key_heads: int
    head_dim: int
    itemsize: int

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token in all layers: 2 · L · G · d · itemsize."""
        return 2 * self.layers * self.key_heads * self.head_dim * self.itemsize


MODELS = (
    CacheShape("SmolLM2-135M, float32", 30, 3, 64, 4),
    CacheShape("SmolLM2-135M, bfloat16", 30, 3, 64, 2),
    CacheShape("Llama-3-8B, bfloat16", 32, 8, 128, 2),
    CacheShape("Llama-2-7B, float16", 32, 32, 128, 2),
)


def cache_bytes(
    shape: CacheShape, tokens: int, *, keep_ratio: float = 1.0, skipped_layers: int = 0
) -> int:
    """Bytes of the cache of ``tokens`` tokens, after one prune that skips some layers.

    Raises:
        ValueError: a negative number of tokens, a ratio outside (0, 1], or more skipped layers
            than there are.

    >>> cache_bytes(MODELS[3], 4096) / GIB
    2.0
    >>> cache_bytes(MODELS[3], 4096, keep_ratio=0.5, skipped_layers=2) / GIB
    1.0625
    """
    if tokens < 0:
        raise ValueError(f"tokens must be 0 or more, got {tokens}")
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio must be in (0, 1], got {keep_ratio}")
    if not 0 <= skipped_layers <= shape.layers:
        raise ValueError(f"skipped_layers must be 0..{shape.layers}, got {skipped_layers}")
    kept = 0 if tokens == 0 else min(tokens, max(1, -int(-(keep_ratio * tokens - 1e-9) // 1)))
    pairs = skipped_layers * tokens + (shape.layers - skipped_layers) * kept
    return pairs * shape.bytes_per_token // shape.layers
