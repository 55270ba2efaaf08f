"""A hospital uses an exported model on its own files: the same chain, the same figures."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.special import logit
from support.dicom import dicom, full_window, stored_ramp
from support.hospital import write_site
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.images import read_radiograph
from fedrad.client.participant.site_data import SiteData
from fedrad.client.predict import estimate as module
from fedrad.client.settings import open_site
from fedrad.deploy.commands.results import READER
from fedrad.exchange.experiment import parse_experiment
from fedrad.models.record import load_model
from fedrad.models.training import score
from fedrad.models.weight_files import read_safetensors
from fedrad.server.export.export import export


@pytest.fixture(scope="module")
def model(finished, tmp_path_factory) -> Path:
    """An exported model file."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(finished / "out", folder, reader=READER, onnx=False)
    return folder / "model.safetensors"


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def predict(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def changed(file: Path, to: Path, **changes) -> Path:
    """The model with another record."""
    tensors, metadata = read_safetensors(file)
    record = json.loads(metadata["record"]) | changes
    save_file(tensors, to, metadata | {"record": json.dumps(record)})
    return to


def test_the_logits_are_those_with_which_the_site_was_scored(finished, model, tmp_path):
    experiment = parse_experiment((finished / "out" / "experiment.toml").read_text())
    site = open_site(finished / "a", state=finished / "out" / "sites" / "a")
    data = SiteData(site, experiment)
    network = data.base.network
    network.load_state_dict(load_file(finished / "out" / "model.safetensors"))
    logits = score(network, data.parts["test"].images, device=data.device)[:, 0]
    files = [data.cohort.units[row].file for row in data.rows["test"]]
    result = predict(model, *files, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text())))
    assert [row["file"] for row in rows] == [str(f) for f in files]
    assert np.allclose([float(row["logit"]) for row in rows], logits, atol=1e-6, rtol=0)
    threshold = load_model(model)[1].thresholds["label"].logit
    assert [row["above_threshold"] == "1" for row in rows] == [z >= threshold for z in logits]
    assert "CANARY" not in (tmp_path / "p.csv").read_text()
    assert "research use only" in result.output.lower()


