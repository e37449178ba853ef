"""The examples in the documentation run, and the package keeps its promises to other parts."""

import doctest
import importlib
import subprocess
import sys

import pytest

import labcore.merging

MODULES = (
    *("vectors", "factors", "interference", "tsv", "compress", "baselines", "router", "streaming"),
    *("files", "measure", "tally", "experiment", "training"),
)


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples(name):
    module = importlib.import_module(f"labcore.merging.{name}")
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_public_names_exist_and_are_documented():
    for name in labcore.merging.__all__:
        assert getattr(labcore.merging, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        labcore.merging.nothing  # noqa: B018


def test_importing_the_package_needs_no_torch():
    modules = (
        "labcore.merging, labcore.merging.tally, labcore.merging.command, labcore.claims.merging"
    )
    code = f"import {modules}, sys; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
