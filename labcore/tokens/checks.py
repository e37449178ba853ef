"""The doors of this topic: budgets, signal-to-noise ratios and counts are judged here."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def as_budgets(
    budget: float | Tensor, batch: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " b"]:
    """One budget an image, each in [0, 1].

    Args:
        budget: One number for all images, or one an image (b,).
        batch: Number of images.
        dtype: Type of the answer.

    Raises:
        ValueError: a budget outside [0, 1] (with its image's index), or another number of them.

    >>> as_budgets(0.2, 2).tolist() == as_budgets(torch.tensor([0.2, 0.2]), 2).tolist()
    True
    """
    given = torch.as_tensor(budget, dtype=dtype)
    if given.ndim == 0:
        given = given.expand(batch)
    if given.shape != (batch,):
        raise ValueError(
            f"budget has shape {tuple(given.shape)}: give one number, or one for each of the "
            f"{batch} images"
        )
    bad = ~((given >= 0) & (given <= 1))  # NaN is bad too
    if bad.any():
        index = int(bad.nonzero()[0])
        raise ValueError(
            f"budget {given[index].item():g} of image {index} is outside [0, 1]: it is the share "
            "of tokens to send"
        )
    return given


def noise_variance(snr_db: float | None) -> float:
    """Variance of the noise of one complex symbol of power 1: 10^(-SNR/10); 0 without noise.

    ``None`` and ``inf`` mean no noise; 0 dB is as much noise as signal.

    Raises:
        ValueError: NaN or minus infinity.

    >>> noise_variance(None), noise_variance(0), noise_variance(20)
    (0.0, 1.0, 0.01)
    """
    if snr_db is None or snr_db == math.inf:
        return 0.0
    if math.isnan(snr_db) or snr_db == -math.inf:
        raise ValueError(f"snr_db={snr_db}: give decibels, or None for a channel without noise")
    return float(10 ** (-snr_db / 10))


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """``value``, when it is allowed.

    Raises:
        ValueError: it is not.
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: choose from {', '.join(allowed)}")
    return value
