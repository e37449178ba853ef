"""The examples in the documentation run, and the package keeps its promises to other parts."""

import doctest
import importlib
import subprocess
import sys

import pytest

import labcore.conditional

MODULES = (
    *("balance", "budgets", "cost", "dispatch", "estimators", "exits", "experts", "halting"),
    *("matching", "measure", "moe", "photo", "pretrained", "river", "routers", "selection"),
    *("switchboard", "timing", "vision"),
)


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples(name: str) -> None:
    module = importlib.import_module(f"labcore.conditional.{name}")
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_public_names_exist_and_are_documented() -> None:
    for name in labcore.conditional.__all__:
        assert getattr(labcore.conditional, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        labcore.conditional.nothing  # noqa: B018


def test_importing_the_package_needs_no_torch() -> None:
    code = "import labcore.conditional, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
