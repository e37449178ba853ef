"""Claims of "Conditional computation in neural networks: principles and research trends".

Scardapane et al., 2024, arXiv 2403.07965: a tutorial without a result table, so what is judged is
the behaviour that it describes. The rules were written before the full run was looked at. "Without
loss" is read as at most two points of accuracy; "better" as better by more than two standard errors
over the same seeds; "a third of the cost" as a third of the FLOPs.
"""

import math

from labcore.claims import Claim, Finding
from labcore.conditional.measure import Rows, Spread, at_cost, distinct, over_seeds, paired, pick
from labcore.conditional.measure import spread as spread_of
from labcore.runs import Result

PAPER = "arXiv 2403.07965"
SCALE = "vision transformers of width 64 and 4 to 6 blocks on MNIST and Fashion-MNIST"
REAL = f"{SCALE}; a pre-trained ViT-S on Fashion-MNIST at 70 pixels"
LOSS, THIRD = 0.02, 1 / 3
SPARSE, WIDE, NARROW = "top-2, balanced", "dense, equal parameters", "dense, equal FLOPs"


def _said(found: Spread, digits: int = 3) -> str:
    return f"{found.mean:.{digits}f} ± {found.error:.{digits}f}"


def _above(found: Spread) -> bool:
    return found.mean - 2 * found.error > 0  # NaN of a single seed compares as False


def _experts(result: Result) -> Finding:
    """Part 1: as good as dense of equal parameters; part 2: better than dense of equal FLOPs."""
    rows = result.tables["mixture"]
    ours, wide, narrow = (pick(rows, arm=arm) for arm in (SPARSE, WIDE, NARROW))
    if not (ours and wide and narrow):
        return Finding("not run", "none", "0 seeds", ())
    loss, gain = paired(ours, wide), paired(ours, narrow)
    cheap = ours[0]["layer_ratio"] <= THIRD
    return Finding(
        measured=f"accuracy {_said(over_seeds(ours, 'accuracy'))} at {ours[0]['layer_ratio']:.2f} "
        f"of the layers' FLOPs ({ours[0]['ratio']:.2f} of the network's); minus dense of equal "
        f"parameters {_said(loss)}, minus dense of equal FLOPs {_said(gain)}",
        baselines=f"dense of equal parameters {_said(over_seeds(wide, 'accuracy'))}, of equal "
        f"FLOPs {_said(over_seeds(narrow, 'accuracy'))}; chance 0.05",
        sample=f"{loss.n} seeds x {ours[0]['test']} test pictures",
        passed=(cheap and loss.mean >= -LOSS, _above(gain)),
    )


def _curve_at(rows: Rows, method: str, ratio: float) -> dict[int, float]:
    here = pick(rows, method=method)
    return {seed: at_cost(pick(here, seed=seed), ratio) for seed in distinct(here, "seed")}


def _tokens(result: Result) -> Finding:
    """One part a trained or training-free method: its accuracy at a third of the FLOPs."""
    base = {row["seed"]: row["accuracy"] for row in result.tables["token_base"]}
    rows, passed, measured = result.tables["tokens"], [], []
    for method in distinct(rows, "method"):
        if method == "random":
            continue
        found = _curve_at(rows, method, THIRD)
        if any(math.isnan(v) for v in found.values()):
            measured.append(_cheapest(rows, method, base))
            continue
        gap = spread_of([found[seed] - base[seed] for seed in base])
        passed.append(gap.mean >= -LOSS)
        measured.append(f"{method} {_said(spread_of(list(found.values())))} ({gap.mean:+.3f})")
    random = list(_curve_at(rows, "random", THIRD).values())
    if any(math.isnan(v) for v in random):
        beside = _cheapest(rows, "random", base)
    else:
        beside = f"random tokens at the same cost {_said(spread_of(random))}"
    chance = over_seeds(result.tables["token_base"], "chance")
    return Finding(
        measured="; ".join(measured),
        baselines=f"all tokens {_said(spread_of(list(base.values())))}, {beside}, commonest class "
        f"{chance.mean:.3f}",
        sample=f"{len(base)} seeds x {result.tables['token_base'][0]['test']} test canvases",
        passed=tuple(passed),
    )


def _cheapest(rows: Rows, method: str, base: dict[int, float]) -> str:
    """What a method gives at the least cost it can reach, where a third is out of its reach."""
    mine = pick(rows, method=method)
    amount = min(distinct(mine, "amount"), key=lambda a: over_seeds(mine, "ratio", amount=a).mean)
    at = pick(mine, amount=amount)
    gap = spread_of([row["accuracy"] - base[row["seed"]] for row in at])
    ratio = over_seeds(at, "ratio").mean
    return f"{method} reaches no third: {gap.mean:+.3f} at {ratio:.2f} of the FLOPs"


