"""P10: conditional computation. Experts, tokens and depth: what each input really needs."""

import streamlit as st

from app.ui import (
    Choice,
    Controls,
    Preset,
    Range,
    cached,
    figure,
    long_job,
    need_asset,
    page,
    shared,
)
from app.ui.parameters import Table
from labcore import uploads
from labcore.conditional import figures, load_balancing_loss
from labcore.conditional.dispatch import dispatch
from labcore.conditional.exits import exit_layers
from labcore.conditional.experiment import Config, load_result
from labcore.conditional.explorer import canvas_panels, likes, river_of
from labcore.conditional.matching import bipartite_soft_matching
from labcore.conditional.photo import PAIRS, PHOTOS, kept_photo, paint
from labcore.runs import Result

ASSETS = ("mnist", "fashion-mnist", "vit-s-dinov2")
ARMS = ("top-1, no balance", "top-1, balanced", "top-2, no balance", "top-2, balanced")
VIEWS = ("film", "likes", "gradients", "exits", "tokens", "cost", "merge")
PARAMETERS: Table = {
    "arm": Choice("top-1, no balance", ARMS, "which trained router"),
    "block": Choice(4, (2, 4), "block with experts"),
    "picture": Range(0, 0, 11, about="test picture"),
    "k": Range(1, 1, 8, about="experts a token may use"),
    "noise": Range(0.0, 0.0, 3.0, 0.1, "standard deviation of noise on the router's logits"),
    "cap": Range(0.0, 0.0, 3.0, 0.25, "capacity factor of each expert; 0 is no limit"),
    "view": Choice("film", VIEWS, "what to look at below the switchboard"),
    "part": Choice("patches", ("patches", "class token"), "whose experts"),
    "logit": Range(0.0, -4.0, 4.0, 0.25, "log-odds of an open gate"),
    "tau": Range(0.5, 0.1, 5.0, 0.1, "temperature of the Gumbel estimators"),
    "size": Choice(2, (2, 16), "categories of the choice"),
    "training": Choice("joint", ("joint", "separate"), "how the heads were trained"),
    "rule": Choice("confidence", ("confidence", "margin", "entropy", "budget"), "when to leave"),
    "theta": Range(0.7, 0.2, 1.0, 0.05, "threshold of the rule, or share of the FLOPs"),
    "heat": Choice("raw", ("raw", "calibrated"), "probabilities before or after calibration"),
    "canvas": Range(0, 0, 7, about="test canvas"),
    "level": Choice("medium", ("light", "medium", "strong"), "how much is left out"),
    "axis": Choice("flops", ("flops", "time"), "what is counted as cost"),
    "photo": Choice("china", PHOTOS, "photograph"),
    "r": Choice(24, PAIRS, "pairs of tokens merged in each block"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset(
        "Uneven without a rule",
        "One expert a token and no balance loss: count how many lines the busiest expert gets.",
        {"arm": "top-1, no balance", "k": 1},
    ),
    Preset(
        "Full house",
        "Balanced, but only as many places as an even load needs: dotted tokens find no place.",
        {"arm": "top-1, balanced", "k": 1, "cap": 1.0},
    ),
    Preset(
        "Narrow and wrong",
        "Straight-through is narrow and off; the score function is centred and wide.",
        {"view": "gradients", "logit": 1.0, "tau": 0.5},
    ),
    Preset(
        "A third of the cost",
        "Thresholds fitted on validation pictures; read accuracy and cost on test.",
        {"view": "exits", "rule": "budget", "theta": 0.35, "heat": "calibrated"},
    ),
    Preset(
        "Who melts first",
        "Sky and roofs become few tokens before edges do.",
        {"view": "merge", "photo": "china", "r": 40},
    ),
)
flow_of = cached(river_of)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


def the_switchboard() -> None:
    """Tokens, experts, lines."""
    values = control.settings()
    arrays = committed().arrays
    arm, block, picture = values["arm"], values["block"], values["picture"]
    figure(
        figures.switchboard(
            arrays[f"logits/{arm}/{block}"][picture],
            arrays[f"pictures/{arm}"][picture],
            k=values["k"],
            noise=values["noise"],
            capacity=values["cap"],
            title=f"{arm}, block {block}",
        ),
        "switchboard",
        seed=0,
    )


def the_film() -> None:
    """Load of the experts through training, with and without the balance loss."""
    values = control.settings()
    figure(
        figures.load_film(
            committed().arrays[f"film/{values['arm']}"],
            layer=(2, 4).index(values["block"]),
            every=6,
            arm=values["arm"],
        ),
        "film",
    )


def the_likes() -> None:
    """Experts against classes, and their favourite patches."""
    values = control.settings()
    part = control.select("part", "Tokens")
    arm, block = values["arm"], values["block"]
    counts = likes(committed().arrays, arm, block, part)
    figure(figures.likes_map(counts, arm=arm, layer=block, tokens=part), "likes")
    best = committed().arrays[f"best/{arm}/{block}"]
    figure(figures.favourite_patches(best, arm=arm, layer=block), "best")


def the_gradients() -> None:
    """Gradient samples against the exact value."""
    with st.container(horizontal=True):
        logit = control.slider("logit", "Logit")
        tau = control.slider("tau", "Temperature")
        size = control.select("size", "Categories")
    figure(figures.gradient_histogram(logit, tau), "gradients", seed=0)
    figure(figures.bias_and_spread(committed().tables["estimators"], categories=size), "bias")


def the_exits() -> None:
    """The river of samples, the rules and the gallery."""
    with st.container(horizontal=True):
        training = control.select("training", "Heads")
        rule = control.select("rule", "Rule")
        heat = control.select("heat", "Probabilities")
    theta = control.slider("theta", "Threshold, or budget")
    result = committed()
    flow = flow_of(result.arrays, training, rule, theta, heat == "calibrated")
    figure(figures.exit_river(flow, setting=f"{training} heads, {rule} {theta:g}, {heat}"), "river")
    left, right = st.columns(2)
    left.metric("Accuracy", f"{flow.accuracy:.1%}")
    right.metric("FLOPs", f"{flow.ratio:.1%}")
    figure(
        figures.exit_gallery(result.arrays["exits/easiest"], result.arrays["exits/hardest"]),
        "gallery",
    )
    tables = result.tables
    figure(
        figures.exit_curves(tables["rules"], tables["oracle"], tables["heads"], training=training),
        "curves",
    )
    figure(figures.head_accuracy(tables["heads"]), "heads")
    figure(figures.anytime_curve(tables["anytime"]), "anytime")
    real = ("feature_heads", "feature_budgets", "feature_oracle")
    figure(figures.real_exits(*(tables[name] for name in real)), "real")


def the_tokens() -> None:
    """What each method leaves of a canvas."""
    with st.container(horizontal=True):
        number = control.slider("canvas", "Canvas")
        level = control.select("level", "Left out")
    arrays = committed().arrays
    figure(
        figures.canvas_tokens(
            arrays["canvas/images"][number],
            canvas_panels(arrays, number, level),
            label=int(arrays["canvas/labels"][number]),
        ),
        "canvas-tokens",
    )


def the_cost() -> None:
    """All families on one axis, then the clock against the FLOPs."""
    tables = committed().tables
    figure(figures.cost_accuracy(tables, control.select("axis", "Cost")), "cost")
    figure(figures.flops_and_time(tables), "time-figure")


def the_merge() -> None:
    """Merging the tokens of a photograph inside the real ViT-S; a photograph of one's own."""
    with st.container(horizontal=True):
        name = control.select("photo", "Photograph")
        r = control.steps("r", "Pairs merged in each block")
    figure(figures.merge_map(kept_photo(committed().arrays, name, r)), "merge-figure")
    st.caption(
        "Photographs: scikit-learn, CC BY 2.0. Network: ViT-S/14 (DINOv2), not trained further."
    )
    upload = st.file_uploader("A photograph of your own", type=["png", "jpg", "jpeg"], key="own")
    if upload is not None and need_asset("vit-s-dinov2") is not None:
        _own_photograph(upload.getvalue(), upload.name, r)
    figure(figures.feature_kept(committed().tables["photographs"]), "kept-figure")


def _own_photograph(data: bytes, name: str, r: int) -> None:
    try:
        picture = uploads.read_image(data, name)
    except uploads.UploadError as error:
        st.error(str(error), icon=":material/upload_file:")
        return
    work = "labcore.conditional.photo.merge_upload"
    merged = long_job("look", work, picture, label="Merge its tokens", seconds=8)
    if merged is not None:
        square, groups = merged
        figure(figures.merge_map(paint(square, groups[r])), "own-merge-figure")


DRAW = {
    "film": the_film,
    "likes": the_likes,
    "gradients": the_gradients,
    "exits": the_exits,
    "tokens": the_tokens,
    "cost": the_cost,
    "merge": the_merge,
}


@page(
    "conditional",
    control,
    claim="conditional-efficiency-tokens",
    presets=PRESETS,
    look="Without the balance loss the busiest expert gets about twice its even share; with it "
    "less, but this small router never collapses onto one. A patch's expert knows something of "
    "the class (0.2 to 0.6 bits of 4.3), little of the domain. Merging is free down to two "
    "thirds of the FLOPs, a learned selector to about half, joint exits to a third; on the clock a "
    "tenth of what exits save is gone if survivors of several batches come together, a quarter "
    "if not, and three quarters of what merging saves, at this size. "
    "In a real ViT-S that was never trained for it, "
    "merging leaves the feature of a photograph nearly as it was at half of the FLOPs, while "
    "tokens chosen by class attention do little better than tokens chosen at random.",
    code=(load_balancing_loss, dispatch, bipartite_soft_matching, exit_layers),
)
def body() -> None:
    """The page."""
    with st.sidebar:
        control.select("arm", "Router")
        control.select("block", "Block")
        control.slider("picture", "Picture")
        control.slider("k", "Experts a token k")
        control.slider("noise", "Noise")
        control.slider("cap", "Capacity factor")
    st.markdown(
        "Every token of a picture, a digit or a piece of clothing, is sent to a few of eight "
        "experts. Follow the lines: who works, who idles, who finds no place?"
    )
    the_switchboard()
    DRAW[control.select("view", "Look further")]()
    with st.expander("Run the experiments here, small", icon=":material/play_circle:"):
        live = long_job(
            "live",
            "labcore.conditional.experiment.run",
            Config.quick(),
            label="Train the quick versions",
            seconds=40,
        )
        if live is not None:
            figure(figures.head_accuracy(live.tables["heads"]), "live-heads")


if __name__ == "__main__":
    body()
