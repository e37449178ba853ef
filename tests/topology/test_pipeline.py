"""The pipeline: its parts, its data, one run that resumes, and the committed results."""

import json
from dataclasses import asdict, replace

import networkx as nx
import numpy as np
import pytest
import torch

from labcore import claims
from labcore.runs import Cancelled
from labcore.topology import experiment
from labcore.topology.data import load, planetoid, split
from labcore.topology.data_files import from_torch_geometric
from labcore.topology.graphs import as_graph
from labcore.topology.models import MODELS
from labcore.topology.pipeline import (
    Choice,
    as_params,
    cell_counts,
    evaluate,
    lifted,
    override,
    run_choice,
    tensors,
)
from labcore.topology.preprocess import preprocess
from labcore.topology.settings import Bench, Config
from labcore.topology.source import Source, folds
from labcore.topology.tally import distinct, paired, pick, spread

SHORT = Choice("karate", "simplicial/clique", "scn", width=8, epochs=5)


def run(choice, seed=0):
    return run_choice(seed=0, **as_params(choice, seed))


def test_the_same_choice_and_seed_give_the_same_scores():
    for model in ("scn", "mamba"):
        first, second = (run(replace(SHORT, model=model), 1) for _ in range(2))
        assert {k: first[k] for k in ("test", "val", "epoch")} == {
            k: second[k] for k in ("test", "val", "epoch")
        }


@pytest.mark.parametrize(
    ("lifting", "model"),
    [
        ("graph/identity", "gat"),
        ("graph/identity", "mamba"),
        ("cell/cycle", "cccn"),
        ("hypergraph/mapper", "unigcn"),
        ("hypergraph/khop", "mamba"),
        ("simplicial/clique+combinatorial/coface", "gccn"),
        ("hypergraph/khop+combinatorial/faces", "gccn"),
    ],
)
def test_models_run_on_their_domains(lifting, model):
    found = run(replace(SHORT, lifting=lifting, model=model, epochs=2))
    assert 0 <= found["test"] <= 1
    assert found["parameters"] > 0


def test_surfaces_come_as_complexes():
    choice = Choice("torus-or-klein", "simplicial/given", "sccnn", features="random", epochs=1,
                    width=4)  # fmt: skip
    assert run(choice)["cells"].count("/") == 2
    with pytest.raises(ValueError, match="name a lifting"):
        run(replace(SHORT, lifting="simplicial/given"))


def test_overrides_are_texts_as_on_a_command_line():
    found = override(SHORT, ["width=4", "lr=0.1", "lift_options.max_dim=3", "model=san"])
    assert (found.width, found.lr, found.model) == (4, 0.1, "san")
    assert found.lift_options == {"max_dim": 3}
    for bad in ("width", "wide=3", "width.x=3"):
        with pytest.raises(ValueError, match="names are data"):
            override(SHORT, [bad])


def test_scores():
    y = torch.tensor([0, 1, 1, 0])
    logits = torch.tensor([[2.0, 0], [0, 1], [1, 0], [0, 0]])
    parts = {"all": torch.arange(4)}
    assert evaluate(logits, y, parts) == {"all": 0.75}
    # margins -2, 1, -1, 0: of four pairs (one, zero) three are in order
    assert evaluate(logits, y, parts, "auc") == {"all": 0.75}
    with pytest.raises(ValueError, match="auc for two classes"):
        run(replace(SHORT, metric="auc"))
    assert run(Choice("mutag", "graph/identity", "majority", metric="auc"))["test"] == 0.5


def test_counts_join_the_features_if_asked():
    source = load("karate")
    topo = lifted(source, "simplicial/clique")
    given = tensors(topo, "mamba", "counts")
    assert given.x[0].shape == (34, 34 + 3)
    np.testing.assert_array_equal(given.x[0][:, 34:].numpy(), cell_counts(topo.complex))
    assert cell_counts(topo.complex)[0].tolist() == [1, 16, 18]


