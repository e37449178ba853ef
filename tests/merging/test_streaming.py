"""Merging checkpoints on disk: same bytes whichever engine, resume after a kill, bounded memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from labcore import cli
from labcore.merging.files import open_checkpoint, read_header
from labcore.merging.memory import PeakMemory
from labcore.merging.plan import size_of
from labcore.merging.streaming import merge_checkpoints
from labcore.merging.tsv import tsv_merge
from labcore.merging.vectors import apply, task_vector
from labcore.runs import Cancelled


def state(seed, dtype=torch.float32, width=24):
    g = torch.Generator().manual_seed(seed)
    shapes = {"emb": (40, width), "a.weight": (3 * width, width), "b.weight": (width, 2 * width)}
    made = {n: torch.randn(*s, generator=g).to(dtype) for n, s in shapes.items()}
    return made | {"a.bias": torch.randn(width, generator=g).to(dtype), "ids": torch.arange(5)}


def tuned(base, seed):
    g = torch.Generator().manual_seed(100 + seed)
    return {
        n: (v + 0.1 * torch.randn(v.shape, generator=g)).to(v.dtype) if v.is_floating_point() else v
        for n, v in base.items()
    }


@pytest.fixture
def made(tmp_path):
    return write(tmp_path)


def write(folder, dtype=torch.float32, tasks=3):
    """A sharded base with a configuration, and fine-tuned single files."""
    base = state(0, dtype)
    home = folder / "base"
    home.mkdir(parents=True)
    names = list(base)
    shards = {"model-1.safetensors": names[:2], "model-2.safetensors": names[2:]}
    for file, held in shards.items():
        save_file({n: base[n] for n in held}, home / file)
    index = {n: file for file, held in shards.items() for n in held}
    (home / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (home / "config.json").write_text("{}")
    paths = {}
    for t in range(tasks):
        paths[f"t{t}"] = folder / f"t{t}.safetensors"
        save_file(tuned(base, t), paths[f"t{t}"])
    return home, paths


def digest(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}


def test_streaming_equals_merging_in_memory(made, tmp_path):
    home, paths = made
    report = merge_checkpoints(home, paths, tmp_path / "out", alpha=0.7)
    base = state(0)
    taus = {t: task_vector(base, load_file(p)) for t, p in paths.items()}
    merged, rows = tsv_merge(taus, base=base)
    wanted = apply(base, merged, 0.7)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.allclose(found[name].double(), value.double(), atol=1e-6), name
    assert (tmp_path / "out" / "config.json").read_text() == "{}"
    assert {r["parameter"]: r["kind"] for r in report.rows}["ids"] == "skip"
    sti = {r["parameter"]: r.get("sti") for r in rows.rows}
    for row in report.rows:
        if row["kind"] == "matrix":
            assert row["sti"] == pytest.approx(sti[row["parameter"]], rel=1e-4)
    assert not (tmp_path / ".out.parts").exists()


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare", "iso_c"])
def test_other_methods_stream_too(method, made, tmp_path):
    merge_checkpoints(*made, tmp_path / "out", method, alpha=0.3)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert not torch.equal(found["emb"], state(0)["emb"])
    assert torch.equal(found["ids"], torch.arange(5))


def test_options_of_a_method_on_the_command_line(made, tmp_path, capsys):
    home, paths = made
    words = ["merge", str(home), *(f"{t}={p}" for t, p in paths.items()), "--method", "ties"]
    for out, more in (("a", []), ("b", ["--set", "keep=1.0"])):
        assert cli.main([*words, "--out", str(tmp_path / out), *more]) == 0
    few, all_of_it = (load_file(tmp_path / out / "model.safetensors") for out in "ab")
    moved = [(held["emb"] != state(0)["emb"]).float().mean() for held in (few, all_of_it)]
    assert moved[0] < 0.6 < moved[1]
    assert cli.main([*words, "--out", str(tmp_path / "c"), "--set", "keep"]) == 1
    assert "want NAME=VALUE, got 'keep': as keep=0.3" in capsys.readouterr().err


def test_same_bytes_whichever_engine(made, tmp_path):
    merge_checkpoints(*made, tmp_path / "serial", max_shard=4000)
    wanted = digest(tmp_path / "serial")
    assert sum(name.endswith(".safetensors") for name in wanted) > 1
    for engine in ("threads", "processes"):
        merge_checkpoints(*made, tmp_path / engine, max_shard=4000, engine=engine, workers=2)
        assert digest(tmp_path / engine) == wanted, engine


def test_same_bytes_on_a_dask_cluster_given_by_address(made, tmp_path):
    distributed = pytest.importorskip("distributed")
    merge_checkpoints(*made, tmp_path / "serial")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None,
                                  processes=False) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        merge_checkpoints(*made, tmp_path / "dask", engine="dask", address=address)
    assert digest(tmp_path / "dask") == digest(tmp_path / "serial")


def test_shards_have_an_index_and_read_back(made, tmp_path):
    merge_checkpoints(*made, tmp_path / "one")
    merge_checkpoints(*made, tmp_path / "many", max_shard="5KB")
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    found = open_checkpoint(tmp_path / "many")
    assert set(index["weight_map"]) == set(found.files) == set(state(0))
    whole = load_file(tmp_path / "one" / "model.safetensors")
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in whole.values())
    for name, file in found.files.items():
        assert torch.equal(load_file(file)[name], whole[name])
    # the merged checkpoint is a base like any other
    merge_checkpoints(tmp_path / "many", made[1], tmp_path / "again", "average")


def test_a_cancelled_merge_leaves_nothing_and_resumes(made, tmp_path):
    merge_checkpoints(*made, tmp_path / "whole")
    seen = []

    def stop(done, total, label):
        seen.append(done)
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        merge_checkpoints(*made, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()
    seen.clear()
    merge_checkpoints(*made, tmp_path / "out", progress=lambda d, t, _: seen.append(d))
    assert seen[0] == 2, "the two finished tensors were not merged again"
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")


KILLED = """
import os, signal, sys
from labcore.merging.streaming import merge_checkpoints
def stop(done, total, label):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
base, out, *tasks = sys.argv[1:]
merge_checkpoints(base, {f"t{i}": p for i, p in enumerate(tasks)}, out, progress=stop)
"""


def test_a_killed_merge_resumes_to_the_same_file(made, tmp_path):
    home, paths = made
    merge_checkpoints(home, paths, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, home, tmp_path / "out", *paths.values()]
    done = subprocess.run([str(c) for c in command], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.parts").exists()
    merge_checkpoints(home, paths, tmp_path / "out")
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")


def test_a_resume_with_other_options_or_files_is_refused(made, tmp_path):
    def stop(done, total, label):
        if done == 1:
            raise Cancelled

    home, paths = made
    with pytest.raises(Cancelled):
        merge_checkpoints(home, paths, tmp_path / "out", progress=stop)
    with pytest.raises(ValueError, match="other options or checkpoints"):
        merge_checkpoints(home, paths, tmp_path / "out", alpha=0.5)
    os.utime(paths["t0"], (time.time(), time.time() + 60))
    with pytest.raises(ValueError, match="other options or checkpoints"):
        merge_checkpoints(home, paths, tmp_path / "out")
    merge_checkpoints(home, paths, tmp_path / "out", alpha=0.5, resume=False)
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_and_out(dtype, tmp_path):
    home, paths = write(tmp_path / "half", dtype)
    merge_checkpoints(home, paths, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {str(v.dtype) for n, v in found.items() if n != "ids"} == {str(dtype)}
    merge_checkpoints(home, paths, tmp_path / "wide", dtype="float32")
    assert load_file(tmp_path / "wide" / "model.safetensors")["emb"].dtype == torch.float32
    report = merge_checkpoints(home, paths, tmp_path / "cut", options={"tol": "rounding"})
    assert all(r["rounding_noise"] == 0 for r in report.rows if r["kind"] == "matrix")


def test_pickled_weights_are_read_without_running_code(made, tmp_path):
    home, paths = made
    torch.save(load_file(paths["t0"]), tmp_path / "t0.pt")
    merge_checkpoints(home, paths, tmp_path / "a")
    merge_checkpoints(home, {**paths, "t0": tmp_path / "t0.pt"}, tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    torch.save({"w": Path}, tmp_path / "code.pt")
    with pytest.raises(Exception, match=r"weights_only|Unsupported|plain state dict"):
        merge_checkpoints(home, {"t0": tmp_path / "code.pt"}, tmp_path / "c")


def test_memory_is_bounded_by_one_tensor_not_by_the_model(tmp_path):
    g = torch.Generator().manual_seed(0)
    names = [f"blocks.{i}.weight" for i in range(12)]
    for label in ("base", *(f"t{t}" for t in range(8))):
        save_file(
            {n: torch.randn(768, 192, generator=g) for n in names},
            tmp_path / f"{label}.safetensors",
        )
    paths = {f"t{t}": tmp_path / f"t{t}.safetensors" for t in range(8)}
    one = 768 * 192 * 4
    merge_checkpoints(tmp_path / "base.safetensors", paths, tmp_path / "warm", options={"rank": 4})
    with PeakMemory() as memory:
        merge_checkpoints(tmp_path / "base.safetensors", paths, tmp_path / "out")
    everything = one * 12 * 9
    assert memory.peak < everything / 2, (memory.peak, everything)
    assert memory.peak < 30 * one


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"alpha": float("nan")}, ValueError, "alpha"),
        ({"method": "magic"}, ValueError, "method"),
        ({"engine": "ray"}, ValueError, "engine must be one of serial"),
        ({"workers": 0}, ValueError, "workers"),
        ({"dtype": "int8"}, ValueError, "dtype"),
        ({"max_shard": "much"}, ValueError, "max_shard"),
        ({"tasks": ("t9",)}, ValueError, "t9"),
        ({"options": {"rank": 0}}, ValueError, "rank"),
        ({"options": {"speed": 1}}, ValueError, "speed"),
        ({"finetuned": {}}, ValueError, "at least one task"),
        ({"finetuned": {"x": "nowhere"}}, FileNotFoundError, "nowhere"),
    ],
)
def test_bad_arguments_are_named(change, error, message, made, tmp_path):
    arguments = {"base": made[0], "finetuned": made[1], "out": tmp_path / "out"} | change
    with pytest.raises(error, match=message):
        merge_checkpoints(**arguments)
    assert not (tmp_path / "out").exists()


def test_bad_checkpoints_are_named(made, tmp_path):
    home, paths = made

    def attempt(match, **changed):
        odd = {n: v for n, v in (load_file(paths["t1"]) | changed).items() if v is not None}
        save_file(odd, tmp_path / "odd.safetensors")
        files = {**paths, "odd": tmp_path / "odd.safetensors"}
        with pytest.raises(ValueError, match=match):
            merge_checkpoints(home, files, tmp_path / "out", resume=False)

    attempt("base and odd differ in 1 names: emb", emb=None)
    attempt(r"emb: shapes differ.*odd", emb=torch.zeros(3, 3))
    attempt("emb: int64 in odd", emb=torch.zeros(40, 24, dtype=torch.long))
    attempt("emb: complex tensors", emb=torch.zeros(40, 24, dtype=torch.complex64))
    attempt("emb: .*odd checkpoint has non-finite", emb=torch.full((40, 24), torch.inf))
    (tmp_path / "noise.safetensors").write_bytes(b"not a checkpoint at all")
    with pytest.raises(ValueError, match="no safetensors file"):
        merge_checkpoints(home, {"t": tmp_path / "noise.safetensors"}, tmp_path / "out")
    with pytest.raises(FileExistsError):
        merge_checkpoints(home, paths, tmp_path)


def test_mixed_dtypes_are_noted(made, tmp_path):
    home, paths = made
    tensors = load_file(paths["t1"]).items()
    halves = {n: v.half() if v.is_floating_point() else v for n, v in tensors}
    save_file(halves, tmp_path / "half.safetensors")
    files = {"t0": paths["t0"], "half": tmp_path / "half.safetensors"}
    report = merge_checkpoints(home, files, tmp_path / "out")
    assert "emb: float32 in base, float16 in half" in report.notes


def test_the_command(made, tmp_path, capsys):
    home, paths = made
    given = [f"{t}={p}" for t, p in paths.items()]
    out = str(tmp_path / "out")
    assert cli.main(["merge", str(home), *given, "--out", out, "--rank", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {r["rank"] for r in rows if r["kind"] == "matrix"} == {2}
    assert cli.main(["merge", str(home), "nonsense", "--out", out + "2"]) == 1
    assert "TASK=PATH" in capsys.readouterr().err
    header, _ = read_header(tmp_path / "out" / "model.safetensors")
    assert set(header) == set(state(0))


def test_a_folder_without_an_index_must_hold_one_file(made, tmp_path):
    _, paths = made
    folder = tmp_path / "several"
    folder.mkdir()
    for name, path in paths.items():
        (folder / f"{name}.safetensors").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="3 other .safetensors files"):
        open_checkpoint(folder)
    (folder / "t0.safetensors").unlink()
    (folder / "t1.safetensors").unlink()
    assert set(open_checkpoint(folder).files) == set(state(0))


def test_threads_come_back_and_choices_are_told(made, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        options = {"embeddings": False, "vector_rule": "sum"}
        report = merge_checkpoints(*made, tmp_path / "out", options=options)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    told = {
        "merger": "tsv_m",
        "alpha": 1.0,
        "vector_rule": "sum",
        "conv": "skip",
        "on_zero_rank": "raise",
    }
    assert told.items() <= report.choices.items()
    assert {r["parameter"]: r["kind"] for r in report.rows}["a.weight"] == "matrix"


def test_sizes_of_shards():
    assert [size_of(t) for t in ("2GB", "1 MiB", "10", 5)] == [2_000_000_000, 1 << 20, 10, 5]
