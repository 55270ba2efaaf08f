"""A patient who withdrew is read for nothing any more, and the site can say what trained on it."""

import csv
import json

import numpy as np
import pytest
from support.coordinator import Coordinator
from support.hospital import SHORT, TwoHospitals, with_, write_cohort, write_site
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.images import image_store
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.scoring import Scoring
from fedrad.client.participant.site_data import SiteData
from fedrad.client.policy.ledger import Ledger
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import Experiment, parse_experiment
from fedrad.exchange.messages import BaselineRequest, ReleaseRequest, ScoreRequest
from fedrad.system.folders import make_folder

ONE_SPLIT = parse_experiment(SHORT)


@pytest.fixture
def site(tmp_path) -> Site:
    """A hospital of 30 patients whose state folder lies beside it."""
    return open_site(write_site(tmp_path / "a", 30, seed=1), state=tmp_path / "state")


def number_of(index: int) -> str:
    return f"CANARY-1-{index:04d}"


def withdraw(site: Site, *arguments: str, status: int = 0) -> str:
    options = ["--yes", "--by", "Dr Data", "--state", str(site.state)]
    ended = CliRunner().invoke(app, ["withdraw", str(site.folder), *arguments, *options])
    assert ended.exit_code == status, ended.output
    return ended.output


def in_part(data: SiteData, part: str) -> tuple[str, str]:
    """Number and pseudonym of the first patient of a part."""
    unit = data.cohort.units[data.rows[part][0]]
    return number_of(int(unit.file.stem)), unit.key


def participant(site: Site, experiment: Experiment) -> Participant:
    return Participant(SiteData(site, experiment))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_patient_is_in_no_part_and_no_file_of_it_is_opened(site, monkeypatch, part):
    number, key = in_part(SiteData(site, ONE_SPLIT), part)
    withdraw(site, number)
    file = site.folder / "images" / f"{number[-4:]}.png"
    file.write_bytes(file.read_bytes() + b"another content, so that it would be read again")
    opened = []
    digest = image_store.file_digest
    monkeypatch.setattr(image_store, "file_digest", lambda f: [opened.append(f), digest(f)][1])
    for experiment in (ONE_SPLIT, parse_experiment(SHORT.replace("seed = 3", "seed = 5"))):
        data = SiteData(site, experiment)
        assert key not in {unit.key for unit in data.cohort.units}
        assert len(data.cohort.units) == 29
        assert not data.cohort.set_aside
    assert file not in opened


def test_all_others_stay_in_their_part(site):
    before = SiteData(site, ONE_SPLIT)
    number, key = in_part(before, "train")
    withdraw(site, number)
    after = SiteData(site, ONE_SPLIT)
    for part in ("train", "validation", "test"):
        assert set(after.keys(part)) == set(before.keys(part)) - {key}


def test_a_patient_who_comes_back_under_the_same_number_stays_out(site):
    rows = list(csv.DictReader(site.cohort.open()))
    withdraw(site, number_of(3))
    write_cohort(site.folder, [row for row in rows if row["patient_id"] != number_of(3)])
    _ = SiteData(site, ONE_SPLIT).rows
    back = {**rows[3], "file": rows[4]["file"].replace("0004", "new")}
    (site.folder / "images" / "new.png").write_bytes((site.folder / rows[3]["file"]).read_bytes())
    write_cohort(site.folder, [*(row for row in rows if row is not rows[3]), back])
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 29


def scored_then_withdrawn(site: Site, *experiments: Experiment) -> tuple[Scoring, str]:
    """Score the local-only model, withdraw a test patient, and open the site anew."""
    for experiment in experiments:
        scoring = Scoring(participant(site, experiment))
        scoring.participant.baseline(BaselineRequest())
        for part in ("validation", "test"):
            scoring.score(ScoreRequest(part=part, model="local"), None)
    number, key = in_part(scoring.data, "test")
    files = list((site.state / "experiments").rglob("test/*.npz"))
    assert any(key in np.load(file)["keys"] for file in files)
    withdraw(site, number)
    for file in files:
        content = np.load(file)
        assert key not in content["keys"]
        assert len(content["logits"]) == len(content["keys"])
    return Scoring(participant(site, experiments[-1])), key


def counts(scoring: Scoring) -> int:
    release = scoring.release(ReleaseRequest(part="test", models=["local"]))
    (scores,) = release.scores
    return scores.positives + scores.negatives


def test_kept_scores_lose_the_patient_and_the_running_experiment_goes_on_without(site):
    scoring, _ = scored_then_withdrawn(site, ONE_SPLIT)
    assert counts(scoring) == len(scoring.data.keys("test")) == 11


def test_a_cross_validation_goes_on_without_the_patient(site):
    folds = [parse_experiment(with_(SHORT, folds="2", fold_number=str(k))) for k in range(2)]
    scoring, _ = scored_then_withdrawn(site, *folds)
    assert counts(scoring) == 29


def test_a_visit_that_scored_the_patient_meanwhile_leaves_no_score(site):
    scoring, key = scored_then_withdrawn(site, ONE_SPLIT)
    keys = [*scoring.data.keys("test"), key]
    store = scoring.score_store
    (file,) = (site.state / "experiments").rglob("test/local-of-a.npz")
    arrays = dict(np.load(file)) | {"keys": np.array(keys), "logits": np.zeros((len(keys), 1))}
    with file.open("wb") as stream:
        np.savez(stream, **arrays)
    data = SiteData(site, ONE_SPLIT)
    assert store.read("test", "local:a", data.keys("test")) is not None
    assert key not in np.load(file)["keys"]


