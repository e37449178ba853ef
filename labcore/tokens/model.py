"""A vision transformer cut in two by a channel: device, channel, server (arXiv 2405.02330).

The device embeds the image, runs blocks 0..split-1 and decides which patch tokens to send; the
server joins a class token and the budget token to what arrives, runs the other blocks and reads
the class token. One network serves every rate: the caller sets the budget.

The leak. The device's own class token has attended to every patch. Sent for free it carries the
answer, and a gate has no reason to find the object. So by default a *fresh* class token joins at
the server; ``class_token="sent"`` sends the device's and counts it.
"""

from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.vit import Block, VisionTransformer
from labcore.tokens import scorers, selection
from labcore.tokens.channel import Channel, TokenCoder, normalize_power
from labcore.tokens.checks import as_budgets, noise_variance, one_of
from labcore.tokens.gates import BudgetToken, GateMode, TokenGate
from labcore.tokens.masked import Packed, masked_block, pack
from labcore.tokens.message import Message
from labcore.tokens.options import check_options
from labcore.tokens.outputs import Selection, ViTOutput
from labcore.tokens.selection import Choice, Sight

Select = Literal["threshold", "topk"]
ClassToken = Literal["server", "sent"]


class SemanticViT(nn.Module):
    """A vision transformer that sends only some of its tokens from device to server.

    Args:
        backbone: The network to cut; it is used, not copied.
        split: Blocks on the device, 1..depth-1.
        gated_layers: Where gates stand: ``l`` = before block l, ``split`` = at the channel.
        channel: What the symbols go through; None sends tokens as they are.
        select: ``"threshold"``: the rate adapts to the image. ``"topk"``: exactly ceil(alpha T).
        num_symbols: Complex symbols a token, k; needed with a channel.
        class_token: ``"server"`` (fresh) or ``"sent"`` (the device's; counted).
        scorer: What ranks tokens, one of ``options.SCORERS``; only ``"gate"`` and ``"halting"``
            know a threshold, ``"none"`` sends the class token alone.
        gate: Mode of the gates.
        decoupled: Of the gates: task moves scores, rate moves thresholds.
        fuse_rest: Send the dropped tokens' weighted mean as one more token (EViT; top-k only).
        generator: Draws the start of the new parameters.

    Raises:
        ValueError: split or gated layers out of range, or options that do not go together.
    """

    def __init__(
        self,
        backbone: VisionTransformer,
        split: int,
        gated_layers: tuple[int, ...] | None = None,
        channel: Channel | None = None,
        select: Select = "threshold",
        num_symbols: int | None = None,
        class_token: ClassToken = "server",  # noqa: S107
        *,
        scorer: str = "gate",
        gate: GateMode = "hard",
        decoupled: bool = True,
        fuse_rest: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        depth, d = len(backbone.blocks), backbone.config.hidden_size
        layers = (split,) if gated_layers is None else tuple(sorted(gated_layers))
        check_options(
            depth, split, layers, channel, select, num_symbols, scorer, fuse_rest, class_token
        )
        self.backbone, self.split, self.gated_layers = backbone, split, layers
        self.channel, self.fuse_rest = channel, fuse_rest
        one_of("select", select, ("threshold", "topk"))
        self.select: Select = select
        self.class_token = one_of("class_token", class_token, ("server", "sent"))
        self.scorer = scorer
        self.budget_token = BudgetToken(d, generator=generator)
        self.server_class = nn.Parameter(
            (backbone.cls_token + backbone.pos_embed[:, :1]).detach().clone()
        )
        self.gates = nn.ModuleDict()
        for layer in layers if scorer in ("gate", "predictor") else ():
            self.gates[str(layer)] = (
                TokenGate(d, gate=gate, decoupled=decoupled, generator=generator)
                if scorer == "gate"
                else scorers.TokenPredictor(d, generator=generator)
            )
        self.coder = None if num_symbols is None else TokenCoder(d, num_symbols)

    @property
    def blocks(self) -> list[Block]:
        """All blocks, device first."""
        return [cast(Block, block) for block in self.backbone.blocks]

    @property
    def patches(self) -> int:
        """Patch tokens of an image, T."""
        return self.backbone.config.num_patches

    # The device.

    def device(
        self,
        images: Float[Tensor, "b c y x"],
        budget: float | Tensor,
        generator: torch.Generator | None = None,
        *,
        select: Select | None = None,
        exact: bool = False,
    ) -> Selection:
        """Blocks before the split, and the choice of tokens.

        Args:
            images: Pictures.
            budget: As for :meth:`forward`.
            generator: As for :meth:`forward`.
            select: Another mode than the model's, for this call.
            exact: As for :meth:`forward`.

        Raises:
            ValueError: a budget outside [0, 1].
        """
        t, blocks = self.patches, self.blocks
        x = self.backbone.embed(images)
        alpha = as_budgets(budget, len(x), x.dtype)
        x = torch.cat((x, self.budget_token(alpha)), dim=1)
        ones = torch.ones(len(x), 1 + t + 1, dtype=x.dtype)
        mask, counted, before, halted = ones[:, :t], ones[:, :t], x, ones[:, :t] * 0
        score, threshold = mask * torch.nan, alpha * torch.nan
        history = []
        for layer in range(self.split + 1):
            if layer in self.gated_layers:
                block = blocks[max(layer - 1, 0)]
                sight = Sight(x[:, 1:-1], x[:, -1], alpha, mask, before, block, halted)
                choice = self._choose(layer, sight, select or self.select, generator)
                if exact:
                    choice = choice.exactly(sight)
                mask, counted = choice.mask, choice.counted
                score, threshold = choice.score, choice.threshold
                history.append(mask)
                if choice.scale is not None:
                    x = x * self._framed(choice.scale, ones)[..., None]
            if layer == self.split:
                break
            before = x
            x = masked_block(blocks[layer], x, self._framed(mask, ones) if history else None)
            halted = halted + scorers.halting_scores(x[:, 1 : 1 + t])
        patches = x[:, 1 : 1 + t]
        kept = tuple(history)
        return Selection(patches, x[:, :1], mask, counted, score, threshold, kept, alpha)

    @staticmethod
    def _framed(mask: Tensor, ones: Tensor) -> Tensor:
        """The mask of patches between those of class and budget token, which are always there."""
        return torch.cat((ones[:, :1], mask, ones[:, :1]), dim=1)

    def _choose(
        self, layer: int, sight: Sight, select: Select, generator: torch.Generator | None
    ) -> Choice:
        gate = dict(self.gates.items()).get(str(layer))
        if self.scorer == "none":
            return selection.nothing(sight)
        if select == "topk":
            return selection.by_rank(self.scorer, gate, sight, generator)
        if self.scorer == "halting":
            return selection.by_halting(sight)
        return selection.by_threshold(cast(TokenGate, gate), sight, generator)

    # The message.

    def _slots(self, chosen: Selection) -> tuple[Tensor, Tensor]:
        """Tokens that may be sent and which are: [class token,] patches [, the fused rest]."""
        tokens, mask = [chosen.tokens], [chosen.mask]
        if self.class_token == "sent":  # noqa: S105
            tokens.insert(0, chosen.cls)
            mask.insert(0, torch.ones_like(chosen.mask[:, :1]))
        if self.fuse_rest:
            fused, there = scorers.fuse_rest(chosen.tokens, chosen.mask > 0, chosen.score.detach())
            tokens.append(fused)
            mask.append(there.to(chosen.mask.dtype))
        return torch.cat(tokens, dim=1), torch.cat(mask, dim=1)

    @property
    def slots(self) -> int:
        """Tokens that an image could send."""
        return self.patches + (self.class_token == "sent") + self.fuse_rest  # noqa: S105

    def rates(self, mask: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """Share of T that each image sends; what is sent beside patches counts."""
        kept = (mask > 0).sum(-1)
        extra = int(self.class_token == "sent") + (self.fuse_rest * (kept < self.patches)).int()  # noqa: S105
        return (kept + extra) / self.patches

    # The server.

    def server(
        self,
        tokens: Float[Tensor, "b n d"],
        budget: Float[Tensor, " b"],
        mask: Float[Tensor, "b n"] | None = None,
        *,
        log_size: Float[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b c"]:
        """Blocks after the split on what arrived; logits.

        Args:
            tokens: What arrived; first the class token, when it is sent.
            budget: The rate asked for: the budget token joins again here.
            mask: Which of them are there.
            log_size: Logarithm of the number of patches that each stands for (merged tokens).
        """
        parts = [tokens, self.budget_token(budget)]
        if self.class_token == "server":  # noqa: S105
            parts.insert(0, self.server_class.expand(len(tokens), -1, -1))
        x = torch.cat(parts, dim=1)
        front = x.shape[1] - tokens.shape[1] - 1

        def framed(inner: Tensor | None, value: float) -> Tensor | None:
            edge = x.new_full((len(x), 1), value)
            return None if inner is None else torch.cat((edge[:, :front], inner, edge), dim=1)

        seen, size = framed(mask, 1.0), framed(log_size, 0.0)
        blocks = self.blocks[self.split :]
        for number, block in enumerate(blocks):
            last = number == len(blocks) - 1
            x = masked_block(block, x, seen, log_size=size, first_only=last)
        return self.backbone.head(self.backbone.norm(x[:, 0]))

    # The whole way.

    def forward(
        self,
        images: Float[Tensor, "b c y x"],
        budget: float | Tensor,
        snr_db: float | None = None,
        *,
        generator: torch.Generator | None = None,
        exact: bool = False,
    ) -> ViTOutput:
        """All tokens are computed, dropped ones are masked: what training needs.

        Args:
            images: Pictures.
            budget: Rate asked for, one number or one an image, in [0, 1].
            snr_db: Signal-to-noise ratio; None for a channel without noise.
            generator: Random selection, noise, erasures.
            exact: Send exactly ceil(alpha T) of the highest scores, while the thresholds see what
                they would have sent: how scores and thresholds are taught side by side.

        Raises:
            ValueError: a budget outside [0, 1], or NaN decibels.
        """
        noise_variance(snr_db)
        chosen = self.device(images, budget, generator, exact=exact)
        tokens, mask = self._slots(chosen)
        if self.coder is not None:
            symbols = normalize_power(self.coder.encode(tokens), mask, self._power)
            if self.channel is not None:
                symbols = self.channel.send(symbols, snr_db, generator)
                mask = mask * self._arrived(mask > 0, generator)
            tokens = self.coder.decode(symbols)
        logits = self.server(tokens, chosen.budget, mask)
        return self._answer(logits, chosen)

    def pack_forward(
        self,
        images: Float[Tensor, "b c y x"],
        budget: float | Tensor,
        snr_db: float | None = None,
        *,
        generator: torch.Generator | None = None,
        groups: int = 1,
    ) -> ViTOutput:
        """The same logits with dropped tokens removed: what inference uses.

        Args:
            images: Pictures.
            budget: As for :meth:`forward`.
            snr_db: As for :meth:`forward`.
            generator: As for :meth:`forward`.
            groups: Sort images by their count and run the server on so many groups, so that less
                is padded.

        Raises:
            ValueError: as :meth:`forward`, or no group.
        """
        if groups < 1:
            raise ValueError(f"groups={groups}: one group or more")
        noise_variance(snr_db)
        chosen = self.device(images, budget, generator)
        tokens, mask = self._slots(chosen)
        packed = pack(mask > 0)
        if self.coder is None:
            logits = self._grouped(packed.take(tokens), packed, chosen.budget, groups)
        else:
            message = self._message(tokens, packed, chosen.budget)
            if self.channel is not None:
                message = message.through(self.channel, snr_db, generator)
            logits = self.decode(message, groups=groups)
        return self._answer(logits, chosen)

    def _answer(self, logits: Tensor, chosen: Selection) -> ViTOutput:
        mask, layers = chosen.mask, chosen.per_layer_keep
        return ViTOutput(logits, mask > 0, self.rates(mask), mask, chosen.counted, layers)

    def encode(
        self,
        images: Float[Tensor, "b c y x"],
        budget: float | Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Message:
        """What the device sends.

        Raises:
            ValueError: the model has no coder (``num_symbols``), or a budget outside [0, 1].
        """
        return self.message(self.device(images, budget, generator))

    def message(self, chosen: Selection) -> Message:
        """What the device sends of what it has chosen.

        Raises:
            ValueError: the model has no coder.
        """
        if self.coder is None:
            raise ValueError("without num_symbols there are no symbols: tokens go as they are")
        tokens, mask = self._slots(chosen)
        return self._message(tokens, pack(mask > 0), chosen.budget)

    def decode(self, message: Message, *, groups: int = 1) -> Float[Tensor, "b c"]:
        """What the server answers to a message: logits.

        Raises:
            ValueError: no coder, another number of symbols a token, or of slots an image.
        """
        if self.coder is None:
            raise ValueError("without num_symbols there is no decoder")
        if message.slots != self.slots:
            raise ValueError(f"the message has {message.slots} slots, this model {self.slots}")
        packed = Packed(message.index, message.lengths)
        return self._grouped(self.coder.decode(message.symbols), packed, message.budget, groups)

    def _message(self, tokens: Tensor, packed: Packed, budget: Tensor) -> Message:
        assert self.coder is not None
        symbols = self.coder.encode(packed.take(tokens))
        valid = packed.valid
        symbols = normalize_power(symbols, valid, self._power) * valid[..., None]
        return Message(symbols, packed.index, packed.lengths, budget, self.slots)

    def _grouped(self, tokens: Tensor, packed: Packed, budget: Tensor, groups: int) -> Tensor:
        """The server on padded tokens, in groups of similar length."""
        if groups == 1:
            full = bool((packed.lengths == packed.index.shape[1]).all())
            mask = None if full else packed.valid.to(tokens.dtype)
            return self.server(tokens, budget, mask)
        order = packed.lengths.argsort()
        logits = []
        for rows in order.tensor_split(min(groups, len(order))):
            longest = int(packed.lengths[rows].max())
            part = Packed(packed.index[rows, :longest], packed.lengths[rows])
            logits.append(self._grouped(tokens[rows, :longest], part, budget[rows], 1))
        return torch.cat(logits)[order.argsort()]

    @property
    def _power(self) -> Literal["image", "token"]:
        return "image" if self.channel is None else self.channel.power

    def _arrived(self, sent: Tensor, generator: torch.Generator | None) -> Tensor:
        assert self.channel is not None
        return self.channel.arrived(sent, generator).float()
