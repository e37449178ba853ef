"""labcore: ten works on modern neural networks, to run, see, change and check.

Importing this package is cheap: it pulls in neither torch nor plotly. Each topic is a
subpackage (``labcore.kvcache``); notebooks begin with ``lab = labcore.start("P06")``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "start"]

if TYPE_CHECKING:
    from labcore.course.lab import start


def __getattr__(name: str) -> Any:
    if name == "start":
        from labcore.course.lab import start

        return start
    raise AttributeError(f"module 'labcore' has no attribute {name!r}")