def test_a_dicom_file_goes_the_way_of_the_cohort(model, tmp_path):
    file = tmp_path / "x.dcm"
    stored = stored_ramp(12)
    file.write_bytes(dicom(stored, PhotometricInterpretation="MONOCHROME1", **full_window(stored)))
    network, record, _ = load_model(model)
    picture = read_radiograph(file.read_bytes(), record.model.input).picture
    with torch.no_grad():
        expected = network(torch.from_numpy(picture.astype(np.float32))[None, None])
    prediction = json.loads(predict(model, file, "--json").output)["files"][0]
    assert prediction["estimates"]["label"]["logit"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("prevalence", [0.01, 0.3, 0.9])
def test_probabilities_are_for_the_prevalence_that_is_stated(finished, model, prevalence):
    file = finished / "a" / "images" / "0000.png"
    plain = json.loads(predict(model, file, "--json").output)
    local = json.loads(predict(model, file, "--json", "--prevalence", prevalence).output)
    before, after = (one["files"][0]["estimates"]["label"] for one in (plain, local))
    meant = plain["outcomes"]["label"]["prevalence"]
    assert local["outcomes"]["label"]["prevalence"] == prevalence
    assert before["logit"] == after["logit"]
    assert before["above_threshold"] == after["above_threshold"]
    moved = logit(after["probability"]) - logit(before["probability"])
    assert moved == pytest.approx(logit(prevalence) - logit(meant))


def test_without_a_prevalence_that_of_the_model_is_used_and_named(finished, model):
    result = predict(model, finished / "a" / "images" / "0000.png")
    meant = load_model(model)[1].calibration["label"].prevalence
    assert f"label: probabilities for a prevalence of {meant:.3g}" in result.output
    assert "not checked" in result.output
    assert "has no interval for one image" in result.output


@pytest.mark.parametrize("given", ["0", "1", "-0.1", "1.5", "nan", "often"])
def test_a_prevalence_that_is_none_is_refused(finished, model, given):
    result = predict(model, finished / "a" / "images" / "0000.png", f"--prevalence={given}")
    assert result.exit_code == 2
    assert result.output.startswith("--prevalence ")
    assert "a number between 0 and 1, both excluded" in result.output


def test_a_prevalence_names_its_outcome(finished, model):
    file = finished / "a" / "images" / "0000.png"
    assert predict(model, file, "--prevalence", "label=0.2").exit_code == 0
    result = predict(model, file, "--prevalence", "death=0.2")
    assert result.exit_code == 2
    assert "--prevalence death=0.2: write OUTCOME=P with one of label" in result.output


def test_what_is_not_calibrated_has_no_probability(finished, model, tmp_path):
    bare = changed(model, tmp_path / "m.safetensors", calibration={"label": None})
    file = finished / "a" / "images" / "0000.png"
    result = predict(bare, file, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0
    assert "not calibrated" in result.output
    (row,) = csv.DictReader(io.StringIO((tmp_path / "p.csv").read_text()))
    assert (row["probability"], row["prevalence"]) == ("", "")
    result = predict(bare, file, "--prevalence", "0.2")
    assert result.exit_code == 2
    assert "--prevalence label=0.2: label is not calibrated" in result.output


def test_files_that_cannot_be_used_are_listed_and_the_others_go_on(
    finished, model, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "CHUNK", 2)
    good = finished / "a" / "images" / "0000.png"
    (tmp_path / "text.png").write_text("no picture")
    Image.new("L", (40, 40), 7).save(tmp_path / "even.png")
    given = [tmp_path / "text.png", good, tmp_path / "gone.dcm", tmp_path / "even.png", good]
    result = predict(model, *given, "--json")
    assert result.exit_code == 1
    files = json.loads(result.output)["files"]
    assert [one["file"] for one in files] == [str(f) for f in given]
    problems = [one["problem"] for one in files]
    assert problems[1] is problems[4] is None
    assert "No such file" in problems[2]
    assert problems[3] == "all pixels are equal"
    assert all(problems[k] and not files[k]["estimates"] for k in (0, 2, 3))
    assert files[1]["estimates"] == files[4]["estimates"] != {}


def test_remarks_of_the_reading_are_shown(model, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4095, (60, 50)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    prediction = json.loads(predict(model, tmp_path / "x.png", "--json").output)["files"][0]
    assert "contrast from the values" in prediction["remarks"]


def test_what_is_no_model_for_this_fedrad_is_refused(finished, model, tmp_path):
    file = finished / "a" / "images" / "0000.png"
    (tmp_path / "text.safetensors").write_text("no model")
    older = changed(model, tmp_path / "older.safetensors", reading_chain=1)
    other = changed(
        model,
        tmp_path / "other.safetensors",
        model=json.loads(load_model(model)[1].model.model_dump_json()) | {"backbone": "resnet34"},
    )
    for given, fault in (
        (tmp_path / "gone.safetensors", "gone.safetensors: no such file"),
        (tmp_path / "text.safetensors", "no readable safetensors file"),
        (finished / "out" / "model.safetensors", "fedrad export"),
        (older, "version 1 of the reading chain"),
        (other, "is not the resnet34"),
    ):
        result = predict(given, file)
        assert result.exit_code == 2
        assert fault in result.output


def test_a_file_that_is_there_is_not_written_over(finished, model, tmp_path):
    (tmp_path / "p.csv").write_text("mine")
    file = finished / "a" / "images" / "0000.png"
    assert predict(model, file, "--out", tmp_path / "p.csv").exit_code == 2
    assert (tmp_path / "p.csv").read_text() == "mine"
    assert "no such folder" in predict(model, file, "--out", tmp_path / "no" / "p.csv").output


# Like the cohort, or unlike


def test_an_image_unlike_the_cohorts_is_named_and_one_like_them_is_not(finished, model, tmp_path):
    new = write_site(tmp_path / "new", 12, seed=77)
    stripes = np.tile(np.repeat([0, 255], 6), (48, 4)).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    files = [*sorted((new / "images").glob("*.png")), tmp_path / "stripes.png"]
    state = finished / "out" / "sites" / "a"
    result = predict(model, *files, "--cohort", finished / "a", "--state", state, "--json")
    assert result.exit_code == 0, result.output
    output = json.loads(result.output)
    *like, last = output["files"]
    assert last["unlike"]
    assert last["as_far"] == pytest.approx(1 / 21)
    assert sum(one["unlike"] for one in like) <= 2
    assert "16 of them trained the model" in output["meaning"]["likeness"]


def test_a_hospital_that_did_not_train_the_model_is_informed_of_that(finished, model, tmp_path):
    own = write_site(tmp_path / "own", 44, seed=9)
    result = predict(model, own / "images" / "0000.png", "--cohort", own)
    assert result.exit_code == 0, result.output
    assert "none of them trained the model" in result.output


def test_without_enough_patients_or_the_record_of_who_trained_nothing_is_compared(finished, model):
    file = finished / "a" / "images" / "0000.png"
    few = predict(model, file, "--cohort", finished / "b", "--state", finished / "out/sites/b")
    assert few.exit_code == 2
    assert "30 patients with a usable image" in few.output
    lost = predict(model, file, "--cohort", finished / "a")
    assert lost.exit_code == 2
    assert "has no record of the patients" in lost.output


@pytest.fixture
def oddly_named(finished, tmp_path) -> list[str]:
    """Files of which one is named in Latin-1, one in brackets, and one with the end of a line."""
    names = [b"M\xfcller.png", b"[red]b[bold].png", b"two\nlines.png", b"x" * 251 + b".png"]
    for name in names:
        shutil.copy(finished / "a" / "images" / "0000.png", os.fsencode(tmp_path) + b"/" + name)
    return [os.fsdecode(os.fsencode(tmp_path) + b"/" + name) for name in names]


def test_every_file_is_estimated_and_its_name_shown_whatever_its_bytes(
    model, oddly_named, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "600")
    result = predict(model, *oddly_named, "--out", tmp_path / "new.csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new.csv").read_text())))
    shown = [r"M\xfcller.png", "[red]b[bold].png", r"two\nlines.png", "x" * 251 + ".png"]
    assert [row["file"] for row in rows] == [f"{tmp_path}/{name}" for name in shown]
    assert len({row["logit"][:6] for row in rows}) == 1
    assert all(name in result.output for name in shown)
    as_json = json.loads(predict(model, *oddly_named, "--json").output)
    assert [one["file"] for one in as_json["files"]] == [row["file"] for row in rows]


