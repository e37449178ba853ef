"""Conv, CTC, CIF and stack: a length rule with weights of its own, then the shared adapter."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from labcore.speech.adapter_base import Adapter, Shape
from labcore.speech.layers import padding_mask
from labcore.speech.lengths import (
    Compressed,
    cif,
    conv_band,
    conv_out_length,
    ctc_compress,
    window_split,
)

W_CTC, W_QUANTITY = 0.1, 0.1  # weights of the auxiliary losses, as published


class ConvAdapter(Adapter):
    """Two convolutions of stride 2: a quarter of the frames."""

    kind = "conv"

    def __init__(self, shape: Shape, output_rms: float = 1.0, before_layers: int = 0):
        super().__init__(shape, output_rms, before_layers)
        d = self.rule_width
        self.convs = nn.ModuleList(nn.Conv1d(d, d, 3, stride=2, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))

    def shorten(
        self,
        frames: Tensor,
        lengths: Tensor,
        target_lengths: Tensor | None,
        ctc_targets: list[Tensor] | None,
        want_assignment: bool,
    ) -> tuple[Compressed, dict[str, Tensor]]:
        """Convolve, norm, ReLU, convolve, norm; padded positions are set to 0 after each."""
        x, size = frames, lengths
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x.transpose(1, 2)).transpose(1, 2))
            x = F.relu(x) if i == 0 else x
            size = conv_out_length(size)  # type: ignore[assignment]
            x = x * padding_mask(size, x.shape[1])[..., None]
        band = None
        if want_assignment:
            band = conv_band(frames.shape[1]) * padding_mask(lengths, frames.shape[1])[..., None]
        return Compressed(x, size, band), {}


class CTCHead(nn.Module):
    """Symbols of each frame, and the loss that trains them; the blank is symbol 0."""

    def __init__(self, d: int, vocabulary: int):
        super().__init__()
        self.linear = nn.Linear(d, vocabulary + 1)

    def forward(
        self, frames: Tensor, lengths: Tensor, targets: list[Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities (b, t, v+1), and the loss when there are targets (0-based symbols)."""
        logp = self.linear(frames).log_softmax(dim=-1)
        return logp, None if targets is None else ctc_loss(logp, lengths, targets)


def ctc_loss(
    logp: Float[Tensor, "b t v"],
    lengths: Int[Tensor, " b"],
    targets: list[Tensor],
    *,
    strict: bool = False,
) -> Tensor:
    """CTC loss of 0-based symbols, mean over target symbols then clips; the blank is column 0.

    Raises:
        ValueError: with ``strict``, a target that needs more frames than there are.
    """
    sizes = torch.tensor([len(t) for t in targets])
    if strict:
        need = torch.tensor([len(t) + int((t[1:] == t[:-1]).sum()) for t in targets])
        if bool((need > lengths).any()):
            raise ValueError(
                f"CTC targets need {need.tolist()} frames, there are {lengths.tolist()}: give "
                "longer clips or shorter targets"
            )
    joined = torch.cat([t + 1 for t in targets])
    return F.ctc_loss(logp.transpose(0, 1).float(), joined, lengths, sizes, zero_infinity=True)


class CTCAdapter(Adapter):
    """Average runs of frames with the same most probable character."""

    kind = "ctc"

    def __init__(
        self,
        shape: Shape,
        output_rms: float = 1.0,
        before_layers: int = 0,
        vocab: int = 26,
        run_weights: str = "mean",
    ):
        super().__init__(shape, output_rms, before_layers)
        if run_weights not in ("mean", "weighted", "softmax"):
            raise ValueError(f"run_weights is mean, weighted or softmax, got {run_weights!r}")
        self.head, self.run_weights = CTCHead(self.rule_width, vocab), run_weights

    def shorten(
        self,
        frames: Tensor,
        lengths: Tensor,
        target_lengths: Tensor | None,
        ctc_targets: list[Tensor] | None,
        want_assignment: bool,
    ) -> tuple[Compressed, dict[str, Tensor]]:
        """Label each frame, average each run; runs of blanks are kept."""
        logp, loss = self.head(frames, lengths, ctc_targets)
        best, symbols = logp.detach().max(dim=-1)
        weights = None if self.run_weights == "mean" else best.exp()
        if self.run_weights == "softmax" and weights is not None:
            weights = weights.exp()  # a softmax over the run, once the run is normalised
        short = ctc_compress(frames, symbols, lengths, weights, with_assignment=want_assignment)
        return short, {} if loss is None else {"ctc": W_CTC * loss}


class CIFAdapter(Adapter):
    """Continuous integrate-and-fire: a weight a frame, one output each time they sum to one."""

    kind = "cif"

    def __init__(
        self, shape: Shape, output_rms: float = 1.0, before_layers: int = 0, vocab: int = 26
    ):
        super().__init__(shape, output_rms, before_layers)
        d = self.rule_width
        self.conv, self.norm = nn.Conv1d(d, d, 3, padding=1), nn.LayerNorm(d)
        self.weigh = nn.Linear(d, 1)
        self.head = CTCHead(d, vocab)

    def alphas(self, frames: Tensor, lengths: Tensor) -> Float[Tensor, "b t"]:
        """The weight of each frame, in (0, 1), 0 on padding."""
        x = F.relu(self.norm(self.conv(frames.transpose(1, 2)).transpose(1, 2)))
        return self.weigh(x)[..., 0].sigmoid() * padding_mask(lengths, frames.shape[1])

    def shorten(
        self,
        frames: Tensor,
        lengths: Tensor,
        target_lengths: Tensor | None,
        ctc_targets: list[Tensor] | None,
        want_assignment: bool,
    ) -> tuple[Compressed, dict[str, Tensor]]:
        """Weigh, integrate, fire; with targets also the two losses."""
        alpha = self.alphas(frames, lengths)
        losses = {}
        if ctc_targets is not None:
            _, loss = self.head(frames, lengths, ctc_targets)
            losses["ctc"] = W_CTC * loss
        if target_lengths is not None:
            losses["quantity"] = W_QUANTITY * (alpha.sum(dim=1) - target_lengths).abs().mean()
        return cif(frames, alpha, lengths, target_lengths), losses


class StackAdapter(Adapter):
    """Concatenate ``k`` frames and map them linearly: the usual projector, off the study's grid."""

    kind = "stack"

    def __init__(self, shape: Shape, output_rms: float = 1.0, before_layers: int = 0, k: int = 4):
        super().__init__(shape, output_rms, before_layers)
        self.k = k
        self.merge = nn.Linear(k * self.rule_width, self.rule_width)

    def shorten(
        self,
        frames: Tensor,
        lengths: Tensor,
        target_lengths: Tensor | None,
        ctc_targets: list[Tensor] | None,
        want_assignment: bool,
    ) -> tuple[Compressed, dict[str, Tensor]]:
        """Frame stacking."""
        windows, counts = window_split(frames, lengths, self.k)
        blocks = block_matrix(lengths, frames.shape[1], self.k) if want_assignment else None
        return Compressed(self.merge(windows.flatten(2)), counts, blocks), {}


def block_matrix(lengths: Tensor, t: int, window: int) -> Float[Tensor, "b t n"]:
    """W of averaging inside windows: the mean over the frames that a window has."""
    n = -(-t // window)
    block = (torch.arange(t)[:, None] // window == torch.arange(n)).float()
    matrix = block * padding_mask(lengths, t)[..., None]
    return matrix / matrix.sum(dim=1, keepdim=True).clamp_min(1)
