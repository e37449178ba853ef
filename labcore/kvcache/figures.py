"""Every figure of the topic: plain arrays and tables in, plotly Figures out, no torch."""

from labcore.kvcache.figures_cost import perplexity_curves, rolling_bars
from labcore.kvcache.figures_film import rolling_film
from labcore.kvcache.figures_heads import attention_triangle, head_map_figure, loss_curves_figure
from labcore.kvcache.figures_ledger import bytes_ledger, time_ledger
from labcore.kvcache.figures_retrieval import passkey_norms, retrieval_curves, retrieval_grid_figure
from labcore.kvcache.figures_tokens import low_norm_tokens, norm_scatter, token_strip

__all__ = [
    "attention_triangle",
    "bytes_ledger",
    "head_map_figure",
    "loss_curves_figure",
    "low_norm_tokens",
    "norm_scatter",
    "passkey_norms",
    "perplexity_curves",
    "retrieval_curves",
    "retrieval_grid_figure",
    "rolling_bars",
    "rolling_film",
    "time_ledger",
    "token_strip",
]
