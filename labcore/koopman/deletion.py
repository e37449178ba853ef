"""The deletion test: cut the contacts of the most relevant steps and see what the logit loses."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Num

from labcore.koopman.stgnn import DynGCRNN


def deletion_curve(
    model: DynGCRNN,
    x: Num[np.ndarray, "t n"],
    A: Num[np.ndarray, "t n n"],
    relevance: Float[np.ndarray, " t"],
    cuts: Sequence[int],
) -> Float[np.ndarray, " c"]:
    """Drop of the logit after all contacts of the ``cuts`` most relevant steps are removed.

    The flags stay: only the graph changes. Of equally relevant steps the earlier is cut first.

    Raises:
        ValueError: NaN among the relevances, or more cuts than steps.
    """
    if len(relevance) != len(A) or np.isnan(relevance).any():
        raise ValueError(f"relevance wants {len(A)} numbers, one a step, without NaN")
    if min(cuts) < 0 or max(cuts) > len(A):
        raise ValueError(f"cuts={tuple(cuts)} must be 0..{len(A)} steps")
    order = np.argsort(-relevance, kind="stable")
    stack = np.repeat(np.asarray(A, dtype=np.float32)[None], len(cuts) + 1, axis=0)
    for graph, cut in zip(stack[1:], cuts, strict=True):
        graph[order[:cut]] = 0
    given = torch.from_numpy(np.asarray(x, dtype=np.float32))[None, ..., None]
    with torch.no_grad():
        logits = model(given.expand(len(stack), -1, -1, -1), torch.from_numpy(stack))[0].numpy()
    return (logits[0] - logits[1:]).astype(np.float64)