def _exits(result: Result) -> Finding:
    """Budget of a third, thresholds fitted on validation pictures, one part a way of training."""
    passed, measured, others, seeds = [], [], [], 0
    for training in distinct(result.tables["budgets"], "training"):
        rows = [
            row
            for row in pick(result.tables["budgets"], training=training, calibrated=True)
            if math.isclose(row["budget"], THIRD)
        ]
        last = pick(result.tables["whole"], training=training, calibrated=True)
        if not rows:
            continue
        gap, seeds = paired(rows, last), len(rows)
        spent = over_seeds(rows, "ratio")
        passed.append(gap.mean >= -LOSS and spent.mean <= 1.05 * THIRD)
        measured.append(
            f"{training} heads: {_said(over_seeds(rows, 'accuracy'))} at {spent.mean:.3f} of the "
            f"FLOPs ({gap.mean:+.3f})"
        )
        oracle = pick(result.tables["oracle"], training=training, heads=6)
        others.append(
            f"{training}: all layers {_said(over_seeds(last, 'accuracy'))}, first head "
            f"{_said(over_seeds(result.tables['heads'], 'accuracy', training=training, head=1))}, "
            f"oracle {_said(over_seeds(oracle, 'accuracy'))}"
        )
    real = result.tables.get("feature_budgets", [])
    if real:
        part, found, beside = _real_exits(result)
        passed.append(part)
        measured.append(found)
        others.append(beside)
    sample = f"{seeds} seeds x {result.tables['whole'][0]['test']} test pictures"
    if real:
        sample += f", of the ViT-S {real[0]['test']}"
    return Finding("; ".join(measured), "; ".join(others), sample, tuple(passed))


def _real_exits(result: Result) -> tuple[bool, str, str]:
    """The same for linear heads on a pre-trained ViT-S: passed, what was measured, baselines."""
    heads, budgets = result.tables["feature_heads"], result.tables["feature_budgets"]
    rows = [row for row in budgets if math.isclose(row["budget"], THIRD)]
    deepest = max(distinct(heads, "head"))
    last, spent = pick(heads, head=deepest), over_seeds(rows, "ratio")
    gap = paired(rows, last)
    measured = (
        f"heads on a pre-trained ViT-S: {_said(over_seeds(rows, 'accuracy'))} at {spent.mean:.3f} "
        f"of the FLOPs ({gap.mean:+.3f})"
    )
    oracle = over_seeds(result.tables["feature_oracle"], "accuracy")
    beside = (
        f"ViT-S: all layers {_said(over_seeds(last, 'accuracy'))}, first head "
        f"{_said(over_seeds(heads, 'accuracy', head=1))}, oracle {_said(oracle)}"
    )
    return gap.mean >= -LOSS and spent.mean <= 1.05 * THIRD, measured, beside


def _specialise(result: Result) -> Finding:
    """Experts against classes: above an untrained router, above shuffled labels; domains apart."""
    rows = pick(result.tables["experts"], arm=SPARSE, tokens="patches")
    last = max(row["layer"] for row in rows)
    trained = pick(rows, trained=True, layer=last)
    bits, shuffled = over_seeds(trained, "class_bits"), over_seeds(trained, "shuffled_bits")
    untrained = over_seeds(pick(rows, trained=False, layer=last), "class_bits")
    first = pick(result.tables["experts"], arm=SPARSE, tokens="class token", trained=True)
    domain = over_seeds(first, "domain_bits", layer=last)
    low = bits.mean - 2 * bits.error
    return Finding(
        measured=f"block {last}, patches: {_said(bits)} bits of class; class token: "
        f"{_said(domain)} bits of domain (of 1)",
        baselines=f"untrained router {_said(untrained)}, shuffled classes {_said(shuffled)}",
        sample=f"{bits.n} seeds x {trained[0]['test']} test pictures",
        passed=(low > untrained.mean, low > shuffled.mean, domain.mean >= 0.5),
    )


