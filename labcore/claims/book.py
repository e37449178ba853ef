"""What the chapters' centre-pieces claim, judged on the committed experiments.

"Alice's Adventures in a differentiable wonderland", Simone Scardapane, arXiv 2404.17625. The book
is a text, so most claims are its teaching, not a measurement. The small experiments had been seen
when these rules were written: read the verdicts as checks of a lesson, not as blind tests. Those of
chapters 8 to 13 are in :mod:`.book_late`.
"""

import math

import numpy as np

from labcore.claims import Claim, Finding, book_late
from labcore.claims.book_late import BOOK, UNTESTED, numbers_of, rows_of
from labcore.runs import Result


def _scaling(result: Result) -> Finding:
    """Line through the sizes below n, its prediction at n, against the measurement."""
    rows = [r for r in rows_of(result, "b01/errors") if r["tested"] == 10000]
    if not rows:
        return UNTESTED
    steps = min(r["steps"] for r in rows)
    sizes = sorted({r["n"] for r in rows})
    mean = {n: float(np.mean([r["error"] for r in rows if (r["n"], r["steps"]) == (n, steps)]))
            for n in sizes}  # fmt: skip
    if len(sizes) < 5:
        return UNTESTED

    def predicted(n: int) -> float:
        below = [m for m in sizes if m < n]
        slope, offset = np.polyfit(np.log(below), np.log([mean[m] for m in below]), 1)
        return math.exp(offset + slope * math.log(n))

    line = [abs(predicted(n) / mean[n] - 1) < 0.15 for n in (1000, 3000)]
    last = sizes[-1]
    always = numbers_of(result, "b01")["test error, always the most frequent digit"]
    more = [r["error"] for r in rows if r["n"] == last and r["steps"] > steps]
    return Finding(
        measured=f"at 1000, 3000 pictures predicted {predicted(1000):.3f}, {predicted(3000):.3f}, "
        f"measured {mean[1000]:.3f}, {mean[3000]:.3f}; at {last} predicted {predicted(last):.3f}, "
        f"measured {mean[last]:.3f}, with more steps {np.mean(more):.3f}",
        baselines=f"always the most frequent digit {always['measured']:.3f}",
        sample=f"10 000 test pictures, {len({r['seed'] for r in rows})} seeds",
        passed=(all(line), mean[last] > 1.15 * predicted(last), bool(np.mean(more) < mean[last])),
    )


def _stability(result: Result) -> Finding:
    rows = rows_of(result, "b02/limits")
    found = ", ".join(
        f"momentum {r['momentum']:g}: {r['measured']:.3f} against {r['limit']:.3f}" for r in rows
    )
    passed = tuple(abs(r["measured"] / r["limit"] - 1) < 0.01 for r in rows)
    sample = f"{len(rows)} momenta"
    return Finding(found or "not measured", "1/λ would be half of it", sample, passed)


def _outlier(result: Result) -> Finding:
    known = numbers_of(result, "b03")
    if not known:
        return UNTESTED
    names = ("mean flipper", "median flipper", "mean with one value of 2000",
             "median with one value of 2000")  # fmt: skip
    mean, median, moved, stays = (known[f"{name} (mm)"]["measured"] for name in names)
    return Finding(
        measured=f"one value of 2000 mm moves the mean by {moved - mean:.2f} mm, the median by "
        f"{stays - median:.2f} mm",
        baselines="without it both move by 0",
        sample="342 penguins and one typing error",
        passed=(moved - mean > 1, abs(stays - median) < 1),
    )


def _calibration(result: Result) -> Finding:
    rows = rows_of(result, "b04/digits")
    if not rows:
        return UNTESTED
    gain = np.array([r["ece"] - r["ece_tempered"] for r in rows])
    error = gain.std(ddof=1) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    cover = np.array([r["coverage"] for r in rows])
    accuracy = np.array([r["accuracy"] for r in rows])
    return Finding(
        measured=f"ECE lower by {gain.mean():.3f} ± {error:.3f} after one temperature, accuracy "
        f"{accuracy.mean():.3f} unchanged by construction; coverage {cover.mean():.3f}",
        baselines=f"always the most frequent digit {np.mean([r['majority'] for r in rows]):.3f}",
        sample=f"399 test digits, {len(rows)} splits",
        passed=(bool(gain.mean() > 2 * error), bool(abs(cover.mean() - 0.9) <= 0.03)),
    )


def _nonlinearity(result: Result) -> Finding:
    found = numbers_of(result, "b05")
    if "test accuracy, xor, no hidden layer" not in found:
        return UNTESTED
    deep, bent = (
        found[f"test accuracy, xor, {kind}"]
        for kind in ("3 layers of 16, no activation", "1 layer of 16, ReLU")
    )
    return Finding(
        measured=f"noisy XOR: three linear layers {deep['measured']:.3f}, one layer of ReLUs "
        f"{bent['measured']:.3f}",
        baselines="a coin 0.5",
        sample=deep["sample"],
        passed=(deep["measured"] < 0.75, bent["measured"] > 0.9),
    )


def _tape(result: Result) -> Finding:
    known = numbers_of(result, "b06")
    if not known:
        return UNTESTED
    calls = known["VJP calls of 12 doublings"]["measured"]
    gap = known["largest gap of the loss to torch (nats)"]["measured"]
    wrong = known["dL/dx in the wrong order"]["measured"]
    right = known["dL/dx at x = 1.5"]["measured"]
    return Finding(
        measured=f"12 doublings: {calls:.0f} VJP calls; largest gap to torch {gap:.1e} nats",
        baselines=f"by paths 8191 calls; in the wrong order dL/dx is {wrong:.3f} instead of "
        f"{right:.3f}",
        sample=known["largest gap of the loss to torch (nats)"]["sample"],
        passed=(calls == 12, gap < 1e-9, abs(wrong - right) > 1),
    )


