"""Checks of a cohort report every planted fault with its files, and nothing in a sound cohort."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from support.checks import check, flagged, inspected
from support.hospital import EXPERIMENT, write_cohort, write_site

from fedrad.client.cohort.checks.numbers import narrowest_interval
from fedrad.client.cohort.checks.shortcuts import cross_validated_auroc, tags_classifier
from fedrad.client.cohort.inspection import inspect
from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.settings import open_site
from fedrad.deploy import phantoms
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.histogram import count_in_bins
from fedrad.stats import intervals as statistics
from fedrad.stats.exact import Units, auroc_variance


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """A phantom hospital of 60 patients, some with follow-up, and its rows."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "ward"
    phantoms.write_hospital(folder, phantoms.DEMO_HOSPITALS["phantom-a"], 60, 3, follow_up=0.2)
    (folder / "site.toml").write_text('name = "ward"\ndecoders = 1\nthreads = 1\n')
    lines = (folder / "cohort.csv").read_text().splitlines()
    header = lines[0].split(",")
    return folder, [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]


def another(folder: Path, source: str, name: str, side: float = 0.6) -> str:
    """Write the image of a file again, as a smaller JPEG with another contrast."""
    pixels = pydicom.dcmread(folder / source).pixel_array.astype(float)
    grey = (pixels - pixels.min()) / np.ptp(pixels)
    picture = Image.fromarray((255 * grey**0.85).astype(np.uint8))
    picture.resize([int(side * n) for n in picture.size]).save(folder / name, quality=85)
    return name


def test_planted_faults_are_reported_with_their_files(ward):
    folder, rows = ward
    files = [row["file"] for row in rows]
    copy = dict(rows[0], file="copy.dcm")
    (folder / "copy.dcm").write_bytes((folder / files[0]).read_bytes())
    stranger = dict(rows[5], file=another(folder, files[5], "again.jpg"), patient_id="someone")
    contradiction = dict(rows[7], file="other.dcm", bpd=str(1 - int(rows[7]["bpd"])))
    (folder / "other.dcm").write_bytes((folder / files[7]).read_bytes())
    (folder / files[9]).write_bytes(b"broken")
    Image.fromarray(
        np.rot90(np.asarray(Image.open(folder / another(folder, files[11], "turned.png", 1.0))))
    ).save(folder / "turned.png")
    turned = dict(rows[11], file="turned.png", patient_id="third")
    write_cohort(folder, [*rows, rows[3], copy, stranger, contradiction, turned])
    inspection = inspected(folder)
    assert f"{files[9]}: no DICOM, PNG or JPEG file" in " ".join(
        flagged(inspection, "files set aside")
    )
    assert flagged(inspection, "repeated rows")[1].startswith(files[3])
    assert {files[0], "copy.dcm"} <= set(flagged(inspection, "duplicate images"))
    assert {files[5], "again.jpg"} <= set(flagged(inspection, "one patient under two numbers"))
    assert {files[7], "other.dcm"} <= set(flagged(inspection, "one image with two labels"))
    assert "turned.png" in flagged(inspection, "not a frontal chest")
    assert inspection.status == 1


def test_a_sound_cohort_has_no_duplicates_shortcuts_or_turned_images(ward):
    inspection = inspected(ward[0])
    for name in (
        "files set aside",
        "duplicate images",
        "one patient under two numbers",
        "one image with two labels",
        "not a frontal chest",
        "shortcuts",
        "lateral views",
        "images after the outcome",
    ):
        assert flagged(inspection, name) == [], name


def test_a_cohort_gives_the_same_findings_whatever_the_salt(ward, monkeypatch):
    one = inspected(ward[0])
    monkeypatch.setenv("XDG_STATE_HOME", str(ward[0].parent / "another"))
    assert inspected(ward[0]) == one


def test_images_after_the_outcome_and_lateral_views(ward):
    folder, rows = ward
    for i, row in enumerate(rows):
        row |= {"date": "2024-03-01", "outcome_date": "2024-02-28" if i == 4 else "2024-06-01"}
        row |= {"view": "LL" if i == 6 else "AP"}
    write_cohort(folder, rows)
    inspection = inspected(folder)
    late = flagged(inspection, "images after the outcome")
    assert late[1] == f"{rows[4]['file']}: 2024-03-01, outcome 2024-02-28"
    assert flagged(inspection, "lateral views")[1] == rows[6]["file"]


