"""A patient who withdrew is read for nothing any more, and the site can say what trained on it."""

import csv
import json

import numpy as np
import pytest
from support.coordinator import Coordinator
from support.hospital import SHORT, with_, write_cohort
from support.withdrawals import ONE_SPLIT, hospital, in_part, number_of, participant, withdraw

from fedrad.client.images import image_store
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.scoring import Scoring
from fedrad.client.participant.site_data import SiteData
from fedrad.client.policy.ledger import Ledger
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment, parse_experiment
from fedrad.exchange.messages import BaselineRequest, ReleaseRequest, ScoreRequest
from fedrad.system.folders import make_folder


@pytest.fixture
def site(tmp_path) -> Site:
    return hospital(tmp_path)


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
