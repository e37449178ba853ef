"""The experiment at a tiny size: deterministic, resumable to look at, and what is drawn from it."""

import subprocess
import sys

import numpy as np
import pytest

from labcore import viz
from labcore.koopman import explorer, figures
from labcore.koopman import spectrum as modes
from labcore.koopman.experiment import load_result, run, summary, trained
from labcore.koopman.names import NAMES, TARGETS, difference, mean_of, networks, values
from labcore.runs import Cancelled, Result
from tests.koopman.conftest import tiny_config


def test_the_same_seed_gives_the_same_numbers(result: Result) -> None:
    again = run(tiny_config())
    assert again.arrays.keys() == result.arrays.keys()
    for name, array in result.arrays.items():
        assert array.tobytes() == again.arrays[name].tobytes(), name


def test_every_score_is_there_and_trivial_ones_are_trivial(result: Result) -> None:
    assert networks(result) == ["synthetic"]
    for target in TARGETS:
        assert result.arrays[f"synthetic@0/{target}"].shape[0] == len(NAMES)
    assert mean_of(values(result, "synthetic", "node_auc", "always")).mean == 0.5
    assert mean_of(values(result, "synthetic", "node_auc", "input_flag")).mean == pytest.approx(1)
    assert difference(result, "synthetic", "node_auc", "dmd", "dmd").mean == 0
    with pytest.raises(ValueError, match="not all of them"):
        values(result, "synthetic", "node_auc", "guess")
    said = " ".join(row["what"] for row in summary(result))
    assert "accuracy, synthetic seed 0" in said
    assert "sign flips" in said


def test_a_run_stops_between_two_steps() -> None:
    def stop(done: int, total: int, label: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(tiny_config(), stop)


@pytest.mark.parametrize("explainer", explorer.EXPLAINERS)
def test_every_explainer_can_be_drawn(result: Result, explainer: str) -> None:
    setting = explorer.Setting(explainer=explainer, k=6, window=4)
    view = explorer.view(result, "synthetic", 1, setting)
    for fig in (figures.where_and_when(view), figures.score_strip(view)):
        assert any(c.isdigit() for c in viz.describe(fig))
        assert viz.to_csv(fig).count(b"\n") > 5
    assert len(explorer.score_rows(view)) == 1 + len(explorer.BESIDE)


def test_the_figures_name_the_chosen_mode(result: Result) -> None:
    setting = explorer.Setting(mode=3, side="left", k=6, window=4)
    view = explorer.view(result, "synthetic", 1, setting)
    for fig in (figures.where_and_when(view), figures.score_strip(view)):
        assert "DMD, left mode 3 " in viz.describe(fig)
        assert "mode 0" not in viz.describe(fig)


def test_figures_of_the_whole_result(result: Result) -> None:
    for target in TARGETS:
        assert viz.describe(figures.score_dots(result, target=target))
    assert viz.describe(figures.learning_curves(result))
    assert viz.describe(figures.deletion_curves(result.tables["deletion"], network="synthetic"))
    with pytest.raises(ValueError, match="no deletion test"):
        figures.deletion_curves(result.tables["deletion"], network="nowhere")
    spectrum = modes.spectrum(result, "synthetic", k=6)
    assert spectrum.energy.sum() == pytest.approx(1)
    smaller = modes.spectrum(result, "synthetic", k=6, alpha=100.0)
    assert np.abs(smaller.eigs).max() < np.abs(spectrum.eigs).max()
    figures.eigenvalue_plane(spectrum, network="synthetic", alpha=1.0, k=6)


def test_the_lottery_moves_one_weight_only(result: Result) -> None:
    found = modes.lottery(result, "synthetic", 0, degree=3, k=6, flips=6)
    assert np.ptp(found.aucs["frobenius"]) < 1e-9
    assert np.ptp(found.ranks["signed_sum"], axis=0).max() > 0
    assert "Frobenius" in viz.describe(figures.flip_lottery(found, degree=3))


def test_an_unknown_graph_or_explainer_is_refused(result: Result) -> None:
    with pytest.raises(ValueError, match="no number 9"):
        explorer.view(result, "synthetic", 9)
    with pytest.raises(ValueError, match="choose one of"):
        explorer.view(result, "synthetic", 0, explorer.Setting(explainer="oracle", k=6, window=4))


def test_the_committed_result_and_weights_belong_together() -> None:
    import torch

    result = load_result()
    graph = explorer.shown_graph(result, "synthetic", 0)
    with torch.no_grad():
        x = torch.from_numpy(graph.x)[None, ..., None]
        states = trained("synthetic")(x, torch.from_numpy(graph.A)[None].float())[1][0].numpy()
    np.testing.assert_allclose(states, graph.states, atol=2e-3)
    with pytest.raises(ValueError, match="choose one of"):
        trained("nowhere")


def test_the_page_needs_no_torch() -> None:
    code = (
        "import sys; from labcore.koopman import explorer, figures, experiment, series;"
        "explorer.view(experiment.load_result(), 'synthetic', 0);"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
