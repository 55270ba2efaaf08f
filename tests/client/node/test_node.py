"""A node's process: what it imports once, and how it ends."""

import logging
import os
import subprocess
import sys

import pytest
from support.hospital import write_site
from support.joined import join
from support.paths import TESTS

from fedrad.client.node.events import event
from fedrad.client.node.service import start
from fedrad.client.policy.membership import RUNNING, read_membership
from fedrad.client.settings import open_site
from fedrad.flower.route_faults import RouteFault
from fedrad.flower.supernode import _log_fault
from fedrad.system.proxies import ProxySettingError

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


def test_a_proxy_that_cannot_be_used_ends_the_start_before_a_node_runs(tmp_path, monkeypatch):
    site = join(open_site(write_site(tmp_path / "a", 20), state=tmp_path / "state"))
    monkeypatch.setenv("https_proxy", "socks5://me:secret@proxy.hospital.de:1080")
    with pytest.raises(ProxySettingError, match=r"https_proxy=.*SOCKS proxy is not supported"):
        start(site, read_membership(site.state))
    assert not (site.state / RUNNING).exists()


def test_the_sites_log_says_why_there_is_no_way_but_not_that_an_answer_was_late(caplog):
    _log_fault(RouteFault("proxy", "HTTPS_PROXY=http://p:8080 answers 401 Unauthorized to CONNECT"))
    _log_fault(RouteFault("answer", "nothing was said"))
    (line,) = caplog.messages
    assert event(line) == (logging.WARNING, line), "not that the coordinator lets nobody in"
    assert line.startswith("no way to the coordinator: HTTPS_PROXY=http://p:8080 answers 401")
