"""The real models and data sets, where they are in the user's cache."""

import numpy as np
import pytest
import torch

from labcore import assets
from labcore.assets import images, text

pytestmark = pytest.mark.assets


def need(name: str) -> None:
    if assets.status(name) != "ready":
        pytest.skip(f"{name} is not here; run `lab fetch {name}`")


@pytest.mark.parametrize("name", list(assets.registry()))
def test_what_is_here_has_the_registered_bytes(name: str) -> None:
    need(name)
    asset = assets.registry()[name]
    if not asset.accepted:
        pytest.skip(f"{name} has terms of its own; set {asset.terms}=1 to accept them")
    paths = assets.fetch(name, offline=True, verify=True)
    if asset.convert is None:
        assert {file.save_as: file.bytes for file in asset.files} == {
            key: path.stat().st_size for key, path in paths.items()
        }
    else:
        assert list(paths) == [asset.convert.save_as]


def test_smollm2_knows_paris_and_loads_as_the_spec_says() -> None:
    need("smollm2-135m")
    from labcore.assets.causal_lm import load_causal_lm

    model, tokenizer = load_causal_lm()
    config = model.config
    sizes = (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads)
    assert sizes == (30, 9, 3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        best = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " Paris"
    assert len(tokenizer("12345", add_special_tokens=False)["input_ids"]) == 5
    assert tokenizer("x")["input_ids"][0] != tokenizer.bos_token_id


def test_smollm2_perplexity_on_prose() -> None:
    need("smollm2-135m")
    need("sotu")
    from labcore.assets.causal_lm import load_causal_lm

    model, tokenizer = load_causal_lm()
    ids = tokenizer(text.address(2010)[2000:10_000], return_tensors="pt").input_ids[:, :1024]
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    assert 19 < float(loss.exp()) < 33


def test_the_texts() -> None:
    need("moby-dick")
    need("sotu")
    assert text.moby_dick().startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael.")
    assert [len(text.address(year)) for year in text.YEARS] == [43374, 41921, 34232]
    with pytest.raises(ValueError, match="one of 1999, 2010, 2016, got 1945"):
        text.address(1945)


@pytest.mark.parametrize(
    ("name", "reader"), [("mnist", images.mnist), ("fashion-mnist", images.fashion_mnist)]
)
def test_the_pictures(name: str, reader) -> None:
    need(name)
    for split, count in (("train", 60_000), ("test", 10_000)):
        pictures, labels = reader(split)
        assert pictures.shape == (count, 28, 28)
        assert labels.shape == (count,)
        assert set(np.unique(labels)) == set(range(10))
    with pytest.raises(ValueError, match='"train" or "test", got \'dev\''):
        reader("dev")


def test_mnist_is_the_one_everyone_knows() -> None:
    need("mnist")
    pictures, labels = images.mnist("train")
    assert labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert abs(pictures.mean() / 255 - 0.1307) < 1e-4
    assert np.bincount(labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
