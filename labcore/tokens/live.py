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


def as_canvas(picture: UInt8[np.ndarray, "y x 3"]) -> UInt8[np.ndarray, "49 49"]:
    """A picture of one's own as a canvas: grey, square, 49 x 49, ink bright on dark.

    A picture that is mostly bright is turned over: paper must be 0.
    """
    side = min(picture.shape[:2])
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    grey = torch.from_numpy(picture[top : top + side, left : left + side].astype(np.float32))
    small = F.interpolate(
        grey.mean(-1)[None, None], size=(SIZE, SIZE), mode="bilinear", antialias=True
    )
    found = small[0, 0].round().clamp(0, 255).byte().numpy()
    return 255 - found if float(found.mean()) > 127 else found
