"""The examples in the documentation of the building blocks and of the book run."""

import doctest
import importlib
import pkgutil

import pytest

import labcore.blocks
import labcore.book

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (labcore.blocks, labcore.book)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
