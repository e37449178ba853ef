"""Claims of "Task Singular Vectors: Reducing Task Interference in Model Merging".

Gargiulo, Crisostomi, Bucarelli, Scardapane, Silvestri, Rodola, CVPR 2025, arXiv 2412.00081. The
rules were written before the full run of this recipe, after that of an earlier one with larger
updates, on which alpha = 1 did not hold (see :class:`labcore.merging.training.Recipe`); that of the
3 % came after a trial on validation pictures.
Accuracies are normalised: merged over each task's own fine-tuned accuracy, the ratio per task
first, then the mean.
"""

from statistics import fmean

from labcore.claims import Claim, Finding
from labcore.merging.tally import (
    BASELINES,
    LABELS,
    MethodMean,
    compression_means,
    interpolated,
    method_mean,
)
from labcore.runs import Result
from labcore.tally import distinct, pick

PAPER = "arXiv 2412.00081"
SCALE = "ViT of 0.3 M parameters, 28x28 pictures, 8, 14 and 20 tasks"
KEPT = 0.99  # of the fine-tuned accuracy
SIZE = 0.10  # of one task vector
FEW, FEW_LOSS = 0.03, 0.03  # share of the components, and twice the published loss
LOSS = 0.02  # what alpha = 1 may lose against the best alpha and still be near the optimum
DEPTH = 2  # the early half of four blocks


def _sample(result: Result) -> str:
    seeds = ", ".join(f"{len(_mean(result, 'tsv_m', n).by_seed)} at {n}" for n in _counts(result))
    return f"{result.config['test_images']} test pictures a task; pre-training seeds: {seeds} tasks"


def _counts(result: Result) -> list[int]:
    return distinct(result.tables["accuracy"], "tasks")


def _mean(result: Result, method: str, count: int) -> MethodMean:
    return method_mean(result.tables["accuracy"], method, count)


def _compression(result: Result) -> Finding:
    passed, measured, others = [], [], []
    rows = compression_means(result)
    for count in _counts(result):
        here = pick(rows, tasks=count)
        points = [(row["ratio"], row["normalized"]) for row in here]
        at = interpolated(points, SIZE)
        passed.append(at >= KEPT)
        enough = [row["ratio"] for row in here if row["normalized"] >= KEPT]
        need = f"{KEPT:.0%} needs {min(enough):.0%}" if enough else f"{KEPT:.0%} is never reached"
        measured.append(f"{count} tasks: {at:.1%} kept at {SIZE:.0%} of the size; {need}")
        zero = _mean(result, "zero_shot", count).one.normalized
        others.append(f"{count} tasks: base alone {zero:.1%}")
    return Finding("; ".join(measured), "; ".join(others), _sample(result), tuple(passed))


def _few(result: Result) -> Finding:
    passed, measured, others = [], [], []
    rows = compression_means(result)
    for count in _counts(result):
        row = min(pick(rows, tasks=count), key=lambda r: abs(r["fraction"] - FEW))
        passed.append(1 - row["normalized"] <= FEW_LOSS)
        measured.append(
            f"{count} tasks: {row['fraction']:.1%} of the components lose "
            f"{100 * (1 - row['normalized']):.1f} points, worst task keeps {row['worst']:.0%}"
        )
        zero = _mean(result, "zero_shot", count).one.normalized
        others.append(f"{count} tasks: no component loses {100 * (1 - zero):.1f}")
    return Finding("; ".join(measured), "; ".join(others), _sample(result), tuple(passed))


def _best(result: Result) -> Finding:
    passed, measured, others = [], [], []
    for count in _counts(result):
        ours = _mean(result, "tsv_m", count)
        rivals = [_mean(result, name, count) for name in BASELINES]
        best = max(rivals, key=lambda m: m.tuned.normalized)
        passed.append(
            all(a > b for a, b in zip(ours.by_seed, best.by_seed, strict=True))
            and ours.tuned.normalized > best.tuned.normalized
        )
        measured.append(
            f"{count} tasks: {ours.tuned.normalized:.1%} tuned ({ours.one.normalized:.1%} at 1), "
            f"best other {LABELS[best.method]} {best.tuned.normalized:.1%}"
        )
        said = (f"{LABELS[m.method]} {m.tuned.normalized:.1%}" for m in rivals)
        others.append(f"{count} tasks: {', '.join(said)}")
    return Finding("; ".join(measured), "; ".join(others), _sample(result), tuple(passed))


def _arithmetic(result: Result) -> Finding:
    passed, measured, others = [], [], []
    for count in _counts(result):
        ours, its = (_mean(result, name, count) for name in ("tsv_m", "task_arithmetic"))
        passed.append(all(a > b for a, b in zip(ours.by_seed, its.by_seed, strict=True)))
        gap = 100 * (ours.tuned.normalized - its.tuned.normalized)
        measured.append(f"{count} tasks: {gap:+.1f} points")
        others.append(f"{count} tasks: task arithmetic {its.tuned.normalized:.1%}")
    return Finding("; ".join(measured), "; ".join(others), _sample(result), tuple(passed))


