"""P04 and P07: lift a graph and see what a node reads; and a benchmark of models and domains.

Opens on committed results; a graph of one's own and a run of one's own work live.
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
    long_job,
    look_for,
    page,
    shared,
    show_code,
)
from app.ui.parameters import Table
from app.ui.tables import claim_rows, claims_table, downloads
from labcore import uploads
from labcore.runs import Result
from labcore.topology import NodeSequencer, clique_complex, explorer, figures, rank_operators
from labcore.topology.experiment import load_result

ASSETS = ("tu-graphs",)
MODES = ("forward", "backward", "both", "as published")
PARAMETERS: Table = {
    "graph": Choice("karate", explorer.GRAPHS, "which graph"),
    "lifting": Choice("simplicial/clique", explorer.LIFTS, "domain and rule of the lifting"),
    "node": Range(0, 0, 76, about="node to look at; the last one if there are fewer"),
    "dim": Range(3, 1, 3, about="highest rank of the simplices"),
    "relabel": Range(0, 0, 9, about="seed of a renaming of the nodes, 0 for none"),
    "basis": Choice("minimum", ("minimum", "fundamental"), "cycles that get a polygon"),
    "mode": Choice("both", MODES, "direction in which the sequence is read"),
    "scale": Range(1.0, 0.1, 10.0, 0.1, "factor on the step size of the scan"),
    "rank": Range(1, 1, 3, about="rank of the boundary matrix"),
    "data": Choice(
        "mutag", ("karate", "mutag", "digits", "surfaces", "torus-or-klein"), "data set"
    ),
    "model": Choice("mamba", ("sccnn-unsigned", "scn", "mamba"), "model to run here"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset("A hub", "Node 33 is in 15 triangles: its first tokens are long.", {"node": 33}),
    Preset(
        "No triangles",
        "In a bipartite graph the highest rank does nothing; rings do.",
        {"graph": "davis", "lifting": "cell/cycle"},
    ),
    Preset(
        "Rings that move",
        "Rename the nodes: lengths of a fundamental basis change, of a minimum basis never.",
        {"graph": "petersen", "lifting": "cell/cycle", "basis": "fundamental", "relabel": 3},
    ),
    Preset(
        "A slip in the code",
        "As published, the backward pass is the forward pass turned round.",
        {"mode": "as published"},
    ),
)
named_view = cached(explorer.named_view)
own_view = cached(explorer.own_view)
scan_matrix = cached(explorer.scan_matrix)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


def draw(view: explorer.View, node: int, key: str) -> None:
    """Complex, sequence, hidden attention, matrices and spectra of a view."""
    node = min(node, view.last)
    st.markdown(view.facts)
    figure(
        figures.complex_drawing(view.places, view.edges, view.cells, node=node, names=view.names),
        f"{key}-complex",
    )
    figure(figures.token_strip(view.tokens, view.ranks, node=node), f"{key}-tokens")
    if key == "named":
        mode, scale = control.select("mode", "Direction"), control.slider("scale", "Step size ×")
        figure(
            figures.hidden_attention(
                scan_matrix(view.tokens, scale=scale, mode=mode), view.token_names, mode=mode
            ),
            f"{key}-attention",
        )
        rank = control.slider("rank", "Boundary of rank")
        chosen = view.boundary(rank)
        if chosen is not None:
            figure(figures.matrix_signs(chosen[0], **chosen[1]), f"{key}-boundary")
    if view.spectra:
        figure(figures.spectra(view.spectra), f"{key}-spectra")


def your_graph(settings: dict[str, Any]) -> None:
    """Lift an edge list from a file."""
    upload = st.file_uploader("An edge list: two names a line", type=["txt"], max_upload_size=1)
    if upload is None:
        return
    try:
        text = uploads.read_text(upload.getvalue(), upload.name)
        view = own_view(text, settings["lifting"], settings["node"], settings["max_dim"])
    except ValueError as error:
        st.error(str(error), icon=":material/upload_file:")
        return
    draw(view, settings["node"], "own")


def the_benchmark() -> None:
    """Model x domain x data, from committed runs, and one run here."""
    rows = committed().tables["runs"]
    data = control.select("data", "Data")
    figure(figures.leaderboard(rows, data=data), "leaderboard")
    figure(figures.cost(rows, data=data), "cost")
    figure(figures.domain_gain(rows), "gain")
    figure(figures.ablation(rows), "ablation")
    downloads(rows, "topology-runs", "All runs")
    model = control.select("model", "Run here on the karate club")
    live = long_job(
        "live",
        "labcore.topology.experiment.run_one",
        {"data": "karate", "lifting": "simplicial/clique", "model": model, "width": 16},
        label=f"Train {model}",
        seconds=6,
    )
    if live is not None:
        figure(figures.learning_curve(live["history"], label=f"karate, {model}"), "live")


@page("topology", control)
def body() -> None:
    """The page."""
    control.presets(PRESETS)
    with st.sidebar:
        graph, lifting = control.select("graph", "Graph"), control.select("lifting", "Lifting")
        node, dim = control.slider("node", "Node"), control.slider("dim", "Highest rank")
        relabel = control.slider("relabel", "Rename the nodes")
        basis = control.select("basis", "Cycle basis")
    st.subheader("Lift a graph, and read a node's cells")
    draw(named_view(graph, lifting, node, dim, relabel, basis), node, "named")
    with st.expander("Your own graph", icon=":material/upload_file:"):
        your_graph({"lifting": lifting, "node": node, "max_dim": dim})
    st.subheader("Does the domain matter?")
    the_benchmark()
    look_for(
        "Features of higher ranks are copies of node features, so what a lifting can add is "
        "structure. Compare each model with the three baselines first, then look at the bars: most "
        "differences between domains are smaller than the spread over seeds."
    )
    with st.expander("The published claims, judged on these results", icon=":material/gavel:"):
        claims_table(claim_rows("topology"))
    for function in (clique_complex, rank_operators, NodeSequencer):
        show_code(function, f"Show me the code: {function.__name__}")


if __name__ == "__main__":
    body()
