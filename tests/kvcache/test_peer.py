"""kvpress keeps the same pairs: runs once `lab bench --setup-peers kvpress` has installed it."""

import json
import subprocess

import numpy as np
import pytest
import torch

from bench import peers
from labcore.kvcache import compress, continuation_nll, profile_attention

pytestmark = pytest.mark.assets

NAMES = ("low_norm", "sink_window", "received_mean", "last_query", "key_difference", "observation")
LENGTH = 256


@pytest.fixture(scope="module")
def ids(real, moby_dick):
    # Prose: where a text repeats itself, layer 0 has equal norms, and top-k picks any of them.
    text = moby_dick[50_000:53_000]
    return real[1](text, return_tensors="pt").input_ids[:, : LENGTH + 33]


@pytest.fixture(scope="module")
def theirs(real, ids, root, tmp_path_factory):
    if not peers.is_ready("kvpress"):
        pytest.skip("install the peer: ./lab bench --setup-peers kvpress")
    folder = tmp_path_factory.mktemp("peer")
    job = {
        "model": real[0].config._name_or_path,
        "ids": ids[0].tolist(),
        "length": LENGTH,
        "presses": [[name, ratio] for name in NAMES for ratio in (0.5, 0.375)],
        "budgets": [],
        "steps": 0,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = root / "bench" / "peers" / "kvpress_run.py"
    command = [peers.python("kvpress"), script, folder / "job.json", folder / "out.npz"]
    subprocess.run(command, check=True)
    return np.load(folder / "out.npz")


@pytest.fixture(scope="module")
def profile(real, ids, theirs):
    return profile_attention(real[0], ids[:, :LENGTH])


@pytest.mark.parametrize("ratio", [0.5, 0.375])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_pairs_and_perplexity(real, ids, profile, theirs, name, ratio):
    cache = compress(profile, name, keep_ratio=ratio)
    ours = torch.stack([cache.positions(layer)[0] for layer in range(30)]).numpy()
    same = (ours == theirs[f"{name}@{ratio}"]).all(axis=-1)
    assert same.mean() > 0.97  # a head differs where two scores at the edge differ by rounding
    nll = continuation_nll(real[0], cache, ids[:, LENGTH:]).mean().item()
    tolerance = 1e-5 if same.all() else 5e-3
    assert nll == pytest.approx(theirs[f"nll@{name}@{ratio}"].mean(), abs=tolerance)
