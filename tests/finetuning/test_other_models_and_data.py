"""The experiment on a Hugging Face model and torchvision's pictures, both made here."""

import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from labcore.finetuning import data, experiment, models
from labcore.finetuning.race import race_table
from labcore.finetuning.settings import REAL, Config, Trial
from labcore.finetuning.training import Recipe, fine_tune


class Pictures:
    """Grey levels that tell the label, as torchvision hands pictures out."""

    def __init__(self, root, count):
        rng = np.random.default_rng(count)
        self.targets = [i % 4 for i in range(count)]
        self.pixels = rng.integers(0, 40, (count, 20, 30, 3), dtype=np.uint8)

    def __getitem__(self, i):
        return Image.fromarray(self.pixels[i] + np.uint8(50 * self.targets[i])), self.targets[i]


class ByTrain(Pictures):
    def __init__(self, root, train=True, download=False):
        super().__init__(root, 40 if train else 20)


class BySplit(Pictures):
    def __init__(self, root, split="train", download=False):
        super().__init__(root, {"train": 40, "test": 20}[split])
        self._labels = self.__dict__.pop("targets")
        self.targets = self._labels


class WithoutLabels:
    def __init__(self, root, train=True, download=False):
        pass


@pytest.fixture
def torchvision(monkeypatch):
    package, datasets = types.ModuleType("torchvision"), types.ModuleType("torchvision.datasets")
    datasets.ByTrain, datasets.BySplit, datasets.Without = ByTrain, BySplit, WithoutLabels
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=48,
        image_size=28, patch_size=7, num_labels=7,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("owner") / "tiny"
    transformers.ViTForImageClassification(config).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("name", ["ByTrain", "BySplit"])
def test_pictures_of_torchvision_become_a_balanced_task(torchvision, name):
    task = data.task_of(name, 16, 8, image_size=28, seed=3)
    assert task.train.images.shape == (16, 3, 28, 28)
    assert task.train.labels.bincount().tolist() == [4] * 4
    assert task.classes == 4
    assert task.test_pixels.shape == (8, 3 * 28 * 28)
    darkest = task.test_pixels.mean(1).argsort()[:2]
    assert (task.test.labels[darkest] == 0).all()  # labels still belong to their pictures


def test_what_torchvision_does_not_have_is_refused(torchvision, monkeypatch):
    with pytest.raises(ValueError, match="has no 'Birds'"):
        data.task_of("Birds", 4, 4)
    with pytest.raises(ValueError, match="does not tell its labels"):
        data.task_of("Without", 4, 4)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="needs torchvision: python -m pip install"):
        data.task_of("CIFAR100", 4, 4)


def test_the_whole_experiment_on_a_hugging_face_model(torchvision, folder):
    recipe = Recipe(folder, 28, 16, 8, 2, 4, 1e-3, 2, "ByTrain")
    names = ("full", "head_only", "last_k", "alast_coauthor")
    result = experiment.run(Config(0, (Trial("tiny", recipe, names, (0,)),), clock_rounds=1))
    rows = {row["strategy"]: row for row in result.tables["runs"]}
    assert rows["full"]["saved_bytes"] > rows["alast_coauthor"]["saved_bytes"]
    assert rows["last_k"]["trained"] < rows["full"]["trained"]
    assert result.arrays["tiny/alast_coauthor/budgets"].shape == (8, 3)
    assert len(result.tables["baselines"]) == 3


@pytest.mark.parametrize("strategy", ["lora", "alast_lora"])
def test_adapters_on_a_hugging_face_model(torchvision, folder, strategy):
    pytest.importorskip("peft", reason="./lab bench --setup-peers peft")
    task = data.task_of("ByTrain", 8, 8, image_size=28)
    found = fine_tune(strategy, Recipe(folder, 28, 8, 8, 1, 4, 1e-3, 2, "ByTrain"), task)
    assert found.trained < 3 * 4 * 2 * 16 * 24 + 1000  # adapters of four maps, norm and head


def test_a_new_head_has_as_many_outputs_as_classes(folder):
    model = models.build(folder, 28, classes=4)
    assert models.head_of(model).out_features == 4
    features = models.features(model.eval(), torch.zeros(3, 3, 28, 28))
    assert features.shape == (3, 24)
    with pytest.raises(ValueError, match="owner/name of Hugging Face"):
        models.build("vit-xxl", 28)
    with pytest.raises(TypeError, match="no linear layer called head or classifier"):
        models.head_of(torch.nn.ReLU())


def test_the_papers_setting_has_every_strategy_and_a_plain_name():
    (trial,) = Config.published().trials
    assert trial.name == "deit-small-patch16-224"
    assert trial.strategies == REAL
    assert (trial.recipe.batch, trial.recipe.lr, trial.recipe.num_layers) == (128, 1e-4, 9)


def test_a_race_stops_at_the_time_and_refuses_nobody_and_no_time(torchvision, folder):
    recipe = Recipe(folder, 28, 8, 8, 1, 4, 1e-3, 2, "ByTrain")
    task = data.task_of("ByTrain", 8, 8, image_size=28)
    rows = race_table(("full",), recipe, task, seconds=0.1)
    assert [row["look"] for row in rows] == list(range(len(rows)))
    assert rows[0]["step"] == 0
    assert 0.1 <= rows[-1]["cpu_seconds"] < 5
    with pytest.raises(ValueError, match="no strategy"):
        race_table((), recipe, task, seconds=1)
    with pytest.raises(ValueError, match="seconds must be positive"):
        race_table(("full",), recipe, task, seconds=0)
