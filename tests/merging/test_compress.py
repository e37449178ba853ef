"""TSV-Compress: sizes, round trip, and what fraction 1 gives back."""

import pytest
import torch

from labcore.merging.compress import CompressedTasks, tsv_compress
from tests.merging.test_baselines import tasks


def test_bytes_are_k_times_m_n_1_and_the_rest():
    packed = tsv_compress(tasks())  # w is 9 x 12, k = 3
    assert packed.bytes("t0") == 4 * (3 * (9 + 12 + 1) + 12)
    assert packed.ratio("t0") == (3 * 22 + 12) / (9 * 12 + 12)


def test_round_trip_is_bitwise(tmp_path):
    packed = tsv_compress(tasks(), fraction=0.5)
    again = CompressedTasks.from_safetensors(packed.to_safetensors(tmp_path / "c.safetensors"))
    for task in packed.entries:
        for name, value in packed.task_vector(task).items():
            assert torch.equal(again.task_vector(task)[name], value)


def test_fraction_one_gives_the_checkpoint_back():
    taus = tasks()
    packed = tsv_compress(taus, fraction=1.0)
    assert all(torch.allclose(packed.task_vector(t)["w"], taus[t]["w"], atol=1e-6) for t in taus)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="fraction"):
        tsv_compress(tasks(), fraction=0.0)
    with pytest.raises(KeyError, match="t0, t1, t2"):
        tsv_compress(tasks()).task_vector("greek")
