"""Token merging at the channel: similar tokens are averaged, not dropped (ToMe, 2210.09461)."""

import torch
from jaxtyping import Float
from torch import Tensor

from labcore.blocks.vit import VisionTransformer
from labcore.tokens.channel import Channel, normalize_power
from labcore.tokens.checks import as_budgets, noise_variance
from labcore.tokens.model import SemanticViT
from labcore.tokens.outputs import ViTOutput
from labcore.tokens.scorers import merge_to


class MergingViT(SemanticViT):
    """ceil(alpha T) merged tokens cross the channel; all images of a batch share one count.

    The server adds the logarithm of a token's size to its attention logits (ToMe's proportional
    attention). A merged token stands for several patches, so ``keep`` says how many were sent, as
    the first places of a row, and not which.

    Args:
        backbone: As of :class:`SemanticViT`, like the others.
        split: Blocks on the device.
        channel: What the symbols go through.
        num_symbols: Complex symbols a token.
        generator: Draws the start of the new parameters.
    """

    def __init__(
        self,
        backbone: VisionTransformer,
        split: int,
        channel: Channel | None = None,
        num_symbols: int | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            backbone, split, None, channel, "topk", num_symbols, scorer="random",
            generator=generator,
        )  # fmt: skip

    def forward(
        self,
        images: Float[Tensor, "b c y x"],
        budget: float | Tensor,
        snr_db: float | None = None,
        *,
        generator: torch.Generator | None = None,
        exact: bool = True,
    ) -> ViTOutput:
        """Merge, send, read; the count is always exact.

        Raises:
            ValueError: images of one batch ask for different counts, or a bad budget or SNR.
        """
        noise_variance(snr_db)
        alpha = as_budgets(budget, len(images), self.server_class.dtype)
        counts = torch.ceil(alpha * self.patches - 1e-4).long().clamp(1, self.patches)
        if int(counts.min()) != int(counts.max()):
            raise ValueError("merging needs one budget for all images of a batch")
        x = torch.cat((self.backbone.embed(images), self.budget_token(alpha)), dim=1)
        before = x
        for block in self.blocks[: self.split]:
            before, x = x, block(x)
        last = self.blocks[self.split - 1]
        keys = last.attn.heads(last.norm1(before))[1].mean(1)[:, 1:-1]
        tokens, size = merge_to(x[:, 1:-1], keys, int(counts[0]))
        if self.coder is not None:
            symbols = normalize_power(self.coder.encode(tokens))
            if self.channel is not None:
                symbols = self.channel.send(symbols, snr_db, generator)
            tokens = self.coder.decode(symbols)
        logits = self.server(tokens, alpha, log_size=size.log())
        mask = (torch.arange(self.patches) < counts[:, None]).to(x.dtype)
        return ViTOutput(logits, mask > 0, self.rates(mask), mask, mask, (mask,))

    def pack_forward(
        self,
        images: Float[Tensor, "b c y x"],
        budget: float | Tensor,
        snr_db: float | None = None,
        *,
        generator: torch.Generator | None = None,
        groups: int = 1,
    ) -> ViTOutput:
        """The same: merged tokens are already few."""
        return self.forward(images, budget, snr_db, generator=generator)