def _align(result: Result) -> Finding:
    """Precision of the kept patches, one part a selector, against the share of ink."""
    ink = over_seeds(result.tables["token_base"], "ink")
    rows, passed, measured = result.tables["tokens"], [], []
    random = over_seeds(rows, "precision", method="random", amount=0.5)
    for method in ("learned", "class attention"):
        here = pick(rows, method=method, amount=0.5)
        gap = paired(here, pick(rows, method="random", amount=0.5), "precision")
        passed.append(_above(gap) and over_seeds(here, "precision").mean >= 1.5 * ink.mean)
        measured.append(
            f"{method}: precision {_said(over_seeds(here, 'precision'))}, recall "
            f"{_said(over_seeds(here, 'recall'))}"
        )
    kept = over_seeds(rows, "kept", method="learned", amount=0.5).mean
    return Finding(
        measured=f"{'; '.join(measured)}; {kept:.0%} of the patches kept",
        baselines=f"share of patches with the digit's ink {ink.mean:.3f}; random selection "
        f"{_said(random)}",
        sample=f"{ink.n} seeds x {result.tables['token_base'][0]['test']} test canvases",
        passed=tuple(passed),
    )


def _transfer(result: Result) -> Finding:
    """Upcycled against a mixture from scratch, and against the dense network tuned as long."""
    rows = result.tables["upcycling"]
    ours = pick(rows, start="digits", kind="mixture")
    scratch = pick(rows, start="scratch", kind="mixture")
    dense = pick(rows, start="digits", kind="dense")
    over_scratch, over_dense = paired(ours, scratch), paired(ours, dense)
    gap = max(row["gap_at_start"] for row in ours)
    return Finding(
        measured=f"upcycled {_said(over_seeds(ours, 'accuracy'))}; minus mixture from scratch "
        f"{_said(over_scratch)}, minus dense from the same start {_said(over_dense)}; largest "
        f"change of a logit by upcycling {gap:.0e}{_real_gap(result)}",
        baselines=f"mixture from scratch {_said(over_seeds(scratch, 'accuracy'))}, dense from "
        f"digits {_said(over_seeds(dense, 'accuracy'))}, dense from scratch "
        f"{_said(over_seeds(rows, 'accuracy', start='scratch', kind='dense'))}; chance 0.1",
        sample=f"{over_dense.n} seeds, {ours[0]['train']} training and {ours[0]['test']} test "
        "pictures",
        passed=(_above(over_scratch), _above(over_dense)),
    )


def _real_gap(result: Result) -> str:
    rows = result.tables.get("feature_upcycling", [])
    if not rows:
        return ""
    return (
        f", of a pre-trained ViT-S's features {max(row['gap'] for row in rows):.0e} of the largest"
    )


def _collapse(result: Result) -> Finding:
    """Largest load without and with the balance loss, one part a k; and half of all tokens."""
    passed, measured, others, n, test = [], [], [], 0, 0
    for k in (1, 2):
        rows = pick(result.tables["experts"], tokens="patches", trained=True)
        free, held = (pick(rows, arm=f"top-{k}, {how}") for how in ("no balance", "balanced"))
        if not (free and held):
            continue
        layers = distinct(free, "layer")
        gaps = [paired(pick(free, layer=at), pick(held, layer=at), "largest") for at in layers]
        passed.append(all(_above(gap) for gap in gaps))
        shown = [_said(over_seeds(free, "largest", layer=at), 2) for at in layers]
        measured.append(f"top-{k} without: {', '.join(shown)} (blocks {layers})")
        kept = [_said(over_seeds(held, "largest", layer=at), 2) for at in layers]
        others.append(f"top-{k} balanced: {', '.join(kept)}")
        n, test = gaps[0].n, free[0]["test"]
    even = "even load 0.125"
    return Finding(
        "largest share of one expert, " + "; ".join(measured),
        "; ".join([*others, even]),
        f"{n} seeds x {test} test pictures",
        tuple(passed),
    )


