"""fedrad as a notebook uses it: import, read a site, simulate, look at results, use a model."""

import ast
import csv
import json
import math
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.hospital import EXPERIMENT, write_site
from support.paths import ROOT

import fedrad
from fedrad.deploy.commands.results import READER
from fedrad.server.export.export import export
from fedrad.system.no_telemetry import NO_TELEMETRY, NO_USAGE_REPORTS


def test_the_import_costs_nothing():
    script = "import fedrad, json, sys; dir(fedrad); print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in json.loads(ran.stdout)}
    bare = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib, typing, json, sys; print(json.dumps([*sys.modules]))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert packages - {name.partition(".")[0] for name in json.loads(bare.stdout)} == {"fedrad"}


SLOW_LIBRARIES = {"flwr", "matplotlib", "monai", "ray", "torch", "torchvision", "sklearn"}
IN_A_NEW_PROCESS = """
import json, os, sys
import fedrad
{use}
packages = sorted({{name.partition(".")[0] for name in sys.modules}})
print(json.dumps([packages, dict(os.environ)]))
"""


def after(use: str, **environment: str) -> tuple[set[str], dict[str, str]]:
    """Packages and environment of a new process that has run `use`."""
    inherited = {k: v for k, v in os.environ.items() if k not in NO_TELEMETRY}
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS.format(use=use)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    packages, variables = json.loads(ran.stdout)
    return set(packages), variables


def test_a_site_is_read_without_slow_libraries(tmp_path):
    folder = write_site(tmp_path / "north", 4)
    packages, _ = after(f"assert len(fedrad.read_site({str(folder)!r}).images) == 4")
    assert not packages & SLOW_LIBRARIES


def test_results_are_loaded_without_slow_libraries(finished):
    folder = str(finished / "out")
    packages, _ = after(f"assert len(fedrad.load_results({folder!r}).rounds)")
    assert not packages & SLOW_LIBRARIES


@pytest.mark.parametrize("name", ["load_model", "predict"])
def test_a_model_is_used_without_flower_and_charts(name):
    packages, _ = after(f"fedrad.{name}")
    assert not packages & {"flwr", "ray", "matplotlib"}


def test_errors_are_named_without_any_library():
    packages, _ = after("fedrad.UserError, fedrad.ExperimentFailed")
    assert not packages & (SLOW_LIBRARIES | {"numpy", "pandas", "pydantic"})


@pytest.mark.parametrize("name", ["load_model", "load_results", "predict", "read_site", "simulate"])
def test_only_usage_reports_are_switched_off_in_the_process_of_the_user(name):
    _, variables = after(f"fedrad.{name}")
    assert variables.items() >= NO_USAGE_REPORTS.items()
    assert "HF_HUB_OFFLINE" not in variables
    _, variables = after(f"fedrad.{name}", DO_NOT_TRACK="true", HF_HUB_OFFLINE="0")
    assert (variables["DO_NOT_TRACK"], variables["HF_HUB_OFFLINE"]) == ("true", "0")


def test_the_version_is_that_of_the_installed_package():
    assert fedrad.__version__ == version("fedrad")


