"""An ablation runs each row of one experiment once, on the same patients, and compares them."""

import json

import pytest
from support.hospital import EXPERIMENT, with_

from fedrad.deploy.commands.main import app
from fedrad.deploy.local.ablate import ablate, ablation_rows
from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import ExperimentError, parse_experiment

FOUR = EXPERIMENT.replace("rounds = 2", "rounds = 4")
ROWS = """
[ablation.all]
[ablation.probe]
recipe = { preset = "probe", learning_rates = { head = 1e-2 } }
[ablation.progressive]
recipe = { preset = "progressive", views = 2 }
"""


STRATEGIES = """
[ablation.mean.federation]
strategy = "fedavg"
[ablation.yogi.federation]
strategy = "fedyogi"
server = { momentum = 0.5 }
"""


def test_a_row_changes_what_it_names_and_nothing_else():
    texts = ablation_rows(FOUR + ROWS)
    file = parse_experiment(FOUR)
    rows = {row: parse_experiment(text) for row, text in texts.items()}
    assert list(rows) == ["all", "probe", "progressive"]
    same = rows["all"].model_copy(update={"name": "test"})
    assert same.identity == file.identity, "an empty row is the experiment itself"
    probe = rows["probe"]
    assert (probe.name, probe.recipe.preset, probe.recipe.probe) == ("test.probe", "probe", 1.0)
    assert probe.recipe.learning_rates.head == 1e-2
    assert probe.recipe.learning_rates.backbone == 3e-3, "as in the file"
    assert probe.model == file.model
    assert all(r.evaluation_sha256 == file.evaluation_sha256 for r in rows.values())


def test_other_weights_come_without_the_hash_and_the_outputs_of_the_files():
    pinned = EXPERIMENT.replace(
        '"random"', f'"base.safetensors"\nsha256 = "{64 * "0"}"\nbase_outputs = {{ label = "x" }}'
    )
    text = ablation_rows(pinned + '[ablation.control]\nmodel = { weights = "random" }\n')["control"]
    model = parse_experiment(text).model
    assert (model.weights, model.sha256, model.base_outputs) == ("random", None, {})


def test_a_row_of_another_strategy_comes_without_the_settings_of_the_files():
    server = "[federation.server]\ntau = 0.01\nmomentum = 0.8\n"
    text = EXPERIMENT.replace("[federation]", '[federation]\nstrategy = "fedadam"') + server
    rows = ablation_rows(text + STRATEGIES)
    assert parse_experiment(rows["mean"]).federation.server.model_fields_set == set()
    yogi = parse_experiment(rows["yogi"]).federation.server
    assert yogi.model_dump(include=yogi.model_fields_set) == {"tau": 0.01, "momentum": 0.5}


def test_a_row_that_is_no_experiment_or_is_overruled_is_refused_by_name():
    for rows, why in (
        ('[ablation.x]\nrecipe = { preset = "none" }', r"ablation\.x: recipe.*preset"),
        ("[ablation.x]\nrecipe = { probe = 2 }", r"ablation\.x: recipe\.probe"),
        ("[ablation.sites]", "name the row otherwise"),
    ):
        with pytest.raises(Refused, match=why):
            ablation_rows(EXPERIMENT + rows)
    overruling = EXPERIMENT.replace("batch_size = 8", "batch_size = 8\nprobe = 0.5")
    with pytest.raises(Refused, match=r"ablation\.x: its preset sets recipe\.probe"):
        ablation_rows(overruling + '[ablation.x]\nrecipe = { preset = "full" }')
    for wrong in ("seed = 1", "evaluation = { folds = 2 }"):
        with pytest.raises(ExperimentError, match=r"ablation\.x"):
            parse_experiment(EXPERIMENT + f"[ablation.x]\n{wrong}")


def test_rows_run_over_the_same_folds_and_end_in_a_table(sites, tmp_path, capsys):
    del sites["one"]
    short = EXPERIMENT.replace("rounds = 2", "rounds = 1").replace('"full"', '"probe"')
    plan = with_(short, folds="2", local_baseline="false")
    file = tmp_path / "experiment.toml"
    file.write_text(
        plan.replace("batch_size = 8", "batch_size = 8\nviews = 1")
        + "[ablation.slow]\n[ablation.fast]\nrecipe = { probe_learning_rate = 1e-2 }\n"
    )
    out = tmp_path / "out"
    options = [f"--site={name}={folder}" for name, folder in sites.items()]
    app(["ablate", str(file), *options, f"--out={out}"], standalone_mode=False)
    assert "| fast |" in capsys.readouterr().out
    written = json.loads((out / "compare.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["slow", "fast"]
    assert all(c["paired"] and c["folds"] == 2 for c in written["contrasts"])
    splits = list((out / "sites" / "a" / "splits").glob("*.json"))
    assert len(splits) == 1, "one division of the patients for all rows and folds"
    collections = [s.name for s in (out / "sites" / "a" / "activations").iterdir()]
    blocks = [name.partition("-")[0] for name in collections]
    assert len(blocks) == len(set(blocks)) > 0, "one set of features for all rows and folds"


def test_finished_rows_are_not_run_again_and_other_settings_are_refused(sites, tmp_path):
    del sites["one"]
    file, out = tmp_path / "experiment.toml", tmp_path / "out"
    short = with_(EXPERIMENT.replace("rounds = 2", "rounds = 1"), local_baseline="false")
    one = "[ablation.one]\nrecipe = { dropout = 0.0 }\n"
    two = "[ablation.two]\nrecipe = { dropout = 0.2 }\n"
    file.write_text(short + one + two)
    page = ablate(file, sites, out)
    first, model = page.read_text(), out / "one" / "model.safetensors"
    made = model.stat().st_mtime_ns
    page.unlink()
    assert ablate(file, sites, out).read_text() == first
    assert model.stat().st_mtime_ns == made
    file.write_text(short + one.replace("0.0", "0.1") + two)
    with pytest.raises(Refused, match="begun with other settings"):
        ablate(file, sites, out)
    file.write_text(short)
    with pytest.raises(Refused, match="it has none"):
        ablate(file, sites, out)


def test_missing_weights_are_refused_before_any_row_runs(sites, tmp_path):
    file, out = tmp_path / "experiment.toml", tmp_path / "out"
    control = f'model = {{ weights = "nowhere.safetensors", sha256 = "{64 * "0"}" }}'
    file.write_text(f"{EXPERIMENT}[ablation.all]\n[ablation.control]\n{control}\n")
    with pytest.raises(Refused, match=r"ablation\.control: .*nowhere\.safetensors"):
        ablate(file, sites, out)
    assert not out.exists()
