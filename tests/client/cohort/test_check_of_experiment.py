"""The check shows how an experiment will divide a site's patients, and divides nobody itself."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from support.checks import check, flagged, inspected
from support.hospital import EXPERIMENT, with_, write_cohort, write_site

from fedrad.client.cohort.checks.numbers import narrowest_interval
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment

PARTS = ("train", "validation", "test")


@pytest.fixture
def thirty(tmp_path):
    """A site of 30 patients, 15 with the outcome."""
    folder = write_site(tmp_path / "x", 30)
    settings = folder / "site.toml"
    settings.write_text('state = "state"\n' + settings.read_text())
    return folder


def show(folder: Path, experiment: str) -> tuple[dict[str, int], str, dict[str, Any]]:
    """Number of units in each part by `check --experiment`, its text, and its JSON."""
    file = folder / "experiment.toml"
    file.write_text(experiment)
    result = check(folder, "--experiment", str(file), "--json")
    report = json.loads(result.stdout)
    words = " ".join(check(folder, "--experiment", str(file)).stdout.split())
    return {part: sum(report["units"][part]["label"]) for part in PARTS}, words, report


@pytest.mark.parametrize(
    ("experiment", "units", "words"),
    [
        (EXPERIMENT, (12, 6, 12), None),
        (
            with_(EXPERIMENT, folds="3"),
            (16, 4, 10),
            "Cross-validation, each patient is tested once: these are the parts of training 1 of 3 "
            "(fold_number = 0).",
        ),
        (
            with_(EXPERIMENT, folds="3", repeats="2", fold_number="4"),
            (16, 4, 10),
            "Cross-validation, each patient is tested once in each of 2 repeats: these are the "
            "parts of training 5 of 6 (fold_number = 4).",
        ),
        (
            with_(EXPERIMENT, held_out='["x"]'),
            (0, 0, 30),
            "The experiment holds this site out: all its patients are for testing.",
        ),
    ],
    ids=["one split", "folds", "folds and repeats", "held out"],
)
def test_the_check_shows_what_the_experiment_will_do_and_writes_no_division(
    thirty, experiment, units, words
):
    from fedrad.client.participant.site_data import SiteData

    shown, text, report = show(thirty, experiment)
    assert tuple(shown[part] for part in PARTS) == units
    assert report["division"] == (words and words.removesuffix("."))
    assert words is None or words in text
    assert words is None or words in (thirty / "state" / "check.html").read_text()
    assert not (thirty / "state" / "splits").exists()
    data = SiteData(open_site(thirty), parse_experiment(experiment))
    assert tuple(len(data.rows[part]) for part in PARTS) == units
    for part, examples in data.parts.items():
        labels = examples.labels[:, 0]
        assert report["units"][part]["label"][:2] == [(labels == 1).sum(), (labels == 0).sum()]
    files = list((thirty / "state").glob("splits/*.json"))
    assert len(files) == (0 if units == (0, 0, 30) else 1)
    assert show(thirty, experiment)[0] == shown


def test_a_check_after_taking_part_shows_the_parts_that_were_assigned(thirty):
    from fedrad.client.participant.participant import Participant
    from fedrad.client.participant.site_data import SiteData

    rows = list(csv.DictReader((thirty / "cohort.csv").open()))
    write_cohort(thirty, rows[:20])
    Participant(SiteData(open_site(thirty), parse_experiment(EXPERIMENT))).ready()
    (file,) = (thirty / "state" / "splits").glob("*.json")
    given = file.read_bytes()
    turned = [
        dict(row, label=1 - int(row["label"])) if i < 9 else row for i, row in enumerate(rows)
    ]
    write_cohort(thirty, turned)
    shown, _, report = show(thirty, EXPERIMENT)
    assert file.read_bytes() == given
    data = SiteData(open_site(thirty), parse_experiment(EXPERIMENT))
    for part, examples in data.parts.items():
        labels = examples.labels[:, 0]
        assert report["units"][part]["label"][:2] == [(labels == 1).sum(), (labels == 0).sum()]
    assert sum(shown.values()) == 30


def test_a_check_without_an_experiment_divides_no_patient(thirty):
    report = json.loads(check(thirty, "--json").stdout)
    assert list(report["units"]) == ["all"]
    assert report["division"] is None
    assert not (thirty / "state" / "splits").exists()


def test_what_folds_can_show_rests_on_all_patients(thirty):
    narrowest = narrowest_interval(15, positive=False)
    words = flagged(
        inspected(thirty, parse_experiment(with_(EXPERIMENT, folds="3"))), "too few units per class"
    )
    assert any(
        f"with 15 negatives over all folds no interval can be narrower than {narrowest[0]:.2f}" in w
        for w in words
    )
    words = flagged(inspected(thirty, parse_experiment(EXPERIMENT)), "too few units per class")
    assert any("with 6 negatives in the test part no interval" in w for w in words)
