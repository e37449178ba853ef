"""Figure of the language model that is merged on disk: its loss on three kinds of text."""

import plotly.graph_objects as go

from labcore import viz
from labcore.merging.tally import LABELS
from labcore.runs import Table
from labcore.tally import distinct

_LOOKS = (  # colour, pattern
    (viz.PALETTE[1], "/"),
    (viz.PALETTE[2], "x"),
    (viz.PALETTE[5], "\\"),
    (viz.PALETTE[0], ""),
)


def language_losses(rows: Table) -> go.Figure:
    """How far each model's loss lies below the base's, on each kind of text.

    Args:
        rows: Table ``losses`` of the result of :mod:`labcore.merging.language`.
    """
    texts = distinct(rows, "text")
    losses = {(row["model"], row["text"]): row["loss"] for row in rows}
    merged = [m for m in distinct(rows, "model") if m not in ("base", *texts)]
    lines = {"fine-tuned on this text": [losses[text, text] for text in texts]}
    lines |= {LABELS[m]: [losses[m, text] for text in texts] for m in merged}
    base = [losses["base", text] for text in texts]
    names = [f"{text}<br>base {loss:.2f}" for text, loss in zip(texts, base, strict=True)]
    fig = go.Figure()
    said = []
    for (name, values), (colour, pattern) in zip(lines.items(), _LOOKS, strict=False):
        gains = [b - v for b, v in zip(base, values, strict=True)]
        fig.add_bar(
            x=names,
            y=gains,
            name=name,
            text=[f"{gain:.2f}" for gain in gains],
            textposition="outside",
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay",
                                                "fgcolor": "white"}},
        )  # fmt: skip
        said.append(f"{name} {sum(gains) / len(gains):.3f}")
    fig.update_xaxes(title="held-out text (nats a token of the base)")
    fig.update_yaxes(title="loss below the base (nats a token)")
    fig.update_layout(legend={"orientation": "h", "y": -0.28, "yanchor": "top", "x": 0})
    return viz.finish(
        fig,
        title="SmolLM2-135M, three fine-tunes merged on disk",
        alt=f"Mean loss below the base over {len(texts)} kinds of text: {', '.join(said)}.",
        caption="The first bar is the model fine-tuned on that very kind of text: how much of its "
        "gain does one merged model keep on all three?",
        source="language_losses",
        height=460,
    )
