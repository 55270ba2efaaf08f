"""A finished experiment's model leaves in forms that others can use, and gives the same logits."""

import json
import sys
from pathlib import Path

import monai.bundle
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_METADATA
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.deploy.commands.main import app
from fedrad.deploy.commands.results import READER
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.lineage import read_lineage
from fedrad.models.calibration import Calibration
from fedrad.models.record import ModelRecord, Threshold, load_model, read_record
from fedrad.models.settings import ModelSettings
from fedrad.models.training import score
from fedrad.models.weight_files import WeightsError, file_sha256, read_safetensors
from fedrad.models.weights import load_base
from fedrad.server.export import onnx_file
from fedrad.server.export.export import ExportFailed, export, model_record
from fedrad.server.export.model_card import model_card
from fedrad.server.results.summary import read_summary


@pytest.fixture(scope="module")
def exported(finished) -> Path:
    export(finished / "out", finished / "model", reader=READER)
    return finished / "model"


@pytest.fixture(scope="module")
def tested(finished):
    """The test images of site a: (files, pictures, the participant's own logits)."""
    experiment = parse_experiment((finished / "out" / "experiment.toml").read_text())
    site = open_site(finished / "a", state=finished / "out" / "sites" / "a")
    data = SiteData(site, experiment)
    network = data.base.network
    network.load_state_dict(load_file(finished / "out" / "model.safetensors"))
    images = data.parts["test"].images
    files = [data.cohort.units[row].file for row in data.rows["test"]]
    return files, images[:], score(network, images, device=data.device)


def test_the_weights_are_those_of_the_experiment_and_say_how_to_use_them(finished, exported):
    theirs, ours = (
        load_file(folder / "model.safetensors") for folder in (finished / "out", exported)
    )
    assert theirs.keys() == ours.keys()
    assert all((theirs[k] == ours[k]).all() for k in ours)
    summary = read_summary(finished / "out")
    _, record, metadata = load_model(exported / "model.safetensors")
    overall = next(o for o in summary.overall if o.model == "global")
    assert record.outputs == ("label",)
    assert record.model.input.model_dump() == {"size": 32, "fit": "pad", "region": "whole"}
    assert record.value_range == (-1024, 1024)
    assert record.thresholds["label"].logit == overall.threshold
    assert record.calibration == summary.calibration
    assert record.base_sha256 == summary.provenance.base_sha256
    assert record.trained_sha256 == summary.provenance.model_sha256
    assert [a.sites for a in read_lineage(metadata)] == [("a", "b")]


def test_an_exported_model_can_be_the_base_of_a_next_experiment(finished, exported, monkeypatch):
    monkeypatch.setenv("FEDRAD_WEIGHTS", str(exported))
    settings = ModelSettings(
        backbone="resnet18",
        width=0.125,
        size=32,
        weights="model.safetensors",
        sha256=file_sha256(exported / "model.safetensors"),
    )
    base = load_base(settings, 1, seed=0)
    assert base.outputs == ("label",)
    assert read_lineage(base.metadata)


@pytest.mark.parametrize("count", [1, 5])
def test_onnx_gives_the_logits_of_the_site(exported, tested, count):
    _, pictures, logits = tested
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    images = pictures[:count, None].astype(np.float32)
    (found,) = session.run(["logits"], {"images": images})
    assert np.abs(found - logits[:count]).max() < 1e-4


def test_onnx_states_its_opset_and_holds_the_record(exported):
    model = onnx.load(exported / "model.onnx")
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    _, record, _ = load_model(exported / "model.safetensors")
    assert {p.key: p.value for p in model.metadata_props}["record"] == record.model_dump_json()
    batch, *shape = (
        d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim
    )
    assert isinstance(batch, str)
    assert shape == [1, 32, 32]


def test_the_bundle_has_all_that_monai_asks_of_one(exported):
    configs = exported / "bundle" / "configs"
    metadata = json.loads((configs / "metadata.json").read_text())
    assert DEFAULT_METADATA.keys() <= metadata.keys()
    workflow = ConfigWorkflow(
        config_file=str(configs / "inference.json"),
        meta_file=str(configs / "metadata.json"),
        workflow_type="infer",
        bundle_root=str(exported / "bundle"),
        dataset_dir=str(configs),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
    )


