"""Chapter 10, transformer models: what the heads of a real language model look at; sets of views.

SmolLM2-135M reads one sentence and its attention is kept, every layer and head. Beside it a small
classifier looks at several spoilt copies of one digit through attention without positions.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore import assets
from labcore.blocks.attention import multi_head
from labcore.blocks.norm import layer_norm, linear
from labcore.book import data
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 15
MODEL = "smollm2-135m"
SENTENCE = "The cat, which belongs to my mother, is on the table"
VIEWS, VISIBLE, TRAIN = (1, 2, 4, 8), 0.3, 1200


def read(sentence: str) -> tuple[list[str], Float[np.ndarray, "l h t t"]]:
    """The tokens of a sentence, and the model's attention at every layer and head.

    Raises:
        AssetError: The model is not here and cannot be fetched.
        ValueError: A sentence of fewer than 2 or more than 64 tokens.
    """
    from labcore.assets.causal_lm import load_causal_lm

    model, tokenizer = load_causal_lm(MODEL, attn="eager")
    ids = tokenizer(sentence, return_tensors="pt").input_ids
    if not 2 <= ids.shape[1] <= 64:
        raise ValueError(f"2 to 64 tokens are wanted, this sentence has {ids.shape[1]}")
    with torch.no_grad():
        found = model(ids, output_attentions=True).attentions
    tokens = [tokenizer.decode([i]) for i in ids[0].tolist()]
    return tokens, torch.stack(found)[:, 0].float().numpy()


def spoil(
    x: Float[Tensor, "b d"], views: int, generator: torch.Generator
) -> Float[Tensor, "b v d"]:
    """Copies of each picture of which three tenths of the pixels can be seen, the rest black."""
    shape = (len(x), views, x.shape[1])
    return x[:, None] * (torch.rand(shape, generator=generator) < VISIBLE)


class ViewClassifier(nn.Module):
    """Embed every view alone, let views look at each other, take their mean, classify.

    No step knows the order of the views, so the answer does not depend on it.
    """

    def __init__(self, pixels: int = 64, width: int = 32, *, generator: torch.Generator) -> None:
        super().__init__()
        self.embed = linear(pixels, width, generator)
        self.maps = nn.ParameterList(
            torch.randn(width, width, generator=generator) * width**-0.5 for _ in range(4)
        )
        self.head = linear(width, 10, generator)

    def forward(self, views: Float[Tensor, "b v d"]) -> Float[Tensor, "b c"]:
        """Logits."""
        x = self.embed(views).relu()
        query, key, value, out = self.maps
        looked, _ = multi_head(layer_norm(x), query, key, value, out, 4, return_weights=True)
        return self.head(layer_norm(x + looked).mean(1))


def train_views(
    views: int, *, epochs: int = 40, seed: int = 0
) -> tuple[ViewClassifier, float, tuple[Tensor, Int[Tensor, " n"]]]:
    """Adam 3e-3, batches of 100, freshly spoilt; the model, its test accuracy, the test rows."""
    generator = torch.Generator().manual_seed(seed)
    table = data.digits()
    rows, held = data.split_rows(len(table.y), (TRAIN, len(table.y) - TRAIN), seed)
    x, y = torch.tensor(table.x / 16, dtype=torch.float32), torch.tensor(table.y)
    model = ViewClassifier(generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for part in torch.randperm(TRAIN, generator=generator).split(100):
            some = torch.from_numpy(rows)[part]
            loss = F.cross_entropy(model(spoil(x[some], views, generator)), y[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    test = spoil(x[held], views, torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        right = (model(test).argmax(-1) == y[held]).double().mean().item()
    return model.eval(), right, (test, y[held])


def measure(config: Size, progress: Progress) -> Findings:
    """Attention of the real model, if it is here; the digits by number of views."""
    found = Findings()
    numbers: Table = []
    if assets.status(MODEL) == "ready":
        progress(0, 3, "reading a sentence")
        tokens, weights = read(SENTENCE)
        found.arrays["weights"] = weights.astype(np.float16)
        found.tables["tokens"] = [{"token": t} for t in tokens]
        first = weights[:, :, -1, 0].mean(1)
        sample = f"1 sentence of {len(tokens)} tokens, 9 heads"
        for layer, known in ((0, 0.08), (23, 0.89)):
            numbers.append(number(f"last query's mass on the first token, layer {layer}",
                                  float(first[layer]), known, 0.01, sample=sample))  # fmt: skip
    rows: Table = []
    epochs = 5 if config.small else 40
    for views in VIEWS:
        progress(1, 3, f"digits in {views} views")
        right = [train_views(views, epochs=epochs, seed=seed)[1] for seed in config.seeds]
        rows += [{"views": views, "seed": s, "accuracy": r}
                 for s, r in zip(config.seeds, right, strict=True)]  # fmt: skip
        what = f"digits through {views} spoilt {'view' if views == 1 else 'views'}"
        numbers.append(over_seeds(what, right, sample="597 digits"))
    found.tables |= {"numbers": numbers, "views": rows}
    return found
