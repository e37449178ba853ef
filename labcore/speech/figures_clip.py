"""Figures of one clip: sound, frames, assignment matrices, integrate-and-fire, nearest tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from labcore import viz
from labcore.speech.labels import adapter_style, label

RATE = 50.0  # frames a second of both encoders
Array = Float[np.ndarray, "..."]


def spectrogram(sound: Array, rate: int = 16_000, mels: int = 40) -> Float[np.ndarray, "mel t"]:
    """Log-mel power in dB below the maximum, 10 ms a frame, for looking at."""
    size, hop = rate // 40, rate // 100
    count = max(1 + (len(sound) - size) // hop, 1)
    padded = np.pad(sound, (0, max(size + (count - 1) * hop - len(sound), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:count]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    at = np.fft.rfftfreq(size, 1 / rate)
    up = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    energy = np.clip(np.minimum(up, down), 0, None) @ power.T
    decibel = 10 * np.log10(np.maximum(energy, 1e-10))
    return np.asarray(np.maximum(decibel - decibel.max(), -60.0))


def clip_view(
    sound: Array, strips: Mapping[str, np.ndarray], *, text: str, voice: str, rate: int = 16_000
) -> go.Figure:
    """Waveform, spectrogram, and each encoder's frames as colours (three principal components).

    Args:
        sound: The clip.
        strips: Encoder -> (t, 3) bytes.
        text: What is said.
        voice: Who says it.
        rate: Samples a second.
    """
    names = [label(name) for name in strips]
    fig = make_subplots(
        rows=2 + len(strips), cols=1, shared_xaxes=True, vertical_spacing=0.04,
        row_heights=[0.28, 0.44] + [0.28 / len(strips)] * len(strips),
    )  # fmt: skip
    step = max(len(sound) // 3000, 1)
    seconds = len(sound) / rate
    fig.add_scatter(
        x=np.arange(0, len(sound), step) / rate, y=sound[::step], mode="lines",
        line={"color": viz.PALETTE[0], "width": 1}, hoverinfo="skip", row=1, col=1,
    )  # fmt: skip
    mel = spectrogram(sound, rate)
    fig.add_heatmap(
        z=mel.astype(np.float32), x=(np.arange(mel.shape[1]) + 0.5) / 100,
        colorscale=viz.SEQUENTIAL, showscale=False, hoverinfo="skip", row=2, col=1,
    )  # fmt: skip
    for i, strip in enumerate(strips.values()):
        fig.add_heatmap(
            z=[list(range(len(strip)))], x=(np.arange(len(strip)) + 0.5) / RATE, y=[0],
            colorscale=_own_colours(strip), showscale=False, hoverinfo="skip", row=3 + i, col=1,
        )  # fmt: skip
        fig.update_yaxes(tickvals=[0], ticktext=[names[i]], row=3 + i, col=1)
    fig.update_xaxes(range=[0, seconds])
    fig.update_xaxes(title_text="seconds", row=2 + len(strips), col=1)
    fig.update_yaxes(title_text="sound", row=1, col=1)
    fig.update_yaxes(title_text="mel band", row=2, col=1)
    fig.update_layout(showlegend=False)
    pairs = zip(names, strips.values(), strict=True)
    counted = ", ".join(f"{len(strip)} frames of {name}" for name, strip in pairs)
    return viz.finish(
        fig,
        title=f"“{text}”",
        alt=f"{seconds:.2f} s by {voice}: waveform, spectrogram of {mel.shape[1]} frames of 10 ms, "
        f"and {counted}.",
        caption="Equal colours in a strip are frames that the encoder takes for alike: look where "
        "they change with the sounds, and where they stay.",
        source="clip_view",
        params={"text": text, "voice": voice},
        height=560,
    )


def _own_colours(strip: np.ndarray) -> list[tuple[float, str]]:
    """A colour scale that gives frame number t the colour of its row."""
    last = max(len(strip) - 1, 1)
    return [(min(t / last, 1.0), f"rgb({r},{g},{b})") for t, (r, g, b) in enumerate(strip)] + (
        [(1.0, "rgb(0,0,0)")] if len(strip) == 1 else []
    )


def assignment_maps(maps: Mapping[str, Array], *, tokens: int, text: str) -> go.Figure:
    """The matrices W of several adapters side by side: frames down, output positions across.

    Args:
        maps: Adapter -> W (t, n).
        tokens: Tokens of the transcript, for comparison; 0 if it is not known.
        text: What is said.
    """
    names = list(maps)
    titles = [f"{label(n).split(':')[0]}: {maps[n].shape[1]}" for n in names]
    fig = make_subplots(rows=1, cols=len(names), shared_yaxes=True, subplot_titles=titles,
                        horizontal_spacing=0.02)  # fmt: skip
    for i, name in enumerate(names):
        w = maps[name].astype(np.float32)
        fig.add_heatmap(
            z=w / max(float(w.max()), 1e-9), y=np.arange(len(w)) / RATE, x=np.arange(w.shape[1]),
            colorscale=viz.SEQUENTIAL, zmin=0, zmax=1, showscale=False, row=1, col=1 + i,
            hovertemplate=name + ": position %{x} takes %{z:.2f} of its most at %{y:.2f} s"
            "<extra></extra>",
        )  # fmt: skip
        fig.update_xaxes(title_text="position", row=1, col=1 + i, nticks=4)
    fig.update_yaxes(autorange="reversed")
    fig.update_yaxes(title_text="seconds", row=1, col=1)
    seconds = len(next(iter(maps.values()))) / RATE
    said = ", ".join(f"{n} {maps[n].shape[1]}" for n in names)
    heard = f"{seconds:.2f} s" + (f" and {tokens} tokens" if tokens else "")
    return viz.finish(
        fig,
        title=f"Which frames make a position? “{text}”",
        alt=f"Positions for {heard}: {said}; that is "
        f"{', '.join(f'{maps[n].shape[1] / seconds:.1f}' for n in names)} a second.",
        caption=_steps_said(maps),
        source="assignment_maps",
        params={"text": text, "tokens": tokens},
        height=460,
    )


def _steps_said(maps: Mapping[str, Array]) -> str:
    """Which of the shown rules follow the clock, and how unequal the steps of the others are."""
    clock = [label(n).split(":")[0] for n in maps if n in ("base", "conv", "wlq")]
    said = [f"{', '.join(clock)}: straight diagonals, by the clock."] if clock else []
    for name in (n for n in maps if n in ("cif", "ctc")):
        frames = (maps[name] > 0).sum(axis=0)
        steps = f"one position takes {frames.min()} to {frames.max()} frames"
        if len(frames) == 1:
            steps = f"all {frames[0]} frames in one position"
        said.append(f"{label(name).split(':')[0]}: {steps}, by the content.")
    return " ".join(said)


def cif_staircase(
    alpha: Array | Sequence[float], *, threshold: float = 1.0, residual: float = 0.5
) -> go.Figure:
    """The running sum of the weights, and where it crosses a multiple of the threshold: a firing.

    Args:
        alpha: Weight of each frame, in [0, 1].
        threshold: Weight that an output takes.
        residual: Left-over share from which one more output comes.

    Raises:
        ValueError: weights outside [0, 1], or a threshold that is not positive.
    """
    values = np.asarray(alpha, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("alpha must lie in [0, 1]")
    if threshold <= 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    total = np.concatenate([[0.0], np.cumsum(values)])
    seconds = np.arange(len(total)) / RATE
    fires = int(total[-1] / threshold + 1e-9)
    left = total[-1] - fires * threshold
    extra = left >= residual * threshold and left > 0
    fig = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06,
                        row_heights=[0.7, 0.3])  # fmt: skip
    fig.add_bar(x=seconds[1:] - 0.5 / RATE, y=values, name="weight of a frame", row=2, col=1,
                marker={"color": viz.PALETTE[5]})  # fmt: skip
    fig.add_scatter(x=seconds, y=total, name="running sum", mode="lines", row=1, col=1,
                    line={"color": viz.PALETTE[0], "width": 2.5})  # fmt: skip
    at = [float(np.interp(threshold * (k + 1), total, seconds)) for k in range(fires)]
    fig.add_scatter(
        x=at, y=[threshold * (k + 1) for k in range(fires)], mode="markers+text", name="fires",
        text=[str(k + 1) for k in range(fires)], textposition="top left",
        marker={"symbol": "star", "size": 12, "color": viz.PALETTE[3]}, row=1, col=1,
    )  # fmt: skip
    for k in range(min(fires + 1, 40)):
        fig.add_hline(y=threshold * (k + 1), line={"color": viz.GRID, "width": 1}, row=1, col=1)
    tail = "gives one more output" if extra else "is dropped"
    fig.update_xaxes(range=[0, seconds[-1]])
    fig.update_xaxes(title_text="seconds", row=2, col=1)
    fig.update_yaxes(title_text="sum of weights", rangemode="tozero", row=1, col=1)
    fig.update_yaxes(title_text="weight", rangemode="tozero", row=2, col=1)
    fig.update_layout(legend={"orientation": "h", "y": -0.22, "yanchor": "top"}, bargap=0)
    return viz.finish(
        fig,
        title=f"Integrate and fire: {fires + int(extra)} positions from {len(values)} frames",
        alt=f"The weights sum to {total[-1]:.2f}; with threshold {threshold:g} that fires "
        f"{fires} times, and the rest of {left:.2f} {tail}.",
        caption="A frame that crosses a line is cut in two: its first part closes one position, "
        "its second part opens the next.",
        source="cif_staircase",
        params={"threshold": threshold, "residual": residual},
        height=420,
    )


def run_strip(symbols: Sequence[str], *, text: str) -> go.Figure:
    """The CTC head's character of each frame, and the runs that become one position each.

    Args:
        symbols: A character a frame; ``"∅"`` for the blank.
        text: What is said.
    """
    edges = [0, *[i for i in range(1, len(symbols)) if symbols[i] != symbols[i - 1]], len(symbols)]
    fig = go.Figure()
    for n, (a, b) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        blank = symbols[a] == "∅"
        fig.add_bar(
            orientation="h", base=[a / RATE], x=[(b - a) / RATE], y=[n % 2],
            marker={"color": "#C9D1DA" if blank else viz.PALETTE[n % 2 * 2],
                    "line": {"color": "white", "width": 1}},
            text=["" if blank else symbols[a]], textposition="inside", insidetextanchor="middle",
            textfont={"size": 15}, textangle=0,
            hovertemplate=f"run {n}: {symbols[a]!r}, {b - a} frames<extra></extra>",
        )  # fmt: skip
    said = "".join(s for s, a in zip([symbols[e] for e in edges[:-1]], edges[:-1], strict=True)
                   if symbols[a] != "∅")  # fmt: skip
    blanks = sum(symbols[e] == "∅" for e in edges[:-1])
    fig.update_layout(showlegend=False, barmode="overlay")
    fig.update_yaxes(visible=False, range=[-0.6, 1.6])
    fig.update_xaxes(title_text="seconds", range=[0, len(symbols) / RATE])
    return viz.finish(
        fig,
        title=f"CTC collapse: {len(edges) - 1} runs from {len(symbols)} frames",
        alt=f"“{text}” is labelled “{said}”: {len(edges) - 1} runs, {blanks} of them blank (grey), "
        f"from {len(symbols)} frames.",
        caption="Each run becomes one position, the grey blank runs too: an unsure head that calls "
        "everything blank leaves a single one.",
        source="run_strip",
        params={"text": text},
        height=240,
    )


def nearest_tokens(
    tokens: Sequence[Sequence[str]], cosines: Array, centres: Array, *, adapter: str, text: str
) -> go.Figure:
    """The five tokens whose embeddings are nearest to each position, at their time.

    Args:
        tokens: Five tokens a position.
        cosines: Their cosines (n, 5).
        centres: Seconds of each position.
        adapter: Kind of adapter.
        text: What is said.
    """
    n = len(tokens)
    places = np.arange(n)
    fig = go.Figure(
        go.Heatmap(
            z=cosines.T.astype(np.float32), x=places, y=[f"{k + 1}." for k in range(5)],
            text=[[tokens[j][k].replace(" ", "␣") for j in range(n)] for k in range(5)],
            texttemplate="%{text}" if n <= 24 else None, colorscale=viz.SEQUENTIAL,
            colorbar={"title": {"text": "cosine"}}, textfont={"size": 13},
            hovertemplate="position %{x}, %{y} %{text}: cosine %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_yaxes(autorange="reversed", title_text="rank")
    every = max(n // 9, 1)
    fig.update_xaxes(
        title_text="mean time of the position, seconds", tickvals=places[::every],
        ticktext=[f"{c:.2f}" for c in centres[::every]],
    )  # fmt: skip
    first = [row[0].strip() for row in tokens]
    words = [word for word in first[:30] if word.isalpha()]
    return viz.finish(
        fig,
        title=f"What the language model is shown: {adapter_style(adapter)[0].split(':')[0]}",
        alt=f"“{text}”: nearest tokens of {n} positions are {', '.join(first[:30])}; mean cosine "
        f"of the nearest {float(cosines[:, 0].mean()):.2f}.",
        caption=f"Nearest words in order: {' '.join(words) or 'none'}. The largest cosine is "
        f"{float(cosines.max()):.2f}: no vector is a token, the model reads between them.",
        source="nearest_tokens",
        params={"adapter": adapter, "text": text},
        height=340,
    )