def test_preprocessing_adds_columns_or_keeps_a_part():
    ring = as_graph(nx.disjoint_union(nx.complete_graph(3), nx.path_graph(2)))
    source = Source("x", "node", ring, np.ones((5, 1), np.float32), np.array([0, 1, 0, 1, 0]))
    assert preprocess(source, "none") is source
    degree = preprocess(source, "degree").x[:, 1]
    np.testing.assert_allclose(degree, np.log1p([2, 2, 2, 1, 1]), rtol=1e-6)
    walk = preprocess(source, "walk").x[:, 1:]
    np.testing.assert_allclose(walk[0, :3], [0, 0.5, 0.25], atol=1e-6)  # a triangle
    np.testing.assert_allclose(walk[3, :3], [0, 1, 0], atol=1e-6)  # an edge
    kept = preprocess(source, "component")
    assert kept.complex.n == len(kept.y) == 3
    with pytest.raises(ValueError, match="preprocess must be"):
        preprocess(source, "pca")
    with pytest.raises(ValueError, match="one graph"):
        preprocess(replace(source, level="graph"), "component")


@pytest.mark.parametrize("name", ["karate", "mutag", "torus-or-klein", "blocks"])
def test_splits_partition_and_hold_every_class(name):
    source = load(name)
    parts = split(source, 2)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(source.y)))
    assert set(source.y[parts["train"]]) == set(range(source.classes))


def test_folds_cover_everything_once_and_validate_elsewhere():
    found = list(folds(11, 4, 0))
    assert sorted(np.concatenate([f["test"] for f in found]).tolist()) == list(range(11))
    for fold in found:
        assert not set(fold["val"]) & set(fold["test"])
        assert sum(map(len, fold.values())) == 11
    with pytest.raises(ValueError, match="k must be 3"):
        next(iter(folds(5, 9, 0)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: load("imagenet"), "unknown data set"),
        (lambda: run(replace(SHORT, model="gcnn")), "unknown model"),
        (lambda: run(replace(SHORT, model="cccn", lifting="hypergraph/khop")), "hgnn, allset"),
        (lambda: run(replace(SHORT, lift_options={"depth": 2})), "no parameter depth"),
    ],
)
def test_bad_choices_say_what_is_wanted(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_planetoid_is_read_where_the_user_has_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="LABCORE_DATA"):
        planetoid("cora", tmp_path)


@pytest.mark.parametrize(
    ("name", "sizes", "features", "classes"),
    [("cora", (2708, 5278, 1630, 220), 1433, 7), ("citeseer", (3327, 4552), 3703, 6)],
)
def test_planetoid_has_its_published_size_and_trains(name, sizes, features, classes):
    try:
        source = planetoid(name)
    except FileNotFoundError:
        pytest.skip("LABCORE_DATA does not name a folder with Planetoid's files")
    topo = lifted(source, "simplicial/clique", max_dim=3)
    assert topo.sizes[: len(sizes)] == sizes
    assert (source.x.shape, source.classes) == ((sizes[0], features), classes)
    short = Choice(name, "graph/identity", "gcn", epochs=20, width=16, label="GCN")
    guess = run(replace(short, model="majority"))["test"]
    assert run(short)["test"] > guess + 0.2


