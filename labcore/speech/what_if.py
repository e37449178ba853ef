"""The length rules with other settings, on a committed clip: what the sliders of the page move."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from labcore.runs import Table
from labcore.speech.lengths import cif, cif_assignment, conv_band, window_size

RATE = 50.0  # frames a second of both encoders
TRAINED_CONVS = 2
TRAINED_WINDOW = window_size(RATE) / RATE  # seconds


def what_if(
    maps: Mapping[str, np.ndarray],
    alpha: np.ndarray,
    *,
    threshold: float,
    window: float,
    convs: int,
) -> dict[str, Float[np.ndarray, "t n"]]:
    """W of each adapter, with another threshold, window or number of convolutions.

    WLQ's attention was trained with one window: for another one its blocks are plain means.

    Args:
        maps: Adapter -> W (t, n) as trained.
        alpha: CIF's weight of each frame (t,).
        threshold: Weight that CIF takes for one position.
        window: Seconds that one query of WLQ reads.
        convs: Convolutions of stride 2.

    Raises:
        ValueError: a threshold, window or number that cannot be.
    """
    frames = round(window * RATE)
    if frames < 1 or convs < 0:
        raise ValueError(
            f"a window of {window} s must hold a frame of {1 / RATE} s, convs {convs} be 0 or more"
        )
    found, t = dict(maps), len(alpha)
    weights, fires = cif_assignment(
        torch.as_tensor(alpha)[None], torch.tensor([t]), threshold=threshold
    )
    if int(fires) > 0:
        found["cif"] = weights[0].numpy()
    else:  # nothing fires: the mean of all frames stands in
        found["cif"] = np.full((t, 1), 1 / t)
    if convs != TRAINED_CONVS:
        found["conv"] = conv_band(t, convs).numpy()
    if frames != window_size(RATE):
        block = np.arange(t)[:, None] // frames == np.arange(-(-t // frames))
        found["wlq"] = block / block.sum(axis=0)
    return found


def by_hand(alpha: Sequence[float], threshold: float) -> list[float]:
    """What integrate-and-fire makes of the frames 1, 2, 3, ..., one weight each.

    >>> [round(v, 2) for v in by_hand([0.4, 0.8, 0.3, 0.7, 0.2], 1.0)]
    [1.6, 3.3]

    Raises:
        ValueError: weights outside [0, 1], or a threshold that is not positive.
    """
    numbers = torch.arange(1.0, len(alpha) + 1, dtype=torch.float64)
    weights = torch.tensor([list(alpha)], dtype=torch.float64)
    found = cif(numbers[None, :, None], weights, torch.tensor([len(alpha)]), threshold=threshold)
    return [float(v) for v in found.frames[0, :, 0]]


def rates(maps: Mapping[str, np.ndarray], words: int) -> Table:
    """Positions of each adapter, a second and a word (a digit is one token); the words below."""
    rows: Table = []
    for name, n in ((k, w.shape[1]) for k, w in maps.items()):
        seconds = len(maps[name]) / RATE
        rows.append(
            {"what": name, "number": n, "a second": f"{n / seconds:.1f}",
             "a word": f"{n / words:.1f}"}
        )  # fmt: skip
    rows.append(
        {"what": "words of the text", "number": words, "a second": f"{words / seconds:.1f}",
         "a word": "1.0"}
    )  # fmt: skip
    return rows
