"""P06: key norms. A head seen closely, the map of heads, and what dropping by norm costs.

Opens on committed results; a text of one's own runs on the real model, in a worker process.
"""

from typing import Any

import streamlit as st

from app.ui import (
    Choice,
    Controls,
    Flag,
    Preset,
    Range,
    Several,
    Text,
    cached,
    figure,
    long_job,
    need_asset,
    page,
    shared,
)
from app.ui.parameters import Table
from labcore import uploads
from labcore.kvcache import alr, figures, key_norms, select
from labcore.kvcache.experiment import load_result
from labcore.kvcache.explorer import HeadView, head_view, key_head
from labcore.runs import Result

ASSETS = ("smollm2-135m",)
VIEWS = ("map", "perplexity", "rolling", "retrieval")
POLICIES = (
    "low_norm", "low_norm+guards", "random", "random+guards", "high_norm", "high_norm+guards",
    "sink_window", "observation", "accumulated", "key_difference",
)  # fmt: skip
EXAMPLE = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
    "The pass key is 71432. Remember it. 71432 is the pass key. The grass is green. The sky is "
    "blue. The sun is yellow. Here we go. There and back again. What is the pass key? The pass "
    "key is"
)
PARAMETERS: Table = {
    "layer": Range(5, 0, 29, about="layer of the model, 0 reads the words"),
    "head": Range(4, 0, 8, about="query head"),
    "rho": Range(0.5, 0.05, 1.0, 0.05, "share of the pairs that stay"),
    "sinks": Range(0, 0, 8, about="first positions that always stay"),
    "recent": Range(0, 0, 8, about="newest positions that always stay"),
    "view": Choice("map", VIEWS, "what to look at below the head"),
    "metric": Choice("relative_alr", ("relative_alr", "recency", "spearman"), "measure of the map"),
    "first": Flag(True, "count position 0, the attention sink"),
    "doc": Choice("moby", ("moby", "2010"), "text of the map: a novel or a speech"),
    "scores": Several(
        ("low_norm", "low_norm+guards", "random", "random+guards", "sink_window"),
        POLICIES,
        "what to compare",
    ),
    "n": Choice(512, (512, 1024), "tokens of the prompt"),
    "policy": Choice("low_norm", ("low_norm", "low_norm+recent", "sink_window"), "rolling cache"),
    "filler": Choice("repeat", ("repeat", "prose", "needle"), "what hides the answer"),
    "text": Text(EXAMPLE, 2_000, "a text of your own"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset(
        "The sink",
        "One star at the left edge takes most of the attention.",
        {"layer": 17, "head": 3},
    ),
    Preset(
        "Without the sink",
        "Half of the blue fades: in the deep layers the norm knew little more than position 0.",
        {"first": False, "view": "map"},
    ),
    Preset(
        "Guards matter more",
        "Give random dropping the first 4 and newest 16 pairs and compare it with the rule.",
        {
            "view": "perplexity",
            "scores": ("low_norm", "low_norm+guards", "random+guards", "random"),
        },
    ),
    Preset(
        "The filler decides",
        "The same rule that finds the key between repeated sentences loses it in prose.",
        {"view": "retrieval", "filler": "prose"},
    ),
)


@cached
def view_of(layer: int, head: int, rho: float, sinks: int, recent: int) -> HeadView:
    """The chosen head of the committed text."""
    result = committed()
    rows = result.tables["sample"]
    return head_view(
        [row["token"] for row in rows],
        result.arrays["sample/norms"],
        result.arrays["sample/window_mean"],
        window=rows[0]["window"],
        layer=layer,
        head=head,
        keep_ratio=rho,
        sinks=sinks,
        recent=recent,
    )


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


def head_explorer(settings: dict[str, Any]) -> None:
    """Scatter of norm and attention, and the text with what is dropped."""
    view = view_of(**settings)
    draw_head(view, settings["layer"], settings["head"], "head")


def draw_head(view: HeadView, layer: int, head: int, key: str) -> None:
    """The two figures of one head."""
    before = view.tokens[: len(view.attention)]
    figure(
        figures.norm_scatter(
            view.norms[: len(before)],
            view.attention,
            before,
            layer=layer,
            head=head,
            relative_alr=view.relative_alr,
        ),
        f"{key}-scatter",
    )
    figure(figures.token_strip(view.tokens, view.percentiles, view.kept), f"{key}-strip")


def the_map() -> None:
    """Where norms predict attention, and which tokens have short keys."""
    with st.container(horizontal=True):
        doc = control.select("doc", "Text")
        metric = control.select("metric", "Measure")
        first = control.toggle("first", "Count position 0")
    name = metric if first else f"{metric}_without_first"
    figure(
        figures.head_map_figure(
            committed().arrays[f"map/{doc}@512/{name}"],
            metric="relative_alr" if metric == "recency" else metric,
            order="recency" if metric == "recency" else "norm",
            without_first=not first,
            text=doc,
        ),
        "map",
    )
    figure(figures.low_norm_tokens(committed().tables["low_norm_tokens"], text=doc), "low")


def the_perplexity() -> None:
    """Perplexity after one prune, and what memory and time that saves."""
    with st.container(horizontal=True):
        n = control.select("n", "Prompt")
        scores = control.many("scores", "Scores")
    rows = committed().tables["prune"]
    measured = {row["policy"] for row in rows if row["length"] == n}
    names = tuple(name for name in scores if name in measured) or ("low_norm",)
    figure(figures.perplexity_curves(rows, length=n, policies=names), "perplexity")
    figure(figures.bytes_ledger(4096, keep_ratio=control.settings()["rho"]), "bytes")
    figure(figures.time_ledger(committed().tables["step_times"]), "time")


def the_rolling(layer: int, head: int) -> None:
    """A cache of bounded size while the text goes by."""
    policy = control.select("policy", "Policy")
    result = committed()
    film = next(row for row in result.tables["film"] if row["policy"] == policy)
    stack = result.arrays[f"film/{policy}"]
    group = key_head(head, result.arrays["sample/window_mean"].shape[1], stack.shape[1])
    figure(
        figures.rolling_film(
            stack[layer, group],
            [row["token"] for row in result.tables["sample"]][: stack.shape[2]],
            budget=film["budget"],
            policy=policy,
            layer=layer,
            head=group,
        ),
        "film",
    )
    rows = result.tables["rolling"]
    first = rows[0]
    setting = {name: first[name] for name in ("tokens", "budget", "prune_to")}
    figure(figures.rolling_bars(rows, **setting), "rolling")


def the_retrieval() -> None:
    """Does the model still find a pass key, or a sentence?"""
    filler = control.select("filler", "Hidden in")
    result = committed()
    if filler == "needle":
        rows, task, column = result.tables["needle"], "needle", "accuracy"
    else:
        rows = result.where("passkey", filler=filler, question="after")
        task, column = f"pass key, {filler}", "exact"
    figure(figures.retrieval_curves(rows, column=column, task=task), "curves")
    figure(figures.retrieval_grid_figure(rows, column=column, task=task), "grid")
    start = "passkey_percentiles/"
    digits = {
        k.removeprefix(start).split("@")[0]: v
        for k, v in result.arrays.items()
        if k.startswith(start)
    }
    figure(figures.passkey_norms(digits), "digits")


def your_text(settings: dict[str, Any]) -> None:
    """The same on a text of one's own, and the model going on from fewer keys."""
    if need_asset("smollm2-135m") is None:
        return
    text = control.text("text", "Text", lines=5)
    upload = st.file_uploader("or a text file", type=["txt", "md"], max_upload_size=1)
    if upload is not None:
        try:
            text = uploads.read_text(upload.getvalue(), upload.name)
        except uploads.UploadError as error:
            st.error(str(error), icon=":material/upload_file:")
            return
    seen = long_job(
        "look",
        "labcore.kvcache.live.close_up",
        text,
        label="Look at the keys of this text",
        seconds=6,
    )
    if seen is not None:
        if seen.cut:
            st.caption(f"The last {seen.cut} tokens did not fit and were left out.")
        size = {name: settings[name] for name in ("layer", "head", "sinks", "recent")}
        own = head_view(
            seen.tokens,
            seen.norms,
            seen.window_mean,
            window=seen.window,
            keep_ratio=settings["rho"],
            **size,
        )
        draw_head(own, settings["layer"], settings["head"], "own")
        figure(
            figures.head_map_figure(seen.maps["relative_alr"], metric="relative_alr", text="yours"),
            "own-map",
        )
    written = long_job(
        "write",
        "labcore.kvcache.live.continue_text",
        text,
        keep_ratio=settings["rho"],
        sinks=settings["sinks"],
        recent=settings["recent"],
        label=f"Let the model go on, from {settings['rho']:.0%} of the pairs",
        seconds=12,
    )
    if written is not None:
        _show_written(written)


def _show_written(written: Any) -> None:
    left, right = st.columns(2)
    left.metric("Whole cache", f"{written.full_bytes / 1e6:.2f} MB")
    left.code(written.full, language=None, wrap_lines=True)
    right.metric("Compressed", f"{written.kept_bytes / 1e6:.2f} MB")
    right.code(written.compressed, language=None, wrap_lines=True)
    st.caption(
        f"The first {written.same_tokens} of {written.new_tokens} tokens agree. Layers 0 and 1 are "
        "left whole, as published."
    )


@page(
    "kvcache",
    control,
    claim="kvcache-correlation",
    presets=PRESETS,
    look="Token 0, full stops and a few function words have the shortest keys. Walk through the "
    "layers: in layer 0 norm and attention have nothing to do with each other, in layers 3-8 "
    "small sinks stand inside the text, from layer 12 on the first token takes most. The model "
    "is 60 times smaller than the paper's.",
    code=(key_norms, select, alr),
)
def body() -> None:
    """The page."""
    with st.sidebar:
        settings = {
            "layer": control.slider("layer", "Layer"),
            "head": control.slider("head", "Query head"),
            "rho": control.slider("rho", "Share kept ρ"),
            "sinks": control.slider("sinks", "Sinks kept"),
            "recent": control.slider("recent", "Recent kept"),
        }
    st.markdown(
        "Each point is a token of *Moby Dick*'s opening, in SmolLM2-135M: look whether short keys "
        "(left) are the ones that later tokens attend to (top)."
    )
    head_explorer(settings)
    view = control.select("view", "Look further")
    if view == "map":
        the_map()
    elif view == "perplexity":
        the_perplexity()
    elif view == "rolling":
        the_rolling(settings["layer"], settings["head"])
    else:
        the_retrieval()
    with st.expander("Your own text, live on the model", icon=":material/edit:"):
        your_text(settings)


if __name__ == "__main__":
    body()
