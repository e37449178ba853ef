"""Importable task functions for the grid tests."""

import os
import signal
import time

import numpy as np


def measure(*, a: int, b: float, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    return {"sum": a + b, "draw": rng.standard_normal(4), "first": float(rng.random())}


def fail_on_two(*, a: int, seed: int) -> dict[str, object]:
    if a == 2:
        raise ValueError("two is not allowed")
    return {"a": a}


def die_on_one(*, a: int, seed: int) -> dict[str, object]:
    if a == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"a": a}


def slowly(*, a: int, seed: int) -> dict[str, object]:
    time.sleep(0.1)
    return {"a": a, "draw": np.random.default_rng(seed).standard_normal(3)}
