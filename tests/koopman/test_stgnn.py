"""Cells against message passing, dense against sparse, masks, training."""

import numpy as np
import pytest
import torch

from labcore.koopman.cells import CELLS, GraphGRUCell, GraphLSTMCell
from labcore.koopman.data import Dataset, dissemination_dataset
from labcore.koopman.settings import Training
from labcore.koopman.steps import Backend, DenseSteps, SparseSteps, as_steps
from labcore.koopman.stgnn import DynGCRNN, load_reference_weights
from labcore.koopman.training import (
    curve_accuracy,
    fit,
    predict,
)
from tests.koopman.conftest import SMALL


def graphs(b: int = 2, t: int = 6, n: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    A = torch.triu((torch.rand(b, t, n, n, generator=generator) < 0.3).float(), 1)
    return torch.rand(b, t, n, 1, generator=generator), A + A.transpose(-1, -2)


@pytest.mark.parametrize("backend", ["dense", "sparse"])
def test_the_lstm_cell_is_message_passing(backend: Backend) -> None:
    pyg = pytest.importorskip("torch_geometric.nn", reason="the peer PyG is not installed")
    x, A = graphs()
    torch.manual_seed(0)
    cell = GraphLSTMCell(1, 4)
    gates = [pyg.GraphConv(5, 4, aggr="add") for _ in range(4)]
    for i, gate in enumerate(gates):
        part = slice(4 * i, 4 * i + 4)
        gate.lin_rel.weight.data = cell.neighbour.weight.data[part]
        gate.lin_rel.bias.data = cell.root.bias.data[part]
        gate.lin_root.weight.data = cell.root.weight.data[part]
    ours = cell(x.transpose(0, 1), as_steps(A, backend))
    h = c = torch.zeros(14, 4)
    for t in range(6):
        b, u, v = A[:, t].nonzero().T
        edges = torch.stack([7 * b + v, 7 * b + u])
        z = torch.cat([x[:, t].reshape(-1, 1), h], dim=1)
        i, f, g, o = (gate(z, edges) for gate in gates)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(ours[t].reshape(-1, 4), h, atol=1e-6, rtol=0)


def test_the_gru_cell_follows_its_equations() -> None:
    x, A = graphs()
    torch.manual_seed(0)
    cell = GraphGRUCell(1, 3)
    ours = cell(x.transpose(0, 1), DenseSteps(A))
    h = torch.zeros(2, 7, 3)
    for t in range(6):
        z = torch.cat([x[:, t], h], dim=-1)
        r, u = (cell.neighbour(A[:, t] @ z) + cell.root(z)).sigmoid().chunk(2, dim=-1)
        zr = torch.cat([x[:, t], r * h], dim=-1)
        new = (cell.neighbour_candidate(A[:, t] @ zr) + cell.root_candidate(zr)).tanh()
        h = u * h + (1 - u) * new
        torch.testing.assert_close(ours[t], h, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", list(CELLS))
def test_sparse_equals_dense_nodes_may_be_permuted_and_padded(cell: str) -> None:
    x, A = graphs()
    torch.manual_seed(0)
    model = DynGCRNN(1, 4, 2, cell=cell, backend="dense")
    logits, states = model(x, A)
    model.backend = "sparse"
    for given in (A, SparseSteps.of(A)):
        torch.testing.assert_close(model(x, given)[1], states, atol=1e-6, rtol=1e-5)
    model.backend = "dense"
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    turned = model(x[:, :, order], A[:, :, order][..., order])
    torch.testing.assert_close(turned[1], states[:, :, order])
    wide = torch.zeros(2, 6, 9, 9)
    wide[:, :, :7, :7] = A
    mask = torch.arange(9).expand(2, 9) < 7
    padded = model(torch.cat([x, torch.zeros(2, 6, 2, 1)], 2), wide, mask)
    torch.testing.assert_close(padded[0], logits)


def test_lists_of_contacts_where_these_are_few_and_nobody_asks_for_their_slope() -> None:
    few, many = torch.zeros(1, 3, 20, 20), torch.ones(1, 3, 4, 4)
    few[0, 0, 1, 2] = few[0, 0, 2, 1] = 1
    assert isinstance(as_steps(few), SparseSteps)
    assert isinstance(as_steps(many), DenseSteps)
    assert isinstance(as_steps(few.requires_grad_()), DenseSteps)


def test_walks_are_stochastic_and_reverse_follows_columns() -> None:
    A = torch.tensor([[[[0.0, 2, 1], [0, 0, 0], [1, 0, 0]]]])
    forward, back = DenseSteps(A).walk(), DenseSteps(A).walk(reverse=True)
    eye = torch.eye(3)[None]
    assert forward.at(0, eye)[0].tolist() == [[0, pytest.approx(2 / 3), pytest.approx(1 / 3)],
                                              [0, 0, 0], [1, 0, 0]]  # fmt: skip
    assert back.at(0, eye)[0].tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]


def test_bad_input_is_refused() -> None:
    x, A = graphs()
    model = DynGCRNN(1, 4, 1)
    with pytest.raises(ValueError, match="must agree"):
        model(x, SparseSteps.of(A[:, :5]))
    with pytest.raises(ValueError, match="cell='rnn'"):
        DynGCRNN(1, 4, 1, cell="rnn")
    with pytest.raises(ValueError, match="backend"):
        DynGCRNN(1, 0, 1)
    with pytest.raises(ValueError, match="contacts must lie"):
        SparseSteps(torch.tensor([[0, 0, 9, 1]]), (1, 2, 3))
    with pytest.raises(ValueError, match=r"no encoder\.cells"):
        load_reference_weights({"a": torch.zeros(1)})


def test_a_network_learns_what_the_count_curve_does_not_say(dataset: Dataset) -> None:
    torch.manual_seed(0)
    model = DynGCRNN(1, 8, 1)
    history = fit(model, dataset, Training(epochs=12, batch=8, rate=0.02), seed=0)
    assert history.loss[-1] < 0.6 * history.loss[0]
    right = (predict(model, dataset, dataset.train) > 0) == dataset.y[dataset.train]
    assert right.mean() > 0.8
    assert 0.0 <= curve_accuracy(dataset) <= 1.0


def test_the_koopman_head_learns_its_matrix(dataset: Dataset) -> None:
    torch.manual_seed(0)
    model = DynGCRNN(1, 3, 1, koopman_head=True)
    assert model.K is not None
    before = model.K.detach().clone()
    history = fit(model, dataset, Training(epochs=2, batch=16))
    assert np.isfinite(history.loss).all()
    assert not torch.equal(before, model.K.detach())


def test_training_is_deterministic(dataset: Dataset) -> None:
    logits = []
    for _ in range(2):
        torch.manual_seed(3)
        model = DynGCRNN(1, 3, 1)
        fit(model, dataset, Training(epochs=1), seed=5)
        logits.append(predict(model, dataset, dataset.valid))
    assert np.array_equal(*logits)


def test_the_same_seed_gives_the_same_bytes() -> None:
    a, b, c = (dissemination_dataset("synthetic", 10, recipe=SMALL, seed=s) for s in (3, 3, 4))
    for name in ("A", "x", "y", "infected_at", "train", "valid"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    assert a.A.tobytes() != c.A.tobytes()
    assert not set(a.train) & set(a.valid)
    assert len(a.train) + len(a.valid) == 10
    with pytest.raises(ValueError, match="no network"):
        dissemination_dataset("nowhere", 10)
    with pytest.raises(ValueError, match="10 or more"):
        dissemination_dataset("synthetic", 4)
