"""No training patient of a model is a test patient of models that were fine-tuned from it."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.hospital import SHORT, write_site

from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.exchange.lineage import Ancestor, read_lineage, write_lineage
from fedrad.server.federation.failure import ExperimentFailed


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDRAD_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lineage_of(out: Path) -> list[dict[str, object]]:
    with safe_open(out / "model.safetensors", "pt") as file:
        return json.loads(file.metadata()["lineage"])


def identity_of(out: Path) -> str:
    return parse_experiment((out / "experiment.toml").read_text()).identity


def test_a_model_names_the_experiments_and_sites_that_trained_it_and_their_ancestors(hospitals):
    first = hospitals.run(1)
    second = hospitals.run(2, base=first)
    own = [{"experiment": identity_of(out), "sites": ["a", "b"]} for out in (first, second)]
    assert lineage_of(first) == own[:1]
    assert lineage_of(second) == own
    assert identity_of(first) != identity_of(second)


def test_the_same_patients_held_out_again_is_no_reason_to_refuse(hospitals):
    out = hospitals.run(2, base=hospitals.run(1))
    assert json.loads((out / "summary.json").read_text())["status"] == "completed"


@pytest.mark.parametrize(
    "change",
    [
        {"more": ("test = 0.4", "test = 0.6")},  # some are taken from those who trained
        {"seed": ("seed = 3", "seed = 4")},  # another draw
        {"validation": ("validation = 0.2", "validation = 0.4")},
    ],
)
def test_the_site_refuses_weights_that_were_trained_on_held_out_patients(hospitals, change):
    first = hospitals.run(1)
    with pytest.raises(ExperimentFailed, match="on patients who are held out in this one"):
        hospitals.run(2, base=first, **change)
    log = (hospitals.state / "a" / "site.log").read_text()
    assert "patients of this experiment trained the base weights in experiment" in log
    assert identity_of(first)[:12] in log


def test_an_ancestor_two_experiments_back_counts_too(hospitals):
    first = hospitals.run(1)
    with pytest.raises(ExperimentFailed, match="held out in this one"):
        hospitals.run(3, base=hospitals.run(2, base=first), seed=("seed = 3", "seed = 4"))
    (hospitals.state / "a" / "trained" / f"{identity_of(first)}.json").unlink()
    with pytest.raises(ExperimentFailed, match="lost the record"):
        hospitals.run(4, base=hospitals.root / "experiment-2" / "out")


def test_a_site_that_trained_and_has_no_record_of_it_refuses(hospitals, tmp_path):
    first = hospitals.run(1)
    with pytest.raises(ExperimentFailed, match="lost the record"):
        hospitals.run(2, base=first, state=tmp_path / "a new disk")
    assert "has no record" in (tmp_path / "a new disk" / "a" / "site.log").read_text()


def test_a_site_that_took_no_part_needs_no_record(hospitals, tmp_path):
    """Pretraining at two hospitals, testing at two others."""
    others = {n: write_site(tmp_path / n, 30, seed=s) for n, s in (("c", 5), ("d", 6))}
    second = hospitals.run(2, base=hospitals.run(1), sites=others, seed=("seed = 3", "seed = 9"))
    assert [a["sites"] for a in lineage_of(second)] == [["a", "b"], ["c", "d"]]


def test_a_renamed_site_still_has_the_record_of_its_training_patients(hospitals):
    first = hospitals.run(1)
    (hospitals.state / "a").rename(hospitals.state / "renamed")
    sites = {"renamed": hospitals.sites["a"], "c": write_site(hospitals.root / "c", 30, seed=7)}
    with pytest.raises(ExperimentFailed, match="held out in this one"):
        hospitals.run(2, base=first, sites=sites, seed=("seed = 3", "seed = 4"))


def test_the_site_refuses_to_score_even_without_a_ready_request(hospitals):
    first = hospitals.run(1)
    with pytest.raises(ExperimentFailed):
        hospitals.run(2, base=first, seed=("seed = 3", "seed = 4"))
    text = (hospitals.root / "experiment-2" / "experiment.toml").read_text()
    site = open_site(hospitals.sites["a"], state=hospitals.state / "a")
    with pytest.raises(Exception, match="trained the base weights"):
        _ = SiteData(site, parse_experiment(text)).parts


def test_a_record_is_of_the_training_patients_pseudonyms_and_only_grows(hospitals):
    first = hospitals.run(1)
    experiment = parse_experiment((first / "experiment.toml").read_text())
    site = open_site(hospitals.sites["a"], state=hospitals.state / "a")
    data = SiteData(site, experiment)
    record = data.trained_patients
    assert record.keys(experiment.identity) == set(data.keys("train"))
    assert len(set(data.keys("train"))) == len(data.parts["train"])
    record.record(experiment, ["another"])
    assert record.keys(experiment.identity) == {*data.keys("train"), "another"}
    assert "CANARY" not in next(record.folder.iterdir()).read_text()


def test_an_unreadable_record_is_treated_as_lost(hospitals):
    first = hospitals.run(1)
    file = hospitals.state / "a" / "trained" / f"{identity_of(first)}.json"
    file.write_text("[1, ")
    with pytest.raises(ExperimentFailed, match="lost the record"):
        hospitals.run(2, base=first)


def test_a_record_with_other_pseudonyms_is_treated_as_lost(hospitals):
    """With another salt no patient would be recognised, and so no weights be refused."""
    first = hospitals.run(1)
    file = hospitals.state / "a" / "trained" / f"{identity_of(first)}.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "pseudonyms": "another salt"}))
    with pytest.raises(ExperimentFailed, match="lost the record"):
        hospitals.run(2, base=first)


def test_a_lineage_is_read_as_it_was_written():
    lineage = (
        Ancestor(experiment="0" * 64, sites=("a", "b")),
        Ancestor(experiment="1" * 64, sites=()),
    )
    assert read_lineage(write_lineage(lineage)) == lineage
    assert read_lineage({"description": "weights of another origin"}) == ()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"experiment": "x", "sites": []}]'])
def test_a_garbled_lineage_is_no_empty_one(text, hospitals):
    with pytest.raises(ExperimentError, match="lineage is garbled"):
        read_lineage({"lineage": text})
    first = hospitals.run(1)
    tensors = load_file(first / "model.safetensors")
    save_file(tensors, first / "model.safetensors", {"lineage": text})
    with pytest.raises(Refused, match="lineage is garbled"):
        hospitals.run(2, base=first)


def test_an_experiments_identity_does_not_depend_on_what_is_written_out():
    plain = parse_experiment(SHORT)
    written = parse_experiment(SHORT.replace("[federation]", '[federation]\nstrategy = "fedavg"'))
    assert plain.identity == written.identity
    assert plain.identity != parse_experiment(SHORT.replace("seed = 3", "seed = 4")).identity
