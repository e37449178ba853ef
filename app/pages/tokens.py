"""P09: semantic tokens. Send a picture over a noisy channel, and see what arrives.

Opens on committed results and weights; a picture of one's own is sent at once, a photograph is
looked at by a real ViT-S in a worker process.
"""

from typing import Any

import streamlit as st

from app.ui import (
    Choice,
    Controls,
    Preset,
    Range,
    Several,
    cached,
    figure,
    long_job,
    need_asset,
    page,
    shared,
)
from app.ui.parameters import Table
from labcore import uploads
from labcore.runs import Result
from labcore.tokens import awgn, figures, normalize_power, straight_through
from labcore.tokens.experiment import load_result
from labcore.tokens.link import LinkBudget
from labcore.tokens.live import Sent, as_canvas, fragments_of, send
from labcore.tokens.photographs import real_size

ASSETS = ("vit-s-dinov2",)
VIEWS = ("rate", "noise", "asked", "scores", "photographs")
METHODS = (
    "gate", "gate_topk", "class_attention", "random", "merging", "magnitude", "predictor",
    "gate_sent", "gate_sent_topk", "gate_joint", "halting", "class_alone",
)  # fmt: skip
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
PARAMETERS: Table = {
    "alpha": Range(0.2, 0.0, 1.0, 0.05, "share of tokens asked for"),
    "snr": Range(10.0, -10.0, 30.0, 1.0, "signal-to-noise ratio in decibels; 0 is loud"),
    "canvas": Range(1, 0, 23, about="which test canvas"),  # one that sends as many as most
    "draw": Range(0, 0, 99, about="another draw of the noise"),
    "channel": Choice("awgn", ("awgn", "rayleigh", "erasure"), "what the symbols go through"),
    "loss": Range(0.2, 0.0, 1.0, 0.05, "share of tokens that the erasure channel loses"),
    "method": Choice("gate", ("gate", "class_attention", "random"), "what chooses the tokens"),
    "mode": Choice("threshold", ("threshold", "topk"), "the gate: own threshold or exact rate"),
    "rate": Choice(100_000, (10_000, 100_000, 1_000_000), "symbols a second of the link"),
    "view": Choice("rate", VIEWS, "what to look at below"),
    "methods": Several(METHODS[:5], METHODS, "what to compare"),
    "budget": Choice(0.2, BUDGETS, "rate asked for, of scores and precision"),
    "photo": Choice("china", ("china", "flower"), "which photograph"),
    "share": Range(0.25, 0.05, 1.0, 0.05, "share of patches that stay"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset("A narrow link", "A twentieth of the tokens: is the digit still read?", {"alpha": 0.05}),
    Preset("As loud as the signal", "0 dB is a value like any other: draw the noise again.",
           {"snr": 0.0, "alpha": 0.2}),
    Preset("Everything", "All tokens, little noise: what the network can do at best.",
           {"alpha": 1.0, "snr": 30.0}),
    Preset("The leak", "A class token that is sent answers by itself: find it far left.",
           {"view": "rate", "methods": ("gate_topk", "gate_sent_topk", "class_alone")}),
)  # fmt: skip
send_once = cached(send)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


def sent_picture(picture: Any, settings: dict[str, Any]) -> Sent:
    """The picture after the channel that the settings describe."""
    return send_once(
        picture,
        settings["alpha"],
        settings["snr"],
        draw=settings["draw"],
        channel=settings["channel"],
        loss=settings["loss"],
        method=settings["method"],
        select=settings["mode"],
        link=LinkBudget(symbols_per_second=settings["rate"]),
    )


def send_it(settings: dict[str, Any]) -> None:
    """The centre-piece: a canvas on its way."""
    arrays = committed().arrays
    number = settings["canvas"]
    picture = arrays["examples"][number]
    label: int | None = int(arrays["example_labels"][number])
    upload = st.sidebar.file_uploader(
        "or a picture of one digit",
        type=["png", "jpg", "jpeg"],
        help="It is put among the fragments of this canvas, as large as its digit.",
    )
    if upload is not None:
        try:
            fragments = fragments_of(picture, arrays["kinds"][number])
            picture = as_canvas(uploads.read_image(upload.getvalue(), upload.name), fragments)
            label = None
        except ValueError as error:
            st.error(str(error), icon=":material/upload_file:")
            return
    sent = sent_picture(picture, settings)
    shown = {"alpha": settings["alpha"], "snr_db": settings["snr"], "label": label}
    figure(figures.send_figure(picture, sent, **shown), "send-figure")
    with st.container(horizontal=True):
        st.metric("Tokens sent", sent.tokens)
        st.metric("Channel uses", sent.channel_uses)
        st.metric("Bits for the places, or a bitmap", f"{sent.index_bits:.0f} / {len(sent.keep)}")
        st.metric("Latency", f"{sent.latency.milliseconds:.1f} ms")
    figure(figures.latency_bars(sent.latency, tokens=sent.tokens), "latency-figure")


def the_rate() -> None:
    """Accuracy against the rate really spent."""
    rows = committed().tables["curves"]
    measured = {row["method"] for row in rows}
    names = tuple(n for n in control.many("methods", "Methods") if n in measured) or ("gate",)
    base = committed().tables["base"][0]["accuracy"]
    figure(figures.accuracy_curves(rows, methods=names, base=base), "rate-figure")


def the_noise(rate: int) -> None:
    """Accuracy against noise, and the map of operating points."""
    rows = committed().tables["noise"]
    figure(figures.noise_curves(rows), "noise-figure")
    figure(figures.noise_map(rows, link=LinkBudget(symbols_per_second=rate)), "map-figure")


def the_scores() -> None:
    """Scores and thresholds of the gate, and what the kept tokens hold."""
    budget = control.steps("budget", "Rate asked for")
    arrays = committed().arrays
    place = BUDGETS.index(budget)
    drawn = (arrays["scores"][place], arrays["thresholds"][place], arrays["kinds"])
    figure(figures.score_histogram(*drawn, budget=budget), "scores-figure")
    rows, chance = committed().tables["curves"], committed().tables["base"][0]["digit_share"]
    bars = figures.precision_bars(rows, budget=budget, chance=chance)
    figure(bars, "precision-figure")


def the_photographs() -> None:
    """Class attention of the real network on photographs, and on one's own."""
    name, share = control.select("photo", "Photograph"), control.slider("share", "Patches kept")
    arrays = committed().arrays
    found = (arrays[f"photo/{name}"], arrays[f"attention/{name}"])
    figure(figures.photo_patches(*found, share=share, name=name), "photo-figure")
    whole, part = real_size(share)
    with st.container(horizontal=True):
        st.metric("ViT-S, all patches", f"{whole:.1f} GFLOP")
        st.metric("these patches from block 4 on", f"{part:.1f} GFLOP")
    upload = st.file_uploader("A photograph of your own", type=["png", "jpg", "jpeg"], key="own")
    if upload is None or need_asset("vit-s-dinov2") is None:
        return
    try:
        picture = uploads.read_image(upload.getvalue(), upload.name)
    except uploads.UploadError as error:
        st.error(str(error), icon=":material/upload_file:")
        return
    seen = long_job(
        "look", "labcore.tokens.photographs.look", picture, label="Look at it", seconds=8
    )
    if seen is not None:
        figure(figures.photo_patches(*seen, share=share, name="yours"), "own-photo-figure")


@page(
    "tokens",
    control,
    claim="tokens-better",
    presets=PRESETS,
    look="Lower α until the answer flips, then raise the noise at a high and at a low α. Compare "
    "who chooses: random patches carry the answer later than chosen ones. The network is small "
    "and was fine-tuned for seconds: the curves say where the gate wins and where not.",
    code=(normalize_power, awgn, straight_through),
)
def body() -> None:
    """The page."""
    with st.sidebar:
        settings = {
            "alpha": control.slider("alpha", "Rate asked for α"),
            "snr": control.slider("snr", "SNR (dB)"),
            "canvas": control.slider("canvas", "Canvas"),
            "draw": control.number("draw", "Draw of the noise"),
            "channel": control.select("channel", "Channel"),
            "loss": control.slider("loss", "Tokens lost (erasure)"),
            "method": control.select("method", "Who chooses"),
            "mode": control.select("mode", "Gate"),
            "rate": control.select("rate", "Symbols a second"),
        }
    st.markdown(
        "A device sees the canvas and may send only some of its 49 patches; a server must say "
        "which digit it is. Move α and the noise, and watch what stays readable."
    )
    send_it(settings)
    view = control.select("view", "Look further")
    if view == "rate":
        the_rate()
    elif view == "noise":
        the_noise(settings["rate"])
    elif view == "asked":
        figure(figures.asked_spent(committed().arrays["spent"], BUDGETS), "asked-figure")
    elif view == "scores":
        the_scores()
    else:
        the_photographs()


if __name__ == "__main__":
    body()
