"""Finding the blocks of any vision transformer, and reaching the parts of a block.

Three families are known by their attribute names: ours and timm's (``attn.qkv``), and Hugging
Face's (``attention.q_proj``: ViT, DeiT, DINOv2). A model keeps its own embedding, norm and head:
for one forward pass its list of blocks is replaced by one module, which runs all blocks our way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labcore.finetuning.lean import lean_mlp

_SEARCHED = (
    "blocks", "layers", "encoder.layer", "vit.layers", "deit.layers", "dinov2.encoder.layer",
    "dinov2_with_registers.encoder.layer", "model.layers",
)  # fmt: skip
_WINDOWED = ("Swin", "Hiera", "MaxVit", "MaxxVit", "Focal", "NesT", "Twins", "Mvit", "MultiScale")
_BEHIND = {
    "norm", "fc_norm", "layernorm", "head", "head_dist", "classifier", "cls_classifier",
    "distillation_classifier", "pooler",
}  # fmt: skip
_CLASS_ONLY = ("ViTModel", "DeiTModel", "ViTForImageClassification", "DeiTForImageClassification")


@dataclass(frozen=True)
class BlockView:
    """The parts of one pre-norm block, whatever the library calls them.

    Attributes:
        block: The block itself.
        norm1, norm2: Norms before attention and MLP.
        project: Normed tokens -> query ``(b, n, d)``, key and value ``(b, h, n, head_dim)``.
        heads: Query ``(b, n, d)`` -> ``(b, h, n, head_dim)``.
        output: Heads joined ``(b, n, d)`` -> residual branch ``(b, n, d)``, scale included.
        mlp: Normed tokens -> residual branch, scale included.
        lean_mlp: The same, saving less for backward where that is possible.
        dropout: Probability of dropping attention weights while training.
    """

    block: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    project: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    heads: Callable[[Tensor], Tensor]
    output: Callable[[Tensor], Tensor]
    mlp: Callable[[Tensor], Tensor]
    lean_mlp: Callable[[Tensor], Tensor]
    dropout: Callable[[], float]


@dataclass(frozen=True)
class Trunk:
    """Where the blocks of a model are, and what its head reads.

    Attributes:
        model: The whole model.
        parent, name: The blocks are ``getattr(parent, name)``.
        views: One view a block.
        num_prefix_tokens: Tokens before the patches: class token, registers, distillation.
        reads: Leading tokens that the head reads after the last block; None for all.
    """

    model: nn.Module
    parent: nn.Module
    name: str
    views: tuple[BlockView, ...]
    num_prefix_tokens: int
    reads: int | None

    @contextmanager
    def running(self, run: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """While this is open, the model's forward pass sends its tokens through ``run``."""
        kept = self.parent._modules[self.name]
        single = _Whole(run)
        sequential = isinstance(kept, nn.Sequential)
        self.parent._modules[self.name] = (
            nn.Sequential(single) if sequential else nn.ModuleList([single])
        )
        try:
            yield
        finally:
            self.parent._modules[self.name] = kept

    def in_blocks(self) -> set[int]:
        """Ids of all parameters inside blocks."""
        return {id(p) for view in self.views for p in view.block.parameters()}

    def behind_blocks(self) -> set[int]:
        """Ids of parameters used after the blocks: final norm and head."""
        after = set()
        for name, parameter in self.model.named_parameters():
            parts = name.split(".")
            if _BEHIND.intersection(parts) and not any("embed" in part for part in parts):
                after.add(id(parameter))
        return after - self.in_blocks()


class _Whole(nn.Module):
    """Stands in for the list of blocks; masks and flags that libraries pass along are not used."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.run(x)


def find_trunk(model: nn.Module, block_path: str | None = None, reads: str = "auto") -> Trunk:
    """Find the blocks of a vision transformer.

    Args:
        model: Ours, timm's ``VisionTransformer``, a Hugging Face ViT, DeiT or DINOv2, with or
            without a classification head or peft adapters around it.
        block_path: Dotted name of the list of blocks, if it is not at one of the usual places.
        reads: Whether the head reads only the class token; ``auto`` knows the usual heads and
            assumes ``all`` for others.

    Raises:
        ValueError: windowed attention or token merging, no list of blocks, or blocks of a kind
            that is not known; the message lists what was searched.
    """
    _refuse_unsupported(model)
    bare = _unwrapped(model)
    paths = (block_path,) if block_path else _SEARCHED
    for path in paths:
        found = _at(bare, path) if block_path is None else _at(bare, path) or _at(model, path)
        if found is not None and isinstance(found[2], nn.ModuleList | nn.Sequential):
            parent, name, blocks = found
            held = list(blocks.children())
            views = tuple(view_block(block, f"{path}.{i}") for i, block in enumerate(held))
            if views:
                prefix = _prefix(parent, bare)
                return Trunk(model, parent, name, views, prefix, _reads(bare, reads, prefix))
    raise ValueError(
        f"{type(bare).__name__} has no list of transformer blocks at {', '.join(paths)}: give "
        "block_path, the dotted name of its ModuleList or Sequential"
    )


def view_block(block: nn.Module, where: str = "block") -> BlockView:
    """The parts of one block.

    Raises:
        ValueError: neither of the known kinds.
    """
    names = dict(block.named_children())
    if {"norm1", "attn", "norm2", "mlp"} <= names.keys() and hasattr(block.attn, "qkv"):
        return _view_qkv(block)
    attention = names.get("attention")
    if attention is not None and hasattr(attention, "q_proj") and "mlp" in names:
        return _view_separate(block)
    raise ValueError(
        f"{where} is a {type(block).__name__} with parts {', '.join(names) or 'none'}: wanted "
        "norm1, attn.qkv, attn.proj, norm2, mlp or attention.q_proj, k_proj, v_proj, o_proj, mlp"
    )


def _view_qkv(block: Any) -> BlockView:
    """Query, key and value in one matrix: ours and timm's."""
    attn = block.attn
    if getattr(attn, "gate", None) is not None:
        raise ValueError(f"{type(attn).__name__} gates its output: not supported")
    heads = attn.num_heads
    q_norm, k_norm = getattr(attn, "q_norm", None), getattr(attn, "k_norm", None)
    after1 = _chain(attn, "proj_drop") + _chain(block, "ls1", "drop_path1")
    after2 = _chain(block, "ls2", "drop_path2")
    inner, lean = getattr(attn, "norm", None), lean_mlp(block.mlp)

    def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = attn.qkv(x).chunk(3, dim=-1)
        k = _heads(k, heads)
        return q, (k if k_norm is None else k_norm(k)), _heads(v, heads)

    def split(q: Tensor) -> Tensor:
        q = _heads(q, heads)
        return q if q_norm is None else q_norm(q)

    def output(read: Tensor) -> Tensor:
        return _through(after1, attn.proj(read if inner is None else inner(read)))

    def dropout() -> float:
        drop = getattr(attn, "attn_drop", None)
        return float(drop.p) if isinstance(drop, nn.Dropout) and drop.training else 0.0

    return BlockView(
        block, block.norm1, block.norm2, project, split, output,
        lambda x: _through(after2, block.mlp(x)), lambda x: _through(after2, lean(x)), dropout,
    )  # fmt: skip


