"""The works of the lab: what each is, where it lives, and what to read before it.

One row a notebook. The topic's name is the same word in ``labcore/``, ``app/pages/``, ``tests/``,
``bench/``, ``lab run`` and the page's address. A row says nothing about whether the topic is built;
:func:`is_built` looks.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal


@dataclass(frozen=True)
class Work:
    """One notebook's work.

    Attributes:
        id: Stable id of the notebook, as ``"P06"``.
        topic: Package in ``labcore`` that implements it.
        title: Title of the paper or chapter.
        source: Authors, venue and year, with the arXiv id.
        section: Heading in the app's navigation.
        question: The question that the page answers, in one sentence.
        requires: Ids to read first.
    """

    id: str
    topic: str
    title: str
    source: str
    section: Literal["Papers", "Book"]
    question: str
    requires: tuple[str, ...] = ()

    @property
    def page(self) -> str:
        """Stable address of its app page."""
        return self.topic if self.section == "Papers" else self.id.lower()


_PAPERS = (
    Work(
        "P01",
        "merging",
        "Task singular vectors: reducing task interference in model merging",
        "Gargiulo et al., CVPR 2025, arXiv 2412.00081",
        "Papers",
        "Why does averaging fine-tuned models hurt, and what does whitening mend?",
        ("B04", "B10"),
    ),
    Work(
        "P02",
        "koopman",
        "Interpreting temporal graph neural networks with Koopman theory",
        "Guerra, Scardapane, Bianchi, 2024, arXiv 2410.13469",
        "Papers",
        "Do the linear modes of hidden states tell when and where an infection spreads?",
        ("B12", "B13"),
    ),
    Work(
        "P03",
        "speech",
        "How to connect speech foundation models and large language models?",
        "Verdini et al., Interspeech 2025, arXiv 2409.17044",
        "Papers",
        "Speech encoder, adapter or language model: which of the three matters most?",
        ("B08", "B11"),
    ),
    Work(
        "P04",
        "topology",
        "Topological deep learning with state-space models on simplicial complexes",
        "Montagna, Scardapane, Telyatnikov, IJCNN 2025, arXiv 2409.12033",
        "Papers",
        "What can a node learn by reading its edges, triangles and tetrahedra as a sequence?",
        ("B12", "B13"),
    ),
    Work(
        "P05",
        "finetuning",
        "Adaptive layer and token selection for fine-tuning vision transformers",
        "Devoto et al., Neurocomputing 2025, arXiv 2408.08670",
        "Papers",
        "Which layers and tokens deserve compute in each step of fine-tuning?",
        ("B10", "B11"),
    ),
    Work(
        "P06",
        "kvcache",
        "A simple and effective L2-norm strategy for KV-cache compression",
        "Devoto, Zhao, Scardapane, Minervini, EMNLP 2024, arXiv 2406.11430",
        "Papers",
        "Can the length of a key tell how much attention it will get before any query came?",
        ("B10", "B11"),
    ),
    Work(
        "P07",
        "topology",
        "TopoBench: a framework for benchmarking topological deep learning",
        "Telyatnikov et al., JDMLR 2025, arXiv 2406.06642",
        "Papers",
        "When does lifting a graph to triangles, cells or hyperedges help at all?",
        ("B12", "P04"),
    ),
    Work(
        "P09",
        "tokens",
        "Adaptive semantic token selection for goal-oriented communications",
        "Devoto et al., 2024, arXiv 2405.02330",
        "Papers",
        "Which patches of an image are worth sending when the channel is narrow?",
        ("B11", "P05"),
    ),
    Work(
        "P10",
        "conditional",
        "Conditional computation in neural networks: principles and research trends",
        "Scardapane et al., Intelligenza Artificiale 2024, arXiv 2403.07965",
        "Papers",
        "How much of a network does each input really need?",
        ("B11", "P09"),
    ),
)

_BOOK = "Scardapane, Alice's Adventures in a differentiable wonderland, arXiv 2404.17625"


def _chapter(number: str, title: str, question: str, *requires: str) -> Work:
    where = f"chapter {int(number)}" if number.isdigit() else f"appendix {number}"
    return Work(f"B{number}", "book", title, f"{_BOOK}, {where}", "Book", question, requires)


_CHAPTERS = (
    _chapter("01", "A map of the land", "What do data look like, and what do more of them buy?"),
    _chapter("02", "Walking downhill", "When does gradient descent arrive?", "B01"),
    _chapter("03", "Datasets and losses", "What does a loss ask for?", "B02"),
    _chapter("04", "Linear models", "How far do straight lines go?", "B03"),
    _chapter("05", "Fully-connected models", "Why bend the line?", "B04"),
    _chapter("06", "Automatic differentiation", "How does a program find its gradient?", "B05"),
    _chapter("07", "Convolutional layers", "What do locality and sharing buy?", "B05"),
    _chapter("08", "Beyond images", "How does a convolution read a novel?", "B07"),
    _chapter("09", "Scaling up", "What keeps a deep network trainable?", "B06", "B07"),
    _chapter("10", "Transformer models", "What if every token looks at every token?", "B08", "B09"),
    _chapter("11", "Transformers in practice", "What makes attention run?", "B10"),
    _chapter("12", "Graph models", "What do friends of friends know?", "B09"),
    _chapter("13", "Recurrent models", "Can one state remember it all?", "B10"),
    _chapter("A", "Probability", "How far apart are two distributions?"),
    _chapter("B", "Universal approximation", "How many bumps make a curve?", "B05"),
)

WORKS: tuple[Work, ...] = _PAPERS + _CHAPTERS
TOPICS: tuple[str, ...] = tuple(dict.fromkeys(work.topic for work in WORKS))


def work(id_or_topic: str) -> Work:
    """The work with this notebook id, or the first of this topic.

    Raises:
        ValueError: there is none.
    """
    for row in WORKS:
        if id_or_topic in (row.id, row.topic):
            return row
    raise ValueError(f"unknown work {id_or_topic!r}: topics are {', '.join(TOPICS)}")


def is_built(topic: str) -> bool:
    """Whether the topic's experiment is in this installation (found, not imported)."""
    if topic not in TOPICS:
        raise ValueError(f"unknown topic {topic!r}: topics are {', '.join(TOPICS)}")
    try:
        return find_spec(f"labcore.{topic}.experiment") is not None
    except ModuleNotFoundError:
        return False


def built_topics() -> tuple[str, ...]:
    """The topics whose experiment is in this installation."""
    return tuple(topic for topic in TOPICS if is_built(topic))
