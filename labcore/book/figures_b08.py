"""Centre-piece of chapter 8: what a model of characters expects, and what it writes."""

import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from labcore import viz

SHOWN = 16  # characters on the axis


def next_character_figure(
    vocabulary: Sequence[str],
    logits: Float[np.ndarray, " v"],
    written: str,
    *,
    prompt: str,
    context: int,
    temperature: float = 1.0,
) -> go.Figure:
    """The likeliest next characters at a temperature, and a line that was drawn like that.

    Args:
        vocabulary: The characters.
        logits: What the model says of each as the next one.
        written: A continuation.
        prompt: The beginning.
        context: How many of its last characters the model saw.
        temperature: Divides the logits; 0 takes the most likely.

    Raises:
        ValueError: A negative temperature, or logits of another length.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if len(logits) != len(vocabulary):
        raise ValueError(f"{len(logits)} logits do not fit {len(vocabulary)} characters")
    plain, tempered = probabilities(logits, 1.0), probabilities(logits, temperature)
    order = np.argsort(-plain, kind="stable")[:SHOWN]
    names = [shown(vocabulary[i]) for i in order]
    fig = go.Figure()
    fig.add_bar(
        x=names, y=tempered[order], name=f"τ = {temperature:.2f}", marker_color=viz.PALETTE[0],
        hovertemplate="%{x}: %{y:.3f}<extra></extra>",
    )  # fmt: skip
    fig.add_scatter(
        x=names, y=plain[order], mode="markers", name="τ = 1, the model's own",
        marker={"symbol": "line-ew-open", "size": 20, "color": viz.PALETTE[3],
                "line": {"width": 3, "color": viz.PALETTE[3]}},
    )  # fmt: skip
    seen = prompt[-context:]
    tail = f"…{seen[-48:]}" if len(seen) > 48 else seen
    text = f"sees <b>{_safe(tail)}</b><br>writes <i>{_safe(written)}</i>"
    fig.add_annotation(
        text=text, x=0.99, y=0.97, xref="paper", yref="paper", xanchor="right", yanchor="top",
        showarrow=False, align="left", bgcolor="rgba(255,255,255,0.9)", font={"size": 14},
    )  # fmt: skip
    fig.update_xaxes(title_text="next character, most likely first", type="category")
    fig.update_yaxes(title_text="probability", range=[0, 1.02])
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.22}, margin={"b": 88})
    bits = abs(float((tempered * np.log2(np.maximum(tempered, 1e-300))).sum()))
    first = int(order[0])
    return viz.finish(
        fig,
        title=f"{min(context, len(prompt))} characters seen, τ = {temperature:.2f}: "
        f"{bits:.2f} bits of doubt",
        alt=f"After {min(context, len(prompt))} characters the likeliest next one is "
        f"{vocabulary[first]!r} with probability {tempered[first]:.2f} at temperature "
        f"{temperature:.2f} ({plain[first]:.2f} at 1); the entropy is {bits:.2f} bits. "
        f"A drawn continuation: {written!r}.",
        caption="The marks are what the model learned; the bars are what one draws from. "
        "The temperature changes the bars only.",
        source="next_character_figure",
        params={"prompt": prompt, "context": context, "temperature": temperature},
        height=440,
    )


def probabilities(logits: Float[np.ndarray, " v"], temperature: float) -> np.ndarray:
    """Softmax at a temperature; at 0 all on the most likely.

    >>> probabilities(np.array([0.0, 1.0]), 0.0).tolist()
    [0.0, 1.0]
    """
    z = logits.astype(np.float64) - float(logits.max())
    if temperature == 0:
        return (np.arange(len(z)) == int(z.argmax())).astype(np.float64)
    p = np.exp(z / temperature)
    return p / p.sum()


def shown(character: str) -> str:
    """A character as one can see it."""
    return {" ": "␣", "\n": "↵"}.get(character, character)


def _safe(text: str) -> str:
    """For an annotation: visible line ends, no markup, lines of 44 characters."""
    text = text.replace("\n", "↵").replace("&", "&amp;").replace("<", "&lt;")
    return "<br>".join(textwrap.wrap(text, 44, drop_whitespace=False)) or "(nothing)"