def _depth(result: Result) -> Finding:
    passed, measured = [], []
    for count in _counts(result):
        rows = [r for r in pick(result.tables["interference"], tasks=count) if r["depth"] >= 0]
        deepest = max(distinct(rows, "depth"))
        by_depth = [
            fmean(r["sti_normalized"] for r in pick(rows, depth=d)) for d in range(deepest + 1)
        ]
        passed.append(fmean(by_depth[:DEPTH]) > fmean(by_depth[DEPTH:]))
        measured.append(f"{count} tasks: {', '.join(f'{v:.1f}' for v in by_depth)}")
    matrices = len(pick(result.tables["interference"], tasks=_counts(result)[0], pretraining=0))
    return Finding(
        "interference / sum of singular values by block, " + "; ".join(measured),
        "whitened: 0 up to rounding in every layer",
        f"{matrices} matrices; {_sample(result)}",
        tuple(passed),
    )


def _alpha(result: Result) -> Finding:
    passed, measured, others = [], [], []
    for count in _counts(result):
        ours, its = (_mean(result, name, count) for name in ("tsv_m", "task_arithmetic"))
        lost, theirs = (m.tuned.normalized - m.one.normalized for m in (ours, its))
        passed.append(lost <= LOSS)
        measured.append(f"{count} tasks: best alpha {ours.alpha:.2f}, 1 loses {100 * lost:.2f}")
        others.append(f"{count} tasks: task arithmetic loses {100 * theirs:.1f} points")
    return Finding("; ".join(measured), "; ".join(others), _sample(result), tuple(passed))


def _ablation(result: Result) -> Finding:
    passed, measured = [], []
    for count in _counts(result):
        names = ("task_arithmetic", "rank_cut", "full_rank", "tsv_m")
        plain, cut, white, both = (_mean(result, n, count).tuned.normalized for n in names)
        passed += [cut > plain and white > plain, both > max(cut, white)]
        measured.append(
            f"{count} tasks: neither {plain:.1%}, rank cut {cut:.1%}, whitening {white:.1%}, both "
            f"{both:.1%}"
        )
    return Finding(
        "; ".join(measured), "neither is task arithmetic", _sample(result), tuple(passed)
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="merging-compression",
        claim="A tenth of the size keeps about 99 % of the accuracy when the task is known",
        source=f"{PAPER}, abstract and TSV-Compress",
        published="99.7, 99.3, 99.1 % at 8, 14, 20 tasks (CLIP ViT-B/32)",
        scale=SCALE,
        rule="normalised accuracy at 10 % of the bytes of a task vector, interpolated between the "
        "measured sizes, at least 99 %; one part a number of tasks",
        measure=_compression,
    ),
    Claim(
        id="merging-low-rank",
        claim="Updates are nearly low-rank: 3 % of the components cost about 1.5 points",
        source=f"{PAPER}, low-rank nature of the updates",
        published="about 1.5 points (CLIP ViT)",
        scale=SCALE,
        rule="the measured share of components nearest to 3 % loses at most 3 points of normalised "
        "accuracy; one part a number of tasks",
        measure=_few,
    ),
    Claim(
        id="merging-best",
        claim="TSV-Merge is above every baseline",
        source=f"{PAPER}, main table; Iso-C and Iso-CTS (arXiv 2502.04959) came later",
        published="92.3, 87.9, 84.3 % against 80.8, 77.4, 72.0 % of consensus TA (CLIP ViT-B/32)",
        scale=SCALE,
        rule="tuned on validation pictures, the same grid for all: above the best of averaging, "
        "task arithmetic, TIES, DARE, Breadcrumbs, consensus TA, Iso-C and Iso-CTS in the mean and "
        "in every pre-training seed; one part a number of tasks",
        measure=_best,
    ),
    Claim(
        id="merging-task-arithmetic",
        claim="TSV-Merge is far above task arithmetic",
        source=f"{PAPER}, main table",
        published="15.7, 15.8, 17.5 points (CLIP ViT-B/32)",
        scale=SCALE,
        rule="tuned, above task arithmetic in every pre-training seed; one part a number of tasks",
        measure=_arithmetic,
    ),
    Claim(
        id="merging-depth",
        claim="Interference is largest in the early layers and smallest in the deep ones",
        source=f"{PAPER}, interference by layer",
        published="falls with depth (CLIP ViT-B/32)",
        scale=SCALE,
        rule="interference over the sum of the singular values, mean over the matrices of a block: "
        "the first two blocks above the last two; one part a number of tasks",
        measure=_depth,
    ),
    Claim(
        id="merging-alpha",
        claim="The scale needs no tuning: alpha = 1 is near the optimum of TSV-Merge",
        source=f"{PAPER}, TSV-Merge",
        published="alpha = 1",
        scale=SCALE,
        rule="alpha = 1 loses at most 2 points of normalised accuracy against the alpha chosen on "
        "validation pictures; one part a number of tasks",
        measure=_alpha,
    ),
    Claim(
        id="merging-ablation",
        claim="Rank cut and orthogonalisation each help; together they help most",
        source=f"{PAPER}, ablation",
        published="each alone above task arithmetic, both best",
        scale=SCALE,
        rule="tuned means: (1) each alone above task arithmetic, (2) both above each alone; two "
        "parts a number of tasks",
        measure=_ablation,
    ),
)
