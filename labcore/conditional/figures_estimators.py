"""Figures of gradient estimators: samples against the exact value, bias against spread."""

import math

import numpy as np
import plotly.graph_objects as go
import torch

from labcore import viz
from labcore.conditional.estimators import ESTIMATORS, exact_gradient, gradient_samples
from labcore.conditional.measure import Rows, distinct, over_seeds, pick

DRAWS = 4000


def gradient_histogram(logit: float = 0.0, tau: float = 1.0, *, seed: int = 0) -> go.Figure:
    """Gradient samples of every estimator for one gate, and the exact gradient as a line.

    The gate is open with probability sigmoid(logit) and costs F(z) = 1 + (z − 0.45)²: the constant
    changes no gradient, and widens the score function without a baseline.

    Args:
        logit: Log-odds of an open gate. tau: Temperature of the Gumbel estimators.
        seed: Of the draws.

    Raises:
        ValueError: ``tau`` <= 0.
    """
    logits = torch.tensor([0.0, logit], dtype=torch.float64)

    def cost(z: torch.Tensor) -> torch.Tensor:
        return 1 + (z[..., 1] - 0.45).square()

    exact = float(exact_gradient(logits, cost)[1])
    fig, said = go.Figure(), []
    for number, name in enumerate(ESTIMATORS):
        generator = torch.Generator().manual_seed(seed)
        draws = gradient_samples(name, logits, cost, DRAWS, tau=tau, generator=generator)
        values = draws[:, 1].numpy()
        fig.add_violin(
            x=values, name=name, orientation="h", side="positive", width=1.6, points=False,
            line={"color": viz.PALETTE[number], "width": 1.6}, meanline={"visible": True},
            hoverinfo="skip", showlegend=False, spanmode="hard",
        )  # fmt: skip
        fig.add_scatter(
            x=[values.mean()], y=[name], mode="markers", showlegend=False,
            marker={"symbol": viz.SYMBOLS[number], "size": 12, "color": viz.PALETTE[number],
                    "line": {"color": viz.INK, "width": 1}},
            hovertemplate="mean %{x:.4f}<extra></extra>",
        )  # fmt: skip
        said.append(f"{name} {values.mean():.3f} ± {values.std():.3f}")
    fig.add_vline(x=exact, line={"color": viz.INK, "width": 2, "dash": "dash"})
    fig.add_annotation(
        x=exact, y=1.0, yref="paper", yanchor="bottom", text=f"exact {exact:.4f}", showarrow=False
    )
    fig.update_xaxes(title_text="gradient of the expected cost by the logit, one draw")
    fig.update_yaxes(automargin=True)
    fig.update_layout(margin={"t": 84})
    return viz.finish(
        fig,
        title=f"Gradients through one gate, logit {logit:g}, temperature {tau:g}",
        alt=f"Exact gradient {exact:.4f}. Mean and standard deviation over {DRAWS} draws: "
        f"{'; '.join(said)}.",
        caption="Centred on the line means unbiased; narrow means cheap to average.",
        source="gradient_histogram",
        params={"logit": logit, "tau": tau, "seed": seed},
        height=480,
    )


def bias_and_spread(rows: Rows, *, categories: int) -> go.Figure:
    """Bias against standard deviation of every estimator, a line through the temperatures.

    Args:
        rows: The result's table ``estimators``. categories: Size of the choice.

    Raises:
        ValueError: no such size.
    """
    here = pick(rows, categories=categories)
    if not here:
        raise ValueError(f"no problem with {categories} categories: {distinct(rows, 'categories')}")
    fig, said = go.Figure(), []
    for number, name in enumerate(distinct(here, "estimator")):
        mine = pick(here, estimator=name)
        taus = distinct(mine, "tau")
        bias = [over_seeds(mine, "bias", tau=tau) for tau in taus]
        sd = [over_seeds(mine, "sd", tau=tau).mean for tau in taus]
        many, named = len(taus) > 1, name == "Gumbel-softmax"
        fig.add_scatter(
            x=np.maximum(sd, 1e-3), y=np.maximum([b.mean for b in bias], 1e-4), name=name,
            mode=("lines+" if many else "") + "markers" + ("+text" if named else ""),
            text=[f"τ {t:g}" for t in taus] if many else None, textposition="bottom left",
            textfont={"size": 12},
            error_y={"array": [0 if math.isnan(b.error) else b.error for b in bias]},
            line={"color": viz.PALETTE[number], "dash": viz.DASHES[number]},
            marker={"symbol": viz.SYMBOLS[number], "size": 10, "color": viz.PALETTE[number]},
        )  # fmt: skip
        said.append(f"{name} bias {bias[0].mean:.2f}, spread {sd[0]:.2f}")
    fig.update_xaxes(title_text="standard deviation of one draw / exact norm", type="log")
    fig.update_yaxes(title_text="bias / exact norm", type="log", exponentformat="power")
    fig.update_layout(legend={"orientation": "h", "y": -0.22})
    n = over_seeds(here, "bias", estimator=here[0]["estimator"]).n
    return viz.finish(
        fig,
        title=f"Bias against spread, {categories} categories",
        alt=f"Mean over {n} random problems, relative to the exact gradient: {'; '.join(said)} "
        "(Gumbel at its lowest temperature).",
        caption="Nothing sits in the lower left corner for free: only the best baseline, which "
        "needs the answer, comes near.",
        source="bias_and_spread",
        params={"categories": categories},
        height=520,
    )
