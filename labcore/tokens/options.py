"""What a model may be asked for: the scorers, and which options go together."""

from labcore.tokens.channel import Channel
from labcore.tokens.checks import one_of

SCORERS = ("gate", "predictor", "halting", "random", "magnitude", "class_attention", "none")
RANKED = ("predictor", "random", "magnitude", "class_attention")  # no threshold: top-k only


def check_options(
    depth: int,
    split: int,
    layers: tuple[int, ...],
    channel: Channel | None,
    select: str,
    num_symbols: int | None,
    scorer: str,
    fuse_rest: bool,
    class_token: str,
) -> None:
    """Refuse options that are out of range or do not go together.

    Raises:
        ValueError: which one, and what is wanted.
    """
    if not 1 <= split <= depth - 1:
        raise ValueError(f"split={split} must lie in 1..{depth - 1}: both parts need a block")
    if not layers or layers[0] < 0 or layers[-1] > split:
        raise ValueError(
            f"gated_layers={layers} must lie in 0..{split}: after the split nothing is left "
            "to select"
        )
    if channel is not None and num_symbols is None:
        raise ValueError("a channel needs num_symbols, the complex symbols of one token")
    if class_token == "sent" and channel is not None and channel.kind == "erasure":  # noqa: S105
        raise ValueError("an erasure channel would lose the class token: let it join at the server")
    one_of("scorer", scorer, SCORERS)
    if scorer in RANKED and select != "topk":
        raise ValueError(f'scorer={scorer!r} has no threshold: use select="topk"')
    if scorer == "none" and class_token != "sent":  # noqa: S105
        raise ValueError('scorer="none" keeps no patch: send the class token (class_token="sent")')
    if fuse_rest and select != "topk":
        raise ValueError('fuse_rest=True needs select="topk"')
