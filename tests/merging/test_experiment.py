"""The experiment end to end on tiny models, claims from made-up tables, and committed results."""

import dataclasses

import numpy as np
import pytest
import torch

from labcore import claims, parts, runs
from labcore.assets import AssetError
from labcore.claims.merging import CLAIMS
from labcore.merging import checkpoints, data, experiment, live, training
from labcore.merging.checkpoints import Models, pack, unpack
from labcore.merging.tally import LABELS, compression_means, means, method_mean
from labcore.merging.vectors import TaskVector, apply, task_vector
from labcore.runs import Cancelled

BY_ID = {claim.id: claim for claim in CLAIMS}


def test_pack_and_unpack_keep_31_steps_a_row(tmp_path):
    base = training.new_model(seed=1).state_dict()
    g = torch.Generator().manual_seed(0)
    tau = TaskVector({n: 0.01 * torch.randn(v.shape, generator=g) for n, v in base.items()})
    models = Models(dict(base), {"mnist": torch.eye(3)}, {"mnist": tau})
    found = unpack(pack(models, tmp_path / "m.npz"))
    assert list(found.task_vectors) == ["mnist"]
    assert all(torch.equal(found.base[n], base[n].half().float()) for n in base)
    for name, value in tau.items():
        gap = (found.task_vectors["mnist"][name] - value).abs().max()
        assert 0 < gap <= value.abs().max() / 29.9
    again = unpack(pack(found, tmp_path / "again.npz"))
    for name in tau:
        assert torch.allclose(again.task_vectors["mnist"][name], found.task_vectors["mnist"][name])
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match="other.npz is no packed set of models"):
        unpack(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="labcore.merging.checkpoints"):
        unpack(tmp_path / "nothing.npz")


def some_head(number):
    g = torch.Generator().manual_seed(number)
    return torch.nn.functional.normalize(torch.randn(40, 96, generator=g), dim=1)


@pytest.fixture(scope="module")
def tiny():
    """Untrained models of three tasks, which differ by noise."""
    tasks = data.TASKS[:3]
    base = training.new_model(seed=0).state_dict()
    heads = {task: some_head(number) for number, task in enumerate(tasks)}
    g = torch.Generator().manual_seed(1)
    taus = {
        t: TaskVector({n: 0.02 * torch.randn(v.shape, generator=g) for n, v in base.items()})
        for t in tasks
    }
    return Models(dict(base), heads, taus)


def tiny_pictures(task, split, n, *, seed=0):
    g = torch.Generator().manual_seed(len(task) + 7 * len(split) + 100 * seed)
    labels = torch.randint(10, (n,), generator=g)
    return torch.rand(n, 28, 28, generator=g), labels


@pytest.fixture
def small(tiny, monkeypatch):
    monkeypatch.setattr(checkpoints, "models_of", lambda seed, progress=None: tiny)
    monkeypatch.setattr(data, "pictures", tiny_pictures)
    # random heads are right one time in forty: the ratio needs a positive own accuracy
    monkeypatch.setattr(training, "accuracy", _share_plus)
    config = experiment.Config.quick()
    few = ("average", "consensus_ta", "tsv_m", "rank_cut", "full_rank")
    return dataclasses.replace(config, counts=(2, 3), test_images=12, val_images=8, methods=few,
                               grid=(0.5, 1.0), fractions=(0.1,))  # fmt: skip


_real = training.accuracy


def _share_plus(*args):
    return 0.5 + 0.5 * _real(*args)


