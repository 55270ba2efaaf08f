"""`fedrad-site check` proposes the list of columns, and says how many patients are left out."""

import csv
import json

import pytest
from support.hospital import EXPERIMENT, write_cohort, write_site
from typer.testing import CliRunner

from fedrad.client.cohort.checks import run_check
from fedrad.client.commands.main import app
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.preflight.patients import ColumnList, ColumnsCheck
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import parse_experiment


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    """A hospital of 30 patients whose table has their sex."""
    folder = write_site(tmp_path / "a", 30, seed=1)
    rows = list(csv.DictReader((folder / "cohort.csv").open()))
    write_cohort(folder, [{**row, "Sex": "FM"[i % 2]} for i, row in enumerate(rows)])
    settings = folder / "site.toml"
    settings.write_text('state = "state"\n' + settings.read_text())
    return open_site(folder)


def check(site: Site, text: str | None = None) -> tuple[dict[str, dict], dict]:
    """Name of each check -> its result; and the whole report."""
    arguments = ["check", str(site.folder), "--json"]
    if text is not None:
        file = site.folder.parent / "experiment.toml"
        file.write_text(text)
        arguments += ["--experiment", str(file)]
    ended = CliRunner().invoke(app, arguments)
    report = json.loads(ended.stdout)
    return {result["name"]: result for result in report["results"]}, report


def texts(result: dict) -> list[str]:
    return [finding["text"] for finding in result["findings"]]


def test_it_proposes_outcomes_and_groups_and_warns_only_a_site_that_has_joined(site):
    result = check(site)[0]["columns for experiments"]
    assert texts(result) == [
        'policy.columns is not set; for this table: columns = ["label", "sex"]'
    ]
    assert result["severity"] == "information"
    joined = ColumnList(None, ["label"], needed=True)
    assert run_check(ColumnsCheck(), joined).severity == "warning"
    settings = site.folder / "site.toml"
    settings.write_text(settings.read_text() + 'columns = ["label", "sex"]\n')
    assert not check(site)[0]["columns for experiments"]["findings"]


def test_nobody_else_on_the_machine_can_look_at_the_pictures_of_a_check_before_join(site):
    check(site)
    assert site.state.stat().st_mode & 0o777 == 0o700
    assert (site.state / "check.html").stat().st_mode & 0o777 == 0o600


def test_a_column_that_is_not_on_the_list_is_a_reason_not_to_take_part(site):
    settings = site.folder / "site.toml"
    settings.write_text(settings.read_text() + 'columns = ["sex"]\n')
    results, report = check(site, EXPERIMENT)
    assert "policy.columns admits" in texts(results["taking part"])[0]
    assert report["status"] == 2
    assert report["readiness"] is None


def test_it_says_how_many_withdrew_and_how_many_the_budget_leaves_out(site):
    settings = site.folder / "site.toml"
    settings.write_text(settings.read_text() + "budget = { experiments = 1 }\n")
    first = SiteData(open_site(site.folder), parse_experiment(EXPERIMENT))
    trained = len(Participant(first).data.keys("train"))
    CliRunner().invoke(app, ["withdraw", str(site.folder), "CANARY-1-0003", "--yes"])
    again = EXPERIMENT.replace('name = "test"', 'name = "again"')
    results, report = check(site, again)
    assert texts(results["withdrawn patients"]) == [
        "1 patients of the table withdrew; their rows are passed over"
    ]
    assert report["table"]["patients"] == 29
    assert report["table"]["withdrawn"] == 1
    left_out = report["readiness"]["left_out"]
    assert trained - 1 <= left_out <= trained
    assert texts(results["budget of patients"])[0].startswith(f"{left_out} patients have reached")
