"""Send one picture: what is kept, what arrives, what the server answers, as plain arrays."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8

from labcore.tokens.channel import Channel
from labcore.tokens.data import SIZE
from labcore.tokens.link import Latency, LinkBudget, index_bits
from labcore.tokens.methods import model_from
from labcore.tokens.model import Select, SemanticViT

_DIGIT = 20  # pixels of MNIST's digits, in a box of 28
_CONTRAST, _INK_SHARE = 20, 0.35


@dataclass(frozen=True)
class Sent:
    """One picture after it was sent.

    Attributes:
        keep: Tokens that were sent (49,).
        arrived: Tokens that arrived (49,).
        score: Score of each token (49,).
        threshold: The gate's threshold; NaN in top-k mode.
        probabilities: The server's answer (10,).
        tokens: How many were sent.
        channel_uses: Complex symbols.
        index_bits: Bits that name the kept set.
        latency: Seconds by where they go.
    """

    keep: Bool[np.ndarray, " t"]
    arrived: Bool[np.ndarray, " t"]
    score: Float[np.ndarray, " t"]
    threshold: float
    probabilities: Float[np.ndarray, " c"]
    tokens: int
    channel_uses: int
    index_bits: float
    latency: Latency


@cache
def committed_model(method: str = "gate") -> SemanticViT:
    """A fine-tuned model of the committed result.

    Raises:
        FileNotFoundError: there is no committed result.
        ValueError: it holds no weights of this method.
    """
    from labcore.tokens.experiment import load_result

    return model_from(load_result().arrays, method)


@torch.no_grad()
def send(
    picture: UInt8[np.ndarray, "49 49"],
    alpha: float,
    snr_db: float | None,
    *,
    draw: int = 0,
    channel: str = "awgn",
    loss: float = 0.0,
    method: str = "gate",
    select: Select = "threshold",
    link: LinkBudget | None = None,
    model: SemanticViT | None = None,
) -> Sent:
    """Send a canvas over a channel, as the page and the notebook do.

    Args:
        picture: 49 x 49 bytes, 0 = paper.
        alpha: Rate asked for.
        snr_db: Decibels, None for no noise.
        draw: Seed of the noise (and of random selection).
        channel: ``"awgn"``, ``"rayleigh"`` or ``"erasure"``.
        loss: Share of tokens that an erasure channel loses.
        method: ``"gate"``, ``"class_attention"`` or ``"random"``.
        select: ``"threshold"`` or ``"topk"``, of the gate.
        link: Hardware numbers.
        model: Another model than the committed one.

    Raises:
        ValueError: a picture of another size, a bad budget, SNR or option.
    """
    if picture.shape != (SIZE, SIZE):
        raise ValueError(f"the picture is {picture.shape}, {SIZE} x {SIZE} pixels are wanted")
    net = committed_model(method) if model is None else model
    kind = Channel(channel, "mmse", loss=loss)  # type: ignore[arg-type]
    images = torch.from_numpy(picture.copy())[None, None].float() / 255
    generator = torch.Generator().manual_seed(draw)
    mode = select if net.scorer == "gate" else net.select
    chosen = net.device(images, alpha, generator, select=mode)  # the model is shared: not changed
    message = net.message(chosen)
    received = message.through(kind, snr_db, generator)
    there = torch.zeros(net.slots, dtype=torch.bool)
    there[received.index[0, : int(received.lengths[0])]] = True
    tokens = int((chosen.mask > 0).sum())
    link = link or LinkBudget()
    return Sent(
        keep=(chosen.mask[0] > 0).numpy(),
        arrived=there.numpy(),
        score=chosen.score[0].numpy(),
        threshold=float(chosen.threshold[0]),
        probabilities=F.softmax(net.decode(received), dim=-1)[0].numpy(),
        tokens=tokens,
        channel_uses=int(message.channel_uses[0]),
        index_bits=index_bits(net.patches, tokens),
        latency=link.latency(tokens),
    )


def as_canvas(
    picture: UInt8[np.ndarray, "y x 3"], clutter: UInt8[np.ndarray, "49 49"] | None = None
) -> UInt8[np.ndarray, "49 49"]:
    """A picture of one digit on a canvas, as the network knows them: as large, among fragments.

    Its ink is cut out and scaled to 20 pixels, MNIST's size, ink bright on dark; a picture that is
    mostly bright is turned over first. Without clutter the gate sends nearly every blank patch: it
    never saw a canvas with a digit alone.

    Args:
        picture: Red, green, blue.
        clutter: Fragments of other digits; the digit takes the place that hides fewest of them.

    Raises:
        ValueError: all of the picture is equally bright.
    """
    grey = picture.astype(np.float32).mean(-1)
    grey = 255 - grey if float(grey.mean()) > 127 else grey
    grey -= grey.min()
    if not grey.max() > _CONTRAST:
        raise ValueError("the picture shows no ink: give dark ink on bright paper, or the reverse")
    ink = grey > _INK_SHARE * grey.max()
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, round(n * _DIGIT / max(cut.shape))) for n in cut.shape)
    small = F.interpolate(
        torch.from_numpy(cut)[None, None], size=(height, width), mode="bilinear", antialias=True
    )[0, 0].numpy()
    canvas = np.zeros((SIZE, SIZE), np.uint8) if clutter is None else clutter.copy()
    corners = [(y, x) for y in range(0, SIZE - 27, 7) for x in range(0, SIZE - 27, 7)]
    top, left = min(corners, key=lambda at: int((canvas[_box(*at)] > 0).sum()))
    box = np.zeros((28, 28), np.uint8)
    y, x = (28 - height) // 2, (28 - width) // 2
    box[y : y + height, x : x + width] = (small * (255 / small.max())).round()
    canvas[_box(top, left)] = box
    return canvas


def _box(top: int, left: int) -> tuple[slice, slice]:
    return slice(top, top + 28), slice(left, left + 28)


def fragments_of(
    canvas: UInt8[np.ndarray, "49 49"], kinds: UInt8[np.ndarray, " t"]
) -> UInt8[np.ndarray, "49 49"]:
    """A canvas without its digit: ``kinds`` is 1 for the tokens with fragments."""
    cells = np.kron((kinds == 1).reshape(SIZE // 7, -1), np.ones((7, 7), bool))
    return np.where(cells, canvas, 0).astype(np.uint8)
