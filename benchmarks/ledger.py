"""The cost of the ledger for a message, and the cost of verifying it.

python benchmarks/ledger.py --lines 100000
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from fedrad.client.policy.ledger import Ledger
from fedrad.exchange.encoding import Packed
from fedrad.exchange.messages import Refusal

WEIGHTS = 94_370_000
"""Bytes of a ResNet-50 with one channel and 18 outputs."""


def cost(ledger: Ledger, packed: Packed | None, repeats: int) -> str:
    """Time to record a message, in words."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        ledger.record("benchmark", Refusal(reason="cohort"), packed)
        seconds.append(time.perf_counter() - started)
    return f"{1000 * np.median(seconds):.1f} ms (at most {1000 * max(seconds):.1f})"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000)
    lines = parser.parse_args().lines
    with tempfile.TemporaryDirectory(dir=".") as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        print(f"a message without weights: {cost(ledger, None, 50)}")
        print(f"with {WEIGHTS:,} bytes of weights: {cost(ledger, np.zeros(WEIGHTS, np.uint8), 5)}")
        for _ in range(lines):
            ledger.record("benchmark", Refusal(reason="cohort"))
        print(f"a message without weights, after {lines:,} more: {cost(ledger, None, 50)}")
        started = time.perf_counter()
        entries = len(ledger.entries())
        print(f"verified: {entries:,} lines in {time.perf_counter() - started:.1f} s")
        print(json.dumps({"bytes": ledger.path.stat().st_size}))


if __name__ == "__main__":
    main()
