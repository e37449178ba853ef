"""P02: Koopman explanations. Where and when a temporal graph network looked, and an audit of that.

Opens on committed results; contacts of the real networks are cut from the data where these are.
"""

from typing import Any

import streamlit as st

from app.ui import (
    Choice,
    Controls,
    Preset,
    Range,
    cached,
    figure,
    need_asset,
    page,
    shared,
)
from app.ui.parameters import Table
from app.ui.tables import table
from labcore.koopman import edge_sindy, figures, fit_operator, node_relevance
from labcore.koopman.data import NAMES as NETWORKS
from labcore.koopman.data import SYNTHETIC
from labcore.koopman.dmd import dmd
from labcore.koopman.experiment import load_result
from labcore.koopman.explorer import EXPLAINERS, Setting, View, score_rows, shown, view
from labcore.koopman.names import TARGETS
from labcore.koopman.series import OwnModes, own_modes, read_series
from labcore.koopman.settings import ALPHA
from labcore.koopman.spectrum import Lottery, Spectrum, lottery, spectrum
from labcore.runs import Result
from labcore.uploads import UploadError

ASSETS = ("contacts",)
VIEWS = ("scores", "eigenvalues", "sign flips", "deletion", "training", "your series")
PARAMETERS: Table = {
    "net": Choice("highschool2012", NETWORKS, "contact network the people come from"),
    "graph": Range(0, 0, 2, about="which kept graph of the network"),
    "by": Choice("dmd", EXPLAINERS, "what explains"),
    "mode": Range(0, 0, 15, about="mode, or component of the PCA; 0 has the largest eigenvalue"),
    "side": Choice("right", ("right", "left"), "eigenvectors: right (published) or left"),
    "part": Choice("real", ("real", "abs"), "of complex numbers: real part or modulus"),
    "kind": Choice("deviation", ("deviation", "norm", "max_step"), "how people are ranked"),
    "c": Range(0.4, 0.05, 1.0, 0.05, "share of the maximum that a relevant step exceeds"),
    "w": Range(6, 1, 20, about="steps of a window"),
    "k": Range(16, 2, 32, about="axes of the embedding"),
    "alpha": Choice(ALPHA, (1e-4, ALPHA, 1.0, 100.0), "ridge penalty of the operator"),
    "view": Choice("scores", VIEWS, "what to look at below the graph"),
    "score": Choice("node_auc", tuple(TARGETS), "score over all graphs"),
    "degree": Choice(2, (2, 3), "degree of the SINDy library"),
    "draw": Range(0, 0, 99, about="seed of the sign flips"),
    "rank": Range(6, 1, 40, about="modes of your own series"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset(
        "Mode or component?",
        "The first principal component in place of the mode: the signal hardly changes.",
        {"by": "pca"},
    ),
    Preset(
        "Say yes always",
        "No network, no states: every step is called relevant. Compare its F1 of windows.",
        {"by": "always"},
    ),
    Preset(
        "All modes at once",
        "Rank people by the length of their embedded state instead of one mode.",
        {"kind": "norm"},
    ),
    Preset(
        "The lottery",
        "Turn axes around, which means nothing, and watch the published edge weight.",
        {"view": "sign flips", "degree": 3},
    ),
    Preset(
        "Who infected whom?",
        "Among pairs whose both ends took part, who passed it on? Hardly better than chance.",
        {"view": "scores", "score": "hard_edge_auc"},
    ),
)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


@cached
def seen(network: str, number: int, settings: dict[str, Any]) -> View:
    """A kept graph through one explainer."""
    return view(committed(), network, number, Setting(**settings))


@cached
def eigenvalues(network: str, k: int, alpha: float) -> Spectrum:
    """The operator's eigenvalues."""
    return spectrum(committed(), network, k=k, alpha=alpha)


@cached
def drawn(network: str, number: int, degree: int, k: int, seed: int) -> Lottery:
    """One round of sign flips."""
    return lottery(committed(), network, number, degree=degree, k=k, seed=seed)


@cached
def decomposed(data: bytes, filename: str, rank: int) -> OwnModes:
    """Modes of an uploaded series."""
    return own_modes(read_series(data, filename), rank)


def sidebar() -> dict[str, Any]:
    """The explainer's controls."""
    with st.sidebar:
        return {
            "explainer": control.select("by", "Explained by"),
            "mode": control.slider("mode", "Mode"),
            "side": control.select("side", "Eigenvector"),
            "part": control.select("part", "Part"),
            "kind": control.select("kind", "Rank people by"),
            "threshold": control.slider("c", "Threshold c"),
            "window": control.slider("w", "Window W"),
            "k": control.slider("k", "Axes k"),
            "alpha": control.steps("alpha", "Penalty α"),
        }


def network_and_graph() -> tuple[str, int]:
    """What is looked at; without the data of the real networks, the synthetic one."""
    with st.container(horizontal=True):
        network, number = control.select("net", "Network"), control.slider("graph", "Graph")
    if network != SYNTHETIC and need_asset("contacts") is None:
        st.caption("Until then the synthetic network is shown.")
        return SYNTHETIC, number
    return network, number


def the_scores(network: str, here: View) -> None:
    """This graph beside trivial answers, then all graphs."""
    figure(figures.score_strip(here), "strip")
    with st.expander("The same as a table", icon=":material/table:"):
        table(score_rows(here))
    target = control.select("score", "Score over all graphs")
    figure(figures.score_dots(committed(), target=target, network=network), "dots")


def the_lottery(network: str, number: int, k: int) -> None:
    """Flip signs that mean nothing."""
    with st.container(horizontal=True):
        degree = control.select("degree", "Degree")
        seed = control.slider("draw", "Draw again")
    figure(
        figures.flip_lottery(drawn(network, number, degree, k, seed), degree=degree),
        "lottery",
        seed=seed,
    )


@cached
def example(network: str, rank: int) -> OwnModes:
    """Modes of the states of one training graph, as if they had been uploaded."""
    return own_modes(committed().arrays[f"{network}/pooled"][0].astype(float), rank)


def your_series(network: str) -> None:
    """Modes of a series of one's own."""
    st.markdown(
        "A `.csv` or `.tsv` table of (time, features), or an `.npy`, `.npz` or `.safetensors` "
        "array of (time, features) or (time, nodes, features): hidden states of your own model, "
        "sensors, prices. At most 20 MB; it stays in this session."
    )
    upload = st.file_uploader(
        "Your series", type=["csv", "tsv", "npy", "npz", "safetensors"], max_upload_size=20
    )
    rank = control.slider("rank", "Modes")
    if upload is None:
        st.caption("Until then: the mean state of one training graph, 50 steps of 32 features.")
        modes = example(network, rank)
    else:
        try:
            modes = decomposed(upload.getvalue(), upload.name, rank)
        except UploadError as error:
            st.error(str(error), icon=":material/upload_file:")
            return
    if modes.rank < rank:
        st.caption(f"The series carries {modes.rank} modes; more would fit rounding errors.")
    figure(figures.own_plane(modes), "own-plane")
    figure(figures.own_series(modes), "own-series")


def look_further(network: str, number: int, here: View, settings: dict[str, Any]) -> None:
    """The chosen view below the graph."""
    chosen = control.select("view", "Look further")
    if chosen == "scores":
        the_scores(network, here)
    elif chosen == "eigenvalues":
        k, alpha = settings["k"], settings["alpha"]
        found = eigenvalues(network, k, alpha)
        figure(figures.eigenvalue_plane(found, network=network, alpha=alpha, k=k), "plane")
    elif chosen == "sign flips":
        the_lottery(network, number, settings["k"])
    elif chosen == "deletion":
        rows = committed().tables["deletion"]
        figure(figures.deletion_curves(rows, network=network), "deletion")
    elif chosen == "training":
        figure(figures.learning_curves(committed()), "training")
    else:
        your_series(network)


@page(
    "koopman",
    control,
    claim="koopman-nodes",
    presets=PRESETS,
    look="Change the mode: the picture barely follows it. Change the explainer to *always* and "
    "read the F1 of windows; then to *count change*, which never saw the network. The norm of the "
    "embedded state ranks people far better than one mode, but the input flag, which the "
    "network is given, ranks them perfectly.",
    code=(fit_operator, node_relevance, dmd, edge_sindy),
)
def body() -> None:
    """The page."""
    settings = sidebar()
    st.markdown(
        "An infection spreads over real contacts; a recurrent graph network was trained to tell it "
        "from scrambled labels. Does its hidden state say when it spread, and through whom?"
    )
    network, number = network_and_graph()
    if number not in range(len(shown(committed(), network))):
        number = 0
    here = seen(network, number, settings)
    figure(figures.where_and_when(here), "where")
    look_further(network, number, here, settings)


if __name__ == "__main__":
    body()
