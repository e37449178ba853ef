"""Claims of adaptive layer and token selection for fine-tuning vision transformers (ALaST).

Devoto et al., arXiv 2408.08670 (preprint), Neurocomputing 2025 (journal: the figures under test).
The rules were written before the full run was looked at. "Up to" is read generously: the best of
the published rule's two readings (preprint, co-author's code) counts; ours stands beside it.
"""

from labcore.claims import Claim, Finding
from labcore.finetuning.tally import Rows, Spread, distinct, over_runs, paired, pick
from labcore.runs import Result

PREPRINT = "arXiv 2408.08670, abstract"
JOURNAL = "Neurocomputing 2025, DOI 10.1016/j.neucom.2025.131216, abstract"
SCALE = "DINOv2 ViT-S/14, 70 px, 26 tokens, batch 20, 800 Fashion-MNIST pictures, CPU, float32"
MODEL = "vit-s"
PUBLISHED = ("alast_paper", "alast_coauthor")
OURS = "alast_calibrated"
OTHERS = ("head_only", "last_k", "random_k", "lora")
NONE = "0 runs"


def _times(clock: Rows, strategy: str, column: str) -> float:
    """How many times less than full fine-tuning a strategy needs."""
    mine, whole = (pick(clock, model=MODEL, strategy=s)[0][column] for s in (strategy, "full"))
    return float(whole) / float(mine)


def _saving(result: Result, column: str, wanted: tuple[float, ...]) -> Finding:
    """The best published reading against each wanted ratio."""
    clock = pick(result.tables.get("clock", []), model=MODEL)
    if not clock:
        return Finding(NONE, "", NONE, ())
    there = {row["strategy"] for row in clock}
    best = max(_times(clock, name, column) for name in PUBLISHED)

    def said(names: tuple[str, ...]) -> str:
        times = {name: _times(clock, name, column) for name in names if name in there}
        return ", ".join(f"{name} {ratio:.2f}x" for name, ratio in times.items())

    rounds = clock[0]["rounds"]
    return Finding(
        measured=said((*PUBLISHED, OURS, "alast_lora")),
        baselines=said(OTHERS),
        sample=f"median of {rounds} steps, strategies in turns",
        passed=tuple(best >= ratio for ratio in wanted),
    )


def _time(result: Result) -> Finding:
    return _saving(result, "step_seconds", (1.3, 1.5))


def _flops(result: Result) -> Finding:
    return _saving(result, "flops", (1.5, 2.0))


def _memory(result: Result) -> Finding:
    return _saving(result, "saved_bytes", (2.0,))


def _accuracy(result: Result) -> Finding:
    """Loss of accuracy against full fine-tuning on the same seeds: half a point, one point."""
    rows = pick(result.tables["runs"], model=MODEL)
    chosen = [name for name in ("alast_coauthor", OURS, "alast_paper")
              if pick(rows, strategy=name)]  # fmt: skip
    if "alast_coauthor" not in chosen or not pick(rows, strategy="full"):
        return Finding(NONE, "", NONE, ())
    gaps = {name: paired(rows, name, "full") for name in chosen}
    full = over_runs(rows, "accuracy", strategy="full")
    said = ", ".join(f"{name} {_points(gap)}" for name, gap in gaps.items())
    others = [
        f"{name} {over_runs(rows, 'accuracy', strategy=name).mean:.1%}"
        for name in OTHERS
        if pick(rows, strategy=name)
    ]
    judged = gaps["alast_coauthor"].mean
    return Finding(
        measured=f"full {full.mean:.1%}; {said}",
        baselines=", ".join([_trivial(result), *others]),
        sample=f"{rows[0]['test']} test pictures, seeds: {full.n}",
        passed=(judged >= -0.005, judged >= -0.01),
    )


def _points(gap: Spread) -> str:
    error = "one seed" if gap.n == 1 else f"standard error {100 * gap.error:.1f}"
    return f"{100 * gap.mean:+.1f} points ({error})"


