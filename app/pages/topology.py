"""P04 and P07: lift a graph, see what a node reads, and which domain wins where.

Opens on committed results; a graph of one's own and a run of one's own work live.
"""

from typing import Any

import streamlit as st

from app.ui import (
    Choice,
    Controls,
    Flag,
    Preset,
    Range,
    Text,
    cached,
    figure,
    long_job,
    page,
    shared,
)
from app.ui.parameters import Table
from app.ui.tables import downloads, table
from labcore import uploads
from labcore.runs import Result
from labcore.topology import NodeSequencer, clique_complex, explorer, figures, rank_operators
from labcore.topology.experiment import board_row, history, load_result
from labcore.topology.scan_view import DIRECTIONS, hidden_attention
from labcore.topology.tally import distinct, pick, score

ASSETS = ("tu-graphs",)
VIEWS = ("complex", "sequence", "benchmark", "your graph")
DATA = ("karate", "mutag", "digits", "surfaces", "torus-or-klein")
LIVE = ("gcn", "scn", "sccnn-unsigned", "san", "mamba", "cwn")
PARAMETERS: Table = {
    "view": Choice("complex", VIEWS, "what to look at"),
    "graph": Choice("karate", explorer.GRAPHS, "which graph"),
    "lifting": Choice("simplicial/clique", explorer.LIFTS, "domain and rule of the lifting"),
    "dim": Range(3, 1, 4, about="highest rank of the simplices"),
    "relabel": Range(0, 0, 9, about="seed of a renaming of the nodes, 0 for none"),
    "basis": Choice("minimum", ("minimum", "fundamental"), "cycles that get a polygon"),
    "node": Range(0, 0, 76, about="node to look at; the last one if there are fewer"),
    "holes": Flag(False, "draw a flow that runs round a hole"),
    "matrix": Choice("boundary", explorer.MATRICES, "matrix to look at"),
    "rank": Range(1, 0, 3, about="rank of the matrix"),
    "signs": Choice("signed", explorer.MODES, "what becomes of the signs"),
    "mode": Choice("both", DIRECTIONS, "direction in which the sequence is read"),
    "order": Choice("descending", explorer.ORDERS, "order of the ranks"),
    "scale": Range(1.0, 0.1, 10.0, 0.1, "factor on the step size of the scan"),
    "data": Choice("mutag", DATA, "data set"),
    "model": Choice("mamba", LIVE, "model to run here"),
    "seed": Range(0, 0, 9, about="split and first weights of the run"),
    "edges": Text("ann bob\nbob cid\ncid ann\ncid dan\n", 4_000, "an edge list of your own"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset("A hub", "Node 33 is in 15 triangles: its first tokens are long.",
           {"view": "sequence", "node": 33}),
    Preset("No triangles", "In a bipartite graph the highest rank does nothing; cycles do.",
           {"graph": "davis", "lifting": "cell/cycle"}),
    Preset("Rings that move",
           "Rename the nodes: lengths of a fundamental basis change, of a minimum basis never.",
           {"graph": "petersen", "lifting": "cell/cycle", "basis": "fundamental", "relabel": 3}),
    Preset("Neighbours that vanish",
           "Absolute values after the sum: in a filled triangle up and down cancelled before.",
           {"matrix": "hodge", "signs": "abs_after", "graph": "florentine"}),
    Preset("A slip in the code", "As published, backward is the forward pass turned round.",
           {"view": "sequence", "mode": "as published"}),
    Preset("Which domain wins?", "Read the baselines first, then the width of the bars.",
           {"view": "benchmark"}),
)  # fmt: skip
view_of = cached(explorer.view)
tokens_of = cached(explorer.node_tokens)
matrix_of = cached(explorer.matrix_of)
attention_of = cached(hidden_attention)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


def lifted_by(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments that name a lifted graph."""
    return {
        "name": settings["graph"],
        "lifting": settings["lifting"],
        "max_dim": settings["dim"],
        "relabel": settings["relabel"],
        "basis": settings["basis"],
        "text": settings.get("text", ""),
    }


def the_complex(settings: dict[str, Any], key: str = "complex") -> None:
    """The cells of a graph, its spectra and one of its matrices."""
    seen = view_of(**lifted_by(settings))
    st.markdown(seen.facts)
    holes = control.toggle("holes", "Show a flow round a hole") if key == "complex" else False
    flow = seen.harmonic if holes else None
    if holes and flow is None:
        st.info("No hole of rank 1 here, so no such flow: its Betti number is 0.")
    node = seen.nearest(settings["node"])
    figure(
        figures.complex_drawing(
            seen.places, seen.edges, seen.cells, node=node, names=seen.names, flow=flow
        ),
        f"{key}-drawing",
    )
    if seen.spectra:
        figure(figures.spectra(seen.spectra), f"{key}-spectra")
    if key == "complex":
        the_matrix(settings)


def the_matrix(settings: dict[str, Any]) -> None:
    """A boundary matrix, Laplacian or adjacency, as signed squares."""
    with st.container(horizontal=True):
        kind, rank = control.select("matrix", "Matrix"), control.slider("rank", "Rank")
        signs = control.select("signs", "Signs")
    found = matrix_of(**lifted_by(settings), kind=kind, rank=rank, mode=signs)
    if found is None:
        st.info("This matrix is empty or too large to draw: lower the rank.")
        return
    figure(figures.matrix_signs(found, **explorer.matrix_labels(kind, rank, signs)), "spy")


def the_sequence(settings: dict[str, Any]) -> None:
    """What a node reads, and how a scan reads it."""
    with st.container(horizontal=True):
        order, mode = control.select("order", "Ranks"), control.select("mode", "Direction")
        scale = control.slider("scale", "Step size ×")
    tokens = tokens_of(**lifted_by(settings), node=settings["node"], order=order)
    seen = view_of(**lifted_by(settings))
    figure(
        figures.complex_drawing(
            seen.places, seen.edges, seen.cells, node=tokens.node, names=seen.names
        ),
        "ring",
    )
    figure(figures.token_strip(tokens.values, tokens.ranks, node=tokens.node), "tokens")
    matrix = attention_of(tokens.values, scale=scale, mode=mode)
    figure(figures.hidden_attention(matrix, tokens.names, mode=mode), "attention")
    rows = committed().tables["runs"]
    figure(figures.ablation(rows), "ablation")


def the_benchmark() -> None:
    """Model x domain x data, from committed runs, and a run of one's own."""
    rows = committed().tables["runs"]
    figure(figures.table_map(rows), "map")
    downloads(rows, "topology-runs", "All runs")
    figure(figures.domain_gain(rows), "gain")
    data = control.select("data", "Data")
    figure(figures.leaderboard(rows, data=data), "leaderboard")
    figure(figures.cost(rows, data=data), "cost")
    names = [n for n in distinct(pick(rows, data=data), "label") if curve_of(data, n)]
    by_validation = sorted(names, key=lambda n: score(rows, data, n, "val").mean, reverse=True)
    best = by_validation[:4]
    if best:
        figure(figures.race({n: curve_of(data, n) for n in best}, data=data), "race")
    st.subheader("A run of your own")
    run_here()


def curve_of(data: str, label: str) -> list[dict[str, float]]:
    """A committed learning curve; none for baselines without one and for the ablation."""
    if label.startswith("ablation") or f"curve/{data}/{label}" not in committed().arrays:
        return []
    return history(committed(), data, label)


def run_here() -> None:
    """Train one model on the karate club and keep it in this session's table."""
    with st.container(horizontal=True):
        model, seed = control.select("model", "Model"), control.slider("seed", "Seed")
    lifting = {"gcn": "graph/identity", "cwn": "cell/cycle"}.get(model, "simplicial/clique")
    choice = {"data": "karate", "lifting": lifting, "model": model, "width": 16}
    live = long_job(
        "live",
        "labcore.topology.experiment.run_one",
        choice,
        seed,
        label=f"Train {model} on the karate club",
        seconds=6,
    )
    if live is None:
        return
    figure(figures.learning_curve(live["history"], label=f"karate, {model}"), "live")
    board = st.session_state.setdefault("topology-board", {})
    board[model, seed] = board_row(choice, seed, live)
    table(sorted(board.values(), key=lambda row: row["validation"], reverse=True))


def your_graph(settings: dict[str, Any]) -> None:
    """Lift an edge list from a box or a file.

    Raises:
        ValueError: what the text or the lifting lacks, for the reader.
    """
    text = control.text("edges", "Edges: two names a line", lines=6)
    upload = st.file_uploader("or a text file", type=["txt", "csv"], max_upload_size=1)
    if upload is not None:
        text = uploads.read_text(upload.getvalue(), upload.name)
    settings = {**settings, "text": text}
    the_complex(settings, "own")
    tokens = tokens_of(**lifted_by(settings), node=settings["node"])
    figure(figures.token_strip(tokens.values, tokens.ranks, node=tokens.node), "own-tokens")


def show(view: str, settings: dict[str, Any]) -> None:
    """One view, with the sentence that says what to look at."""
    if view == "complex":
        st.markdown("Look how many cells each lifting adds, and how few holes are left.")
        the_complex(settings)
    elif view == "sequence":
        st.markdown("Look at the first columns: what a node's largest cells tell it.")
        the_sequence(settings)
    elif view == "benchmark":
        st.markdown("Look for the bold number of each column, and in which domain it stands.")
        the_benchmark()
    else:
        st.markdown("Look at the counts: hubs make triangles grow with the square of the degree.")
        your_graph(settings)


@page(
    "topology",
    control,
    claim="topology-mamba-competitive",
    presets=PRESETS,
    look="Features of higher ranks are copies of node features, so what a lifting can add is "
    "structure. Compare each model with the three baselines first, then look at the bars: most "
    "differences between domains are smaller than the spread over seeds. The node itself is "
    "read last, so in one direction only the order of the ranks matters.",
    code=(clique_complex, rank_operators, NodeSequencer),
)
def body() -> None:
    """The page."""
    view = control.select("view", "Look at")
    names = ("graph", "lifting", "dim", "relabel", "basis", "node")
    settings = {name: PARAMETERS[name].default for name in names}
    if view != "benchmark":
        with st.sidebar:
            if view != "your graph":
                settings["graph"] = control.select("graph", "Graph")
            settings["lifting"] = control.select("lifting", "Lifting")
            settings["node"] = control.slider("node", "Node")
            settings["dim"] = control.slider("dim", "Highest rank")
            settings["relabel"] = control.slider("relabel", "Rename the nodes")
            settings["basis"] = control.select("basis", "Cycle basis")
    try:
        show(view, settings)
    except ValueError as error:  # a lifting that would explode, a text that is no edge list
        st.error(str(error), icon=":material/block:")


if __name__ == "__main__":
    body()