def test_estimates_are_written_if_they_cannot_be_shown_and_shown_if_they_cannot_be_written(
    model, finished, tmp_path
):
    file, table = finished / "a" / "images" / "0000.png", tmp_path / "new.csv"
    script = [str(Path(sys.executable).parent / "fedrad-site"), "predict", str(model), str(file)]
    for output, status in (("/dev/full", 2), ("&-", 0)):
        shell = f'"$@" >{output}'
        ended = subprocess.run(
            ["bash", "-c", shell, "-", *script, "--out", str(table)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == status, ended.stderr
        assert len(table.read_text().splitlines()) == 2
        assert "Traceback" not in ended.stderr
        table.unlink()
    result = predict(model, file, "--out", tmp_path / ("x" * 300))
    assert result.exit_code == 2
    assert "cannot be written (File name too long)" in result.stderr
    assert "label" in result.stdout
    assert list(tmp_path.glob("*.csv")) + list(tmp_path.glob(".*partial")) == []


def test_a_pipe_is_no_image_and_is_named_at_once(model, finished, tmp_path):
    os.mkfifo(tmp_path / "pipe.dcm")
    result = predict(model, tmp_path / "pipe.dcm", finished / "a" / "images" / "0000.png")
    assert result.exit_code == 1
    assert "cannot be opened (it is a pipe or a device, and no file)" in " ".join(
        result.output.split()
    )
