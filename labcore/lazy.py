"""Public names of a package that load when they are first used.

A topic's ``__init__`` says where each name lives and nothing is imported until it is asked for, so
that ``import labcore.topic`` costs nothing::

    __getattr__, __dir__, __all__ = public_names(__name__, {"tsv": "tsv_merge FactorCache"})
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Hooks = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def public_names(package: str, homes: Mapping[str, str]) -> Hooks:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: Module of the package -> the public names it holds, apart by blanks.

    Raises:
        ValueError: a name has two homes.
    """
    pairs = [(name, home) for home, names in homes.items() for name in names.split()]
    home = dict(pairs)
    if len(home) != len(pairs):
        twice = sorted({name for name, _ in pairs if [n for n, _ in pairs].count(name) > 1})
        raise ValueError(f"{package}: {', '.join(twice)} in two modules")

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return find, lambda: sorted(home), sorted(home)
