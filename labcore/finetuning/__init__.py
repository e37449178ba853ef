"""Adaptive layer and token selection (ALaST) for fine-tuning vision transformers.

"Adaptive Layer Selection for Efficient Vision Transformer Fine-Tuning", Devoto, Alvetreti, Pomponi,
Di Lorenzo, Minervini, Scardapane, arXiv 2408.08670; journal version Neurocomputing 2025, DOI
10.1016/j.neucom.2025.131216.

Read :mod:`.budgets` (what a layer may spend), :mod:`.layers` (one block on the tokens that matter),
:mod:`.alast` (a fine-tuning step around any model) and :mod:`.trunk` (finding a model's blocks). A
name loads when it is first used: drawing needs no torch.
"""

from labcore.lazy import public_names

_HOMES = {
    "alast": "ALaST",
    "budgets": "ALaSTConfig BudgetSchedule class_token_delta",
    "layers": "run_block run_block_reference",
    "reference": "PlainALaST",
    "reports": "Savings StepReport",
    "sampling": "draw_layers inclusion_probabilities",
    "trunk": "find_trunk",
}
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
