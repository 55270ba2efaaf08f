"""A site sees which code runs: an experiment, or the site's own policy, can require a release.

Before, an edited file at a hospital was seen by nobody: it had the version of the release.
"""

import json
from pathlib import Path

import pytest
from rich.console import Console
from support.hospital import SHORT
from support.joined import join

from fedrad.client.commands.approvals import list_experiments, show_experiment
from fedrad.client.policy import admission, approvals
from fedrad.client.policy.admission import check_request
from fedrad.client.policy.approvals import Approvals
from fedrad.client.policy.ledger import Ledger
from fedrad.client.policy.plain_words import describe_experiment
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.exchange.messages import ReadyRequest
from fedrad.system.release import release, short_release

OTHER = "0.1.0+sha256:" + "0" * 64


def requiring(name: str) -> str:
    """The text of an experiment that requires a release."""
    return SHORT.replace("rounds = 1", f'rounds = 1\nrelease = "{name}"')


def joined(folder: Path, policy: str = "") -> Site:
    (folder / "site.toml").write_text(f'name = "a"\n[policy]\n{policy}\n')
    return join(open_site(folder, state=folder / "state"))


def answer(site: Site, text: str) -> str:
    """The reason of a refusal and what the site's log has of it; "" if there is none."""
    try:
        check_request(
            site,
            parse_experiment(text),
            text,
            ReadyRequest(fedrad="0.1.0"),
            Ledger(site.state / "ledger.jsonl"),
        )
    except SiteProblem as problem:
        return f"{problem.reason}: {problem}"
    return ""


def approve(site: Site, text: str) -> None:
    everything = Approvals(site.state)
    everything.decide(everything.add(parse_experiment(text), text), "approved", "Dr Data")


def shown(site: Site, text: str) -> str:
    """What the officer sees of the experiment, and in the list."""
    console = Console(width=400)
    with console.capture() as capture:
        list_experiments(site, console)
        (asked,) = [
            one
            for one in Approvals(site.state).all()
            if one.identity == parse_experiment(text).family
        ]
        show_experiment(asked, site, console)
    return capture.get()


@pytest.mark.parametrize("name", [release(), short_release(release())])
def test_an_experiment_runs_on_the_release_that_it_requires(tmp_path, name):
    site = joined(tmp_path)
    approve(site, requiring(name))
    assert answer(site, requiring(name)) == ""


def test_a_site_with_another_release_refuses_and_says_both(tmp_path):
    site = joined(tmp_path)
    approve(site, requiring(OTHER))
    said = answer(site, requiring(OTHER))
    assert said.startswith("version: ")
    assert OTHER in said
    assert release() in said


def test_the_officer_can_look_at_an_experiment_whose_release_is_not_installed_yet(tmp_path):
    """It is stored and waits; once it is approved, only the release is missing."""
    site = joined(tmp_path)
    assert answer(site, requiring(OTHER)).startswith("approval: ")
    text = shown(site, requiring(OTHER))
    assert f"it requires release {OTHER} of fedrad, and installed here is {release()}" in text


def test_the_screen_says_whether_a_release_is_required(tmp_path):
    policy = joined(tmp_path).settings.policy

    def words(text: str) -> str:
        return str(describe_experiment(parse_experiment(text), policy))

    assert "any release of fedrad may run it" in words(SHORT)
    assert "that is the one installed here" in words(requiring(short_release(release())))


@pytest.mark.parametrize(
    "name", ["0.1.0", "0.1.0+sha256:1f3a", "sha256:" + "0" * 64, "", OTHER + "0"]
)
def test_a_text_that_names_no_release_is_no_setting(name):
    with pytest.raises(ExperimentError, match=r"federation\.release"):
        parse_experiment(requiring(name))


def test_a_decision_records_the_release_that_the_officer_had(tmp_path):
    site = joined(tmp_path)
    approve(site, SHORT)
    (entry,) = Ledger(site.state / "ledger.jsonl").newest("decision")
    assert entry["message"]["release"] == release()
    assert "installed is" not in shown(site, SHORT)


class TestCodeThatChangedAfterTheApproval:
    """An update, or an edited file."""

    @pytest.fixture(autouse=True)
    def changed(self, monkeypatch):
        monkeypatch.setattr(approvals, "release", lambda: OTHER)
        yield
        monkeypatch.undo()

    def test_the_list_and_the_screen_say_so(self, tmp_path, monkeypatch):
        site = joined(tmp_path)
        approve(site, SHORT)
        monkeypatch.setattr(approvals, "release", release)
        said = f"approved with release {OTHER}, installed is {release()}"
        assert shown(site, SHORT).count(said) == 2
        assert answer(site, SHORT) == ""

    def test_it_stops_the_experiment_where_the_policy_asks_for_the_approved_release(
        self, tmp_path, monkeypatch
    ):
        site = joined(tmp_path, 'release = "approved"')
        approve(site, SHORT)
        assert answer(site, SHORT).startswith("approval: ")
        assert OTHER in answer(site, SHORT)
        monkeypatch.setattr(approvals, "release", release)
        approve(site, SHORT)
        assert answer(site, SHORT) == ""

    def test_an_approval_of_an_older_fedrad_recorded_none(self, tmp_path, monkeypatch):
        site = joined(tmp_path, 'release = "approved"')
        experiment = parse_experiment(SHORT)
        everything = Approvals(site.state)
        everything.add(experiment, SHORT)
        message = {"kind": "decision", "identity": experiment.family, "decision": "approved"}
        message |= {"by": "Dr Data", "time": "2026-01-01T00:00:00+00:00"}
        message["settings"] = json.loads(experiment.written_out)
        Ledger(site.state / "ledger.jsonl").note(message, experiment="test")
        assert "a release that was not recorded" in answer(site, SHORT)


def test_a_release_that_changes_between_two_requests_is_refused_at_the_second(
    tmp_path, monkeypatch
):
    site = joined(tmp_path, 'release = "approved"')
    approve(site, SHORT)
    assert answer(site, SHORT) == ""
    monkeypatch.setattr(admission, "release", lambda: OTHER)
    assert answer(site, SHORT).startswith("approval: ")
