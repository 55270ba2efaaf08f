"""Helpers for tests with real processes."""

import time
from collections.abc import Callable
from pathlib import Path

from safetensors.numpy import load_file

from fedrad.server.results.summary import read_summary


def same_result(one: Path, other: Path) -> bool:
    """Whether two experiments ended in the same figures and, bit for bit, the same model."""
    a, b = read_summary(one), read_summary(other)
    assert a.status == b.status == "completed"
    assert [c.auroc for c in a.cells if c.model == "global"] != [None, None]
    assert a.cells == b.cells
    assert a.overall == b.overall
    models = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert models[0].keys() == models[1].keys()
    return all(value.tobytes() == models[1][name].tobytes() for name, value in models[0].items())


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)