def test_planetoid_files_cannot_run_code(tmp_path):
    import pickle

    for part in ("allx", "ally", "tx", "ty", "graph"):
        (tmp_path / f"ind.x.{part}").write_bytes(pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        planetoid("x", tmp_path)


def test_torch_geometric_data_go_in():
    pyg = pytest.importorskip(
        "torch_geometric.data", reason="lab bench --setup-peers torch-geometric"
    )
    club = load("pyg:KarateClub")
    ours = load("karate")
    assert (club.complex.edges == ours.complex.edges).all()
    pairs = set(zip(club.y.tolist(), ours.y.tolist(), strict=True))
    assert len(pairs) == 4  # the same communities, numbered otherwise
    index = torch.tensor([[0, 1], [1, 0]])
    one = pyg.Data(x=torch.ones(2, 1), edge_index=index, y=torch.tensor([1]))
    two = from_torch_geometric([one, pyg.Data(x=torch.ones(3, 1), edge_index=index, y=[0])])
    assert two.complex.edges.tolist() == [[0, 1], [2, 3]]
    assert two.batch.tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="no features"):
        from_torch_geometric(pyg.Data(edge_index=index))
    with pytest.raises(ValueError, match="no data set 'Nothing'"):
        load("pyg:Nothing")


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A configuration of four runs, its cache in a folder of the test."""
    monkeypatch.setattr(experiment, "cache_root", lambda: tmp_path)
    graph = "graph/identity"
    rows = (("GCN", graph, "gcn", {}), ("majority class", graph, "majority", {}))
    bench = Bench("karate", rows, 2, 4, 4)
    return replace(Config.quick(), benches=(bench,), ablation=("karate", 0, 1))


def test_a_cancelled_run_goes_on_where_it_stopped(tiny, tmp_path):
    seen = []

    def stop(done, total, label):
        seen.append(done)
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        experiment.run(tiny, stop)
    assert len(list(tmp_path.rglob("*.json"))) == 2
    again = []
    result = experiment.run(tiny, lambda done, total, label: again.append(done))
    assert again == [2, 3, 4]
    assert not list(tmp_path.rglob("*.json"))
    rows = result.tables["runs"]
    assert [row["seed"] for row in rows] == [0, 1, 0, 1]
    assert len(experiment.history(result, "karate", "GCN")) == 2
    with pytest.raises(ValueError, match="no learning curve"):
        experiment.history(result, "karate", "majority class")
    table = experiment.summary(result)
    assert [row["what"] for row in table] == ["karate: GCN", "karate: majority class"]


def test_one_run_reports_and_keeps_its_history():
    seen = []
    parts = {"data": "karate", "lifting": "graph/identity", "model": "gcn", "epochs": 3}
    found = experiment.run_one(parts, 1, lambda *a: seen.append(a))
    assert seen[-1][:2] == (1, 1)
    assert found["history"][-1]["epoch"] == 3


@pytest.fixture(scope="module")
def full():
    return experiment.load_result("full")


def test_committed_results_have_baselines_and_seeds(full):
    rows = full.tables["runs"]
    known = {bench.data for bench in Config.full().benches} | {Config.full().ablation[0]}
    assert set(distinct(rows, "data")) <= known
    for data in distinct(rows, "data"):
        labels = distinct(pick(rows, data=data), "label")
        assert "majority class" in labels or labels[0].startswith("ablation"), data
        for label in labels:
            here = pick(rows, data=data, label=label)
            assert len({row["seed"] for row in here}) == len(here) >= 3
            assert all(0 <= row["test"] <= 1 for row in here)


def test_the_committed_result_is_of_the_present_table(full):
    wanted = [
        (choice.data, choice.lifting, choice.model, choice.label, seed, choice.epochs)
        for choice, seed in Config.full().choices()
    ]
    columns = ("data", "lifting", "model", "label", "seed", "epochs")
    assert [tuple(row[c] for c in columns) for row in full.tables["runs"]] == wanted
    assert full.config == json.loads(json.dumps(asdict(Config.full())))


def test_the_full_table_has_every_model_in_its_domain():
    for choice, _ in Config.full().choices():
        assert choice.domain in MODELS[choice.model].domains
    assert {choice.model for choice, _ in Config.full().choices()} == set(MODELS)


def test_claims_are_judged_with_baselines(full):
    found = claims.table("topology", result=full)
    assert len(found) >= 6
    for row in found:
        assert row["verdict"] in ("holds", "holds in part", "does not hold here")
        assert row["baselines"].count("±") >= 1, row["id"]


def test_paired_differences_need_equal_splits(full):
    rows = full.tables["runs"]
    assert paired(rows, "karate", "GCN", "GCN").mean == 0
    with pytest.raises(ValueError, match="same splits"):
        paired(rows, "karate", "GCN", "nothing")
    with pytest.raises(ValueError, match="no trials"):
        spread([])
