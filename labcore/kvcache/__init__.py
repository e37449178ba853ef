"""Key-norm compression of the key-value cache, on real language models.

"A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", Alessio Devoto, Yu Zhao,
Simone Scardapane, Pasquale Minervini, EMNLP 2024, arXiv 2406.11430.

Read :mod:`.norms` (the rule), :mod:`.attention_loss` (why it should work), :mod:`.cache` (the
method in a model), :mod:`.slots` (why it is fast), :mod:`.scores` (what it is compared with) and
:mod:`.evaluate` (what it loses). A name loads when it is first used: drawing needs no torch.
"""

from labcore.lazy import public_names

_HOMES = {
    "attention": "check_no_padding load_model",
    "attention_loss": "alr alr_reference attention_losses drop_order loss_curves pearson "
    "relative_alr spearman",
    "cache": "KeyNormCache NormCache fork",
    "compression": "Policy compress",
    "evaluate": "answer_hits check_restart continuation_nll exact_match prefill stream_nll",
    "maps": "head_map norm_health",
    "norms": "key_norms n_keep overall_kept select",
    "profile": "AttentionProfile profile_attention",
    "prompts": "Prompt needle_prompt passkey_prompt",
    "retrieval": "retrieval_grid retrieval_rows",
    "scores": "SCORES LayerState Score special_mask",
    "slots": "rolling_reference",
}
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