def _without_clock(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_the_experiment_end_to_end(small, tmp_path):
    result = experiment.run(small)
    rows = experiment.summary(result)
    assert {row["tasks"] for row in rows} == {2, 3}
    table = result.tables["accuracy"]
    assert {r["rule"] for r in table} == {"one", "tuned"}
    assert all(0 <= r["accuracy"] <= 1 for r in table)
    assert {r["tasks"] for r in result.tables["interference"]} == {2, 3}
    assert result.arrays["pairs/0@3"].shape == (16, 3, 3)
    assert result.arrays["spectra/0"].shape == (3, 16, 96)
    assert np.all(np.diff(result.arrays["spectra/0"], axis=2) >= -1e-6)
    fractions = {round(r["fraction"], 3) for r in result.tables["compression"] if r["tasks"] == 3}
    assert fractions == {0.333, 0.1}
    again = experiment.run(small)
    measured = ("accuracy", "alpha", "compression", "interference", "matrices", "router")
    for name in measured:
        assert _without_clock(again.tables[name]) == _without_clock(result.tables[name]), name
    assert runs.Result.load(result.save(tmp_path / "r.npz")).tables["alpha"]


def test_a_cancelled_run_resumes_from_finished_parts(small, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "cache_root", lambda: tmp_path)
    config = dataclasses.replace(small, resume=True, methods=("average",))
    seen = []

    def stop(done, total, label):
        seen.append(label)
        if label.startswith("seed0-tasks3"):
            raise Cancelled

    with pytest.raises(Cancelled):
        experiment.run(config, stop)
    assert len(list(tmp_path.rglob("*.npz"))) == 5, "spectra, and four parts of two tasks"
    result = experiment.run(config)
    assert {r["tasks"] for r in result.tables["accuracy"]} == {2, 3}
    assert not list(tmp_path.rglob("*.npz"))


# Claims.


def made(normalized, *, compressed=0.995, depth=(4.0, 3.0, 2.0, 1.0)):
    """A result with these tuned and alpha = 1 scores a method: name -> (tuned, one)."""
    table = []
    for seed in (0, 1):
        for method in LABELS:
            tuned, one = normalized.get(method, (0.5, 0.5))
            for rule, value in (("one", one), ("tuned", tuned)):
                table.append({"pretraining": seed, "tasks": 8, "method": method, "rule": rule,
                              "alpha": 1.0, "task": "a", "accuracy": value, "own": 1.0,
                              "normalized": value})  # fmt: skip
    compression = [
        {"pretraining": seed, "tasks": 8, "task": "a", "fraction": f, "ratio": ratio, "bytes": 1,
         "energy": 1.0, "accuracy": value, "normalized": value}
        for seed in (0, 1)
        for f, ratio, value in ((0.03, 0.05, compressed), (0.05, 0.1, compressed), (1.0, 1.5, 1.0))
    ]  # fmt: skip
    interference = [
        {"pretraining": seed, "tasks": 8, "depth": d, "part": "x", "sti_normalized": value}
        for seed in (0, 1)
        for d, value in enumerate(depth)
    ]
    config = {"test_images": 5, "pretraining": [0, 1]}
    tables = {"accuracy": table, "compression": compression, "interference": interference}
    return runs.record("merging", config, seeds=[0, 1], command="test").result(
        arrays={}, tables=tables
    )


GOOD = {"tsv_m": (0.9, 0.89), "task_arithmetic": (0.6, 0.1), "rank_cut": (0.7, 0.1),
        "full_rank": (0.7, 0.6), "iso_cts": (0.8, 0.7)}  # fmt: skip


def test_verdicts_follow_the_numbers():
    good = made(GOOD)
    assert {BY_ID[i].measure(good).verdict for i in BY_ID} == {"holds"}
    bad = made(GOOD | {"tsv_m": (0.55, 0.3)}, compressed=0.9, depth=(1.0, 2.0, 3.0, 4.0))
    found = {i: BY_ID[i].measure(bad).verdict for i in BY_ID}
    assert found["merging-ablation"] == "holds in part"
    assert {v for i, v in found.items() if i != "merging-ablation"} == {"does not hold here"}


def test_means_are_over_tasks_then_seeds():
    result = made(GOOD)
    mean = method_mean(result.tables["accuracy"], "tsv_m", 8)
    assert (mean.tuned.normalized, mean.one.normalized, mean.spread) == (0.9, 0.89, 0.0)
    with pytest.raises(ValueError, match="no tsv_m on 3 tasks"):
        method_mean(result.tables["accuracy"], "tsv_m", 3)
    assert [r["ratio"] for r in compression_means(result)] == [0.05, 0.1, 1.5]


# What is committed.


def test_committed_results_hold_what_the_page_needs():
    result = experiment.load_result()
    assert result.config["pretraining"] == [0, 1]
    assert {m.tasks for m in means(result)} == {8, 14, 20}
    assert len(result.provenance.seeds) == 2
    rows = claims.table("merging")
    assert len(rows) == len(CLAIMS)
    assert all(row["verdict"] for row in rows)
    held = sum(f.stat().st_size for f in checkpoints.RESULTS.iterdir())
    assert held < 12e6


def test_the_workbench_scores_merges_and_refuses_nonsense():
    bench = live.open_workbench()
    assert min(bench.own.values()) > 0.7
    again = bench.scores(bench.models.task_vectors["greek"], 1.0, ("greek",))["greek"]
    assert abs(again - bench.own["greek"]) < 0.011, "two pictures of 200: other machines round"
    assert abs(bench.scores(TaskVector({}), 1.0, ("lao",))["lao"] - bench.base["lao"]) < 0.011
    found = live.scores(("mnist", "greek"), "tsv_m", 1.0)
    committed = live.scores(("mnist", "greek"), "task_arithmetic", 1.0)
    assert found.normalized > committed.normalized
    assert found.pictures == 200
    seen = live.overlap(("mnist", "greek"), bench.parameters[0], rank=4, whiten=True)
    assert np.abs(seen.left - np.eye(8)).max() < 1e-6
    assert seen.value < 1e-9
    rows, pairs = live.interference(("mnist", "greek", "lao"))
    assert (len(rows), pairs.shape) == (16, (3, 3))
    shown = live.gallery("greek", ("mnist", "greek"), "tsv_m", 1.0, n=8)
    assert shown.images.shape == (8, 28, 28)
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        live.scores(("mnist",), "magic", 1.0)
    with pytest.raises(ValueError, match="unknown matrix"):
        live.overlap(("mnist",), "nowhere")
    with pytest.raises(KeyError, match="klingon"):
        live.scores(("klingon",), "tsv_m", 1.0)


@pytest.mark.assets
def test_pictures_are_what_is_committed():
    try:
        images, labels = data.pictures("greek", "test", 200)
    except AssetError:
        pytest.skip("the fonts are not here")
    bench = live.open_workbench()
    assert torch.equal(bench.labels["greek"], labels)
    assert (bench.images["greek"] - images).abs().max() < 0.003
    digits, labels = data.pictures("uci_digits", "test", 550)
    assert digits.shape == (550, 28, 28)
    assert labels.max() == 9
    many, _ = data.pictures("uci_digits", "train", 1500)
    assert len({picture.numpy().tobytes() for picture in many}) <= 1047, "they come again"
    held_out = {picture.numpy().tobytes() for picture in digits}
    assert not held_out & {picture.numpy().tobytes() for picture in many}
    with pytest.raises(ValueError, match="n=551 pictures of uci, split test: there are 550"):
        data.pictures("uci_digits", "test", 551)
    with pytest.raises(ValueError, match="unknown task"):
        data.pictures("klingon", "test", 3)
    with pytest.raises(ValueError, match="n must be"):
        data.pictures("greek", "test", 0)


@pytest.mark.assets
def test_a_moment_of_training_learns_something():
    recipe = training.Recipe(images=512, epochs=2, lr=1e-3)
    models = checkpoints.models_of(0)
    try:
        tuned = training.finetune(models.base, models.heads["mnist"], "mnist", recipe, 0)
    except AssetError:
        pytest.skip("MNIST is not here")
    images, labels = data.pictures("mnist", "val", 300)
    head = models.heads["mnist"]
    before, after = (
        training.accuracy(training.new_model(state).eval(), head, images, labels)
        for state in (models.base, tuned)
    )
    assert after > before + 0.1
    assert task_vector(models.base, tuned).norm() > 0
    assert apply(models.base, TaskVector({})).keys() == models.base.keys()
