"""Semantic token selection over a channel: send what matters, at a rate the user sets.

"Adaptive Semantic Token Selection for AI-native Goal-oriented Communications", Alessio Devoto,
Simone Petruzzi, Jary Pomponi, Paolo Di Lorenzo, Simone Scardapane, 2024, arXiv 2405.02330.

Read :mod:`.gates` (what is kept), :mod:`.masked` (why zero is not absent), :mod:`.channel` (noise
and fading), :mod:`.model` (device, channel, server), :mod:`.scorers`, :mod:`.merging` (what it is
compared with), :mod:`.link` (seconds). A name loads when it is first used: drawing needs no torch.
"""

from labcore.lazy import public_names

_HOMES = {
    "channel": "Channel TokenCoder awgn erasure normalize_power rayleigh",
    "evaluate": "evaluate_curve",
    "gates": "BudgetToken GateOutput TokenGate binary_concrete rate_loss straight_through top_k",
    "link": "LinkBudget flops index_bits",
    "masked": "keep_one masked_block multiplicative_attention pack",
    "merging": "MergingViT",
    "message": "Message",
    "model": "SemanticViT",
    "outputs": "Selection ViTOutput",
    "photographs": "class_attention_map vit_s",
    "scorers": "TokenPredictor a_vit_halting class_attention_selection fuse_rest halting_scores "
    "magnitude_selection merge_to random_selection token_merging",
}
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
