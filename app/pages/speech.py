"""P03: speech encoders, adapters and language models. One clip closely, then the whole grid.

Opens on committed results; a clip of one's own runs on the real models, in a worker process.
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
    cached,
    figure,
    long_job,
    need_asset,
    page,
    shared,
)
from app.ui.parameters import Table
from app.ui.tables import table
from labcore import uploads
from labcore.runs import Result
from labcore.speech import audio, corpus, explorer, figures
from labcore.speech.experiment import LIVE, load_result, load_tuning
from labcore.speech.labels import PAPER_FACTS, heading, label
from labcore.speech.lengths import cif_assignment, ctc_compress
from labcore.speech.names import ADAPTERS, ALL, ENCODERS, LMS
from labcore.speech.variance import variance_shares
from labcore.speech.what_if import TRAINED_WINDOW, by_hand, rates, what_if

ASSETS = ("whisper", "conformer", "smollm2-135m")
VIEWS = ("lengths", "tokens", "grid", "training", "cost")
PARAMETERS: Table = {
    "clip": Range(0, 0, 12, about="which of the exhibited clips"),
    "beta": Range(1.0, 0.5, 3.0, 0.1, "weight that CIF takes for one position"),
    "window": Range(TRAINED_WINDOW, 0.1, 1.0, 0.02, "seconds that one query of WLQ reads"),
    "convs": Range(2, 0, 4, about="convolutions of stride 2 before the language model"),
    **{
        f"a{k}": Range(a, 0.0, 1.0, 0.05, f"weight of frame {k}")
        for k, a in enumerate((0.4, 0.8, 0.3, 0.7, 0.2), 1)
    },
    "view": Choice("lengths", VIEWS, "what to look at below the clip"),
    "adapter": Choice("conv", ADAPTERS, "whose positions are compared with tokens"),
    "task": Choice("asr", ("asr", "st", "nearest"), "recognition, translation, or no LM"),
    "split": Choice("test", ("test", "real"), "synthetic voices never heard, or recordings"),
    "drop": Several((), ADAPTERS, "adapters to leave out of the shares"),
    "scale": Choice("rate", ("rate", "logit"), "what is decomposed"),
    "encoder": Choice("conformer", ENCODERS, "whose curves"),
    "loss": Choice("ce", ("ce", "ctc", "quantity"), "the model's loss, or one of CTC's and CIF's"),
    "ablations": Flag(False, "what the warm-up and the size of the first outputs do"),
    "lm": Choice(LMS[0], LMS, "which language model"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset(
        "Clock or content",
        "Conv and WLQ cut by the clock, CIF and CTC by what is said: compare the five matrices.",
        {"view": "lengths", "clip": 4},
    ),
    Preset(
        "What explains the errors",
        "Read the shares, then the gaps of the best: they need not agree.",
        {"view": "grid", "task": "asr"},
    ),
    Preset(
        "Real recordings",
        "Trained on synthetic voices only: what is left of it on a person's recordings?",
        {"view": "grid", "split": "real"},
    ),
)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


@cached
def view_of(place: int) -> explorer.ClipView:
    """An exhibited clip, by its place in the menu."""
    numbers = list(explorer.exhibit_names(committed()).values())
    return explorer.clip_view_of(committed(), numbers[place])


@cached
def sound_of(number: int) -> tuple[bytes, Any]:
    """A clip for the player and for the figure."""
    sound = corpus.load().sound(number)
    return audio.to_wav(sound), sound


def the_clip(view: explorer.ClipView) -> None:
    """Play it; waveform, spectrogram, frames of both encoders, transcripts."""
    wav, sound = sound_of(view.number)
    st.audio(wav, format="audio/wav")
    figure(figures.clip_view(sound, view.strips, text=view.text, voice=view.voice), "clip-figure")
    st.caption(f"{heading(view.split)}: {view.voice}.")
    transcripts(view.says, view.answers, view.text)


def transcripts(
    says: dict[str, str], answers: dict[str, dict[str, str]], reference: str | None
) -> None:
    """Reference, the encoders' own transcripts, and the language model's answers."""
    rows = [{"who": "reference", "recognition": reference, "translation": ""}] if reference else []
    rows += [{"who": f"{label(n)} by itself", "recognition": t, "translation": ""}
             for n, t in says.items()]  # fmt: skip
    rows += [
        {"who": f"Conformer + {kind} + {label(LMS[0])}", "recognition": said["asr"],
         "translation": said["st"]}
        for kind, said in answers.items()
    ]  # fmt: skip
    table(rows)
    st.caption(
        "Only digits were trained: on other sentences the language model answers with digits."
    )


def the_lengths(view: explorer.ClipView, beta: float) -> None:
    """W of the five adapters, CIF's firing, CTC's collapse."""
    with st.container(horizontal=True):
        window = control.slider("window", "WLQ window, seconds")
        convs = control.slider("convs", "Convolutions")
    words = len(view.text.split())
    maps = what_if(view.maps, view.alpha, threshold=beta, window=window, convs=convs)
    figure(figures.assignment_maps(maps, tokens=words, text=view.text), "maps")
    table(rates(maps, words))
    if window != TRAINED_WINDOW:
        st.caption(
            f"WLQ was trained with {TRAINED_WINDOW:g} s: for another window its blocks are plain "
            "means."
        )
    figure(figures.cif_staircase(view.alpha, threshold=beta), "cif")
    with st.expander("By hand: five frames, five weights", icon=":material/pan_tool:"):
        five_weights(beta)
    figure(figures.run_strip(view.symbols, text=view.text), "runs")
    blank = view.symbols.count("∅") / len(view.symbols)
    st.caption(
        f"Here CIF gives {maps['cif'].shape[1]} positions for {words} words, and the CTC "
        f"head calls {blank:.0%} of the frames blank."
    )


def five_weights(beta: float) -> None:
    """Weights to move; the frames are the numbers 1 to 5, so that each output tells its parts."""
    with st.container(horizontal=True):
        alpha = [control.slider(f"a{k}", f"α of frame {k}") for k in range(1, 6)]
    figure(figures.cif_staircase(alpha, threshold=beta), "hand")
    outputs = ", ".join(f"**{value:.2f}**" for value in by_hand(alpha, beta))
    st.markdown(f"The frames are the numbers 1, 2, 3, 4, 5. Outputs: {outputs}")


def the_tokens(view: explorer.ClipView) -> None:
    """The nearest tokens of one adapter's positions."""
    kind = control.select("adapter", "Adapter")
    near = explorer.nearest_of(committed(), view.number, kind)
    figure(figures.nearest_tokens(**near, adapter=kind, text=view.text), "tokens")


