"""Claims of "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression".

Devoto, Zhao, Scardapane, Minervini, EMNLP 2024, arXiv 2406.11430. The rules were written before the
full run was looked at. "Without loss" is read as at most 5 % more perplexity or 5 points less
accuracy than the full cache; "better" as better by more than two standard errors on the same texts.
"""

import math

from labcore.claims import Claim, Finding
from labcore.kvcache.tally import paired
from labcore.runs import Result
from labcore.tally import Rows, Spread, distinct, over, pick

PAPER = "arXiv 2406.11430"
SCALE = "SmolLM2-135M-Instruct, float32, prompts of at most 1024 tokens"
HALF, TENTH = 0.5, 0.1
LOSS = 0.05  # more than this is a loss: share of perplexity, or points of accuracy
ANSWERS = 0.5  # a task that the full cache itself answers less often than this tests nothing
UNTESTED = "0 trials"


def _correlation(result: Result, suffix: str = "") -> Finding:
    """Both parts of the correlation rule, with or without position 0."""
    rows = result.tables["maps"]
    norm = pick(rows, measure=f"relative_alr{suffix}")
    recency = pick(rows, measure=f"recency{suffix}")
    rank = pick(rows, measure=f"spearman{suffix}")
    most = all(row["good_layers"] > 0.5 for row in norm)
    ahead = all(ours["mean"] < its["mean"] for ours, its in zip(norm, recency, strict=True))

    def means(table: Rows) -> str:
        return ", ".join(f"{r['mean']:.2f} ({r['text']} {r['length']})" for r in table)

    better = ", ".join(f"{row['good_heads']:.0%}" for row in norm)
    apart = ", ".join(f"{row['sd']:.2f}" for row in norm)
    return Finding(
        measured=f"relative attention loss {means(norm)}; heads better than random "
        f"{better}; Spearman {means(rank)}",
        baselines=f"random 1 by definition; recency {means(recency)}",
        sample=f"{len(norm)} texts x {norm[0]['heads']} heads, sd over heads {apart}",
        passed=(most, ahead),
    )


def _without_sink(result: Result) -> Finding:
    return _correlation(result, "_without_first")


def _half_of_prompt(result: Result) -> Finding:
    """Perplexity after one prune at half, one part a prompt length."""
    rows, passed, measured, others = result.tables["prune"], [], [], []
    sample = UNTESTED
    for length in distinct(rows, "length"):
        here = pick(rows, length=length)
        if not pick(here, policy="low_norm", keep_ratio=HALF):
            continue
        more = paired(here, "low_norm", "full", keep_ratio=HALF)
        passed.append(more.mean <= math.log(1 + LOSS))
        full = math.exp(over(here, "nll", policy="full").mean)
        measured.append(
            f"{length} tokens: {full * math.exp(more.mean):.1f} against {full:.1f} "
            f"({math.expm1(more.mean):+.0%}, log difference {more.mean:.3f} ± {more.error:.3f})"
        )
        for control in ("random", "random+guards", "sink_window"):
            if pick(here, policy=control, keep_ratio=HALF):
                its = math.exp(over(here, "nll", policy=control, keep_ratio=HALF).mean)
                others.append(f"{control} {its:.1f} ({length})")
        sample = f"{more.n} windows x {here[0]['tokens']} tokens"
    return Finding("; ".join(measured) or UNTESTED, ", ".join(others), sample, tuple(passed))


def _rolling(result: Result) -> Finding:
    """Perplexity of streams under the published rule, one part a setting."""
    rows, passed, measured, others = result.tables["rolling"], [], [], []
    sample = UNTESTED
    for setting in dict.fromkeys((r["tokens"], r["budget"], r["prune_to"]) for r in rows):
        here = pick(rows, **dict(zip(("tokens", "budget", "prune_to"), setting, strict=True)))
        if not pick(here, policy="low_norm"):
            continue
        more = paired(here, "low_norm", "full")
        passed.append(more.mean <= math.log(1 + LOSS))
        name = f"{setting[1]} of {setting[0]}" + (
            "" if setting[1] == setting[2] else f" in bursts to {setting[2]}"
        )
        full = math.exp(over(here, "nll", policy="full").mean)
        measured.append(f"{name}: {full * math.exp(more.mean):.1f} against {full:.1f}")
        said = []
        for control in ("low_norm+recent", "low_norm+guards", "random+guards", "sink_window"):
            if pick(here, policy=control):
                its = over(here, "nll", policy=control).mean
                said.append(f"{control} {math.exp(its):.1f}")
        others.append(f"{name}: {', '.join(said)}")
        sample = f"{more.n} streams a setting"
    return Finding("; ".join(measured) or UNTESTED, "; ".join(others), sample, tuple(passed))


CONTROLS = (
    ("low_norm", "high_norm"),
    ("low_norm", "random"),
    ("low_norm+guards", "high_norm+guards"),
    ("low_norm+guards", "random+guards"),
)


def _compared(result: Result, pairs: tuple[tuple[str, str], ...]) -> Finding:
    """Paired log-perplexity differences at half, one part a pair and length."""
    rows, passed, measured, others = result.tables["prune"], [], [], []
    sample = UNTESTED
    for length in distinct(rows, "length"):
        here = pick(rows, length=length, keep_ratio=HALF)
        for policy, control in pairs:
            if not (pick(here, policy=policy) and pick(here, policy=control)):
                continue
            found = paired(here, policy, control)
            passed.append(_surely_negative(found))
            measured.append(
                f"{policy} − {control} at {length}: {found.mean:+.3f} ± {found.error:.3f}"
            )
            its = math.exp(over(here, "nll", policy=control).mean)
            others.append(f"{control} {its:.1f} ({length})")
            sample = f"{found.n} windows, paired log-perplexity"
    return Finding(
        "; ".join(measured) or UNTESTED, ", ".join(dict.fromkeys(others)), sample, tuple(passed)
    )


