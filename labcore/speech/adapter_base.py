"""What the adapters share: their output, their Transformer layers, the modality adapter.

The layers are pre-norm (the authors' are post-norm BERT layers). By default they follow the length
rule, as in the released configurations; ``before_layers`` moves some in front of it.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.speech.layers import MultiHead, padding_mask
from labcore.speech.lengths import Compressed, check_lengths


@dataclass(frozen=True)
class AdapterOutput:
    """What the language model reads: ``embeds`` (b, n, d), zero after each row's ``lengths``.

    Attributes:
        losses: Auxiliary losses, already weighted; empty for adapters that have none.
        assignment: W (b, t, n), when asked for.
        stats: ``compression`` (mean frames a position), ``empty`` (rows where nothing fired).
    """

    embeds: Float[Tensor, "b n d"]
    lengths: Int[Tensor, " b"]
    losses: dict[str, Tensor] = field(default_factory=dict)
    assignment: Float[Tensor, "b t n"] | None = None
    stats: dict[str, float] = field(default_factory=dict)


class Layer(nn.Module):
    """Pre-norm Transformer layer over positions that are not padding; ``cross`` reads frames."""

    def __init__(self, dim: int, heads: int, ffn: int, cross: bool = False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = MultiHead(dim, heads)
        self.norm_cross = nn.LayerNorm(dim) if cross else None
        self.cross = MultiHead(dim, heads) if cross else None
        self.ffn = nn.Sequential(nn.Linear(dim, ffn), nn.GELU(), nn.Linear(ffn, dim))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        frames: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """One layer."""
        x = x + self.attn(self.norm1(x), mask=mask)
        if self.cross is not None and self.norm_cross is not None:
            x = x + self.cross(self.norm_cross(x), frames, mask=frame_mask)
        return x + self.ffn(self.norm2(x))

    def attention_weights(
        self, x: Tensor, frames: Tensor, frame_mask: Tensor
    ) -> Float[Tensor, "b n t"]:
        """How much each position reads of each frame, averaged over heads.

        Raises:
            ValueError: a layer that reads no frames.
        """
        if self.cross is None or self.norm_cross is None:
            raise ValueError("this layer has no cross-attention: make it with cross=True")
        return self.cross.weights(self.norm_cross(x), frames, frame_mask)


@dataclass(frozen=True)
class Shape:
    """The sizes that all adapters of a run share."""

    d_in: int
    d_out: int
    hidden: int = 192
    layers: int = 2
    heads: int = 4
    ffn: int = 768


class Adapter(nn.Module):
    """Length rule, Transformer layers, projection; subclasses give the rule.

    Args:
        shape: Sizes.
        output_rms: Size of the outputs at the start, as the language model's embeddings have it.
        before_layers: Layers in front of the length rule; the rest follows it.
    """

    kind = "base"

    def __init__(self, shape: Shape, output_rms: float = 1.0, before_layers: int = 0):
        super().__init__()
        self.shape, self.before = shape, before_layers
        inside = shape.d_in if before_layers == 0 else shape.hidden
        self.rule_width = inside
        self.in_proj = nn.Linear(shape.d_in, shape.hidden)
        self.in_norm = nn.LayerNorm(shape.hidden)
        self.layers = nn.ModuleList(
            Layer(shape.hidden, shape.heads, shape.ffn) for _ in range(shape.layers)
        )
        self.out_proj = nn.Linear(shape.hidden, shape.d_out)
        self.out_norm = nn.LayerNorm(shape.d_out)
        nn.init.constant_(self.out_norm.weight, output_rms)

    @property
    def parameters_count(self) -> int:
        """Trainable weights."""
        return sum(p.numel() for p in self.parameters())

    def shorten(
        self,
        frames: Tensor,
        lengths: Tensor,
        target_lengths: Tensor | None,
        ctc_targets: list[Tensor] | None,
        want_assignment: bool,
    ) -> tuple[Compressed, dict[str, Tensor]]:
        """The length rule; the identity here."""
        eye = torch.eye(frames.shape[1]).expand(len(frames), -1, -1) if want_assignment else None
        return Compressed(frames, lengths, eye), {}

    def forward(
        self,
        frames: Float[Tensor, "b t d"],
        lengths: Int[Tensor, " b"],
        target_lengths: Int[Tensor, " b"] | None = None,
        ctc_targets: list[Tensor] | None = None,
        *,
        want_assignment: bool = False,
    ) -> AdapterOutput:
        """Embeddings for the language model.

        Args:
            frames: The encoder's frames, padded.
            lengths: Frames of each row.
            target_lengths: Tokens of each transcript; trains the number of CIF's outputs.
            ctc_targets: Characters of each transcript; trains the CTC head of CIF and CTC.
            want_assignment: Also give W.

        Raises:
            ValueError: a width other than ``d_in``, lengths or targets that do not fit.
        """
        self._check(frames, lengths, ctc_targets)
        mask = padding_mask(lengths, frames.shape[1])
        frames = frames * mask[..., None]
        x = frames
        if self.before:
            x = self.in_norm(self.in_proj(x))
            for layer in self.layers[: self.before]:
                x = layer(x, mask)
            x = x * mask[..., None]
        short, losses = self.shorten(x, lengths, target_lengths, ctc_targets, want_assignment)
        x = short.frames if self.before else self.in_norm(self.in_proj(short.frames))
        after = padding_mask(short.lengths, x.shape[1])
        for layer in self.layers[self.before :]:
            x = layer(x, after)
        embeds = self.out_norm(self.out_proj(x)) * after[..., None]
        return self._output(embeds, lengths, short, losses, want_assignment)

    def _check(self, frames: Tensor, lengths: Tensor, targets: list[Tensor] | None) -> None:
        if frames.shape[-1] != self.shape.d_in:
            raise ValueError(
                f"frames are {frames.shape[-1]} wide, this adapter takes {self.shape.d_in}: make "
                "it with d_in=encoder.dim"
            )
        check_lengths(lengths, frames.shape[1])
        if targets is not None and any(not len(t) for t in targets):
            raise ValueError("a CTC target is empty: give at least one symbol a clip")

    def _output(
        self,
        embeds: Tensor,
        lengths: Tensor,
        short: Compressed,
        losses: dict[str, Tensor],
        want: bool,
    ) -> AdapterOutput:
        ratio = float((lengths / short.lengths).mean())
        stats = {"compression": ratio, "empty": float(short.empty)}
        return AdapterOutput(
            embeds, short.lengths, losses, short.assignment if want else None, stats
        )
