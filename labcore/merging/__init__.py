"""Task singular vectors: merging fine-tuned models (Gargiulo et al., CVPR 2025, 2412.00081)."""

from labcore.merging.baselines import MERGERS, tune_alpha
from labcore.merging.compress import CompressedTasks, tsv_compress
from labcore.merging.factors import Factors, lowrank_factors, polar_factor, truncated_svd
from labcore.merging.tsv import (
    FactorCache,
    MergeReport,
    STIResult,
    normalized_accuracy,
    singular_task_interference,
    tsv_merge,
    tsv_merge_matrix,
)
from labcore.merging.vectors import MatrixPolicy, TaskVector, apply, task_vector

__all__ = [
    "MERGERS",
    "FactorCache",
    "CompressedTasks",
    "Factors",
    "MatrixPolicy",
    "MergeReport",
    "STIResult",
    "TaskVector",
    "apply",
    "lowrank_factors",
    "normalized_accuracy",
    "polar_factor",
    "singular_task_interference",
    "task_vector",
    "truncated_svd",
    "tsv_compress",
    "tsv_merge",
    "tsv_merge_matrix",
    "tune_alpha",
]
