"""B08: beyond images. The model is a distribution, sampling is another choice."""

from typing import Any

import streamlit as st

from app.ui import Choice, Controls, Preset, Range, cached, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from app.ui.sharing import shared
from labcore.blocks.text import beam_search, bpe_train, sample
from labcore.book import figures_b08
from labcore.book.b08 import PROMPTS, next_characters
from labcore.book.experiment import load_result
from labcore.book.language import CausalCNN
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "tau": Range(1.0, 0.0, 2.0, 0.05, "temperature of the softmax"),
    "context": Range(63, 1, 63, about="last characters that the model sees"),
    "prompt": Choice("the Queen", tuple(PROMPTS), "the beginning"),
    "seed": Range(0, 0, 20, about="seed of the drawing"),
}
control = Controls(PARAMETERS)


@cached
def spoken(prompt: str, context: int, tau: float, seed: int) -> tuple[tuple[str, ...], Any, str]:
    """Logits and a line from the committed network."""
    arrays = shared(load_result).arrays
    names, logits, line = next_characters(
        arrays, PROMPTS[prompt], context=context, temperature=tau, seed=seed
    )
    return names, logits, line


@chapter(
    "B08",
    control,
    claim="The model is a conditional distribution; sampling from it is a separate choice.",
    look="Turn τ to 0 and let it see two characters: every beginning ends in the loop *the the "
    "the*. With more in sight the marks move, and words and names of the novel come back. Then "
    "leave the context and raise τ: at 2 the line dissolves into letters. The network is the same "
    "all the time.",
    code=(CausalCNN, sample, beam_search, bpe_train),
    presets=(
        Preset("Greedy", "Always the likeliest character.", {"tau": 0.0}),
        Preset("Two letters", "What a trigram model would see.", {"context": 2}),
        Preset("Feverish", "Improbable characters get their chance.", {"tau": 1.8}),
    ),
    then=("B10", "B11", "B13", "P06"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        tau = control.slider("tau", "Temperature τ")
        context = control.slider("context", "Characters seen")
        prompt = control.select("prompt", "Beginning")
        seed = control.slider("seed", "Seed of the drawing")
    names, logits, line = spoken(prompt, context, tau, seed)
    fig = figures_b08.next_character_figure(
        names, logits, line, prompt=PROMPTS[prompt], context=context, temperature=tau
    )
    figure(fig, "next")


if __name__ == "__main__":
    body()
