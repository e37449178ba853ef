"""P05: ALaST. Budgets as a film, deltas, tokens on a photograph, FLOPs, the trade-off, a race.

Opens on committed results; a picture of one's own and a new race run in a worker process.
"""

from typing import Any

import streamlit as st

from app.ui import (
    Choice,
    Controls,
    Preset,
    Range,
    Several,
    figure,
    long_job,
    need_asset,
    page,
    shared,
)
from app.ui.parameters import Table
from labcore import uploads
from labcore.finetuning import ALaSTConfig, BudgetSchedule, figures, run_block
from labcore.finetuning.experiment import load_result
from labcore.finetuning.settings import BUDGETS, RUNNERS
from labcore.runs import Result

ASSETS = ("vit-s-dinov2", "fashion-mnist")
VIEWS = ("flops", "trade-off", "race")
WRAPPED = ("alast_calibrated", "alast_coauthor", "alast_paper", "alast_lora", "random_k")
PARAMETERS: Table = {
    "rule": Choice("alast_calibrated", WRAPPED, "whose budgets to watch"),
    "model": Choice("small", ("small", "vit-s"), "model that was fine-tuned"),
    "step": Range(60, 1, 80, about="step of the run; the small model's has 60"),
    "photo": Choice("china", ("china", "flower"), "photograph"),
    "b": Choice(0.9, BUDGETS, "budget of every layer in the filmstrip"),
    "view": Choice("flops", VIEWS, "what to look at below"),
    "k": Range(9, 0, 12, about="layers that train, of twelve"),
    "budget": Range(0.9, 0.3, 1.0, 0.01, "share of patches passed on by every layer"),
    "tokens": Range(197, 17, 577, 10, "tokens that enter"),
    "width": Choice(384, (192, 384, 768), "features of a token"),
    "who": Several(("full", "last_k", "alast_calibrated"), RUNNERS, "who runs the race"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset(
        "A rule that does not move",
        "The preprint's rule with a batch-mean delta: count how many layers ever leave 1.000.",
        {"rule": "alast_paper", "step": 80},
    ),
    Preset(
        "Two scales",
        "The co-author's sums: the last layers swing, the first six stay where they were.",
        {"rule": "alast_coauthor", "step": 80},
    ),
    Preset(
        "Keep the flower",
        "Go down with the budget: which patches go first?",
        {"photo": "flower", "b": 0.85},
    ),
    Preset(
        "Freezing alone",
        "No token is dropped: nine layers of twelve save eight per cent.",
        {"view": "flops", "budget": 1.0, "k": 9},
    ),
    Preset(
        "Who wins",
        "Equal compute, not equal steps.",
        {"view": "race", "who": ("full", "last_k", "alast_080", "alast_calibrated")},
    ),
)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


def the_film() -> None:
    """Budgets, trained layers and tokens over a run."""
    with st.container(horizontal=True):
        rule = control.select("rule", "Rule")
        model = control.select("model", "Model")
    step = control.slider("step", "Step")
    arrays = committed().arrays
    start = f"{model}/{rule}/"
    if f"{start}budgets" not in arrays:
        st.info(f"The committed results hold no run of {rule} on {model}: choose the other model.")
        return
    budgets = arrays[f"{start}budgets"]
    figure(
        figures.budget_film(
            budgets,
            arrays[f"{start}trained"],
            arrays[f"{start}tokens"],
            step=min(step, len(budgets)),
            strategy=rule,
            model=model,
        ),
        "film",
    )


def the_photograph() -> None:
    """Deltas of a photograph, and which of its patches survive."""
    with st.container(horizontal=True):
        photo = control.select("photo", "Photograph")
        budget = control.steps("b", "Budget")
    arrays = committed().arrays
    if f"photo/{photo}/kept" not in arrays:
        st.info("The committed results hold no photographs: send one through the model below.")
        return
    draw_picture(
        arrays[f"photo/{photo}/pixels"],
        arrays[f"photo/{photo}/absolute"],
        arrays[f"photo/{photo}/relative"],
        arrays[f"photo/{photo}/kept"],
        budget,
        photo,
        "photo",
    )


def draw_picture(
    pixels: Any, absolute: Any, relative: Any, kept: Any, budget: float, name: str, key: str
) -> None:
    """Filmstrip and delta profile of one picture."""
    figure(
        figures.filmstrip_figure(pixels, kept[BUDGETS.index(budget)], budget=budget, picture=name),
        f"{key}-strip",
    )
    figure(figures.delta_profile_figure(absolute, relative, picture=name), f"{key}-deltas")


def the_flops() -> None:
    """FLOPs by layer, recomputed from the formula."""
    left, right = st.columns(2)
    with left:
        k = control.slider("k", "Layers that train, K")
        budget = control.slider("budget", "Budget b")
    with right:
        tokens = control.slider("tokens", "Tokens N")
        width = control.select("width", "Width D")
    figure(figures.flops_figure(trained=k, budget=budget, tokens=tokens, width=width), "flops")


def the_trade_off(model: str) -> None:
    """Accuracy against time and memory."""
    tables = committed().tables
    figure(figures.trade_off(tables["runs"], tables["clock"], model=model), "trade-off")


def the_race() -> None:
    """Equal compute instead of equal steps."""
    who = control.many("who", "Runners") or ("full",)
    figure(figures.race(committed().tables["race"], strategies=who), "race")
    if need_asset("fashion-mnist") is None:
        return
    here = tuple(name for name in who if name != "lora") or ("full",)
    if here != who:
        st.caption("LoRA needs peft and runs in the committed race only.")
    live = long_job(
        "race-now",
        "labcore.finetuning.live.race_now",
        here,
        label="Run this race here: four CPU seconds each",
        seconds=25,
    )
    if live is not None:
        figure(figures.race(live, strategies=here), "race-live")


def your_picture(budget: float) -> None:
    """The same on an uploaded picture."""
    if need_asset("vit-s-dinov2") is None:
        return
    upload = st.file_uploader("A photograph", type=["png", "jpg", "jpeg"], max_upload_size=20)
    if upload is None:
        return
    try:
        pixels = uploads.read_image(upload.getvalue(), upload.name)
    except uploads.UploadError as error:
        st.error(str(error), icon=":material/upload_file:")
        return
    seen = long_job(
        "look",
        "labcore.finetuning.live.look",
        pixels,
        label="Send it through the real model",
        seconds=8,
    )
    if seen is not None:
        draw_picture(seen.pixels, seen.absolute, seen.relative, seen.kept, budget, "yours", "own")


@page(
    "finetuning",
    control,
    claim="finetuning-flops",
    presets=PRESETS,
    look="The preprint's budgets never leave 1 by more than a hair, because a mean delta times a "
    "learning rate is tiny; rounding down still drops one patch in every layer. Absolute "
    "deltas say that only the last layers matter, relative ones name the first and the tenth "
    "too. On the photographs tower and flower stay longest. Freezing layers saves little; "
    "dropping patches does the work. The real model here sees 26 tokens, the paper's 197.",
    code=(BudgetSchedule.update, run_block, ALaSTConfig.paper),
)
def body() -> None:
    """The page."""
    st.markdown(
        "Each row is a layer of a vision transformer that is being fine-tuned. Move the step: the "
        "budget of a layer says how likely it is to be trained and how many patches it passes on."
    )
    the_film()
    the_photograph()
    view = control.select("view", "Look further")
    if view == "flops":
        the_flops()
    elif view == "trade-off":
        the_trade_off(control.settings()["model"])
    else:
        the_race()
    with st.expander("Your own picture, live in the real model", icon=":material/image:"):
        your_picture(control.settings()["b"])


if __name__ == "__main__":
    body()
