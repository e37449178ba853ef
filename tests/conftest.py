"""One BLAS thread in the whole test run, set before numpy is imported."""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench import peers

sys.path.extend(peers.ready_paths())  # those that `lab bench --setup-peers` installed

settings.register_profile("lab", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("lab")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parent.parent
