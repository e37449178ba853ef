"""The length rules of the five adapters, each as a function of tensors.

Every rule is a non-negative matrix W (frames by output positions): output = Wᵀ H. Base: the
identity. Windows: blocks. CTC: one column a run of equal symbols. CIF: the overlap of each frame's
piece of a line with the unit intervals that it is cut into. None has a Python loop over time; the
plain loops are the ``_reference`` functions.

CIF: Dong and Xu, 2020. CTC collapse: Gaido et al., 2021. Both as used in arXiv 2409.17044.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.speech.layers import padding_mask

EPSILON = 1e-4  # of the scaling to a target length, as published


@dataclass(frozen=True)
class Compressed:
    """What a length rule gives: ``frames`` (b, n, d), zero after each row's ``lengths``.

    Attributes:
        assignment: W, (b, t, n), where it was asked for.
        empty: Rows for which nothing came out, so that the mean of the frames stands in.
    """

    frames: Float[Tensor, "b n d"]
    lengths: Int[Tensor, " b"]
    assignment: Float[Tensor, "b t n"] | None = None
    empty: int = 0


def check_lengths(lengths: Tensor, t: int) -> None:
    """Refuse lengths that do not fit.

    Raises:
        ValueError: a length is 0 or less, or more than ``t``.
    """
    if lengths.numel() and (int(lengths.min()) <= 0 or int(lengths.max()) > t):
        raise ValueError(f"lengths must be in 1..{t} (the frames given), got {lengths.tolist()}")


def conv_out_length(
    length: int | Tensor, kernel: int = 3, stride: int = 2, pad: int = 1
) -> int | Tensor:
    """Length after a convolution: floor((l + 2 p - k) / s) + 1.

    >>> [conv_out_length(l) for l in (1, 2, 3, 98)]
    [1, 1, 2, 49]
    """
    return (length + 2 * pad - kernel) // stride + 1


def conv_band(t: int, convs: int = 2) -> Float[Tensor, "t n"]:
    """Which of ``t`` frames an output sees after convolutions of kernel 3, stride 2 and padding 1.

    >>> conv_band(5, 1).sum(dim=0).tolist()
    [2.0, 3.0, 2.0]
    """
    n = t
    for _ in range(convs):
        n = int(conv_out_length(n))
    centres = 2**convs * torch.arange(n)
    return ((torch.arange(t)[:, None] - centres).abs() < 2**convs).float()


# --- CIF -----------------------------------------------------------------------------------------


def scale_weights(
    alpha: Float[Tensor, "b t"], targets: Int[Tensor, " b"], threshold: float = 1.0
) -> Float[Tensor, "b t"]:
    """Weights scaled so that each row fires exactly its target number of times.

    Raises:
        ValueError: a target below 1.
    """
    if int(targets.min()) < 1:
        raise ValueError(f"target lengths must be at least 1, got {targets.tolist()}")
    total = alpha.sum(dim=1, keepdim=True).clamp_min(1e-8)
    return alpha * (threshold * targets[:, None] + EPSILON) / total


def cif_assignment(
    alpha: Float[Tensor, "b t"],
    lengths: Int[Tensor, " b"],
    target_lengths: Int[Tensor, " b"] | None = None,
    threshold: float = 1.0,
    residual: float = 0.5,
) -> tuple[Float[Tensor, "b t n"], Int[Tensor, " b"]]:
    """W of continuous integrate-and-fire, and how often each row fires.

    W[t, n] = |[c_{t-1}, c_t] ∩ [nβ, (n+1)β]|, c the running sum of the weights. With target lengths
    the weights are scaled to fire exactly that often. Without, what is left over gives one more
    output if it is at least ``residual``, scaled up to a whole one; else it is dropped.

    Args:
        alpha: Weights in [0, 1], one a frame.
        lengths: Frames of each row.
        target_lengths: Outputs wanted of each row (training).
        threshold: β, the weight that an output takes.
        residual: Left-over weight, as a share of β, from which one more output comes.

    Raises:
        ValueError: weights outside [0, 1] or NaN, lengths or targets that do not fit, β ≤ 0.
    """
    if not bool(((alpha >= 0) & (alpha <= 1)).all()):
        raise ValueError("alpha must lie in [0, 1] without NaN: pass it through a sigmoid")
    if threshold <= 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    check_lengths(lengths, alpha.shape[1])
    alpha = alpha * padding_mask(lengths, alpha.shape[1])
    if target_lengths is not None:
        alpha = scale_weights(alpha, target_lengths, threshold)
    ends = alpha.double().cumsum(dim=1)
    total = ends[:, -1]
    if target_lengths is not None:
        fires, left = target_lengths, None
    else:
        whole = (total.detach() / threshold + 1e-9).floor()
        left = total.detach() - whole * threshold
        extra = left >= residual * threshold
        fires = (whole + extra).long()
    n = max(int(fires.max()), 1)
    below = threshold * torch.arange(n, dtype=torch.float64, device=alpha.device)
    # The overlap with [nβ, (n+1)β] is how much that interval fills up during the frame.
    filled = (ends[..., None] - below).clamp(0, threshold)
    weights = torch.diff(filled, dim=1, prepend=torch.zeros_like(filled[:, :1]))
    if left is not None:
        last = extra & (left > 0)
        factor = torch.where(last, threshold / left.clamp_min(1e-12), torch.ones_like(left))
        column = torch.arange(n, device=alpha.device) == (fires - 1)[:, None]
        weights = weights * torch.where(column, factor[:, None], 1.0)[:, None, :]
    weights = weights * padding_mask(fires, n)[:, None, :]
    return weights.to(alpha.dtype), fires


def cif(
    frames: Float[Tensor, "b t d"],
    alpha: Float[Tensor, "b t"],
    lengths: Int[Tensor, " b"],
    target_lengths: Int[Tensor, " b"] | None = None,
    threshold: float = 1.0,
    residual: float = 0.5,
) -> Compressed:
    """Continuous integrate-and-fire as one matrix product; arguments as :func:`cif_assignment`.

    >>> h = torch.arange(1.0, 6).view(1, 5, 1)
    >>> a = torch.tensor([[0.4, 0.8, 0.3, 0.7, 0.2]])
    >>> [round(v, 3) for v in cif(h, a, torch.tensor([5])).frames.flatten().tolist()]
    [1.6, 3.3]
    """
    weights, fires = cif_assignment(alpha, lengths, target_lengths, threshold, residual)
    return _apply(frames, weights, fires, lengths)


def cif_reference(
    frames: Float[Tensor, "t d"], alpha: Float[Tensor, " t"], threshold: float = 1.0,
    residual: float = 0.5,
) -> Float[Tensor, "n d"]:  # fmt: skip
    """One clip, frame by frame, as the method is usually written."""
    outputs: list[Tensor] = []
    held, sofar = torch.zeros_like(frames[0]), 0.0
    for frame, weight in zip(frames, alpha.tolist(), strict=True):
        while sofar + weight >= threshold - 1e-7:
            part = threshold - sofar
            outputs.append(held + part * frame)
            held, sofar, weight = torch.zeros_like(frame), 0.0, max(weight - part, 0.0)
        held, sofar = held + weight * frame, sofar + weight
    if sofar >= residual * threshold:
        outputs.append(held * threshold / sofar)
    return torch.stack(outputs) if outputs else frames[:0]


# --- CTC -----------------------------------------------------------------------------------------


def run_index(
    symbols: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]
) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
    """Which run of equal symbols each frame belongs to, and how many runs a row has.

    >>> run_index(torch.tensor([[7, 2, 2, 7]]), torch.tensor([4]))[0].tolist()
    [[0, 1, 1, 2]]
    """
    check_lengths(lengths, symbols.shape[1])
    valid = padding_mask(lengths, symbols.shape[1])
    starts = torch.ones_like(symbols, dtype=torch.bool)
    starts[:, 1:] = symbols[:, 1:] != symbols[:, :-1]
    runs = ((starts & valid).cumsum(dim=1) - 1).clamp_min(0)
    return runs, runs.amax(dim=1) + 1


def ctc_compress(
    frames: Float[Tensor, "b t d"],
    symbols: Int[Tensor, "b t"],
    lengths: Int[Tensor, " b"],
    weights: Float[Tensor, "b t"] | None = None,
    *,
    with_assignment: bool = True,
) -> Compressed:
    """Average the frames of each run of equal symbols; runs of blanks are kept too.

    Args:
        frames: What is averaged; the gradient goes through it.
        symbols: The most probable symbol of each frame.
        lengths: Frames of each row.
        weights: Positive weights inside a run; all equal by default.
        with_assignment: Also build W (b, t, n), which costs more than the average itself.

    Raises:
        ValueError: lengths that do not fit.
    """
    b, t, d = frames.shape
    runs, counts = run_index(symbols, lengths)
    n = int(counts.max())
    valid = padding_mask(lengths, t)
    # Padded frames go to a row of their own, which is cut off.
    flat = runs + n * torch.arange(b, device=runs.device)[:, None]
    flat = torch.where(valid, flat, b * n).flatten()
    each = valid.to(frames.dtype) if weights is None else weights * valid
    total = frames.new_zeros(b * n + 1).index_add_(0, flat, each.flatten()).clamp_min(1e-12)
    rows = frames if weights is None else frames * weights[..., None]
    mixed = frames.new_zeros(b * n + 1, d).index_add_(0, flat, rows.flatten(0, 1))
    mixed = mixed.div_(total[:, None])[:-1]
    matrix = None
    if with_assignment:
        share = each / total[flat].view(b, t)
        matrix = frames.new_zeros(b, t, n).scatter(2, runs[..., None], share[..., None])
    return Compressed(mixed.view(b, n, d), counts, matrix)


def ctc_compress_reference(
    frames: Float[Tensor, "t d"], symbols: Int[Tensor, " t"]
) -> Float[Tensor, "n d"]:
    """One clip, frame by frame."""
    outputs, run = [], [frames[0]]
    for frame, before, now in zip(
        frames[1:], symbols[:-1].tolist(), symbols[1:].tolist(), strict=True
    ):
        if now != before:
            outputs.append(torch.stack(run).mean(dim=0))
            run = []
        run.append(frame)
    return torch.stack([*outputs, torch.stack(run).mean(dim=0)])


# --- windows -------------------------------------------------------------------------------------


def window_split(
    frames: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"], window: int
) -> tuple[Float[Tensor, "b n w d"], Int[Tensor, " b"]]:
    """Windows of ``window`` frames that do not overlap, the last padded with zeros.

    Raises:
        ValueError: a window below 1, or lengths that do not fit.
    """
    if window < 1:
        raise ValueError(f"a window must hold at least 1 frame, got {window}")
    b, t, d = frames.shape
    check_lengths(lengths, t)
    n = -(-t // window)
    padded = torch.nn.functional.pad(frames, (0, 0, 0, n * window - t))
    return padded.view(b, n, window, d), -(-lengths // window)


def window_size(frame_rate: float, seconds: float = 1 / 3) -> int:
    """Frames in a window of a third of a second.

    >>> window_size(50), window_size(6.25)
    (17, 2)
    """
    return max(round(seconds * frame_rate), 1)


def _apply(frames: Tensor, weights: Tensor, fires: Tensor, lengths: Tensor) -> Compressed:
    """Wᵀ H, with the mean of the frames where a row gave nothing."""
    empty = fires < 1
    if bool(empty.any()):
        valid = padding_mask(lengths, frames.shape[1]).to(weights.dtype)
        mean = valid / valid.sum(dim=1, keepdim=True)
        first = torch.where(empty[:, None], mean, weights[..., 0])
        weights = torch.cat([first[..., None], weights[..., 1:]], dim=2)
        fires = fires.clamp_min(1)
    mixed = weights.transpose(1, 2) @ frames
    return Compressed(mixed, fires, weights, int(empty.sum()))
