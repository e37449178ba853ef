"""Figures draw what they are given, say it in numbers, and refuse what does not fit."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from labcore import viz
from labcore.merging import figures
from labcore.merging.experiment import load_result
from labcore.merging.tally import compression_means, means
from labcore.merging.tsv import tsv_merge
from labcore.merging.upload import merge_uploads
from labcore.merging.vectors import apply, task_vector
from labcore.uploads import UploadError

RESULT = load_result()
TABLES = RESULT.tables
TASKS = tuple(dict.fromkeys(row["task"] for row in TABLES["accuracy"]))
SHARES = {"a": 0.5, "b": 0.75}
DRAWN = {
    "alpha_curves": lambda: figures.alpha_curves(TABLES["alpha"], tasks=14),
    "method_bars": lambda: figures.method_bars(means(RESULT), tasks=20),
    "task_bars": lambda: figures.task_bars(SHARES, SHARES, {"a": 1.0, "b": 1.0}),
    "task_radar": lambda: figures.task_radar(
        TABLES["accuracy"], tasks=8, methods=("tsv_m", "zero_shot")
    ),
    "ablation": lambda: figures.ablation(means(RESULT), tasks=8),
    "compression_curve": lambda: figures.compression_curve(compression_means(RESULT)),
    "storage": lambda: figures.storage(TABLES["compression"], model_bytes=1_223_424),
    "interference_map": lambda: figures.interference_map(
        np.eye(6), np.eye(6), (3, 3), ("a", "b"), whitened=True, parameter="w", value=0.0
    ),
    "pair_map": lambda: figures.pair_map(RESULT.arrays["pairs/0@8"].mean(0), TASKS[:8]),
    "depth_bars": lambda: figures.depth_bars(TABLES["interference"], tasks=20),
    "spectra": lambda: figures.spectra(
        RESULT.arrays["spectra/0"], TABLES["matrices"][:16], TASKS, part="mlp.fc2", kept=0.05
    ),
    "language_losses": lambda: figures.language_losses(load_result("language").tables["losses"]),
    "plane": lambda: figures.plane(40.0),
    "gallery": lambda: figures.gallery(
        np.zeros((9, 28, 28)), [0] * 9, [0] * 9, [1] * 9, task="greek"
    ),
}


def test_every_figure_is_drawn_here():
    assert set(DRAWN) == set(figures.__all__)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_figures_are_finished_and_told_in_numbers(name):
    fig = DRAWN[name]()
    assert any(c.isdigit() for c in viz.describe(fig))
    assert viz.caption(fig) != viz.describe(fig)
    assert len(fig.layout.title.text) < 64
    assert name == "task_radar" or len(viz.to_csv(fig).splitlines()) > 2
    titled = [axis for axis in fig.select_xaxes() if axis.title.text]
    assert titled or name == "task_radar"


def test_bars_and_maps_show_the_numbers():
    fig = DRAWN["method_bars"]()
    best = max(means(RESULT), key=lambda m: (m.tasks == 20, m.tuned.normalized))
    assert max(fig.data[1].x) == pytest.approx(100 * best.tuned.normalized)
    assert f"{100 * best.tuned.normalized:.1f} %" in viz.describe(fig)
    grid = DRAWN["ablation"]().data[0].z
    assert grid[1][1] == pytest.approx(
        100 * next(m for m in means(RESULT) if (m.method, m.tasks) == ("tsv_m", 8)).tuned.normalized
    )


@pytest.mark.parametrize("angle", [1.0, 30.0, 90.0])
def test_the_plane_whitens_to_a_right_angle(angle):
    fig = figures.plane(angle)
    ends = [np.array([t.x[1], t.y[1]]) for t in fig.data if "whitened" in t.name and len(t.x) == 2]
    assert abs(ends[0] @ ends[1]) < 1e-9
    assert np.linalg.norm(ends, axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.alpha_curves(TABLES["alpha"], tasks=3), "no curves for 3 tasks"),
        (lambda: figures.method_bars(means(RESULT), tasks=3), "no methods for 3 tasks"),
        (
            lambda: figures.spectra(
                np.ones((1, 1, 4)), TABLES["matrices"][:1], ("a",), part="x", kept=0.5
            ),
            "no matrix 'x'",
        ),
    ],
)
def test_what_was_not_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_drawing_needs_no_torch():
    code = "from labcore.merging import figures; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Uploads.


def checkpoint(seed):
    g = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(12, 8, generator=g), "b": torch.randn(8, generator=g)}


def uploaded():
    return [(f"m{seed}.safetensors", save(checkpoint(seed))) for seed in range(3)]


def test_uploads_are_merged_and_reported():
    merged = merge_uploads(uploaded(), base="m1.safetensors", alpha=0.5)
    base = checkpoint(1)
    taus = {f"m{s}.safetensors": task_vector(base, checkpoint(s)) for s in (0, 2)}
    wanted = apply(base, tsv_merge(taus)[0], 0.5)
    found = load(merged.data)
    assert all(torch.allclose(found[n], wanted[n], atol=1e-6) for n in wanted)
    assert merged.tasks == ("m0.safetensors", "m2.safetensors")
    assert merged.rows[0]["sti"] > 0


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        (uploaded()[:1], ValueError, "at least one fine-tuned"),
        ([uploaded()[0]] * 2, ValueError, "same name"),
        ([uploaded()[0], ("code.pkl", b"x")], UploadError, "code.pkl"),
        ([uploaded()[0], ("a.npz", b"x")], UploadError, "want a .safetensors"),
        ([uploaded()[0], ("a.safetensors", b"nonsense")], UploadError, "damaged"),
        (
            [uploaded()[0], ("a.safetensors", save({"w": torch.zeros(3, 3)}))],
            ValueError,
            "differ in 1 names: b",
        ),
    ],
)
def test_bad_uploads_are_refused(files, error, message):
    with pytest.raises(error, match=message):
        merge_uploads(files)
    with pytest.raises(ValueError, match="not among the files"):
        merge_uploads(uploaded(), base="elsewhere")
