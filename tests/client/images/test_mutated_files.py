"""A few hundred of the 20,000 mutated files of `benchmarks/fuzz_images.py`: each is a picture or
has its reason."""

import random
from collections import Counter

import pytest
from support.paths import ROOT

from fedrad.client.images import worker_processes

BENCHMARKS = ROOT / "benchmarks"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, where files are mutated
def test_a_mutated_file_is_a_picture_or_has_its_reason(tmp_path, monkeypatch):
    worker_processes.end_idle_workers()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))  # where workers find `read_mutated`
    import fuzz_images as fuzz

    rng = random.Random(7)
    originals = fuzz.phantoms(64)
    files = [tmp_path / str(number) for number in range(300)]
    for file in files:
        file.write_bytes(fuzz.mutated(rng.choice(originals), rng.choice(originals), rng))
    results = worker_processes.run_isolated(
        fuzz.read_mutated,
        [(str(file), 32) for file in files],
        workers=2,
        seconds=fuzz.SECONDS,
        memory_mib=fuzz.MEMORY_MIB,
    )
    counts = Counter(
        r.reason if isinstance(r, worker_processes.Failure) else r[0] for _, r in results
    )
    worker_processes.end_idle_workers()
    assert sum(counts.values()) == 300
    assert counts["a picture"] > 20
    assert len(counts) > 10, "many kinds of damage were met"
    assert not [kind for kind in counts if "FINDING" in kind or "unexpected" in kind]
    given_up = [kind for kind in counts.elements() if "crashed" in kind or "not decoded" in kind]
    assert len(given_up) <= 3, "one in 1,000 makes GDCM abort; a busy machine may be late"