def _trivial(result: Result) -> str:
    """Mean accuracies of the trivial baselines."""
    base = pick(result.tables["baselines"], model=MODEL)
    return ", ".join(
        f"{name} {over_runs(base, 'accuracy', baseline=name).mean:.1%}"
        for name in distinct(base, "baseline")
    )


def _learns(result: Result) -> Finding:
    """Full fine-tuning beats frozen features and plain pixels, else 'no loss' says nothing."""
    rows = pick(result.tables["runs"], model=MODEL)
    base = pick(result.tables["baselines"], model=MODEL)
    if not pick(rows, strategy="full") or not base:
        return Finding(NONE, "", NONE, ())
    full = over_runs(rows, "accuracy", strategy="full")
    rivals = [name for name in distinct(base, "baseline") if "regression" in name]
    return Finding(
        measured=f"full fine-tuning {full.mean:.1%}",
        baselines=_trivial(result),
        sample=f"{rows[0]['test']} test pictures, seeds: {full.n}",
        passed=tuple(
            full.mean > over_runs(base, "accuracy", baseline=name).mean for name in rivals
        ),
    )


def _rotating(result: Result) -> Finding:
    """Rotating K layers against always the last K, all tokens, on either model's seeds."""
    passed, said, head, sample = [], [], [], []
    for model in ("small", MODEL):
        rows = pick(result.tables["runs"], model=model)
        if not pick(rows, strategy="random_k") or not pick(rows, strategy="last_k"):
            continue
        gap = paired(rows, "random_k", "last_k")
        scores = ", ".join(
            f"{name} {over_runs(rows, 'accuracy', strategy=name).mean:.1%}"
            for name in ("random_k", "last_k", "full")
        )
        passed.append(gap.mean > 2 * gap.error)
        said.append(f"{model} {_points(gap)}: {scores}")
        head.append(f"{model} {over_runs(rows, 'accuracy', strategy='head_only').mean:.1%}")
        sample.append(f"{model} {rows[0]['test']} test pictures, seeds: {gap.n}")
    return Finding(
        measured="; ".join(said) or NONE,
        baselines=f"head only: {', '.join(head)}" if head else "",
        sample="; ".join(sample) or NONE,
        passed=tuple(passed),
    )


def _parameters(result: Result) -> Finding:
    """As many parameters with ALaST as without."""
    rows = pick(result.tables["runs"], model=MODEL, seed=result.provenance.seeds[0])
    held = {row["strategy"]: int(row["trained"]) for row in rows}
    if not {*PUBLISHED, OURS, "full"} <= held.keys():
        return Finding(NONE, "", NONE, ())
    return Finding(
        measured=", ".join(f"{name} {held[name]:,}" for name in (*PUBLISHED, OURS)),
        baselines=", ".join(f"{n} {held[n]:,}" for n in ("full", *OTHERS) if n in held),
        sample="parameters that the optimizer holds",
        passed=(all(held[name] == held["full"] for name in (*PUBLISHED, OURS)),),
    )


