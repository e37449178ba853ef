"""Each published claim, the experiment that tests it here, and the verdict.

A topic's claims are a tuple ``CLAIMS`` in the module of the same name in this package. A claim's
``measure`` reads the topic's :class:`~labcore.runs.Result` and returns what was found; the verdict
comes from those numbers by the rule written beside the claim, never from a person.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from labcore.runs import Result, committed
from labcore.works import TOPICS

Verdict = Literal["holds", "holds in part", "does not hold here", "not testable here"]
VERDICTS: tuple[Verdict, ...] = (
    "holds",
    "holds in part",
    "does not hold here",
    "not testable here",
)


@dataclass(frozen=True)
class Finding:
    """What a claim's measurement gave.

    Attributes:
        measured: The figures, with their spread, in one line.
        baselines: The trivial baselines' figures, in one line.
        sample: Sample size, as ``"6 windows x 64 tokens"``.
        passed: For each part of the claim, whether its rule is met; all true is "holds", some
            true "holds in part", none "does not hold here", no part at all "not testable here".
    """

    measured: str
    baselines: str
    sample: str
    passed: tuple[bool, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict that the parts give."""
        if not self.passed:
            return "not testable here"
        if all(self.passed):
            return "holds"
        return "holds in part" if any(self.passed) else "does not hold here"


@dataclass(frozen=True)
class Claim:
    """A published claim and the rule that judges it here.

    Attributes:
        id: Stable, as ``"kvcache-correlation"``.
        claim: The claim in one sentence.
        source: Where it was published.
        published: The published figure.
        scale: The scale it is tested at here.
        rule: When it holds, in words; ``measure`` computes exactly this.
        measure: Result of the topic's experiment -> finding.
    """

    id: str
    claim: str
    source: str
    published: str
    scale: str
    rule: str
    measure: Callable[[Result], Finding]


def claims_of(topic: str) -> tuple[Claim, ...]:
    """The claims of a topic; empty when the topic is not built.

    Raises:
        ValueError: unknown topic.
    """
    if topic not in TOPICS:
        raise ValueError(f"unknown topic {topic!r}: topics are {', '.join(TOPICS)}")
    name = f"{__name__}.{topic}"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return ()
        raise
    claims: tuple[Claim, ...] = module.CLAIMS
    return claims


def table(work: str | None = None, *, result: Result | None = None) -> list[dict[str, Any]]:
    """One row a claim, measured on the committed results (or on ``result``).

    Args:
        work: A topic, or None for all.
        result: A result of that topic, to judge a run of your own.

    Raises:
        ValueError: unknown topic, or a result of another topic.
    """
    topics = (work,) if work else TOPICS
    if result is not None and result.topic != work:
        raise ValueError(f"the result is of topic {result.topic!r}, the claims of {work!r}")
    return [row for topic in topics for row in _rows(topic, result)]


def _rows(topic: str, result: Result | None) -> list[dict[str, Any]]:
    claims = claims_of(topic)
    if not claims:
        return []
    file = "given" if result is not None else f"labcore/{topic}/results/full.npz"
    result = committed(topic) if result is None else result
    return [_row(topic, claim, result, file) for claim in claims]


def _row(topic: str, claim: Claim, result: Result, file: str) -> dict[str, Any]:
    finding = claim.measure(result)
    return {
        "id": claim.id,
        "work": topic,
        "claim": claim.claim,
        "source": claim.source,
        "published": claim.published,
        "measured": finding.measured,
        "scale": f"{claim.scale}; {finding.sample}",
        "seeds": list(result.provenance.seeds),
        "baselines": finding.baselines,
        "rule": claim.rule,
        "verdict": finding.verdict,
        "result_file": file,
        "seconds": result.provenance.seconds,
    }
