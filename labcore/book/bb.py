"""Appendix B: a curve copied by bins, and how its error falls with their number."""

import numpy as np
from jaxtyping import Float

from labcore.blocks.approx import bin_function, bin_network
from labcore.book.numbers import Findings, Size, number
from labcore.runs import Progress, Table

SECONDS = 1
LO, HI, POINTS = 0.0, 10.0, 4000
EXPECTED = {5: 0.014877, 10: 0.003963, 15: 0.001811, 50: 0.000221}
PRINTED = {5: 0.104, 10: 0.053, 15: 0.035, 50: 0.010}
PUBLISHED_50 = 0.00016
BINS = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)


def wave(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """sin(x)/x, 1 at 0."""
    return np.sinc(np.asarray(x) / np.pi)


def points() -> Float[np.ndarray, " n"]:
    """Where the error is measured."""
    return np.linspace(LO, HI, POINTS)


def error(m: int, slope: float = 1e4) -> float:
    """Mean squared error of m bins."""
    return float(_squares(m, slope).mean())


def _squares(m: int, slope: float = 1e4) -> Float[np.ndarray, " n"]:
    """Squared error of m bins at every point; at both ends the outermost step is half up."""
    x = points()
    return (bin_network(wave, m, lo=LO, hi=HI, slope=slope)(x) - wave(x)) ** 2


def printed_error(m: int, slope: float = 1e4) -> float:
    """The same with the printed centres, i/m of the interval: half a width too far right."""
    x, width = points(), (HI - LO) / m
    centres = LO + np.arange(1, m + 1) * width
    copy = sum(
        height * bin_function(x, float(s), width, slope=slope)
        for s, height in zip(centres, wave(centres), strict=True)
    )
    return float(((copy - wave(x)) ** 2).mean())


def measure(config: Size, progress: Progress) -> Findings:
    """Errors for all numbers of bins."""
    bins = BINS[:10] if config.small else BINS
    errors = np.array([error(m) for m in bins])
    numbers: Table = [
        number(f"MSE of {m} bins", error(m), want, 1e-6, sample=f"{POINTS} points")
        for m, want in EXPECTED.items()
    ]
    numbers += [
        number(f"MSE of {m} bins at the printed centres", printed_error(m), want, 1e-3,
               sample=f"{POINTS} points")
        for m, want in PRINTED.items()
    ]  # fmt: skip
    few = [m for m in bins if 5 <= m <= 50]
    inner = [_squares(m)[1:-1].mean() for m in few]
    for what, found, band in (
        ("slope of the error from 5 to 50 bins, log-log", [error(m) for m in few], 0.2),
        ("the same without the two end points", inner, 0.05),
    ):
        slope = np.polyfit(np.log(few), np.log(found), 1)[0]
        numbers.append(number(what, slope, -2, band, sample=f"{POINTS} points"))
    numbers.append(number("MSE of 50 bins without the two end points", _squares(50)[1:-1].mean(),
                          PUBLISHED_50, 1e-5, sample=f"{POINTS - 2} points"))  # fmt: skip
    return Findings({"bins": np.array(bins), "errors": errors}, {"numbers": numbers})