def _lora(result: Result) -> Finding:
    """ALaST on top of LoRA: cheaper than LoRA in time and bytes, and within a point of it."""
    clock = pick(result.tables.get("clock", []), model=MODEL)
    rows = pick(result.tables["runs"], model=MODEL)
    if not pick(clock, strategy="alast_lora") or not pick(rows, strategy="alast_lora"):
        return Finding(NONE, "", NONE, ())
    ratios = [
        _times(clock, "alast_lora", column) / _times(clock, "lora", column)
        for column in ("step_seconds", "saved_bytes")
    ]
    gap = paired(rows, "alast_lora", "lora")
    scores = {n: over_runs(rows, "accuracy", strategy=n).mean for n in ("lora", "full")}
    return Finding(
        measured=f"{ratios[0]:.2f}x less time and {ratios[1]:.2f}x fewer saved bytes than LoRA "
        f"alone; accuracy {_points(gap)}",
        baselines=f"LoRA {scores['lora']:.1%}, full {scores['full']:.1%}; LoRA against full: "
        f"{_times(clock, 'lora', 'step_seconds'):.2f}x time, "
        f"{_times(clock, 'lora', 'saved_bytes'):.2f}x bytes",
        sample=f"{clock[0]['rounds']} steps in turns; {rows[0]['test']} test pictures, "
        f"seeds: {gap.n}",
        passed=(ratios[0] > 1, ratios[1] > 1, gap.mean >= -0.01),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="finetuning-time",
        claim="Fine-tuning takes less time than full fine-tuning",
        source=f"{JOURNAL}; {PREPRINT}",
        published="up to 1.3x (journal), up to 1.5x (preprint)",
        scale=SCALE,
        rule="CPU time of a step, best published reading of the rule: full over ALaST at least 1.3 "
        "(part 1) and 1.5 (part 2)",
        measure=_time,
    ),
    Claim(
        id="finetuning-flops",
        claim="Fine-tuning takes fewer FLOPs than full fine-tuning",
        source=f"{JOURNAL}; {PREPRINT}",
        published="up to 1.5x (journal), up to 2x (preprint)",
        scale=SCALE,
        rule="FLOPs of a step by the method's own formula, best published reading: at least 1.5 "
        "(part 1) and 2 (part 2) times fewer",
        measure=_flops,
    ),
    Claim(
        id="finetuning-memory",
        claim="Fine-tuning takes half of the memory",
        source=f"{JOURNAL}; {PREPRINT}",
        published="up to 2x (both)",
        scale=f"{SCALE}; memory is what autograd saves for backward",
        rule="saved bytes of a step, best published reading: at least 2 times fewer",
        measure=_memory,
    ),
    Claim(
        id="finetuning-accuracy",
        claim="Accuracy stays within half a point of full fine-tuning",
        source=JOURNAL,
        published="within 0.5 % (ViT-B, DeiT-S, DeiT-T on Flowers-102, CIFAR-100, Food-101)",
        scale=SCALE,
        rule="mean paired difference over seeds, co-author's reading (the one that saves): at most "
        "0.5 points (part 1) and 1 point (part 2) below full fine-tuning",
        measure=_accuracy,
    ),
    Claim(
        id="finetuning-learns",
        claim="Here fine-tuning learns something that frozen features do not know",
        source="a condition of ours: without it, no loss of accuracy says nothing",
        published="not reported",
        scale=SCALE,
        rule="mean accuracy of full fine-tuning above logistic regression on plain pixels (part 1) "
        "and on frozen features (part 2)",
        measure=_learns,
    ),
    Claim(
        id="finetuning-rotating",
        claim="Which layers matter changes from batch to batch: freezing fixed layers loses more",
        source=PREPRINT,
        published="motivation of the method",
        scale="small ViT of 6 layers, digits to clothing, K = 4, 1500 pictures; ViT-S, K = 9",
        rule="K layers drawn anew each step better than always the last K by more than two "
        "standard errors over seeds, all tokens, embedding frozen in both: on the small model "
        "(part 1), on the real one (part 2)",
        measure=_rotating,
    ),
    Claim(
        id="finetuning-parameters",
        claim="No parameter is added",
        source=PREPRINT,
        published="none, unlike adapters",
        scale=SCALE,
        rule="the optimizer holds exactly as many parameters as in full fine-tuning",
        measure=_parameters,
    ),
    Claim(
        id="finetuning-lora",
        claim="The method composes with LoRA",
        source=PREPRINT,
        published="that it composes; no figure quoted here",
        scale=f"{SCALE}; rank 16 on query, key, value and output projection",
        rule="less time (part 1) and fewer saved bytes (part 2) than LoRA alone, accuracy at most "
        "1 point below it, mean paired difference over seeds (part 3)",
        measure=_lora,
    ),
)
