"""The examples in the documentation run, and drawing needs no torch."""

import doctest
import importlib
import subprocess
import sys

import pytest

import labcore.tokens

MODULES = ("checks", "gates", "masked", "link", "scorers", "training", "photographs")


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples(name: str) -> None:
    module = importlib.import_module(f"labcore.tokens.{name}")
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_public_names_exist_and_are_documented() -> None:
    for name in labcore.tokens.__all__:
        assert getattr(labcore.tokens, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        labcore.tokens.nothing  # noqa: B018


def test_importing_the_package_needs_no_torch() -> None:
    code = "import labcore.tokens, sys; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
