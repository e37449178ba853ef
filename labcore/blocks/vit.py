"""A plain vision transformer whose insides can be reached (Dosovitskiy et al., 2021, 2010.11929).

Pictures are cut into patches, each a token; a class token is put in front; blocks of attention and
MLP follow; the class token's last state is the feature. Parameter names are timm's
(``blocks.0.attn.qkv.weight``), so its checkpoints of the same size load.

Every step is a method of its own: :meth:`VisionTransformer.embed`, one :class:`Block` at a time,
:func:`labcore.blocks.gather.take_rows` between two blocks, :meth:`Block.attention` where weights
are wanted.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer.

    Raises:
        ValueError: patches do not tile the picture, or heads do not divide the width.
    """

    image_size: int = 28
    patch_size: int = 7
    in_channels: int = 1
    hidden_size: int = 96
    depth: int = 4
    num_heads: int = 4
    mlp_ratio: float = 2.0
    num_classes: int = 0
    layer_scale: bool = False

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"patch_size={self.patch_size} must divide image_size={self.image_size}"
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} must divide hidden_size={self.hidden_size}"
            )

    @property
    def num_patches(self) -> int:
        """Patches in a picture, without the class token."""
        return (self.image_size // self.patch_size) ** 2

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint's metadata."""
        return asdict(self)


class PatchEmbed(nn.Module):
    """Cut a picture into patches and map each to a token: a convolution with stride = kernel."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(config.in_channels, config.hidden_size, size, stride=size)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        """Tokens in reading order."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with query, key and value in one matrix."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def heads(self, x: Float[Tensor, "b n d"]) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (b, heads, n, head_dim)."""
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, d // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return query, key, value

    def weights(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n n"]:
        """Attention weights; row i says what token i reads."""
        query, key, _ = self.heads(x)
        return (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What the tokens read, mixed over heads."""
        query, key, value = self.heads(x)
        read = F.scaled_dot_product_attention(query, key, value)
        return self.proj(read.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear maps with a GELU between, on each token alone."""

    def __init__(self, hidden_size: int, mlp_ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, round(hidden_size * mlp_ratio))
        self.fc2 = nn.Linear(round(hidden_size * mlp_ratio), hidden_size)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens in, tokens out."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """One learned factor a feature on a branch's output (Touvron et al., 2021, 2103.17239)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(hidden_size))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Scaled features."""
        return x * self.gamma


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); both branches scaled if asked."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.attn = Attention(config.hidden_size, config.num_heads)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.mlp = Mlp(config.hidden_size, config.mlp_ratio)
        scaled = config.layer_scale
        self.ls1 = LayerScale(config.hidden_size) if scaled else nn.Identity()
        self.ls2 = LayerScale(config.hidden_size) if scaled else nn.Identity()

    def attention(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n n"]:
        """The weights this block will use on ``x``."""
        return self.attn.weights(self.norm1(x))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens in, tokens out; their number is free."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """Patch embedding, class token, position, blocks, norm; a linear head if classes are given."""

    def __init__(self, config: ViTConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        d = config.hidden_size
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.num_patches, d))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Linear(d, config.num_classes) if config.num_classes else nn.Identity()
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        for name, parameter in self.named_parameters():
            if "norm" in name or name.endswith("gamma"):
                continue  # LayerNorm starts at scale 1, shift 0, LayerScale at 1
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04, generator=generator)
        fan_in = self.patch_embed.proj.weight[0].numel()
        nn.init.trunc_normal_(self.patch_embed.proj.weight, std=fan_in**-0.5, generator=generator)

    def embed(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        """The tokens that enter the first block: class token first, positions added."""
        patches = self.patch_embed(images)
        first = self.cls_token.expand(len(patches), -1, -1)
        return torch.cat((first, patches), dim=1) + self.pos_embed

    def features(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d"]:
        """The class token after the last block, normalised."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Logits, or features when there is no head."""
        return self.head(self.features(images))