def test_a_stored_update_that_was_trained_on_the_patient_is_not_sent_again(site):
    """Perhaps it never arrived: the coordinator asks again after a crash."""
    coordinator = Coordinator(site.folder, site.state, SHORT)
    assert coordinator.reason(*coordinator.round(0)) is None
    number, _ = in_part(SiteData(site, ONE_SPLIT), "train")
    withdraw(site, number)
    assert coordinator.reason(*coordinator.round(0)) == "asked"
    assert coordinator.packed is None


def test_an_update_does_not_leave_if_a_patient_withdrew_while_it_was_trained(site, monkeypatch):
    number, _ = in_part(SiteData(site, ONE_SPLIT), "train")
    train = Participant._train

    def meanwhile(self, *arguments):
        figures = train(self, *arguments)
        withdraw(site, number)
        return figures

    coordinator = Coordinator(site.folder, site.state, SHORT)
    monkeypatch.setattr(Participant, "_train", meanwhile)
    assert coordinator.reason(*coordinator.round(0)) == "cohort"
    monkeypatch.undo()
    reply = coordinator.ask(*coordinator.round(0))
    assert reply.patients == len(SiteData(site, ONE_SPLIT).keys("train")), "without the patient"


def test_decoded_images_progressions_explanations_and_the_page_go(site):
    data = SiteData(site, ONE_SPLIT)
    stored = dict(zip([u.file.name for u in data.cohort.units], data._loaded[1].keys, strict=True))
    gone, stays = bytes.fromhex(stored["0003.png"]), bytes.fromhex(stored["0004.png"])
    database = image_store.ImageStore(site.state / "images")._database
    assert set(database.get("pictures", [gone, stays])) == {gone, stays}
    made = site.state / "progressions" / "made"
    make_folder(made)
    for key in (gone, stays):
        (made / f"{key.hex()[:32]}1.npy").write_bytes(b"")
    explained = site.state / "experiments" / "x-0" / "explanations" / "label-0"
    make_folder(explained)
    files = [site.folder.resolve() / "images" / f"{i:04d}.png" for i in (4, 3)]
    rows = [f"{i:03d}.png,{file},0.1,,,1" for i, file in enumerate(files, start=1)]
    (explained / "images.csv").write_text("\n".join(["picture,file,logit,a,b,label", *rows]) + "\n")
    for name in ("001.png", "002.png"):
        (explained / name).touch()
    (site.state / "check.html").touch(mode=0o600)
    make_folder(site.state / "activations" / "x")
    output = withdraw(site, number_of(3))
    assert "decoded images of 1 files" in output
    assert "1 simulated progressions, 1 explanations" in output
    for table in ("pictures", "readings", "used"):
        assert set(database.get(table, [gone, stays])) == {stays}
    assert [file.name for file in made.iterdir()] == [f"{stays.hex()[:32]}1.npy"]
    assert sorted(file.name for file in explained.iterdir()) == ["001.png", "images.csv"]
    assert "0003.png" not in (explained / "images.csv").read_text()
    assert not (site.state / "check.html").exists()
    assert not (site.state / "activations").exists()


# The record


def test_the_ledger_has_the_withdrawal_by_pseudonym_and_the_file_is_private(site):
    withdraw(site, number_of(3), number_of(4))
    (entry,) = Ledger(site.state / "ledger.jsonl").entries()
    assert entry["message"]["kind"] == "withdrawal"
    assert entry["message"]["by"] == "Dr Data"
    assert entry["message"]["count"] == len(entry["message"]["pseudonyms"]) == 2
    file = site.state / "withdrawn.json"
    assert file.stat().st_mode & 0o077 == 0
    assert "CANARY" not in file.read_text() + (site.state / "ledger.jsonl").read_text()
    assert set(json.loads(file.read_text())["patients"]) == set(entry["message"]["pseudonyms"])


def test_a_lost_file_brings_nobody_back(site):
    withdraw(site, number_of(3))
    text = (site.state / "withdrawn.json").read_text()
    (site.state / "withdrawn.json").unlink()
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 29
    again = json.loads((site.state / "withdrawn.json").read_text())
    assert again["patients"].keys() == json.loads(text)["patients"].keys()


def test_a_withdrawal_that_a_crash_cut_off_did_not_happen_and_the_site_goes_on(site):
    withdraw(site, number_of(3))
    ledger = site.state / "ledger.jsonl"
    line = ledger.read_bytes()
    with ledger.open("ab") as file:
        file.write(line[: line.index(b'"pseudonyms"')])
    (site.state / "withdrawn.json").unlink()
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 29
    withdraw(site, number_of(4))
    assert len(SiteData(site, ONE_SPLIT).cohort.units) == 28


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 2}'])
def test_a_damaged_file_or_another_salt_is_no_empty_one(site, damage):
    withdraw(site, number_of(3))
    file = site.state / "withdrawn.json"
    text = file.read_text()
    file.write_text(damage)
    with pytest.raises(SiteProblem, match=r"withdrawn.json: cannot be read .* restore it"):
        _ = SiteData(site, ONE_SPLIT).cohort
    file.write_text(text)
    (site.state / "salt").write_bytes(bytes(32))
    with pytest.raises(SiteProblem, match="another salt"):
        _ = SiteData(site, ONE_SPLIT).cohort


# The command


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