def _shifts(result: Result) -> Finding:
    rows = rows_of(result, "b07/accuracy")

    def of(kind: str, shift: int) -> np.ndarray:
        mine = [r for r in rows if r["kind"] == kind and r["shift"] == shift]
        return np.array([r["accuracy"] for r in sorted(mine, key=lambda r: r["seed"])])

    if not len(of("cnn", 2)):
        return UNTESTED
    lost = {kind: of(kind, 0) - of(kind, 2) for kind in ("cnn", "mlp")}
    far = of("cnn", 0) - of("cnn", 4)
    return Finding(
        measured=f"2 pixels cost the CNN {lost['cnn'].mean():.3f}, the MLP "
        f"{lost['mlp'].mean():.3f}; 4 pixels cost the CNN {far.mean():.3f}",
        baselines="a random digit 0.1",
        sample=f"2000 pictures, {len(far)} seeds",
        passed=(bool((lost["cnn"] < lost["mlp"]).all()), bool((far < 0.1).all())),
    )


def _directions(result: Result) -> Finding:
    known = numbers_of(result, "ba")
    if not known:
        return UNTESTED
    slope = known["slope of the Monte-Carlo error, log-log"]
    return Finding(
        measured=f"exponent {slope['measured']:.3f}",
        baselines="no averaging: 0",
        sample=slope["sample"],
        passed=(abs(slope["measured"] + 0.5) <= 0.05,),
    )


def _bins(result: Result) -> Finding:
    if "bb/errors" not in result.arrays:
        return UNTESTED
    bins, errors = result.arrays["bb/bins"], result.arrays["bb/errors"]
    inside = (bins >= 5) & (bins <= 50)
    x, y = bins[inside].astype(float), np.log(errors[inside])
    power, exponential = np.polyfit(np.log(x), y, 1), np.polyfit(x, y, 1)
    rest = [float(np.abs(y - np.polyval(fit, at)).max()) for fit, at in
            ((power, np.log(x)), (exponential, x))]  # fmt: skip
    known = numbers_of(result, "bb")
    three = [known[f"MSE of {m} bins"]["measured"] for m in (5, 15, 50)]
    inner = known["MSE of 50 bins without the two end points"]["measured"]
    return Finding(
        measured=f"errors {three[0]:.3f}, {three[1]:.4f}, {three[2]:.5f} ({inner:.5f} without the "
        f"two end points); a power of the bins with exponent {power[0]:.2f} leaves {rest[0]:.2f} "
        f"of the log error unexplained at worst, an exponential {rest[1]:.2f}",
        baselines="a constant: exponent 0",
        sample=f"{inside.sum()} numbers of bins from 5 to 50, 4000 points",
        passed=(rest[1] < rest[0],),
    )


_EARLY: tuple[Claim, ...] = (
    Claim("book-scaling", "Error falls as a power of the data, until another resource runs out",
          f"{BOOK}, chapter 1", "scaling laws, qualitatively", "784-128-10 network on MNIST",
          "(1) a line through the smaller sizes predicts the errors at 1000 and 3000 pictures "
          "within 15 %; (2) at the largest size the error is more than 15 % above the line; (3) "
          "three times the steps lower it there", _scaling),
    Claim("book-stability", "A walk returns to a minimum only below 2(1 + momentum)/curvature",
          f"{BOOK}, section 2.3", "convergence for small enough steps", "the practice landscape",
          "largest stable step found by bisection within 1 % of the formula, for every momentum",
          _stability),
    Claim("book-outlier", "The squared loss follows an outlier, the absolute loss does not",
          f"{BOOK}, chapter 3", "robustness of the absolute loss, qualitatively", "penguins",
          "one flipper of 2000 mm moves the mean by more than 1 mm and the median by less",
          _outlier),
    Claim("book-calibration", "One temperature mends calibration, and sets keep their coverage",
          f"{BOOK}, section 4.3", "qualitatively", "softmax regression on 8x8 digits",
          "(1) ECE at the fitted temperature lower by more than two standard errors over splits; "
          "(2) mean coverage at α = 0.1 within 3 points of 90 %", _calibration),
    Claim("book-nonlinearity", "Depth without nonlinearity buys nothing",
          f"{BOOK}, chapter 5", "a stack of linear layers is linear", "noisy XOR, 200 points",
          "three linear layers stay below 75 %, one hidden layer of ReLUs is above 90 %",
          _nonlinearity),
    Claim("book-reverse-mode", "Reverse mode needs one VJP a node, whatever the number of paths",
          f"{BOOK}, section 6.3", "cost proportional to the program's", "our engine on numpy",
          "12 doublings take 12 calls; a trained classifier equals torch's to 1e-9 at every step; "
          "another order gives another gradient", _tape),
    Claim("book-equivariance", "A convolutional network withstands small shifts",
          f"{BOOK}, chapter 7", "equivariance, invariance by pooling", "6000 digits, two epochs",
          "(1) 2 pixels cost it less than the MLP on every seed; (2) 4 pixels cost it less than 10 "
          "points", _shifts),
    Claim("book-monte-carlo", "The error of a Monte-Carlo mean falls like one over the root of n",
          f"{BOOK}, appendix A", "exponent -1/2", "means of squares of normal draws",
          "fitted exponent within 0.05 of -0.5", _directions),
    Claim("book-bins", "The error of the bin network falls exponentially with the bins",
          f"{BOOK}, appendix B", "0.02, 0.002, 0.00016 for 5, 15, 50 bins, called exponential",
          "sin(x)/x on [0, 10]",
          "an exponential fits the log error better than a power does, at its worst point",
          _bins),
)  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_EARLY, *book_late.CLAIMS)
