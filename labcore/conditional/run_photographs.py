"""Fewer tokens in a real ViT-S on photographs, without training: what is left of its feature."""

from collections.abc import Callable

import torch

from labcore.conditional.photo import GRID, PAIRS, PHOTOS, merge_groups, photograph, pixels, vit_s
from labcore.conditional.vision import METHODS, run_reduced
from labcore.parts import Findings

STAGES = (3, 6, 9)  # blocks 4, 7 and 10 of 12, as published
KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)


@torch.no_grad()
def photographs(tick: Callable[[], None]) -> Findings:
    """Cosine of the class token's feature with that of all tokens, for every method and amount."""
    found, model = Findings(), vit_s()
    for name in PHOTOS:
        picture = photograph(name)
        x = pixels(picture)
        whole = model(x)
        for method in METHODS:
            for amount in [r / GRID**2 for r in PAIRS] if method == "merging" else KEPT:
                tick()
                generator = torch.Generator().manual_seed(0)
                out = run_reduced(model, x, method, amount, stages=STAGES, generator=generator)
                found.add(
                    "photographs", photo=name, method=method, amount=amount, ratio=out.cost.ratio,
                    cosine=float(torch.cosine_similarity(out.logits, whole)),
                )  # fmt: skip
        found.arrays[f"photo/{name}"] = picture
        for r, groups in merge_groups(picture).items():
            found.arrays[f"photo/{name}/{r}"] = groups
    return found