def test_files_of_another_order_than_the_table_says(ward):
    folder, rows = ward
    patient = rows[0]["patient_id"]
    for row in rows[1:3]:
        row["patient_id"] = patient
    for at, (row, taken) in enumerate(
        zip(rows[:3], ("20240103", "20240101", "20240102"), strict=True)
    ):
        row |= {"order_index": str(at)}
        file = pydicom.dcmread(folder / row["file"])
        file.AcquisitionDate = taken
        file.save_as(folder / row["file"])
    write_cohort(folder, [{**row, "order_index": row.get("order_index", "")} for row in rows])
    text, *files = flagged(inspected(folder), "dates in the files")
    assert text.startswith("1 patients have an image that is the earliest by the table and not by")
    assert files == [f"{rows[0]['file']}: 2024-01-03", f"{rows[1]['file']}: 2024-01-01"]


def test_a_scanner_that_goes_with_the_outcome_is_a_shortcut(ward):
    folder, rows = ward
    for i, row in enumerate(rows):
        row["scanner"] = "mobile" if (row["bpd"] == "1") != (i % 6 == 0) else "fixed"
    write_cohort(folder, rows)
    (words,) = flagged(inspected(folder), "shortcuts")
    assert "tags alone reach" in words
    assert "carried by scanner" in words


def test_chance_alone_is_no_shortcut():
    rng = np.random.default_rng(0)
    lows = []
    for _ in range(20):
        labels = (rng.random(120) < 0.4).astype(float)
        patients = np.repeat(np.arange(60), 2)
        features = np.column_stack([rng.normal(size=(120, 3)), rng.integers(0, 2, (120, 3))])
        lows.append(cross_validated_auroc(tags_classifier, features, labels, patients)[1][0])
    assert sum(low > 0.55 for low in lows) <= 1


def test_too_many_broken_files_are_a_refusal(ward):
    folder, rows = ward
    for row in rows[:10]:
        (folder / row["file"]).write_bytes(b"broken")
    assert inspected(folder).status == 2


def test_no_interval_is_narrower_than_that_of_unlimited_others():
    for units, positive in ((12, True), (30, False)):
        counts = (units, 10**9) if positive else (10**9, units)
        variance = statistics.hanley_mcneil(0.8, *counts)
        interval = narrowest_interval(units, positive=positive)
        assert interval == pytest.approx(
            statistics.large_sample_interval(0.8, variance, 0.95), abs=1e-4
        )
        fewer = statistics.hanley_mcneil(0.8, *(min(n, 300) for n in counts))
        low, high = statistics.large_sample_interval(0.8, fewer, 0.95)
        assert high - low > interval[1] - interval[0]


def test_the_clustered_variance_is_delongs_for_single_images_and_that_of_resampled_patients():
    rng = np.random.default_rng(5)
    single = auroc_variance(rng.normal(size=50), Units(np.repeat([0, 1], 25), np.arange(50)))
    rng = np.random.default_rng(5)
    assert single == pytest.approx(
        auroc_variance(rng.normal(size=50), Units(np.repeat([0, 1], 25)))
    )

    def draw() -> tuple[float, float]:
        ill = rng.random(80) < 0.5
        patients = np.repeat(np.arange(80), 4)
        own = rng.normal(size=80)[patients]  # what a patient's images share
        labels = (ill[patients] ^ (rng.random(320) < 0.1)).astype(float)
        logits = own + 0.5 * rng.normal(size=320) + labels
        above = logits[labels == 1][:, None] > logits[labels == 0]
        return above.mean(), auroc_variance(logits, Units(labels, patients))

    drawn = np.array([draw() for _ in range(400)])
    assert drawn[:, 1].mean() == pytest.approx(drawn[:, 0].var(), rel=0.2)


def test_a_minimum_counts_patients_not_images():
    labels = np.array([1.0] * 20 + [0.0] * 20)
    few = np.array([0, 1] * 10 + list(range(2, 22)))
    assert Disclosure(10, 3).why_withheld(Units(labels)) is None
    assert Disclosure(10, 3).why_withheld(Units(labels, few)) == "below minimum"
    histogram = count_in_bins(
        np.zeros(9), np.ones(9), minimum_bin=3, patients=np.zeros(9, np.int64)
    )
    assert len(histogram.positives) == 1


