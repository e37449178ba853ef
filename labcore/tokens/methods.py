"""Each method of the comparison as a model on the base network, and its weights as arrays."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from labcore.blocks.vit import VisionTransformer
from labcore.tokens.channel import Channel
from labcore.tokens.checks import one_of
from labcore.tokens.merging import MergingViT
from labcore.tokens.model import SemanticViT
from labcore.tokens.settings import LEARNED, METHODS, ONE_RATE, REST, SPLIT, SYMBOLS
from labcore.tokens.training import VIT, Tuning

SCORER = {"class_alone": "none"}  # others are called like their scorer


def build(method: str, base: VisionTransformer, seed: int = 0) -> SemanticViT:
    """An untrained model of a method on a copy of the base network.

    Raises:
        ValueError: an unknown method.
    """
    one_of("method", method, METHODS)
    generator = torch.Generator().manual_seed(1000 + seed)
    backbone, channel = copy.deepcopy(base), Channel()
    if method == "merging":
        return MergingViT(backbone, SPLIT, channel, SYMBOLS, generator=generator)
    scorer = "gate" if method.startswith("gate") else SCORER.get(method, method)
    return SemanticViT(
        backbone,
        SPLIT,
        None,
        channel,
        "threshold" if scorer in ("gate", "halting") else "topk",
        SYMBOLS,
        "sent" if method in ("gate_sent", "class_alone") else "server",
        scorer=scorer,
        decoupled=method != "gate_joint",
        generator=generator,
    )


def tuning_of(method: str, tuning: Tuning) -> Tuning:
    """The fine-tuning of a method: equally many steps and canvases for all.

    Learned rankings start on a resting network; ``gate_joint`` is the gate as published, everything
    at once, and halting has no scores apart from the network's.
    """
    rate = ONE_RATE.get(method)
    budgets = tuning.budgets if rate is None else (rate, rate)
    apart = method in LEARNED
    return replace(tuning, frozen=REST if apart else 0.0, exact=apart, budgets=budgets)


def to_arrays(model: torch.nn.Module, name: str) -> dict[str, np.ndarray]:
    """The weights as arrays called ``weights/<name>/<parameter>``."""
    return {f"weights/{name}/{k}": v.detach().numpy() for k, v in model.state_dict().items()}


def _state(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, torch.Tensor]:
    start = f"weights/{name}/"
    found = {
        k.removeprefix(start): torch.from_numpy(np.array(v))
        for k, v in arrays.items()
        if k.startswith(start)
    }
    if not found:
        raise ValueError(f"this result holds no weights of {name!r}")
    return found


def base_from(arrays: Mapping[str, np.ndarray]) -> VisionTransformer:
    """The base network of a result.

    Raises:
        ValueError: the result holds none.
    """
    model = VisionTransformer(VIT)
    model.load_state_dict(_state(arrays, "base"))
    return model.eval()


def model_from(arrays: Mapping[str, np.ndarray], method: str = "gate") -> SemanticViT:
    """A fine-tuned model of a result.

    Raises:
        ValueError: the result holds no weights of this method.
    """
    model = build(method, VisionTransformer(VIT))
    model.load_state_dict(_state(arrays, method))
    return model.eval()
