"""Every figure of the topic: plain arrays and tables in, plotly Figures out, no model."""

from labcore.finetuning.figures_cost import flops_figure, race, trade_off
from labcore.finetuning.figures_film import budget_film, delta_profile_figure
from labcore.finetuning.figures_tokens import filmstrip_figure

__all__ = [
    "budget_film",
    "delta_profile_figure",
    "filmstrip_figure",
    "flops_figure",
    "race",
    "trade_off",
]
