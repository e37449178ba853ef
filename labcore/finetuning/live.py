"""What the lab does live: a picture of one's own in the real model, and a small race.

Plain data comes back, so that a worker process can send it. The real model is loaded once.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from labcore.blocks.vit import VisionTransformer
from labcore.finetuning.data import clothing, for_real_model, middle_square
from labcore.finetuning.filmstrip import delta_profile, survivors
from labcore.finetuning.models import real_vit
from labcore.finetuning.race import race_table
from labcore.finetuning.settings import BUDGETS, Config
from labcore.runs import Progress, Table, silent

PIXELS = 160
SEEN = 224


@dataclass(frozen=True)
class Look:
    """One picture in the real model.

    Attributes:
        pixels: Its middle square, 160 pixels wide.
        absolute, relative: Delta of each layer.
        kept: Patches alive after each layer, one sheet for each of ``settings.BUDGETS``.
    """

    pixels: UInt8[np.ndarray, "y x 3"]
    absolute: Float[np.ndarray, " l"]
    relative: Float[np.ndarray, " l"]
    kept: Bool[np.ndarray, "k l p"]


def look(pixels: UInt8[np.ndarray, "y x 3"], *, progress: Progress = silent) -> Look:
    """Deltas and surviving patches of a picture of any size.

    Raises:
        ValueError: a picture of less than 14 pixels.
        AssetError: the model is not here and cannot be fetched.
    """
    if min(pixels.shape[:2]) < 14:
        raise ValueError(f"a picture of {pixels.shape[:2]} pixels is too small: 14 or more")
    total = len(BUDGETS) + 1
    progress(0, total, "loading the model")
    model, images = _loaded(), for_real_model(pixels, SEEN)
    profile = delta_profile(model, images)
    kept = []
    for number, budget in enumerate(BUDGETS):
        progress(number + 1, total, f"budget {budget:g}")
        kept.append(survivors(model, images, budget))
    return Look(
        middle_square(pixels, PIXELS), profile["absolute"], profile["relative"], np.stack(kept)
    )


def race_now(
    strategies: tuple[str, ...], *, seconds: float = 4.0, seed: int = 0, progress: Progress = silent
) -> Table:
    """The race of the small model, live: rows of the result's table ``race``.

    Raises:
        ValueError: no strategy, or one that is not known.
        ImportError: LoRA without peft.
        AssetError: the pictures are not here and cannot be fetched.
    """
    recipe = replace(Config.quick(seed).trials[0].recipe, test=300)
    task = clothing(recipe.train, recipe.test, seed=seed)
    table = race_table(strategies, recipe, task, seconds=seconds, seed=seed, progress=progress)
    return [{"model": "small", **row} for row in table]


@cache
def _loaded() -> VisionTransformer:
    torch.set_num_threads(1)
    return real_vit(SEEN).eval()
