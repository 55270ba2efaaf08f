"""The coordinator runs, and lets take part, only the release that an experiment requires.

The report names the releases of all who took part.
"""

import pytest
from support.hospital import SHORT, write_site
from support.readiness import readiness_with

from fedrad.client.app import app as client_app
from fedrad.client.participant import participant
from fedrad.deploy.start.preparation import given_experiment
from fedrad.exchange.experiment import parse_experiment
from fedrad.flower.grid import InProcessGrid
from fedrad.server.experiment import run_experiment
from fedrad.server.federation.declared import contradiction_of_readiness
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.report.report import write_report
from fedrad.system.release import release, short_release

OTHER = "0.1.0+sha256:" + "0" * 64


def requiring(name: str) -> str:
    """The text of an experiment that requires a release."""
    return SHORT.replace("rounds = 1", f'rounds = 1\nrelease = "{name}"')


def grid_of(tmp_path, text: str) -> InProcessGrid:
    nodes = [
        {"folder": str(write_site(tmp_path / n, 30, seed=s)), "state": str(tmp_path / "state" / n)}
        for s, n in enumerate("ab")
    ]
    return InProcessGrid(client_app, nodes, {"experiment": text})


def test_fedrad_run_refuses_before_anything_is_started(tmp_path):
    file = tmp_path / "experiment.toml"
    _, (fault, *_) = given_experiment(requiring(OTHER), file, tmp_path / "out")
    assert OTHER in fault
    assert release() in fault
    _, faults = given_experiment(requiring(short_release(release())), file, tmp_path / "out")
    assert faults == []


def test_the_coordinators_app_refuses_too(tmp_path):
    """A run that is resumed after an update does not pass `fedrad run`."""
    grid = grid_of(tmp_path, requiring(OTHER))
    with pytest.raises(ExperimentFailed, match=r"federation\.release"):
        run_experiment(grid, requiring(OTHER), tmp_path / "out", wait_seconds=0.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("said", [OTHER, None])
def test_a_site_that_says_another_release_or_none_does_not_take_part(said):
    experiment = parse_experiment(requiring(release()))
    assert contradiction_of_readiness(readiness_with(release=release()), experiment) == ""
    assert "release" in contradiction_of_readiness(readiness_with(release=said), experiment)
    free = parse_experiment(SHORT)
    assert contradiction_of_readiness(readiness_with(release=said), free) == ""


def test_the_report_names_the_releases_and_marks_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr(participant, "release", lambda: OTHER)
    summary = run_experiment(grid_of(tmp_path, SHORT), SHORT, tmp_path / "out", wait_seconds=60.0)
    assert summary.provenance.release == release()
    assert {entry.release for entry in summary.site_entries.values()} == {OTHER}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Other code than the coordinator’s: a (fedrad 0.1.0+sha256:000000000000" in page
    assert release() in page
    same = {s: e.model_copy(update={"release": release()}) for s, e in summary.site_entries.items()}
    summary.model_copy(update={"site_entries": same}).write(tmp_path / "out")
    write_report(tmp_path / "out")
    assert "Other code" not in (tmp_path / "out" / "report.html").read_text()