def the_grid() -> None:
    """Scores of all cells, shares of variance, gaps of the best."""
    with st.container(horizontal=True):
        task = control.select("task", "Task")
        split = control.select("split", "Test on")
        drop = control.many("drop", "Leave out")
        scale = control.select("scale", "Decompose")
    tables = committed().tables
    which = {"task": task, "split": split}
    figure(figures.grid_map(tables["scores"], **which), "grid")
    st.caption(baselines(**which))
    shares_and_gaps(which | {"design": ALL}, drop, scale)
    st.markdown("**What is mixed up with the factors**")
    table(explorer.confounds(committed()))
    st.caption(
        "“The encoder matters” cannot be told from its size, its training data and its task, here "
        "as in the study; the adapters differ in size too."
    )


def shares_and_gaps(chosen: dict[str, str], drop: tuple[str, ...], scale: str) -> None:
    """What explains the errors, and what choosing well gains, without the dropped adapters."""
    kept = tuple(a for a in ADAPTERS if a not in drop)
    if len(kept) < 2:
        st.info("Keep two adapters at least: one alone cannot differ.")
        return
    shares, gaps, name = shares_of(kept, **chosen)
    chosen = chosen | {"adapters": name}
    figure(figures.share_bars(shares, **chosen, scale=scale), "shares")
    figure(figures.gap_bars(gaps, **chosen), "gaps")
    st.caption(
        "Adapters can be left out, single cells cannot: shares of a table with a hole are not "
        "defined."
    )


@cached
def shares_of(kept: tuple[str, ...], **chosen: str) -> tuple[Any, Any, str]:
    """The decomposition of the kept adapters' cells, with its intervals."""
    return explorer.shares_among(committed(), adapters=kept, **chosen)


def baselines(task: str, split: str) -> str:
    """How the cells were trained, and what a constant answer would score."""
    plan, tables = committed().config, committed().tables
    said = (
        f"After the warm-up each cell had {plan['steps']} steps of {plan['batch']} clips, "
        "recognition and translation in turns. "
    )
    for row in tables["constant"]:
        if (row["task"], row["split"]) == (task, split):
            said += (
                f"Always answering “{row['said']}”, the best constant answer of the training "
                f"clips, has an error rate of {row['wer']:.2f}. "
            )
    return said + "A rate above 1 is a model that does not stop."


