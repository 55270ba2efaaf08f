"""The cost of the ledger for a message, of finding the last decision, and of verifying it.

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
from fedrad.exchange.messages import Monitoring, Refusal, RoundReply
from fedrad.exchange.update import Manifest

WEIGHTS = 94_370_000
"""Bytes of a ResNet-50 with one channel and 18 outputs."""


IDENTITY = "ab" * 32


def round_reply() -> RoundReply:
    """The answer to a round, with the manifest of a ResNet-50."""
    names = [f"layer{n // 40}.{n % 40}.conv.weight" for n in range(160)]
    return RoundReply.model_construct(
        manifest=Manifest.model_construct(names=names, stage="all"),
        patients=200,
        images=200,
        loss=0.5,
        steps=10,
        seconds=1.0,
        monitoring={"bpd": Monitoring(auroc=0.71)},
    )


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
        ledger.note({"kind": "decision", "identity": IDENTITY, "decision": "approved"})
        ledger.note({"kind": "policy", "settings": {}})
        print(f"a message without weights: {cost(ledger, None, 50)}")
        print(f"with {WEIGHTS:,} bytes of weights: {cost(ledger, np.zeros(WEIGHTS, np.uint8), 5)}")
        for number in range(lines):
            ledger.record(
                "benchmark", round_reply(), identity=IDENTITY, number=number, received="0" * 64
            )
        print(f"a message without weights, after {lines:,} more: {cost(ledger, None, 50)}")
        for kind in ("decision", "policy", "officer key"):  # each is searched for on every visit
            started = time.perf_counter()
            found = next(ledger.newest(kind, IDENTITY if kind == "decision" else ""), None)
            seconds = time.perf_counter() - started
            print(f"the last {kind} ({'found' if found else 'none'}): {1000 * seconds:.0f} ms")
        started = time.perf_counter()
        entries = len(ledger.entries())
        print(f"verified: {entries:,} lines in {time.perf_counter() - started:.1f} s")
        print(json.dumps({"bytes": ledger.path.stat().st_size}))


if __name__ == "__main__":
    main()
