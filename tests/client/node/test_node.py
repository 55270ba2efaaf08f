"""A node's process: what it imports once, and how it ends."""

import os
import subprocess
import sys

from support.hospital import write_site
from support.paths import TESTS

VISIT = """
import sys
from pathlib import Path
from fedrad.client.node import executor
executor.import_what_visits_need()
before = set(sys.modules)
from support.hospital import EXPERIMENT
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import RoundRequest
from fedrad.models.weights import load_base
from fedrad.server.rounds.global_model import GlobalModel
experiment = parse_experiment(EXPERIMENT)
base = load_base(experiment.model, 1, seed=3, dropout=experiment.recipe.dropout)
request = GlobalModel(experiment, base).broadcast("all", 0).full
folder = Path(sys.argv[1])
site = Participant(SiteData(open_site(folder, name="a", state=folder / "state"), experiment))
site.round(RoundRequest(round=0, manifest=request[0]), request[1])
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_a_visit_imports_nothing_that_takes_time(tmp_path):
    """What its parent lacks, each child of the executor would import anew."""
    write_site(tmp_path / "a", 20, seed=1)
    ended = subprocess.run(
        [sys.executable, "-c", VISIT, str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    new = set(ended.stdout.splitlines()[-1].split())
    heavy = {"torch", "torchvision", "torchxrayvision", "monai", "sklearn", "scipy", "pydicom"}
    assert "fedrad" in new, "the test's own imports"
    assert not new & heavy
