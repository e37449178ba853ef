"""One tiny run of the experiment on the synthetic network, and a small trained network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from labcore.koopman.data import Dataset, Recipe, dissemination_dataset
from labcore.koopman.experiment import run
from labcore.koopman.settings import Config, Training
from labcore.koopman.stgnn import DynGCRNN
from labcore.koopman.training import fit
from labcore.runs import Result

SMALL = Recipe(nodes=20, steps=20, contacts=100, p=0.7, least=0.3)


def tiny_config() -> Config:
    return replace(
        Config.quick(), networks=(("synthetic", 1),), graphs=20, recipe=SMALL, hidden=4,
        training=Training(epochs=2), k=6, explained=3, gradient_graphs=1,
        cuts=(2, 5, 10), flips=3, flip_graphs=2, shown=2, pooled=8,
    )  # fmt: skip


@pytest.fixture(scope="package")
def result() -> Result:
    return run(tiny_config())


@pytest.fixture(scope="package")
def dataset() -> Dataset:
    return dissemination_dataset("synthetic", 40, recipe=SMALL, seed=1)


@pytest.fixture(scope="package")
def model(dataset: Dataset) -> DynGCRNN:
    torch.manual_seed(0)
    network = DynGCRNN(1, 4, 2)
    fit(network, dataset, Training(epochs=3, batch=8))
    return network


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