def _gradients(result: Result) -> Finding:
    """Score function unbiased and wide; straight-through narrow and off; Gumbel trades by tau."""
    passed, measured, others, n, draws = [], [], [], 0, 0
    for categories in distinct(result.tables["estimators"], "categories"):
        rows = pick(result.tables["estimators"], categories=categories)
        score, through = (pick(rows, estimator=e) for e in ("score function", "straight-through"))
        soft = pick(rows, estimator="Gumbel-softmax")
        cold, hot = (pick(soft, tau=f([r["tau"] for r in soft])) for f in (min, max))
        unbiased = all(row["bias"] <= 4 * row["noise_of_bias"] for row in score)
        off = all(row["bias"] > 4 * row["noise_of_bias"] for row in through)
        narrower = all(a["sd"] < b["sd"] for a, b in zip(through, score, strict=True))
        trade = all(
            a["bias"] < b["bias"] and a["sd"] > b["sd"] for a, b in zip(cold, hot, strict=True)
        )
        passed += [unbiased, off, narrower, trade]
        measured.append(
            f"{categories} categories: bias / sd of score function "
            f"{over_seeds(score, 'bias').mean:.3f} / {over_seeds(score, 'sd').mean:.2f}, "
            f"straight-through {over_seeds(through, 'bias').mean:.2f} / "
            f"{over_seeds(through, 'sd').mean:.2f}, Gumbel-softmax "
            f"{over_seeds(cold, 'bias').mean:.2f} / {over_seeds(cold, 'sd').mean:.2f} at "
            f"{cold[0]['tau']:g} and {over_seeds(hot, 'bias').mean:.2f} / "
            f"{over_seeds(hot, 'sd').mean:.2f} at {hot[0]['tau']:g}"
        )
        best = pick(rows, estimator="score function, best baseline")
        others.append(f"with the best baseline sd {over_seeds(best, 'sd').mean:.2f}")
        n, draws = len(score), score[0]["draws"]
    return Finding(
        "; ".join(measured), f"exact gradient by enumeration, norm 1; {', '.join(others)}",
        f"{n} random problems x {draws} draws", tuple(passed),
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="conditional-efficiency-experts",
        claim="Mixtures of experts keep the accuracy of a larger network at a fraction of its cost",
        source=f"{PAPER}, section on mixtures of experts",
        published="qualitative: a tutorial without figures of its own",
        scale=SCALE,
        rule="top-2 of 8 experts, balanced: (1) at most two points below the dense network of "
        "equal parameters with at most a third of its FLOPs in the layers in question; (2) better "
        "than the dense network of equal FLOPs",
        measure=_experts,
    ),
    Claim(
        id="conditional-efficiency-tokens",
        claim="Most tokens can be left out or merged without loss",
        source=f"{PAPER}, section on input sparsity",
        published="qualitative: a tutorial without figures of its own",
        scale=SCALE,
        rule="cluttered canvases: accuracy at a third of the FLOPs at most two points below all "
        "tokens; one part a method that reaches that cost",
        measure=_tokens,
    ),
    Claim(
        id="conditional-efficiency-exits",
        claim="Early exits save most of the depth without loss",
        source=f"{PAPER}, section on early exits",
        published="qualitative: a tutorial without figures of its own",
        scale=REAL,
        rule="Fashion-MNIST: thresholds fitted on validation pictures for a third of the FLOPs; "
        "accuracy at most two points below the last head and at most 5 % over the budget on test; "
        "one part a way of training the heads: joint, separate, and on a pre-trained ViT-S",
        measure=_exits,
    ),
    Claim(
        id="conditional-explainability-experts",
        claim="Experts specialise: which expert runs tells what the input is",
        source=f"{PAPER}, on explainability",
        published="qualitative",
        scale=SCALE,
        rule="last mixture layer: mutual information of expert and class over patches above (1) "
        "an untrained router and (2) shuffled classes by two standard errors; (3) the class "
        "token's expert tells at least half a bit of the domain",
        measure=_specialise,
    ),
    Claim(
        id="conditional-explainability-tokens",
        claim="The tokens that stay show what the decision rests on",
        source=f"{PAPER}, on explainability",
        published="qualitative",
        scale=SCALE,
        rule="half kept at each of two stages: precision of the kept patches against the known ink "
        "better than random selection's, and at least one and a half times the share of ink; one "
        "part a selector",
        measure=_align,
    ),
    Claim(
        id="conditional-transfer-upcycling",
        claim="Modules carry over: experts can start from a trained dense network",
        source=f"{PAPER}, on transfer; upcycling as in arXiv 2212.05055",
        published="qualitative",
        scale=SCALE,
        rule="digits to few clothes: the upcycled mixture is better than (1) a mixture from "
        "scratch and (2) the dense network tuned from the same start for as many steps",
        measure=_transfer,
    ),
    Claim(
        id="conditional-collapse",
        claim="Without a regulariser the router collapses onto few experts",
        source=f"{PAPER}, on balancing",
        published="qualitative",
        scale=SCALE,
        rule="largest share of one expert higher without the balance loss than with it by two "
        "standard errors, in both layers; one part for k = 1 and one for k = 2",
        measure=_collapse,
    ),
    Claim(
        id="conditional-estimators",
        claim="Gradients through a discrete choice trade bias for variance",
        source=f"{PAPER}, section on learning to sample",
        published="qualitative",
        scale="a smooth cost of 2 and of 16 categories, float64",
        rule="on every random problem: score function's bias within four standard errors of 0, "
        "straight-through's outside, straight-through narrower, and Gumbel-softmax less biased and "
        "wider at the lowest temperature than at the highest; four parts a number of categories",
        measure=_gradients,
    ),
)