def test_monai_runs_the_bundle_over_files_and_gets_the_logits_of_the_site(
    exported, tested, tmp_path
):
    files, _, logits = tested
    for file in files:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / file.name).write_bytes(file.read_bytes())
    configs = exported / "bundle" / "configs"
    monai.bundle.run(
        config_file=str(configs / "inference.json"),
        meta_file=str(configs / "metadata.json"),
        bundle_root=str(exported / "bundle"),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path),
        device="$torch.device('cpu')",
    )
    found = dict(
        line.rsplit(",", 1) for line in (tmp_path / "predictions.csv").read_text().splitlines()
    )
    assert len(found) == len(files)
    for file, logit in zip(files, logits[:, 0], strict=True):
        value = float(found[str(tmp_path / "images" / file.name)])
        assert value == pytest.approx(logit, abs=1e-4)


def test_the_bundle_refuses_another_version_of_the_reading_chain(exported):
    parser = ConfigParser()
    parser.read_config(exported / "bundle" / "configs" / "inference.json")
    parser["preprocessing#transforms#0#chain"] = 1
    with pytest.raises(RuntimeError, match="ReadRadiographd") as caught:
        parser.get_parsed_content("preprocessing")
    assert "version 1 of the reading chain" in str(caught.value.__cause__)


def test_the_card_says_what_the_summary_says_and_what_the_model_is_not(finished, exported):
    summary = read_summary(finished / "out")
    text = (exported / "MODEL_CARD.md").read_text()
    assert text == (exported / "bundle" / "docs" / "README.md").read_text()
    assert "Research use only; not a medical device." in text
    for cell in (c for c in summary.cells if c.model == "global"):
        low, high = cell.ci
        assert f"| {cell.site} | {cell.auroc:.2f} [{low:.2f}–{high:.2f}] |" in text
        assert f"{cell.positives} / {cell.negatives}" in text
    assert "exploratory there: a (label:" in text
    calibration = summary.calibration["label"]
    assert f"prevalence of {calibration.prevalence:.3f}" in text
    assert "\n\n\n" not in text


def test_missing_figures_are_named_in_the_card_and_never_made_up(finished):
    summary = read_summary(finished / "out")
    cells = [
        c.model_copy(
            update={
                "auroc": None,
                "ci": None,
                "positives": None,
                "negatives": None,
                "missing": "below minimum",
            }
        )
        for c in summary.cells
    ]
    overall = [
        o.model_copy(
            update={
                "within": None,
                "within_ci": None,
                "threshold": 0.0,
                "threshold_from": "default",
            }
        )
        for o in summary.overall
    ]
    bare = summary.model_copy(
        update={"cells": cells, "overall": overall, "calibration": {"label": None}}
    )
    record = model_record(bare)
    text = model_card(bare, record)
    assert "– (below minimum)" in text
    assert "**Not calibrated**" in text
    assert "a default" in text


def test_local_normalisation_is_stated(finished):
    summary = read_summary(finished / "out")
    settings = json.loads(json.dumps(summary.experiment))
    settings["recipe"]["batchnorm"] = "local"
    local = summary.model_copy(update={"experiment": settings})
    record = model_record(local)
    assert record.batchnorm == "local"
    assert "This file holds the base's" in model_card(local, record)


# Refusals


def copy_of(finished: Path, to: Path, **changes) -> Path:
    to.mkdir()
    for name in ("model.safetensors", "summary.json"):
        (to / name).write_bytes((finished / "out" / name).read_bytes())
    read_summary(to).model_copy(update=changes).write(to)
    return to


def test_an_experiment_that_is_not_completed_is_refused(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "out", status="stopped", why="stopped by hand")
    with pytest.raises(ExportFailed, match=r"not completed \(stopped: stopped by hand\).*resume"):
        export(folder, tmp_path / "model", reader=READER)
    assert not (tmp_path / "model").exists()


