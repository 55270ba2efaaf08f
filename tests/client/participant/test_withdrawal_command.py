"""`fedrad-site withdraw` names the patient it means, and what trained on the patient."""

import csv
import json

import pytest
from support.hospital import TwoHospitals, write_cohort
from support.withdrawals import ONE_SPLIT, hospital, in_part, number_of, participant, withdraw
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.images import image_store
from fedrad.client.participant.site_data import SiteData
from fedrad.client.policy.ledger import Ledger
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import parse_experiment
from fedrad.system.folders import make_folder


@pytest.fixture
def site(tmp_path) -> Site:
    return hospital(tmp_path)


def test_it_names_the_experiments_that_trained_on_the_patient(tmp_path):
    hospitals = TwoHospitals(tmp_path)
    out = hospitals.run(1)
    identity = parse_experiment((out / "experiment.toml").read_text()).identity
    site = open_site(hospitals.sites["a"], state=hospitals.state / "a")
    data = SiteData(site, parse_experiment((out / "experiment.toml").read_text()))
    trained, tested = (in_part(data, part)[0] for part in ("train", "test"))
    output = withdraw(site, trained, tested)
    of_trained, of_tested = output.split(f"{tested}:")
    assert "trained a model: test-1, since 20" in of_trained
    assert identity in of_trained
    assert "write to the coordinator" in output
    assert "counted in released figures: test-1 (test)" in of_tested
    assert "trained no model here" in of_tested


def test_a_record_of_an_earlier_version_is_named_by_its_folder(site):
    data = SiteData(site, ONE_SPLIT)
    key = next(unit.key for unit in data.cohort.units if unit.name.endswith("0003.png"))
    record = {"format": 1, "pseudonyms": data.pseudonyms.fingerprint, "keys": [key]}
    make_folder(site.state / "trained")
    (site.state / "trained" / f"{'7' * 64}.json").write_text(json.dumps(record))
    make_folder(site.state / "experiments" / f"old-one-{'7' * 12}")
    assert f"trained a model: old-one; identity {'7' * 64}" in withdraw(site, number_of(3))


def test_a_mistyped_number_withdraws_nobody_and_is_named(site):
    rows = list(csv.DictReader(site.cohort.open()))
    write_cohort(site.folder, [{**row, "patient_id": f"00{i}"} for i, row in enumerate(rows)])
    output = withdraw(site, "7", "008", status=2)
    assert "not in the cohort table; is 007 meant?" in output
    assert "1 of 2 numbers are neither in the table nor in a record" in output
    assert not (site.state / "withdrawn.json").exists()
    assert not (site.state / "ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("number", "spelled"),
    [
        ("100", "00100"),
        ("100", "100.0"),
        ("100", "'100"),
        ("P000", "p000"),
        ("P000", "P\u00a0000"),
    ],
)
def test_a_number_that_the_table_spells_in_two_ways_is_withdrawn_in_both(site, number, spelled):
    """A spreadsheet drops leading zeros; the second spelling would go on training, in silence."""
    table = site.folder / "cohort.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    for row, name in ((1, number), (2, spelled)):
        cells = lines[row].split(",")
        lines[row] = ",".join([cells[0], name, *cells[2:]])
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    output = withdraw(site, number, status=2)
    shown = spelled.replace("\u00a0", " ")
    assert f"{shown} may be the same patient in another spelling" in output
    assert not (site.state / "withdrawn.json").exists()
    withdraw(site, number, spelled)
    withdraw(site, number, "--force")


def test_an_invisible_character_makes_no_other_patient_who_stays(site):
    table = site.folder / "cohort.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    number = lines[1].split(",")[1]
    cells = lines[2].split(",")
    lines[2] = ",".join([cells[0], f"{number}\u200b", *cells[2:]])
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert "2 rows in the cohort table" in withdraw(site, number)
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 28


def test_a_number_that_is_expected_later_can_be_recorded_by_force(site):
    withdraw(site, "coming", "--force")
    rows = list(csv.DictReader(site.cohort.open()))
    write_cohort(site.folder, [{**rows[0], "patient_id": "coming"}, *rows[1:]])
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 29


def test_a_patient_whom_the_table_no_longer_names_is_withdrawn_without_force(site):
    participant_ = participant(site, ONE_SPLIT)
    number, _ = in_part(participant_.data, "train")
    participant_.data.trained_patients.record(ONE_SPLIT, participant_.data.keys("train"))
    rows = list(csv.DictReader(site.cohort.open()))
    write_cohort(site.folder, [row for row in rows if row["patient_id"] != number])
    output = withdraw(site, number)
    assert "not in the cohort table" in output
    assert "trained a model: test" in output


@pytest.mark.parametrize(
    "text",
    [
        "CANARY-1-0003\nCANARY-1-0004\n\n",
        "patient_id;name\nCANARY-1-0003;X\nCANARY-1-0004;Y\nCANARY-1-0004;Y\n",
        "﻿Patient ID\r\nCANARY-1-0003\r\nCANARY-1-0004\r\n",
    ],
    ids=["one per line", "a table", "one column with a header"],
)
def test_a_list_in_a_file(site, tmp_path, text):
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    assert "Withdrawn: 2 patients" in withdraw(site, "--file", str(tmp_path / "list.csv"))
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 28


def test_a_list_without_the_column_of_patients_is_refused(site, tmp_path):
    (tmp_path / "list.csv").write_text("who,when\nCANARY-1-0003,today\n")
    output = withdraw(site, "--file", str(tmp_path / "list.csv"), status=2)
    assert "has 2 columns and none is named 'patient_id'" in output


def test_it_asks_first_and_can_be_repeated(site):
    arguments = ["withdraw", str(site.folder), number_of(3), "--state", str(site.state)]
    refused = CliRunner().invoke(app, arguments, input="n\n")
    assert refused.exit_code == 2
    assert "It cannot be taken back" in refused.output
    assert not (site.state / "withdrawn.json").exists()
    withdraw(site, number_of(3))
    assert "withdrawn before" in withdraw(site, number_of(3))
    assert len(Ledger(site.state / "ledger.jsonl").entries()) == 1


def test_an_account_without_a_name_can_withdraw_a_patient(site, monkeypatch):
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    arguments = ["withdraw", str(site.folder), number_of(3), "--state", str(site.state), "--yes"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    assert Ledger(site.state / "ledger.jsonl").entries()[-1]["message"]["by"].startswith("user ")


def test_a_table_with_other_faults_does_not_keep_a_patient_from_withdrawing(site):
    site.cohort.write_text(site.cohort.read_text() + "images/0001.png,CANARY-1-0002,0\n")
    with pytest.raises(SiteProblem):
        _ = SiteData(site, ONE_SPLIT).cohort
    withdraw(site, number_of(3))


def test_images_that_the_table_names_by_their_uid_are_found(site, monkeypatch):
    rows = list(csv.DictReader(site.cohort.open()))
    by_uid = [
        {"sop_instance_uid": f"1.2.{i}", "patient_id": row["patient_id"], "label": row["label"]}
        for i, row in enumerate(rows)
    ]
    write_cohort(site.folder, by_uid)
    monkeypatch.setattr(
        image_store.ImageStore,
        "instance_uids",
        lambda _, files, *__: [f"1.2.{int(f.stem)}" if f.suffix == ".png" else "" for f in files],
    )
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 30
    assert "decoded images of 2 files" in withdraw(site, number_of(3), number_of(4))
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 28
