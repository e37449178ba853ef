"""The models that are fine-tuned: a real ViT-S, a small one pre-trained here, or Hugging Face's.

The small model learned digits; its weights are committed and ``python -m
labcore.finetuning.models`` makes them again.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from labcore.assets.dinov2 import vit_s_state
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.runs import replacing

SMALL = ViTConfig(patch_size=4, hidden_size=96, depth=6, num_heads=3, mlp_ratio=2.0)
SMALL_WEIGHTS = Path(__file__).parent / "results" / "small_vit.safetensors"
CLASSES = 10


def small_vit(
    *, pretrained: bool = True, classes: int = CLASSES, seed: int = 0
) -> VisionTransformer:
    """The small ViT: 28 px grey pictures, 49 patches, 6 layers of width 96; a fresh zero head.

    Raises:
        FileNotFoundError: the committed weights are gone.
    """
    model = _with_head(SMALL, classes, seed)
    if pretrained:
        if not SMALL_WEIGHTS.exists():
            raise FileNotFoundError(
                f"{SMALL_WEIGHTS} is missing: python -m labcore.finetuning.models makes it"
            )
        state = {name: value.float() for name, value in load_file(SMALL_WEIGHTS).items()}
        model.load_state_dict(state, strict=False)
    return model


def real_vit(image_size: int = 70, *, classes: int = CLASSES, seed: int = 0) -> VisionTransformer:
    """DINOv2 ViT-S/14 with a fresh zero head (:mod:`labcore.assets.dinov2`).

    Raises:
        ValueError: ``image_size`` is no multiple of 14.
        AssetError: the weights are not here and cannot be fetched.
    """
    state = vit_s_state(image_size)
    config = ViTConfig(
        image_size=image_size, patch_size=14, in_channels=3, hidden_size=384, depth=12,
        num_heads=6, mlp_ratio=4.0, layer_scale=True,
    )  # fmt: skip
    model = _with_head(config, classes, seed)
    model.load_state_dict(state, strict=False)
    return model


def build(name: str, image_size: int, *, classes: int = CLASSES, seed: int = 0) -> nn.Module:
    """A model by name, with a fresh head.

    Args:
        name: ``small``, ``scratch`` (small, not pre-trained), ``vit-s``, or what Hugging Face
            calls a model (``facebook/deit-small-patch16-224``, a folder).
        image_size: Pixels.
        classes: Outputs of the head.
        seed: Of the weights that are not pre-trained.

    Raises:
        ValueError: another name.
        OSError: Hugging Face has no such model, or it is not here and there is no network.
    """
    if name == "vit-s":
        return real_vit(image_size, classes=classes, seed=seed)
    if name in ("small", "scratch"):
        return small_vit(pretrained=name == "small", classes=classes, seed=seed)
    if "/" not in name:
        raise ValueError(
            f"model must be small, scratch, vit-s or owner/name of Hugging Face, got {name!r}"
        )
    from transformers import AutoModelForImageClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = AutoModelForImageClassification.from_pretrained(
            name, num_labels=classes, ignore_mismatched_sizes=True
        )
    return model


def _with_head(config: ViTConfig, classes: int, seed: int) -> VisionTransformer:
    sizes = {**config.as_dict(), "num_classes": classes}
    generator = torch.Generator().manual_seed(seed)
    model = VisionTransformer(ViTConfig(**sizes), generator=generator)
    with torch.no_grad():
        head_of(model).weight.zero_()
    return model


def head_of(model: nn.Module) -> nn.Linear:
    """The classification head.

    Raises:
        TypeError: the model has none, or one of another kind.
    """
    for name in ("head", "classifier"):
        found = getattr(model, name, None)
        if isinstance(found, nn.Linear):
            return found
    raise TypeError(f"{type(model).__name__} has no linear layer called head or classifier")


@torch.no_grad()
def features(
    model: nn.Module, images: Float[Tensor, "n c y x"], batch: int = 100
) -> Float[Tensor, "n d"]:
    """What the head reads of many pictures, without a graph."""
    seen: list[Tensor] = []
    device = head_of(model).weight.device
    watch = head_of(model).register_forward_pre_hook(lambda _, read: seen.append(read[0].cpu()))
    try:
        for part in images.split(batch):
            model(part.to(device))
    finally:
        watch.remove()
    return torch.cat(seen)


def linear_probe(
    inputs: Float[Tensor, "n d"], labels: Int[Tensor, " n"], *, decay: float = 1e-2
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Logistic regression with weight decay, to convergence; weight and bias for raw inputs."""
    mean, std = inputs.mean(0), inputs.std(0).clamp_min(1e-3)
    x = (inputs - mean) / std
    classes = int(labels.max()) + 1
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, labels) + decay * weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        scaled = weight / std
        return scaled.detach(), (bias - scaled @ mean).detach()


def pretrain(images: int = 20_000, epochs: int = 6, seed: int = 0) -> float:
    """Pre-train the small ViT on digits, write its weights, and return its test accuracy."""
    from labcore.finetuning.data import digits

    train, test = digits(images, seed=seed), digits(2000, part="test")
    model = small_vit(pretrained=False, seed=seed)
    torch.nn.init.trunc_normal_(
        head_of(model).weight, std=0.02, generator=torch.Generator().manual_seed(seed)
    )
    batch, generator = 64, torch.Generator().manual_seed(seed)
    steps = epochs * (len(train) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(train), generator=generator)
        for index in order[: len(order) // batch * batch].split(batch):
            shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
            pictures = train.images[index].roll(shift, (2, 3))
            loss = F.cross_entropy(model(pictures), train.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    with torch.no_grad():
        logits = torch.cat([model(part) for part in test.images.split(250)])
    found = (logits.argmax(-1) == test.labels).float().mean().item()
    state = {k: v.half() for k, v in model.state_dict().items() if not k.startswith("head.")}
    with replacing(SMALL_WEIGHTS) as part:
        save_file(state, part, metadata={"digits": f"{found:.4f}", "seed": str(seed)})
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"accuracy on 2000 test digits: {pretrain():.4f}")