def test_a_model_that_the_summary_does_not_speak_of_is_refused(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "out")
    tensors, metadata = read_safetensors(folder / "model.safetensors")
    tensors["fc.bias"] += 1
    save_file(tensors, folder / "model.safetensors", metadata)
    with pytest.raises(ExportFailed, match=r"not the model of which summary\.json speaks"):
        export(folder, tmp_path / "model", reader=READER)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ExportFailed, match="is gone"):
        export(folder, tmp_path / "model", reader=READER)


def test_the_command_refuses_with_what_to_do(exported, finished, tmp_path):
    for arguments, said in (
        ([str(tmp_path)], "holds no summary.json"),
        ([str(finished / "out"), "--to", str(exported)], "is there already"),
        ([str(finished / "out"), "--to", str(tmp_path / "no" / "such")], "no such folder"),
    ):
        result = CliRunner().invoke(app, ["export", *arguments])
        assert result.exit_code == 2
        assert said in result.output


def test_without_the_extra_onnx_is_refused_by_its_name_and_the_rest_can_be_had(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "fedrad.server.export.onnx_file", raising=False)
    result = CliRunner().invoke(app, ["export", str(finished / "out")])
    assert result.exit_code == 2
    assert "fedrad[export]" in result.output
    result = CliRunner().invoke(
        app, ["export", str(finished / "out"), "--no-onnx", "--to", str(tmp_path / "model")]
    )
    assert result.exit_code == 0, result.output
    names = {f.name for f in (tmp_path / "model").iterdir()}
    assert names == {"model.safetensors", "bundle", "MODEL_CARD.md"}


def test_an_onnx_file_of_other_logits_is_refused(exported):
    network, _, _ = load_model(exported / "model.safetensors")
    onnx_file.check_onnx(network, exported / "model.onnx")
    with torch.no_grad():
        network.fc.bias += 0.001
    with pytest.raises(WeightsError, match=r"differ from PyTorch's by 0\.001"):
        onnx_file.check_onnx(network, exported / "model.onnx")


# The record


def test_files_that_are_no_exported_model_say_so(exported, finished, tmp_path):
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    with pytest.raises(WeightsError, match="no readable safetensors file"):
        load_model(text)
    with pytest.raises(WeightsError, match="fedrad export"):
        load_model(finished / "out" / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": "resnet34"}, "is missing"),
        ({"backbone": "resnet50"}, "is missing"),
        ({"width": 0.25}, "instead of"),
    ],
)
def test_another_architecture_than_stated_is_refused(exported, tmp_path, change, said):
    tensors, metadata = read_safetensors(exported / "model.safetensors")
    record = json.loads(metadata["record"])
    record["model"] |= change
    save_file(tensors, tmp_path / "m.safetensors", metadata | {"record": json.dumps(record)})
    with pytest.raises(WeightsError, match=f"is not the resnet.*{said}"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outputs": []}, "outputs"),
        ({"thresholds": {}}, "thresholds: must speak of each of label"),
        ({"calibration": {"other": None}}, "calibration: must speak of each of label"),
        ({"trained_sha256": "0"}, "trained_sha256"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_a_garbled_record_is_refused(exported, change, said):
    _, metadata = read_safetensors(exported / "model.safetensors")
    record = json.loads(metadata["record"]) | change
    with pytest.raises(WeightsError, match=f"garbled.*{said}"):
        read_record({"record": json.dumps(record)}, "m.safetensors")


@given(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=4),
    prevalence=st.floats(0.001, 0.999),
    slope=st.floats(1e-3, 10),
)
def test_a_record_survives_the_file(logits, prevalence, slope):
    names = tuple(f"o{k}" for k in range(len(logits)))
    calibration = Calibration(
        intercept=logits[0],
        slope=slope,
        prevalence=prevalence,
        method="fitted",
        positives=10,
        negatives=20,
    )
    record = ModelRecord(
        name="n",
        experiment="0" * 64,
        model=ModelSettings(weights="random"),
        outputs=names,
        thresholds={
            o: Threshold(logit=z, chosen_on="validation")
            for o, z in zip(names, logits, strict=True)
        },
        calibration=dict.fromkeys(names, calibration),
        batchnorm="shared",
        base_sha256="1" * 64,
        trained_sha256="2" * 64,
        fedrad="0",
    )
    assert read_record(record.to_metadata(), "m") == record