def test_every_public_name_is_there_and_has_a_documented_type():
    tree = ast.parse((ROOT / "src" / "fedrad" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {a.name for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert typed | {"__version__"} == set(fedrad.__all__)
    page = (ROOT / "docs" / "python.md").read_text()
    for name in typed:
        value = getattr(fedrad, name)
        assert value.__doc__
        assert f"`fedrad.{name}" in page or f"fedrad.{name}(" in page, name
    with pytest.raises(AttributeError, match="nosuch"):
        fedrad.nosuch  # noqa: B018


@pytest.mark.slow
def test_a_type_checker_sees_the_interface(tmp_path):
    file = tmp_path / "notebook.py"
    file.write_text(
        "import fedrad\n"
        'results = fedrad.simulate("e.toml", {"a": "a"}, "out")\n'
        "reveal_type(results)\n"
        "reveal_type(fedrad.__version__)\n"
        "reveal_type(results.summary.sites)\n"
        "fedrad.load_results(1)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Revealed type is "fedrad.deploy.notebook.results.Results"' in ran.stdout
    assert 'Revealed type is "str"' in ran.stdout.replace("builtins.", "")
    assert 'Revealed type is "list[str]"' in ran.stdout.replace("builtins.", "")
    assert 'incompatible type "int"' in ran.stdout


def test_a_site_is_read_without_its_patient_numbers(tmp_path):
    folder = write_site(tmp_path / "north", 12, seed=1, prevalence=0.25)
    before = sorted(tmp_path.rglob("*"))
    site = fedrad.read_site(folder)
    assert (site.name, site.folder, site.outcomes) == ("north", folder, ("label",))
    assert list(site.images.columns) == ["file", "patient", "label"]
    assert len(site.images) == site.images["patient"].nunique() == 12
    assert site.images["label"].mean() == 0.25
    assert (folder / site.images["file"][0]).is_file()
    assert "CANARY" not in site.images.to_csv()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_site_without_site_toml_has_the_name_of_its_folder(tmp_path):
    folder = write_site(tmp_path / "south", 6)
    (folder / "site.toml").unlink()
    with (folder / "cohort.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["label"] = ""
    rows[1]["patient_id"] = rows[2]["patient_id"]
    for row in rows:
        row |= {"sex": "F", "patient": "CANARY-too"}
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    site = fedrad.read_site(str(folder))
    assert site.name == "south"
    assert list(site.images.columns) == ["file", "patient", "label", "sex"]
    assert site.images["label"].isna().sum() == 1
    assert site.images["patient"].nunique() == 5
    assert "CANARY" not in site.images.to_csv()


def test_a_simulation_gives_the_results_that_it_writes(tmp_path):
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    sites = {n: write_site(tmp_path / n, 30, seed=i) for i, n in enumerate("ab")}
    results = fedrad.simulate(
        str(tmp_path / "experiment.toml"), sites, tmp_path / "out", state=tmp_path / "state"
    )
    assert results.status == "completed"
    assert results.folder == tmp_path / "out"
    assert (results.folder / "report.html").is_file()
    assert (tmp_path / "state" / "a" / "ledger.jsonl").is_file()
    again = fedrad.load_results(str(results.folder))
    for name in ("cells", "overall", "rounds"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(results, name))


def test_the_frames_hold_the_figures_of_the_summary(finished):
    results = fedrad.load_results(finished / "out")
    plain = json.loads((finished / "out" / "summary.json").read_text())
    assert len(results.cells) == len(plain["cells"])
    for row, cell in zip(results.cells.to_dict("records"), plain["cells"], strict=True):
        for name in ("model", "site", "outcome", "auroc", "sensitivity", "positives", "missing"):
            if cell[name] is None:
                assert pd.isna(row[name])
            else:
                assert row[name] == cell[name]
        if cell["ci"]:
            assert [row["ci_low"], row["ci_high"]] == cell["ci"]
    assert {"sensitivity_ci_low", "sensitivity_ci_high"} <= set(results.cells.columns)
    assert not {"roc", "calibration_curve", "ci", "withheld"} & set(results.cells.columns)
    chosen = results.overall.set_index(["model", "outcome"])
    assert (chosen["within_ci_low"].dropna() <= chosen["within"].dropna()).all()
    assert set(chosen.index.get_level_values("model")) >= {"global", "local"}
    table = results.cells.pivot_table(index="site", columns="model", values="auroc")
    assert set(table.index) == {"a", "b"}


def test_the_rounds_are_those_of_rounds_csv(finished):
    rounds = fedrad.load_results(finished / "out").rounds
    written = pd.read_csv(finished / "out" / "rounds.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(rounds[list(written.columns)], written, check_dtype=False)
    assert list(rounds["round"].unique()) == [1, 2]


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("notebook") / "export"
    export(finished / "out", folder, reader=READER, onnx=False)
    return folder / "model.safetensors"


def test_a_model_estimates_images(finished, exported, tmp_path):
    model = fedrad.load_model(exported)
    assert model.record.outputs == ("label",)
    images = sorted((finished / "a" / "images").glob("*.png"))[:3]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    estimates = fedrad.predict(model, [*images, broken])
    assert list(estimates["file"]) == [str(file) for file in (*images, broken)]
    assert (estimates["problem"] != "").tolist() == [False, False, False, True]
    assert list(estimates["outcome"]) == ["label"] * 3 + [""]
    assert set(estimates["above_threshold"][:3]) <= {0, 1}
    assert all(pd.api.types.is_numeric_dtype(estimates[n]) for n in ("logit", "above_threshold"))
    none = fedrad.predict(model, [broken])
    assert none["logit"].isna().all()
    assert pd.api.types.is_numeric_dtype(none["logit"])
    assert list(fedrad.predict(model, []).columns) == list(none.columns) == list(estimates.columns)
    assert fedrad.predict(model, broken).equals(none), "one file, not its letters"
    assert estimates["logit"].isna().tolist() == [False, False, False, True]
    assert estimates["probability"].dropna().between(0, 1).all()
    elsewhere = fedrad.predict(model, images, prevalence={"label": 0.01})
    assert (elsewhere["logit"] == estimates["logit"][:3]).all()
    moved = np.log(elsewhere["probability"] / (1 - elsewhere["probability"]))
    before = np.log(estimates["probability"] / (1 - estimates["probability"]))[:3]
    meant = model.prevalences["label"]
    shift = math.log(0.01 / 0.99) - math.log(meant / (1 - meant))
    assert np.allclose(moved - before, shift)
    with torch.no_grad():
        assert model.network(torch.zeros(2, 1, 32, 32)).shape == (2, 1)


@pytest.mark.parametrize(
    ("prevalence", "words"),
    [
        ({"death": 0.2}, "^prevalence death=0.2: the outcomes are label"),
        ({"label": 1.5}, "^prevalence label=1.5: a number between 0 and 1"),
    ],
)
def test_a_prevalence_that_does_not_fit_the_model_is_named(exported, prevalence, words):
    with pytest.raises(fedrad.UserError, match=words):
        fedrad.predict(fedrad.load_model(exported), [], prevalence=prevalence)


def test_a_simulation_that_cannot_start_names_arguments_and_not_options(finished, tmp_path):
    with pytest.raises(fedrad.UserError) as error:
        fedrad.simulate(finished / "out" / "experiment.toml", {"a": tmp_path}, finished / "out")
    text = str(error.value)
    assert "lower it or add a site" in text
    assert f"site a: {tmp_path}" in text
    assert f"out {finished / 'out'}: holds an experiment already" in text
    assert "--" not in text


def test_an_experiment_that_fails_is_an_error_of_the_interface(tmp_path):
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    sites = {n: write_site(tmp_path / n, 30, seed=i) for i, n in enumerate("ab")}
    for image in (sites["b"] / "images").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(fedrad.ExperimentFailed, match="are needed, 1 can") as error:
        fedrad.simulate(tmp_path / "experiment.toml", sites, tmp_path / "out")
    assert isinstance(error.value, fedrad.UserError)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: fedrad.read_site(f / "none"), "no such folder"),
        (fedrad.load_results, "holds no summary.json"),
        (lambda f: fedrad.load_model(f / "none.safetensors"), "no such file"),
        (lambda f: fedrad.simulate(f / "none.toml", {"a": f}, f / "out"), "cannot be read"),
    ],
)
def test_what_the_caller_can_correct_is_one_kind_of_error(tmp_path, call, words):
    with pytest.raises(fedrad.UserError, match=words):
        call(tmp_path)


def test_a_summary_that_is_none_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(fedrad.UserError, match="not a summary of fedrad"):
        fedrad.load_results(tmp_path)
