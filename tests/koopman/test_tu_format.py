"""The article's text format: what is written comes back, ragged graphs become one batch, and the
command trains on such a set and scores it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from labcore.koopman.article import article_dataset, audit, main
from labcore.koopman.data import Dataset
from labcore.koopman.stgnn import DynGCRNN
from labcore.koopman.tu_format import TemporalGraph, pad_graphs, read_temporal_tu

SMALL = TemporalGraph(np.array([[0, 0, 1], [0, 1, 0]]), np.array([0, 1]), 1, 3)
LARGE = TemporalGraph(np.array([[1, 2, 0], [1, 0, 2]]), np.array([-1, -1, 0]), 0, 3)


def write_set(folder: Path, graphs: list[TemporalGraph]) -> Path:
    """Files of a set, in the layout of :mod:`labcore.koopman.tu_format`."""
    folder.mkdir()
    starts = np.cumsum([0, *(len(g.infected_at) for g in graphs)])
    contacts = np.concatenate(
        [g.contacts + [0, at, at] for g, at in zip(graphs, starts, strict=False)]
    )
    lines = {
        "A": [f"{u + 1}, {v + 1}" for _, u, v in contacts],
        "edge_attributes": [str(t + 1) for t in contacts[:, 0]],
        "graph_indicator": [str(i + 1) for i, g in enumerate(graphs) for _ in g.infected_at],
        "graph_labels": [str(g.label) for g in graphs],
        "node_labels": [
            "0, 0" if at < 0 else f"0, 0, {at}, 1" for g in graphs for at in g.infected_at
        ],
    }
    for name, text in lines.items():
        (folder / f"{folder.name}_{name}.txt").write_text("\n".join(text) + "\n")
    return folder


def as_files(dataset: Dataset) -> list[TemporalGraph]:
    """Graphs of ours in the files' convention: a flag rises one bin later; every third is smaller
    by the people at its end.
    """
    graphs = []
    for i, (A, at, label) in enumerate(zip(dataset.A, dataset.infected_at, dataset.y, strict=True)):
        n = len(at) - (2 if i % 3 == 0 else 0)
        later = np.where(at > 0, at + 1, at)[:n]
        later[later >= len(A)] = -1
        graphs.append(TemporalGraph(np.argwhere(A[:, :n, :n]), later, int(label), len(A)))
    return graphs


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    read = read_temporal_tu(write_set(tmp_path / "two_ct1", [SMALL, LARGE]), "two_ct1", 3)
    for ours, theirs in zip(read, (SMALL, LARGE), strict=True):
        np.testing.assert_array_equal(ours.adjacency(), theirs.adjacency())
        np.testing.assert_array_equal(ours.infected_at, theirs.infected_at)
        assert ours.label == theirs.label
    with pytest.raises(ValueError, match=r"must be 1\.\.1"):
        read_temporal_tu(tmp_path / "two_ct1", "two_ct1", 1)
    with pytest.raises(FileNotFoundError):
        read_temporal_tu(tmp_path, "none_ct1")


def test_ragged_graphs_become_a_batch_with_a_mask() -> None:
    x, A, mask = pad_graphs([SMALL, LARGE])
    assert x.shape == (2, 3, 3)
    assert A[0, 0, 0, 1] == A[1, 1, 2, 0] == 1
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    model = DynGCRNN(1, 3, 1)
    tensors = torch.from_numpy(x)[..., None], torch.from_numpy(A).float(), torch.from_numpy(mask)
    alone = model(tensors[0][:1, :, :2], tensors[1][:1, :, :2, :2])[0]
    torch.testing.assert_close(model(*tensors)[0][:1], alone)
    with pytest.raises(ValueError, match="one number of steps"):
        pad_graphs([])


def test_the_command_trains_and_scores_a_set(tmp_path: Path, dataset: Dataset, capsys) -> None:
    folder = write_set(tmp_path / "small_ct1", as_files(dataset))
    padded = article_dataset(read_temporal_tu(folder, "small_ct1", 20))
    assert padded.mask is not None
    assert padded.mask.sum(axis=1).min() == padded.mask.shape[1] - 2
    assert not set(padded.train) & set(padded.valid)
    main([str(folder), "--hidden", "3", "--layers", "1", "--epochs", "1"])
    said = capsys.readouterr().out
    assert "validation accuracy" in said
    assert "AUC of true nodes" in said
    with pytest.raises(ValueError, match="want a mask"):
        audit(DynGCRNN(1, 3, 1), replace(padded, mask=None), padded.valid)
