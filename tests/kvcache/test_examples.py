"""The examples in the documentation run, and the package keeps its promises to other parts."""

import doctest
import importlib
import subprocess
import sys

import pytest

import labcore.kvcache

MODULES = (
    *("norms", "attention_loss", "scores", "pairs", "slots", "store", "schedule", "attention"),
    *("cache", "profile", "maps", "compression", "evaluate", "prompts", "retrieval"),
)


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples(name):
    module = importlib.import_module(f"labcore.kvcache.{name}")
    assert module.__doc__
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_public_names_exist_and_are_documented():
    for name in labcore.kvcache.__all__:
        assert getattr(labcore.kvcache, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        labcore.kvcache.nothing  # noqa: B018


def test_importing_the_package_needs_no_torch():
    code = "import labcore.kvcache, sys; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
