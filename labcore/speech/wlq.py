"""WLQ: a window-level query transformer. Learned queries read a third of a second each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.speech.adapter_base import Adapter, AdapterOutput, Layer, Shape
from labcore.speech.layers import padding_mask
from labcore.speech.lengths import Compressed, window_split


class WLQAdapter(Adapter):
    """Window-level query transformer: learned queries read a third of a second each."""

    kind = "wlq"

    def __init__(
        self,
        shape: Shape,
        output_rms: float = 1.0,
        before_layers: int = 0,
        window: int = 17,
        queries: int = 1,
    ):
        if before_layers:
            raise ValueError("wlq is its own modality adapter: before_layers must be 0")
        super().__init__(shape, output_rms)
        self.window = window
        self.layers = nn.ModuleList(
            Layer(shape.hidden, shape.heads, shape.ffn, cross=True) for _ in range(shape.layers)
        )
        self.query = nn.Parameter(torch.randn(queries, shape.hidden) * 0.02)

    def forward(
        self,
        frames: Float[Tensor, "b t d"],
        lengths: Int[Tensor, " b"],
        target_lengths: Int[Tensor, " b"] | None = None,
        ctc_targets: list[Tensor] | None = None,
        *,
        want_assignment: bool = False,
    ) -> AdapterOutput:
        """Embeddings for the language model; arguments as :meth:`Adapter.forward`."""
        self._check(frames, lengths, None)
        b, t, _ = frames.shape
        mask = padding_mask(lengths, t)
        windows, counts = window_split(frames * mask[..., None], lengths, self.window)
        n = windows.shape[1]
        inside, _ = window_split(mask[..., None].float(), lengths, self.window)
        seen = inside[..., 0].flatten(0, 1) > 0
        seen[:, 0] |= ~seen.any(dim=1)  # an all-padding window reads a zero; it is masked below
        read = self.in_norm(self.in_proj(windows)).flatten(0, 1)
        x = self.query.expand(b * n, -1, -1)
        weights = []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            if want_assignment:
                weights.append(layer.attention_weights(x, read, seen))
            x = layer(x, None, read, seen)
        q = len(self.query)
        counts = counts * q
        after = padding_mask(counts, n * q)
        embeds = self.out_norm(self.out_proj(x.reshape(b, n * q, -1))) * after[..., None]
        spread = None
        if want_assignment:
            spread = _spread(torch.stack(weights).mean(dim=0).view(b, n, q, -1), t)
            spread = spread * after[:, None, :]
        short = Compressed(embeds, counts, spread)
        return self._output(embeds, lengths, short, {}, want_assignment)


def _spread(weights: Float[Tensor, "b n q w"], t: int) -> Float[Tensor, "b t nq"]:
    """Attention inside windows as a matrix over all frames."""
    b, n, q, w = weights.shape
    full = weights.new_zeros(b, n, w, n, q)
    at = torch.arange(n)
    full[:, at, :, at] = weights.permute(1, 0, 3, 2)
    return full.reshape(b, n * w, n * q)[:, :t]