def _view_separate(block: Any) -> BlockView:
    """Query, key and value in matrices of their own: Hugging Face's."""
    attn = block.attention
    heads, lean = attn.num_attention_heads, lean_mlp(block.mlp)
    if hasattr(block, "layer_scale1"):  # DINOv2
        norms = block.norm1, block.norm2
        after1 = _chain(block, "layer_scale1", "drop_path")
        after2 = _chain(block, "layer_scale2", "drop_path")
    else:
        norms = block.layernorm_before, block.layernorm_after
        after1 = after2 = _chain(block, "dropout")

    def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return attn.q_proj(x), _heads(attn.k_proj(x), heads), _heads(attn.v_proj(x), heads)

    def dropout() -> float:
        return float(getattr(attn, "attention_dropout", 0.0)) if attn.training else 0.0

    return BlockView(
        block, *norms, project, lambda q: _heads(q, heads),
        lambda read: _through(after1, attn.o_proj(read)),
        lambda x: _through(after2, block.mlp(x)), lambda x: _through(after2, lean(x)), dropout,
    )  # fmt: skip


def _heads(x: Tensor, heads: int) -> Tensor:
    b, n, d = x.shape
    return x.view(b, n, heads, d // heads).transpose(1, 2)


def _chain(owner: Any, *names: str) -> list[nn.Module]:
    """The modules of these names that do something."""
    found = [getattr(owner, name, None) for name in names]
    return [module for module in found if module is not None and type(module) is not nn.Identity]


def _through(modules: list[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def _unwrapped(model: nn.Module) -> nn.Module:
    """Without peft's two layers around it."""
    inner: Any = getattr(model, "base_model", None)
    if type(model).__name__.startswith("Peft") and inner is not None:
        held: nn.Module = getattr(inner, "model", inner)
        return held
    return model


def _at(model: nn.Module, path: str) -> tuple[nn.Module, str, nn.Module] | None:
    parent, _, name = path.rpartition(".")
    try:
        owner = model.get_submodule(parent)
    except AttributeError:
        return None
    child = owner._modules.get(name)
    return None if child is None else (owner, name, child)


def _refuse_unsupported(model: nn.Module) -> None:
    for module in model.modules():
        kind = type(module).__name__
        if any(word.lower() in kind.lower() for word in _WINDOWED) or hasattr(
            module, "relative_position_bias_table"
        ):
            raise ValueError(f"{kind} has windowed attention: tokens cannot leave; use a plain ViT")
        if "ToMe" in kind or hasattr(module, "_tome_info"):
            raise ValueError(f"{kind} merges tokens: unsupported; use the model without merging")


def _prefix(parent: Any, model: nn.Module) -> int:
    """Tokens in front of the patches."""
    if hasattr(parent, "num_prefix_tokens"):  # timm
        return int(parent.num_prefix_tokens)
    for module in model.modules():
        if isinstance(getattr(module, "cls_token", None), torch.Tensor):
            registers = getattr(module, "register_tokens", None)
            distilled = isinstance(getattr(module, "distillation_token", None), torch.Tensor)
            return 1 + (0 if registers is None else registers.shape[1]) + int(distilled)
    return 0


def _reads(model: Any, wanted: str, prefix: int) -> int | None:
    if wanted not in ("auto", "class", "all"):
        raise ValueError(f'reads must be "auto", "class" or "all", got {wanted!r}')
    if wanted == "all" or prefix == 0:
        return None
    if wanted == "class":
        return 1
    kind = type(model).__name__
    if kind == "DeiTForImageClassificationWithTeacher":
        return 2
    if kind in _CLASS_ONLY:
        return 1
    if kind == "VisionTransformer":
        pool = getattr(model, "global_pool", "token")  # ours has none and reads the class token
        return 1 if pool == "token" and getattr(model, "attn_pool", None) is None else None
    return None
