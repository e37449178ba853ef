"""Adaptive layer and token selection (ALaST) for fine-tuning vision transformers.

"Adaptive Layer Selection for Efficient Vision Transformer Fine-Tuning", Devoto, Alvetreti, Pomponi,
Di Lorenzo, Minervini, Scardapane, arXiv 2408.08670; journal version Neurocomputing 2025, DOI
10.1016/j.neucom.2025.131216.

Read :mod:`.budgets` (what a layer may spend), :mod:`.layers` (one block on the tokens that matter),
:mod:`.alast` (a fine-tuning step around any model) and :mod:`.trunk` (finding a model's blocks). A
name loads when it is first used: drawing needs no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "alast": "ALaST",
    "budgets": "ALaSTConfig BudgetSchedule class_token_delta",
    "layers": "run_block run_block_reference",
    "reference": "PlainALaST",
    "reports": "Savings StepReport",
    "sampling": "draw_layers inclusion_probabilities",
    "trunk": "find_trunk",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