def the_training() -> None:
    """Errors against time, loss curves, the meter of listening, and the ablations."""
    with st.container(horizontal=True):
        encoder = control.select("encoder", "Encoder")
        lm = control.select("lm", "Language model")
        loss = control.select("loss", "Loss")
        ablations = control.toggle("ablations", "Warm-up and size of the outputs")
    tables = committed().tables
    if lm in (watched := committed().config["watched"]):
        pair = {"encoder": encoder, "lm": lm}
        figure(figures.error_curves(tables["curves"], tables["cells"], **pair), "time")
    else:
        names = " and ".join(label(name) for name in watched)
        st.caption(f"The error rate against time was followed with {names}: choose it above.")
    task = control.settings()["task"]
    task = "asr" if task == "nearest" else task
    which = {"encoder": encoder, "lm": lm, "task": task}
    if ablations:  # of one cell
        which |= {"encoder": "conformer", "lm": LMS[0], "variants": True}
        loss = "ce"
        st.caption("Curves of one cell, Conformer + Conv + SmolLM2, each with one thing changed:")
    figure(figures.training_curves(tables["curves"], **which, column=loss), "curves")
    figure(figures.training_curves(tables["curves"], **which, column="listens"), "listens")
    figure(figures.variant_bars(tables["scores"], task=task), "variants")
    with st.expander("Every ablation and control, and the commands, both tasks"):
        table(explorer.variants_said(committed()))
    with st.expander("How the recipe was chosen: on validation voices, never on test clips"):
        table([
            {"candidate": r["candidate"], "WER": f"{r['asr']:.2f}",
             "Italian: WER": f"{r['st']:.2f}", "clips": r["clips"], "split": r["split"]}
            for r in load_tuning()
        ])  # fmt: skip


def the_cost() -> None:
    """What a position costs."""
    lm = control.select("lm", "Language model")
    tables = committed().tables
    figure(figures.cost_of_positions(tables["cells"], lm=lm), "cost")


def your_clip() -> None:
    """A WAV of one's own, through the real models."""
    if any(need_asset(name) is None for name in ASSETS):
        return
    upload = st.file_uploader("A short WAV, for instance “seven two nine”", type=["wav"],
                              max_upload_size=10)  # fmt: skip
    if upload is None:
        return
    try:
        sound, changed = audio.read_wav(upload.getvalue(), upload.name)
    except uploads.UploadError as error:
        st.error(str(error), icon=":material/upload_file:")
        return
    st.caption(f"{len(sound) / audio.SAMPLE_RATE:.1f} s, {changed}.")
    st.audio(audio.to_wav(sound), format="audio/wav")
    heard = long_job(
        "hear", "labcore.speech.live.hear", sound,
        label=f"Hear it with both encoders and {len(LIVE)} adapters", seconds=25,
    )  # fmt: skip
    if heard is None:
        return
    figure(figures.clip_view(sound, heard.strips, text=upload.name, voice="you"), "own-clip")
    transcripts(heard.transcripts, heard.answers, None)
    maps = {kind: heard.arrays[f"w/{kind}"] for kind in LIVE}
    figure(figures.assignment_maps(maps, tokens=0, text=upload.name), "own-maps")
    figure(figures.cif_staircase(heard.arrays["alpha/cif"]), "own-cif")
    symbols = explorer.characters(heard.arrays["symbols/ctc"])
    figure(figures.run_strip(symbols, text=upload.name), "own-runs")


@page(
    "speech",
    control,
    claim="speech-encoder",
    presets=PRESETS,
    look="Conv and WLQ give the same number of positions a second whatever is said; CIF was taught "
    "to give one a word; CTC gives one to each run of a symbol, blank runs too. Then look at the "
    "grid: does the row, the column or the pair decide?",
    code=(cif_assignment, ctc_compress, variance_shares),
)
def body() -> None:
    """The page."""
    with st.sidebar:
        place = control.slider("clip", "Clip")
        beta = control.slider("beta", "CIF threshold β")
        view = control.select("view", "Look further")
    shown = view_of(place)
    st.markdown(
        "A frozen encoder turns sound into 50 frames a second, an adapter turns frames into "
        "vectors that a frozen language model can read: look how differently five adapters cut "
        "the same clip."
    )
    the_clip(shown)
    if view == "lengths":
        the_lengths(shown, beta)
    elif view == "tokens":
        the_tokens(shown)
    elif view == "grid":
        the_grid()
    elif view == "training":
        the_training()
    else:
        the_cost()
    with st.expander("Your own clip, live on the models", icon=":material/mic:"):
        your_clip()
    with st.expander("What the study reports, with 7 to 8 billion parameters"):
        table([{"quantity": a, "reported": b} for a, b in PAPER_FACTS])


if __name__ == "__main__":
    body()