def test_the_command_reports_everything_and_writes_the_page(ward, tmp_path):
    folder, rows = ward
    (folder / rows[0]["file"]).write_bytes(b"broken")
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(EXPERIMENT.replace('"label"', '"bpd"'))
    page = tmp_path / "page.html"
    result = check(folder, "--experiment", str(experiment), "--html", str(page))
    assert result.exit_code == 1, result.output
    assert "The coordinator would learn" in result.output
    assert '"base_sha256"' in result.output
    text = page.read_text()
    assert "eyes only" in text
    assert rows[0]["file"] in text
    assert "http://" not in text
    assert "https://" not in text
    assert "MRN-CANARY" not in text
    report = json.loads(check(folder, "--json").stdout)
    assert (report["status"], report["outcomes"]) == (1, ["bpd"])
    assert (tmp_path / "state" / "fedrad" / "ward" / "check.html").is_file()


def seen_on_a_terminal(command: list[str], until: str) -> tuple[int, int, str]:
    """Run a command in a terminal, and press Ctrl-C as soon as the number that the pattern `until`
    captures is 20. Returns the exit status, the last number and all output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 200))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, pressed = "", False
    with contextlib.suppress(OSError):  # on Linux: the other end was closed
        while data := os.read(ours, 65536):
            shown += data.decode(errors="replace")
            reached = [int(n) for n in re.findall(until, shown)]
            if not pressed and reached and reached[-1] >= 20:
                process.send_signal(signal.SIGINT)
                pressed = True
    os.close(ours)
    return process.wait(), reached[-1], shown


@pytest.mark.slow
def test_a_check_interrupted_with_ctrl_c_is_continued_by_the_next(tmp_path):
    folder, rng = tmp_path / "x", np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for i in range(240):
        picture = Image.fromarray(rng.integers(0, 256, (480, 400), np.uint8))
        picture.save(folder / f"{i:03d}.png", compress_level=0)
        rows.append({"file": f"{i:03d}.png", "patient_id": f"p{i}", "label": i % 2})
    write_cohort(folder, rows)
    (folder / "site.toml").write_text('name = "x"\nstate = "state"\ndecoders = 1\n')
    command = [str(Path(sys.executable).with_name("fedrad-site")), "check", str(folder)]
    status, reached, shown = seen_on_a_terminal(command, r"reading images.*?(\d+)/240")
    assert status == 130, shown
    assert "interrupted; what was read is kept, run it again to continue" in shown
    assert "Traceback" not in shown
    totals = []
    inspection, *_ = inspect(
        open_site(folder),
        None,
        lambda what, _, of: totals.append(of) if what == "reading images" else None,
    )
    assert 0 < totals[0] <= 240 - reached + 1
    assert inspection.units["all"]["label"] == [120, 120, 0]


def test_all_images_count_with_the_unit_image(ward):
    from fedrad.client.participant.site_data import SiteData

    folder, rows = ward
    text = EXPERIMENT.replace('"label"', '"bpd"').replace("seed = 3", 'seed = 3\nunit = "image"')
    experiment = parse_experiment(text + 'index_image = "all"\n')
    parts = SiteData(open_site(folder), experiment).parts
    assert sum(len(examples) for examples in parts.values()) == len(rows) > 60
    owners = [set(examples.patients.tolist()) for examples in parts.values()]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 60


def test_a_site_that_cannot_be_checked_ends_with_two(tmp_path):
    folder = write_site(tmp_path / "x", 5)
    (folder / "cohort.csv").write_text("file,who\n")
    assert check(folder).exit_code == 2
    assert check(tmp_path / "nowhere", "--name", "x").exit_code == 2


def test_equal_pixels_with_two_labels_are_set_aside_and_repeats_used_once(tmp_path):
    from fedrad.client.participant.participant import Participant
    from fedrad.client.participant.site_data import SiteData

    folder = write_site(tmp_path / "x", 60)
    rows = [
        {"file": f"images/{i:04d}.png", "patient_id": f"p{i}", "label": int(i < 30)}
        for i in range(60)
    ]
    for new, old, label in ((60, 0, 1), (61, 40, 1)):
        data = (folder / f"images/{old:04d}.png").read_bytes()
        (folder / f"images/{new:04d}.png").write_bytes(data)
        rows.append({"file": f"images/{new:04d}.png", "patient_id": f"p{new}", "label": label})
    write_cohort(folder, rows)
    site = open_site(folder, state=tmp_path / "state")
    participant = Participant(SiteData(site, parse_experiment(EXPERIMENT)))
    cohort = participant.data.cohort
    assert set(cohort.set_aside) == {"images/0040.png", "images/0061.png"}
    assert list(cohort.repeated) == ["images/0060.png"]
    assert participant.ready().set_aside == 3
