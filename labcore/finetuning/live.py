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
from labcore.finetuning.settings import BUDGETS, Config
from labcore.finetuning.training import fine_tune
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
    strategies: tuple[str, ...], *, images: int = 500, seed: int = 0, progress: Progress = silent
) -> Table:
    """Fine-tune the small model by each strategy; the rows of the table ``curves``.

    Raises:
        ValueError: no strategy, or one that is not known.
        AssetError: the pictures are not here and cannot be fetched.
    """
    if not strategies:
        raise ValueError("no strategy given: name one or more")
    recipe = replace(Config.quick(seed).trials[0].recipe, train=images, test=300, look_every=10)
    task = clothing(recipe.train, recipe.test, seed=seed)
    table: Table = []
    for number, name in enumerate(strategies):

        def report(done: int, of: int, label: str, before: int = number) -> None:
            progress(before * of + done, len(strategies) * of, label)

        found = fine_tune(name, recipe, task, seed=seed, progress=report)
        about = {"model": "small", "strategy": name, "seed": seed}
        table += [
            {**about, "step": step, "cpu_seconds": spent, "accuracy": score}
            for step, spent, score in found.curve
        ]
    return table


@cache
def _loaded() -> VisionTransformer:
    torch.set_num_threads(1)
    return real_vit(SEEN).eval()
