"""P01: model merging. Overlap of tasks, a re-merge of real models, and what it costs each task.

Opens on committed results and models; every re-merge is live, from cached factors.
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
from app.ui.tables import downloads
from labcore.merging import (
    figures,
    live,
    polar_factor,
    singular_task_interference,
    tsv_merge_matrix,
)
from labcore.merging.data import TASKS
from labcore.merging.experiment import load_result, summary
from labcore.merging.measure import METHODS
from labcore.merging.tally import compression_means, means
from labcore.merging.upload import merge_uploads
from labcore.runs import Result
from labcore.uploads import UploadError

ASSETS = ("mnist", "fashion-mnist", "digits-photos", "dejavu-fonts")
VIEWS = ("layers", "methods", "compression", "pictures", "plane", "language")
PARAMETERS: Table = {
    "tasks": Several(TASKS[:8], TASKS, "whose fine-tuned models are merged"),
    "method": Choice("tsv_m", METHODS, "how to merge"),
    "alpha": Range(1.0, 0.0, 3.0, 0.05, "scale of the merged update"),
    "k": Range(0, 0, 48, about="components kept of each task; 0 takes r // T"),
    "whiten": Flag(True, "make the vectors of different tasks orthogonal"),
    "rule": Choice("mean", ("mean", "sum"), "what happens to biases and norms"),
    "layer": Choice(
        "blocks.1.mlp.fc1.weight",
        tuple(
            f"blocks.{b}.{p}.weight"
            for b in range(4)
            for p in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        ),
        "the matrix of the heat map",
    ),
    "view": Choice("layers", VIEWS, "what to look at below"),
    "count": Choice(8, (8, 14, 20), "tasks of the committed measurements"),
    "part": Choice("mlp.fc1", ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"), "matrix of spectra"),
    "shown": Choice("greek", TASKS, "task of the pictures"),
    "angle": Range(40, 1, 90, about="degrees between two tasks in the plane"),
}
control = Controls(PARAMETERS)
PRESETS = (
    Preset(
        "Whitening off",
        "The light blocks are directions that several tasks want; the bars show what that costs.",
        {"whiten": False},
    ),
    Preset(
        "Task arithmetic at 1",
        "The plain sum of eight updates at scale 1 leaves nothing. Move alpha down to 0.1.",
        {"method": "task_arithmetic"},
    ),
    Preset(
        "Two relatives",
        "Two kinds of digits share directions: look at the blocks beside the diagonal.",
        {"tasks": ("mnist", "uci_digits", "hebrew")},
    ),
    Preset(
        "Too many tasks",
        "Twenty tasks have four components each in a matrix of 96. Who loses most?",
        {"tasks": TASKS, "view": "methods", "count": 20},
    ),
)
scored = cached(live.scores)
overlapping = cached(live.overlap)
interfering = cached(live.interference)
pictured = cached(live.gallery)


def committed() -> Result:
    """The committed result, one copy for all sessions."""
    result: Result = shared(load_result)
    return result


def remerge(setting: dict[str, Any], options: dict[str, Any]) -> None:
    """Bars of a live re-merge, with its time."""
    found = scored(**setting, **options)
    left, middle, right = st.columns(3)
    left.metric("Normalised accuracy", f"{found.normalized:.1%}")
    middle.metric("Tasks merged", len(setting["tasks"]))
    right.metric("Merged in", f"{found.merge_seconds:.2f} s")
    figure(figures.task_bars(found.base, found.merged, found.own), "bars")
    st.caption(
        f"{found.pictures} committed test pictures a task; models of pre-training seed 0, merged "
        "here and now from cached factors."
    )


def the_overlap(tasks: tuple[str, ...], rank: int | None, whiten: bool) -> None:
    """The heat map of one matrix."""
    layer = control.select("layer", "Matrix")
    seen = overlapping(tasks, layer, rank=rank, whiten=whiten)
    figure(
        figures.interference_map(
            seen.left,
            seen.right,
            seen.sizes,
            tasks,
            whitened=whiten,
            parameter=layer,
            value=seen.value,
        ),
        "overlap",
    )


def the_layers(tasks: tuple[str, ...], rank: int | None) -> None:
    """Interference by depth and by pair, and the spectra of the updates."""
    rows, pairs = interfering(tasks, rank=rank)
    figure(figures.depth_bars(rows, tasks=len(tasks)), "depth")
    downloads(rows, "interference", "Interference of every matrix")
    figure(figures.pair_map(pairs, tasks), "pairs")
    part = control.select("part", "Spectra of")
    result = committed()
    cumulative = result.arrays["spectra/0"]
    figure(
        figures.spectra(
            cumulative[[TASKS.index(task) for task in tasks]],
            result.where("matrices")[: cumulative.shape[1]],
            tasks,
            part=part,
            kept=live.kept_share(len(tasks), rank),
        ),
        "spectra",
    )


def the_methods() -> None:
    """The committed comparison of all methods."""
    count = control.select("count", "Tasks")
    result = committed()
    figure(figures.method_bars(means(result), tasks=count), "mergers")
    rows = [row for row in summary(result) if row["tasks"] == count]
    st.dataframe(rows, hide_index=True)
    downloads(rows, "accuracy", "Accuracy of every method")
    figure(figures.alpha_curves(result.tables["alpha"], tasks=count), "curves")
    figure(figures.ablation(means(result), tasks=count), "ablation")
    figure(
        figures.task_radar(
            result.tables["accuracy"],
            tasks=count,
            methods=("zero_shot", "task_arithmetic", "iso_c", "tsv_m"),
        ),
        "radar",
    )


def the_plane() -> None:
    """Two tasks of one direction each."""
    figure(figures.plane(float(control.slider("angle", "Angle between two tasks"))), "plane")


def the_language_model() -> None:
    """SmolLM2-135M, fine-tuned on three kinds of text and merged on disk."""
    result: Result = shared(load_result, "language")
    figure(figures.language_losses(result.tables["losses"]), "language")
    rows = result.tables["interference"]
    figure(figures.depth_bars(rows, tasks=3), "language-depth")
    merges = result.tables["merges"]
    (ours,) = (row for row in merges if row["method"] == "tsv_m")
    st.caption(
        f"{ours['tensors']} tensors, {ours['bytes'] / 1e6:.0f} MB in {ours['shards']} shards, "
        f"merged one tensor at a time with at most {ours['peak_bytes'] / 1e6:.0f} MB of memory. "
        f"Made by `{result.provenance.command}`."
    )
    st.dataframe(merges, hide_index=True)


def the_compression() -> None:
    """Bytes against accuracy, with the task known."""
    result = committed()
    figure(figures.compression_curve(compression_means(result)), "compression")
    size = live.model_bytes()
    figure(figures.storage(result.tables["compression"], model_bytes=size), "storage")


def the_pictures(setting: dict[str, Any], options: dict[str, Any]) -> None:
    """Test pictures before and after merging."""
    task = control.select("shown", "Task")
    seen = pictured(task, **setting, **options)
    figure(
        figures.gallery(seen.images, seen.truth, seen.merged, seen.base, task=task),
        "pictures",
        downloads=False,
    )


def more_pictures(setting: dict[str, Any], options: dict[str, Any]) -> None:
    """The same re-merge on more test pictures."""
    if any(need_asset(name) is None for name in ASSETS):
        return
    found = long_job(
        "full",
        "labcore.merging.live.full_scores",
        **setting,
        **options,
        label="Score on 500 test pictures a task",
        seconds=20,
    )
    if found is not None:
        st.metric("Normalised accuracy", f"{found.normalized:.1%}")
        figure(figures.task_bars(found.base, found.merged, found.own), "full-bars")


def your_models(options: dict[str, Any], alpha: float) -> None:
    """Merge uploaded checkpoints."""
    st.markdown(
        "A base and fine-tuned copies of it as `.safetensors`, at most 40 MB each. TSV-Merge runs "
        "with the settings at the left; larger checkpoints: `./lab merge`."
    )
    files = st.file_uploader(
        "Checkpoints", type=["safetensors"], accept_multiple_files=True, max_upload_size=40
    )
    if not files:
        return
    base = st.selectbox("Which one is the base?", [file.name for file in files])
    try:
        merged = merge_uploads(
            [(file.name, file.getvalue()) for file in files], base=base, alpha=alpha, **options
        )
    except (UploadError, ValueError) as error:
        st.error(str(error), icon=":material/upload_file:")
        return
    if merged.rows:
        short = st.column_config.NumberColumn(format="%.3g")
        st.dataframe(
            merged.rows,
            column_config={
                name: short for name, value in merged.rows[0].items() if isinstance(value, float)
            },
        )
        downloads(merged.rows, "report", "Report")
    st.download_button(
        "Merged checkpoint",
        data=merged.data,
        file_name="merged.safetensors",
        mime="application/octet-stream",
        icon=":material/download:",
        on_click="ignore",
    )


@page(
    "merging",
    control,
    claim="merging-best",
    presets=PRESETS,
    look="Switch whitening off and on: the heat map loses its light blocks, the bars change less "
    "than you may expect. Add tasks one by one: the own models stay, the merged one sinks. "
    "Move alpha: the sum of updates has a narrow peak, TSV-Merge a broad one near 1.",
    code=(polar_factor, singular_task_interference, tsv_merge_matrix),
)
def body() -> None:
    """The page."""
    with st.sidebar:
        chosen = control.many("tasks", "Tasks")
        method = control.select("method", "Method")
        alpha = control.slider("alpha", "Scale alpha")
        rank = control.slider("k", "Components k") or None
        whiten = control.toggle("whiten", "Whiten")
        rule = control.select("rule", "Biases and norms")
    tasks = chosen or TASKS[:2]
    if not chosen:
        st.info("No task is chosen; showing the first two.")
    setting = {"tasks": tasks, "method": method, "alpha": alpha}
    options = {"rank": rank, "whiten": whiten, "vector_rule": rule}
    shared(live.open_workbench)
    st.markdown(
        "One small vision transformer was fine-tuned on twenty tasks. Merge some of them into "
        "**one** model (blue), and switch *Whiten* off to see where their directions collide and "
        "what that costs. k, whitening and the rule act on `tsv_m`."
    )
    remerge(setting, options)
    the_overlap(tasks, rank, whiten)
    view = control.select("view", "Look further")
    if view == "layers":
        the_layers(tasks, rank)
    elif view == "methods":
        the_methods()
    elif view == "compression":
        the_compression()
    elif view == "plane":
        the_plane()
    elif view == "language":
        the_language_model()
    else:
        the_pictures(setting, options)
    with st.expander("More test pictures", icon=":material/image:"):
        more_pictures(setting, options)
    with st.expander("Merge your own checkpoints", icon=":material/upload:"):
        your_models(options, alpha)


if __name__ == "__main__":
    body()
