"""Experiment 1: experts on a stream of digits and clothes, what they like, and upcycling."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.blocks.vit import VisionTransformer
from labcore.conditional.arms import (
    BY_NAME,
    EXPERTS,
    LAYERS,
    Arm,
    auxiliary,
    build,
    layer_cost,
    mixtures,
    network_cost,
)
from labcore.conditional.data import Pictures, mixed_stream, one_domain, to_bytes
from labcore.conditional.measure import mutual_information
from labcore.conditional.moe import MoELayer
from labcore.conditional.settings import Mixture
from labcore.conditional.training import accuracy, train
from labcore.parts import Findings

SHOWN = 12  # pictures whose routing is kept
EVERY = 6  # steps between two frames of the load film
Tick = Callable[[], None]


def mixture(settings: Mixture, name: str, seed: int, *, keep: bool, tick: Tick) -> Findings:
    """Train one arm on the mixed stream and look at its experts.

    Args:
        settings: Sizes.
        name: The arm.
        seed: Of weights, data and order.
        keep: Also keep what pictures need: films, routing of some pictures, favourite patches.
        tick: Called after every step.
    """
    arm, found = BY_NAME[name], Findings()
    data = mixed_stream("train", settings.train, seed)
    test = mixed_stream("test", settings.test, 1000 + seed)
    model = build(arm, 20, seed)
    film: list[np.ndarray] = []

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images), labels) + auxiliary(model, arm)

    def after(step: int) -> None:
        tick()
        if keep and arm.kind == "top_k" and step % EVERY == 0:
            film.append(np.stack([_share(layer) for layer in mixtures(model)]))

    if arm.kind in ("top_k", "expert_choice"):  # an untrained router, as a baseline
        _inspect(found, model, test, arm, seed, trained=False)
    train(list(model.parameters()), loss, data, epochs=settings.epochs, seed=seed, after=after)
    layer, network = layer_cost(arm), network_cost(arm)
    digits = test.labels < 10
    found.add(
        "mixture", arm=name, seed=seed, kind=arm.kind, balance=arm.balance,
        accuracy=accuracy(model, test), train=len(data), test=len(test),
        digits=accuracy(model, _rows(test, digits)), clothes=accuracy(model, _rows(test, ~digits)),
        layer_flops=layer.executed, layer_ratio=layer.ratio, flops=network.executed,
        ratio=network.ratio, parameters=sum(p.numel() for p in model.parameters()),
    )  # fmt: skip
    if arm.kind in ("top_k", "expert_choice"):
        _inspect(found, model, test, arm, seed, trained=True)
    if keep and film:
        found.arrays[f"film/{name}"] = np.stack(film).astype(np.float16)
    if keep and arm.kind == "top_k":
        _keep_routing(found, model, test, name)
    return found


def _share(layer: MoELayer) -> np.ndarray:
    routing = layer.last_routing
    assert routing is not None
    return (routing.counts / routing.counts.sum().clamp_min(1)).numpy()


def _rows(data: Pictures, mask: Tensor) -> Pictures:
    return Pictures(data.images[mask], data.labels[mask])


@torch.no_grad()
def _inspect(
    found: Findings, model: VisionTransformer, test: Pictures, arm: Arm, seed: int, *, trained: bool
) -> None:
    """Load and mutual information of every sparse layer, on the test pictures."""
    model(test.images)
    shuffled = test.labels[torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))]
    for at, layer in zip(LAYERS, mixtures(model), strict=True):
        routing = layer.last_routing
        assert routing is not None
        ran = (~routing.dropped).float()
        chosen = torch.zeros_like(routing.probs).scatter_add(1, routing.index, ran)
        chosen = chosen.view(len(test), -1, EXPERTS)  # 1 where an expert ran on a token
        load = chosen.sum((0, 1)) / chosen.sum()
        for tokens, part in (("patches", chosen[:, 1:]), ("class token", chosen[:, :1])):
            counts = _joint(part.sum(1), test.labels)
            found.add(
                "experts", arm=arm.name, seed=seed, layer=at + 1, tokens=tokens, trained=trained,
                class_bits=mutual_information(counts),
                domain_bits=mutual_information(_domains(counts)),
                shuffled_bits=mutual_information(_joint(part.sum(1), shuffled)),
                largest=float(load.max()), used=int((load > 0.01).sum()),
                load_cv=float(load.std(correction=0) / load.mean()),
                untouched=float((chosen.sum(2) == 0).float().mean()), test=len(test),
            )  # fmt: skip
            if trained:
                key = f"likes/{arm.name}/{at + 1}/{tokens}"
                found.arrays[f"{key}/{seed}"] = counts.astype(np.float32)


def _joint(part: Tensor, labels: Tensor) -> np.ndarray:
    """Counts (experts, classes)."""
    one_hot = F.one_hot(labels, 20).to(part.dtype)
    return (part.T @ one_hot).numpy()


def _domains(counts: np.ndarray) -> np.ndarray:
    return np.stack((counts[:, :10].sum(1), counts[:, 10:].sum(1)), axis=1)


@torch.no_grad()
def _keep_routing(found: Findings, model: VisionTransformer, test: Pictures, name: str) -> None:
    """Router logits of some pictures, and the patches that each expert scores highest."""
    few = test.part(0, 1000)
    model(few.images)
    patches = few.images.unfold(2, 7, 7).unfold(3, 7, 7).reshape(len(few) * 16, 1, 7, 7)
    for at, layer in zip(LAYERS, mixtures(model), strict=True):
        routing = layer.last_routing
        assert routing is not None
        logits = routing.logits.view(len(few), 17, EXPERTS)
        found.arrays[f"logits/{name}/{at + 1}"] = logits[:SHOWN].numpy().astype(np.float16)
        probs = routing.probs.view(len(few), 17, EXPERTS)[:, 1:].reshape(-1, EXPERTS)
        best = probs.topk(8, dim=0).indices.T  # (experts, 8)
        best_patches = to_bytes(patches[best.reshape(-1)]).reshape(EXPERTS, 8, 7, 7)
        found.arrays[f"best/{name}/{at + 1}"] = best_patches
    found.arrays[f"pictures/{name}"] = to_bytes(few.images[:SHOWN])
    found.arrays[f"labels/{name}"] = few.labels[:SHOWN].numpy().astype(np.int8)


def upcycling(settings: Mixture, seed: int, tick: Tick) -> Findings:
    """A dense network trained on digits, then few clothes: copied into experts, or not."""
    found = Findings()
    dense = BY_NAME["dense, equal FLOPs"]
    digits = one_domain("mnist", "train", settings.train, seed)
    clothes = one_domain("fashion", "train", settings.upcycle_train, seed)
    test = one_domain("fashion", "test", settings.test, 1000 + seed)

    def fit(model: VisionTransformer, data: Pictures, epochs: float, balance: float) -> None:
        arm = Arm("", "top_k", 2, balance)

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(model(images), labels) + auxiliary(model, arm)

        train(list(model.parameters()), loss, data, epochs=epochs, seed=seed,
              after=lambda step: tick())  # fmt: skip

    trunk = build(dense, 10, seed)
    fit(trunk, digits, settings.epochs, 0.0)
    weights = {name: value.clone() for name, value in trunk.state_dict().items()}
    for start in ("scratch", "digits"):
        for kind in ("dense", "mixture"):
            model = build(dense, 10, seed)
            if start == "digits":
                model.load_state_dict(weights)
            gap = 0.0
            if kind == "mixture":
                gap = _upcycle(model, test, seed)
            fit(model, clothes, settings.upcycle_epochs, 1e-2 if kind == "mixture" else 0.0)
            found.add(
                "upcycling", start=start, kind=kind, seed=seed, accuracy=accuracy(model, test),
                gap_at_start=gap, train=len(clothes), test=len(test),
            )  # fmt: skip
    return found


def _upcycle(model: VisionTransformer, test: Pictures, seed: int) -> float:
    """Replace two MLPs by eight copies of themselves, two of them active; the change in logits."""
    with torch.no_grad():
        before = model(test.images[:100])
        for i in LAYERS:
            generator = torch.Generator().manual_seed(seed + i)
            model.blocks[i].mlp = MoELayer.from_dense(
                cast(nn.Module, model.blocks[i].mlp), EXPERTS, 2, generator=generator
            )
        return float((model(test.images[:100]) - before).abs().max())
