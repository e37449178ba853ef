"""Task singular vectors: merging and compressing fine-tuned models.

"Task Singular Vectors: Reducing Task Interference in Model Merging", Antonio Andrea Gargiulo,
Donato Crisostomi, Maria Sofia Bucarelli, Simone Scardapane, Fabrizio Silvestri, Emanuele Rodola,
CVPR 2025, arXiv 2412.00081.

Read :mod:`.vectors` (task vectors), :mod:`.factors` (truncated SVD, polar factor),
:mod:`.interference` (how tasks collide), :mod:`.tsv` (the merge), :mod:`.compress` (one base and a
few triples a task), :mod:`.baselines` (the other mergers) and :mod:`.streaming` (checkpoints larger
than memory). A name loads when it is first used: drawing needs no torch.
"""

from labcore.lazy import public_names

_HOMES = {
    "baselines": "MERGERS breadcrumbs consensus_ta dare iso_c iso_cts tall_masks task_arithmetic "
    "ties tune_alpha weight_average",
    "compress": "CompressedTasks tsv_compress",
    "factors": "Factors lowrank_factors polar_factor rounding_floor truncated_svd",
    "interference": "STIResult singular_task_interference",
    "router": "SubspaceRouter",
    "streaming": "merge_checkpoints",
    "options": "MergeReport",
    "tsv": "FactorCache normalized_accuracy tsv_merge tsv_merge_matrix",
    "vectors": "MatrixPolicy TaskVector apply task_vector",
}
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