def _surely_negative(found: Spread) -> bool:
    return found.mean + 2 * found.error < 0  # NaN of a single window compares as False


def _controls(result: Result) -> Finding:
    return _compared(result, CONTROLS)


def _special(result: Result) -> Finding:
    return _compared(result, (("low_norm", "special"),))


def _found(tasks: dict[str, Rows], column: str, ratio: float) -> Finding:
    """Accuracy at a ratio against the full cache's, one part a task that the model can do."""
    passed, measured, others, counts = [], [], [], []
    for name, rows in tasks.items():
        full = over(rows, column, policy="full")
        if not pick(rows, policy="low_norm", keep_ratio=ratio):
            continue
        ours = over(rows, column, policy="low_norm", keep_ratio=ratio)
        if full.mean < ANSWERS:
            measured.append(f"{name}: full cache only {full.mean:.2f}, not judged")
            continue
        passed.append(ours.mean >= full.mean - LOSS)
        measured.append(f"{name}: {ours.mean:.2f} ± {ours.error:.2f}, full {full.mean:.2f}")
        controls = [p for p in distinct(rows, "policy") if p not in ("full", "low_norm")]
        said = [f"{p} {over(rows, column, policy=p, keep_ratio=ratio).mean:.2f}" for p in controls]
        others.append(f"{name}: {', '.join(said)}")
        counts.append(f"{name} {ours.n}")
    sample = f"trials: {', '.join(counts)}" if counts else UNTESTED
    return Finding("; ".join(measured) or UNTESTED, "; ".join(others), sample, tuple(passed))


def _needle(result: Result) -> Finding:
    return _found({"needle in a novel": result.tables["needle"]}, "accuracy", HALF)


def _passkey(result: Result) -> Finding:
    rows = result.tables["passkey"]
    cells = dict.fromkeys((r["filler"], r["question"]) for r in rows)
    tasks: dict[str, Rows] = {
        f"{filler} filler, question {question}": pick(rows, filler=filler, question=question)
        for filler, question in cells
    }
    return _found(tasks, "exact", TENTH)


_MOST = (
    "(1) in more than half of the layers, more than half of the heads have a relative attention "
    "loss below 1, on every text and length; (2) its mean is below that of dropping the oldest "
    "first"
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="kvcache-correlation",
        claim="Keys with a small L2 norm tend to receive large attention, in most heads and layers",
        source=f"{PAPER}, abstract and attention-loss heat map",
        published="attention loss small in most layers of Llama-2-7B, large in layers 0, 1 and 12",
        scale=SCALE,
        rule=_MOST,
        measure=_correlation,
    ),
    Claim(
        id="kvcache-correlation-without-sink",
        claim="The relation is there beyond the first token, the attention sink",
        source=f"{PAPER}; the sink is the paper's explanation, leaving it out is our control",
        published="not reported",
        scale=SCALE,
        rule=f"position 0 left out: {_MOST}",
        measure=_without_sink,
    ),
    Claim(
        id="kvcache-half-language-modelling",
        claim="Half of the cache can be dropped without loss on language modelling",
        source=f"{PAPER}, abstract",
        published="50 % dropped, perplexity about unchanged (Llama-2-7B, Llama-3-8B, Gemma)",
        scale=SCALE,
        rule="one prune of the prompt to half, as published: perplexity of what follows at most "
        "5 % above the full cache's; one part a prompt length",
        measure=_half_of_prompt,
    ),
    Claim(
        id="kvcache-rolling",
        claim="A cache bounded by the rule keeps language modelling intact while a text streams",
        source=f"{PAPER}, language-modelling experiment",
        published="cache bounded, perplexity about unchanged until half is dropped",
        scale=SCALE,
        rule="published rule without guards: perplexity after the budget is full at most 5 % above "
        "the full cache's; one part a setting",
        measure=_rolling,
    ),
    Claim(
        id="kvcache-controls",
        claim="Keeping low norms is far better than keeping high norms or a random half",
        source=f"{PAPER}, language-modelling figure",
        published="high norm and random far worse at every ratio",
        scale=SCALE,
        rule="half kept: log-perplexity lower than the control's by more than two standard errors "
        "over windows; one part a control and length, as published and again with equal guards "
        "(4 first and 16 newest pairs) on both sides",
        measure=_controls,
    ),
    Claim(
        id="kvcache-special-tokens",
        claim="Key norm is better than keeping special tokens, punctuation and a local window",
        source=f"{PAPER}, comparison with FastGen without attention",
        published="key norm better",
        scale=SCALE,
        rule="half kept: log-perplexity lower by more than two standard errors over windows; one "
        "part a length",
        measure=_special,
    ),
    Claim(
        id="kvcache-half-needle",
        claim="Half of the cache can be dropped without loss on needle in a haystack",
        source=f"{PAPER}, abstract",
        published="about 99 % at 50 % dropped (Llama-2-7B-80k, LongLoRA-32k)",
        scale=SCALE,
        rule="share of the answer's tokens at half kept at most 5 points below the full cache's",
        measure=_needle,
    ),
    Claim(
        id="kvcache-tenth-passkey",
        claim="Nine tenths of the cache can be dropped without loss on pass-key retrieval",
        source=f"{PAPER}, abstract",
        published="100 % at 90 % dropped (Llama-2-7B-80k, LongLoRA-32k)",
        scale=SCALE,
        rule="exact answers (all five digits) at a tenth kept at most 5 points below the full "
        "cache's; one part a filler and place of the question that the full cache answers in half "
        "of the trials",
        measure=_passkey,
    ),
)
