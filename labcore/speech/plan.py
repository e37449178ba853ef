"""Which cells the experiment has, in which order, and where each stands in its tables."""

from collections.abc import Iterator
from typing import Any

from labcore.speech.names import NO_LM
from labcore.speech.settings import Config

RECIPE = ("steps", "warm_steps")  # options of a variant that change the recipe
LIVE_CELL = "a few steps with a model"

Cell = tuple[dict[str, Any], dict[str, Any]]


def plan(config: Config) -> Iterator[Cell]:
    """Every cell: its place (levels, repeat, variant) and the parameters of ``run_cell``.

    Whole factorials come one after the other, so that a run which is stopped leaves balanced ones:
    the first training of every language model, the variants, then the further trainings.
    """
    for repeat in range(max(config.repeats)):
        for lm, repeats in zip(config.lms, config.repeats, strict=True):
            if repeat < repeats:
                watch = repeat == repeats - 1 and lm in config.watched
                yield from _factorial(config, lm, repeat, watch=watch)
        if repeat == 0:
            yield from _variants(config)


def _factorial(config: Config, lm: str, repeat: int, *, watch: bool) -> Iterator[Cell]:
    watched = {"watch": True} if watch else {}
    for encoder in config.encoders:
        for adapter in config.adapters:
            first = repeat == 0 and lm == config.lms[0] and lm != NO_LM
            kept = {"keep": True} if first and encoder == "conformer" else {}
            yield _cell(config, (encoder, adapter, lm), repeat, "", config.recipe(), kept | watched)


def _variants(config: Config) -> Iterator[Cell]:
    for variant in config.variants:
        options = dict(variant.options)
        changed = {k: options.pop(k) for k in RECIPE if k in options}
        levels = (variant.encoder, variant.adapter, config.lms[0])
        yield _cell(config, levels, 0, variant.name, config.recipe(**changed), options)
    if config.live_steps:
        levels = ("conformer", "conv", "smollm2-135m")
        recipe = config.recipe(steps=config.live_steps)
        yield _cell(config, levels, 0, LIVE_CELL, recipe, {})


def _cell(
    config: Config,
    levels: tuple[str, str, str],
    repeat: int,
    variant: str,
    recipe: dict[str, Any],
    options: dict[str, Any],
) -> Cell:
    named = dict(zip(("encoder", "adapter", "lm"), levels, strict=True))
    sizes = {"train_clips": config.train_clips, "test_clips": config.test_clips}
    params = named | sizes | options | {"repeat": config.seed + repeat, "recipe": recipe}
    return named | {"repeat": repeat, "variant": variant}, params
