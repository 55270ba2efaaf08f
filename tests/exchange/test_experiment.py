"""`experiment.toml`: allowed settings, and the error messages for all others."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from support.paths import ROOT

from fedrad.exchange.experiment import (
    EvaluationSettings,
    Experiment,
    ExperimentError,
    FederationSettings,
    parse_experiment,
    read_experiment,
)
from fedrad.models.settings import PRESETS, ModelSettings, RecipeSettings, Settings

HEAD = 'name = "bpd-day1"\noutcomes = ["bpd"]\n'
TEMPLATE = ROOT / "deploy" / "commands" / "templates" / "experiment.toml"


def refusal(text: str) -> str:
    with pytest.raises(ExperimentError) as caught:
        parse_experiment(text)
    return str(caught.value)


def test_name_and_outcomes_are_enough() -> None:
    experiment = parse_experiment(HEAD)
    assert experiment == Experiment(name="bpd-day1", outcomes=["bpd"])
    assert experiment.schedule.rounds == 30


def test_the_defaults_are_the_published_recipe() -> None:
    """recipe.md, row by row; augmentation and stages have tests of their own."""
    recipe = parse_experiment(HEAD).recipe.model_dump(exclude={"augmentation"})
    assert recipe.pop("probe") == pytest.approx(10 / 30)
    assert recipe.pop("progression")["probability"] == 0
    assert recipe == {
        "preset": "probe+progressive+cutmix",
        "freezing": "progressive",
        "thaw": {"layer4": 0.1, "layer3": 0.3, "layer2": 0.6},
        "local_epochs": 1,
        "batch_size": 8,
        "probe_learning_rate": 1e-3,
        "learning_rates": {
            "head": 1e-3,
            "layer4": 5e-4,
            "layer3": 2.5e-4,
            "layer2": 1e-4,
            "backbone": 2.5e-4,
        },
        "warmup": 0.3,
        "probe_weight_decay": 1e-4,
        "head_weight_decay": 1e-5,
        "backbone_weight_decay": 1e-4,
        "dropout": 0.1,
        "cutmix": 0.5,
        "batchnorm": "shared",
        "momentum": (0.85, 0.95),  # the rest: PyTorch's defaults, and options beyond the paper
        "moments": "reset",
        "proximal": 0.0,
        "views": 0,
        "view_seed": 0,
    }
    model = ModelSettings()
    assert (model.backbone, model.weights, model.size) == ("resnet50", "resnet50-res512-all", 512)


def stated(given: dict[str, Any], settings: BaseModel) -> dict[str, Any]:
    """The value in the settings of each key that a file states."""
    return {
        key: stated(value, getattr(settings, key))
        if isinstance(value, dict)
        else getattr(settings, key)
        for key, value in given.items()
    }


def test_the_template_states_the_defaults() -> None:
    given = tomllib.loads(TEMPLATE.read_text("utf-8"))
    experiment, text = read_experiment(TEMPLATE)
    assert text == TEMPLATE.read_text("utf-8")
    assert experiment == Experiment(name=experiment.name, outcomes=experiment.outcomes)
    assert stated(given, Experiment(name=experiment.name, outcomes=experiment.outcomes)) == given


def test_what_the_template_comments_out_is_allowed_too() -> None:
    text = TEMPLATE.read_text("utf-8")
    text = text.replace('# sha256 = "…" ', f'sha256 = "{"0" * 64}"  #').replace("# base_", "base_")
    model = parse_experiment(text).model
    assert (model.sha256, model.base_outputs) == ("0" * 64, {"label": "Pneumonia"})


# Presets


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_its_figures_and_leaves_the_rest(preset: str) -> None:
    recipe = parse_experiment(f'{HEAD}[recipe]\npreset = "{preset}"').recipe
    untouched = RecipeSettings().model_dump(exclude={"preset", *PRESETS[preset]})
    assert recipe.preset == preset
    assert recipe.model_dump(include=set(PRESETS[preset])) == PRESETS[preset]
    assert recipe.model_dump(include=set(untouched)) == untouched


def test_every_figure_can_be_set_below_the_preset() -> None:
    text = f'{HEAD}[recipe]\npreset = "progressive"\ncutmix = 0.25\n[recipe.thaw]\nlayer2 = 0.7'
    recipe = parse_experiment(text).recipe
    assert (recipe.probe, recipe.cutmix) == (0.0, 0.25)
    assert (recipe.thaw.layer3, recipe.thaw.layer2) == (0.3, 0.7)


@given(st.sampled_from(list(PRESETS)), st.floats(0, 1), st.integers(2, 64))
def test_settings_survive_the_way_to_a_site(preset: str, cutmix: float, batch: int) -> None:
    recipe = RecipeSettings(preset=preset, cutmix=cutmix, batch_size=batch)
    experiment = Experiment(name="e", outcomes=["o"], recipe=recipe)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


# Refusals: key, value, what is allowed

UNKNOWN = [
    ("outcome = 'x'", "outcome", "outcomes"),
    ("[model]\nbackbon = 'resnet18'", "model.backbon", "backbone"),
    ("[recipe]\nlearning_rate = 0.1", "recipe.learning_rate", "learning_rates"),
    ("[recipe.thaw]\nlayer1 = 0.9", "recipe.thaw.layer1", "layer2, layer3, layer4"),
    ("[recipe.augmentation]\nflips = 1.0", "recipe.augmentation.flips", "flip"),
    ("[recipe.learning_rates]\nstem = 1.0", "recipe.learning_rates.stem", "head"),
    ("[federation]\nround = 3", "federation.round", "rounds"),
    ("[evaluation]\nfold = 3", "evaluation.fold", "minimum_units"),
]


@pytest.mark.parametrize(("text", "key", "known"), UNKNOWN)
def test_an_unknown_key_is_refused_with_those_known_there(text: str, key: str, known: str) -> None:
    message = refusal(HEAD + text)
    assert message.startswith(f"experiment.toml: {key}: unknown setting; known here: ")
    assert known in message.split("known here: ")[1]


IMPOSSIBLE = [  # text, then what the message must contain: key, value, what is allowed
    ("seed = -1", "seed", "-1", "greater than or equal to 0"),
    ("unit = 'lesion'", "unit", "'image'", "'patient'"),
    ("unit = 'image'", "(file)", "", 'evaluation.index_image = "all"'),
    ("[evaluation]\nindex_image = 'all'", "(file)", "", 'unit = "image"'),
    ("[evaluation]\ntest_after = 'June'", "evaluation.test_after", "'June'", "date"),
    ("[model]\nbackbone = 'vit'", "model.backbone", "'vit'", "'resnet50'"),
    ("[model]\nsize = 8", "model.size", "8", "32"),
    ("[model]\nsize = 224.5", "model.size", "224.5", "integer"),
    ("[model]\nsha256 = 'ABC'", "model.sha256", "'ABC'", "[0-9a-f]{64}"),
    ("[model]\nweights = 'x.pt'", "model", "x.pt", ".safetensors"),
    ("[model]\nbackbone = 'resnet18'", "model", "resnet50-res512-all", 'backbone = "resnet50"'),
    ("[model]\nwidth = 0.5", "model", "resnet50-res512-all", "width = 1.0"),
    ("[model]\nwidth = 0.5\nweights = 'imagenet'", "model", "imagenet", "width = 1.0"),
    ("[model]\nwidth = 0.0", "model.width", "0.0", "greater than 0"),
    (f"[model]\nweights = 'random'\nsha256 = '{'0' * 64}'", "model", "random", "left out"),
    ("[model]\nweights = 'random'\nbase_outputs = {bpd = 'Mass'}", "model", "random", "leave out"),
    ("[model]\nbase_outputs = {death = 'Mass'}", "(file)", "names ['death']", "'bpd'"),
    ("[recipe]\npreset = 'best'", "recipe", "'best'", "'progressive+cutmix'"),
    ("[recipe]\npreset = ['full']", "recipe", "['full']", "'progressive+cutmix'"),
    ("[recipe]\nprobe = 1.5", "recipe.probe", "1.5", "less than or equal to 1"),
    ("[recipe]\nbatch_size = 1", "recipe.batch_size", "1", "2"),
    ("[recipe]\ndropout = 1.0", "recipe.dropout", "1.0", "less than 1"),
    ("[recipe]\ndropout = nan", "recipe.dropout", "nan", "finite"),
    ("[recipe]\nprobe_learning_rate = inf", "recipe.probe_learning_rate", "inf", "finite"),
    ("[recipe]\nprobe_learning_rate = 0", "recipe.probe_learning_rate", "0", "greater than 0"),
    ("[recipe]\nbatchnorm = 'own'", "recipe.batchnorm", "'own'", "'frozen'"),
    ("[recipe]\nmoments = 'share'", "recipe.moments", "'share'", "'keep'"),
    ("[recipe]\nmomentum = [0.9, 0.8]", "recipe.momentum", "[0.9, 0.8]", "[lowest, highest]"),
    ("[recipe]\nproximal = -1", "recipe.proximal", "-1", "greater than or equal to 0"),
    ("[recipe]\nviews = -1", "recipe.views", "-1", "greater than or equal to 0"),
    ("[recipe]\nthaw = { layer4 = 1, layer3 = 1, layer2 = 1 }", "(file)", "layer4 = 1", "smaller"),
    ("[federation]\nrounds = 4", "(file)", "layer4 and layer3 would thaw", "more rounds"),
    ("[recipe.thaw]\nlayer4 = 0.5", "recipe.thaw", "layer4 = 0.5", "layer4 <= layer3"),
    (
        "[recipe.augmentation]\nblur_sigma = [3.0, 1.0]",
        "recipe.augmentation",
        "[3.0, 1.0]",
        "[smallest, largest]",
    ),
    ("[recipe.augmentation]\nblur_sigma = [3.0]", "recipe.augmentation", "blur_sigma.1", "missing"),
    ("[federation]\nrounds = 0", "federation.rounds", "0", "greater than or equal to 1"),
    ("[federation]\nrounds = 1", "(file)", "rounds = 1", "more rounds"),
    ("[federation]\nquorum = 0", "federation.quorum", "0", "greater than or equal to 1"),
    ("[federation]\nsites = ['a/b']", "federation.sites.0", "'a/b'", "[A-Za-z0-9]"),
    ("[federation]\ndeadline_minutes = 0", "federation.deadline_minutes", "0", "greater than 0"),
    ("[federation]\nstrategy = 'fedsgd'", "federation.strategy", "'fedsgd'", "'fedavg'"),
    ("[evaluation]\ntest = 0.8\nvalidation = 0.15", "evaluation", "test + validation", "a tenth"),
    ("[evaluation]\nconfidence = 95", "evaluation.confidence", "95", "less than 1"),
    ("recipe = 3", "recipe", "3", "dictionary"),
]


@pytest.mark.parametrize(("text", "key", "value", "allowed"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_with_what_is_allowed(
    text: str, key: str, value: str, allowed: str
) -> None:
    message = refusal(HEAD + text)
    assert message.startswith(f"experiment.toml: {key}")
    assert value in message
    assert allowed in message
    assert "\n" not in message
    assert "pydantic" not in message


def test_a_setting_that_the_strategy_does_not_read_is_refused_with_those_that_it_reads() -> None:
    text = HEAD + "[federation]\nstrategy = {}\n[federation.server]\ntrim = 0.4\ntau = 0.01"
    assert refusal(text.format("'fedadam'")) == (
        'experiment.toml: federation.server.trim = 0.4: strategy = "fedadam" does not read it; '
        "settings that it reads: learning_rate, momentum, beta_2, tau"
    )
    assert [line.split(" = ")[0] for line in refusal(text.format("'fedavg'")).splitlines()] == [
        "experiment.toml: federation.server.tau",
        "experiment.toml: federation.server.trim",
    ]


def test_an_experiment_of_a_summary_states_every_setting() -> None:
    whole = parse_experiment(HEAD).model_dump(mode="json")
    assert Experiment.model_validate(whole).identity == parse_experiment(HEAD).identity


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ('outcomes = ["a"]', "name", "missing"),
        ('name = "a"', "outcomes", "missing"),
        ('name = "a"\noutcomes = []', "outcomes", "at least 1"),
        ('name = "a"\noutcomes = ["b", "b"]', "(file)", "each column may stand once"),
        ('name = "a"\noutcomes = ["1b"]', "outcomes.0", "[A-Za-z]"),
        ('name = "../a"\noutcomes = ["b"]', "name", "[A-Za-z0-9]"),
    ],
)
def test_an_experiment_needs_a_name_and_outcomes(text: str, key: str, allowed: str) -> None:
    message = refusal(text)
    assert message.startswith(f"experiment.toml: {key}")
    assert allowed in message


def test_all_faults_are_reported_at_once() -> None:
    message = refusal('name = "a"\nspeed = 3\n[recipe]\nbatch_size = 0\n[federation]\nquorum = 0')
    assert [line.split(": ")[1].split(" = ")[0] for line in message.splitlines()] == [
        "outcomes",
        "recipe.batch_size",
        "federation.quorum",
        "speed",
    ]


@pytest.mark.parametrize("text", ["name = ", "name: bpd", HEAD + HEAD, "[model\n", "\x00"])
def test_what_is_no_toml_is_refused_with_the_place(text: str) -> None:
    message = refusal(text)
    assert message.startswith("experiment.toml: not valid TOML: ")
    assert "(at " in message


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('name = "Köln"'.encode("latin-1"))
    for name in ("absent.toml", "latin.toml"):
        with pytest.raises(ExperimentError, match=name):
            read_experiment(tmp_path / name)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(HEAD, encoding="utf-8-sig")
    assert read_experiment(tmp_path / "e.toml")[0].name == "bpd-day1"


def test_settings_do_not_change_after_they_were_checked() -> None:
    experiment = parse_experiment(HEAD)
    with pytest.raises(ValidationError, match="frozen"):
        experiment.recipe.dropout = 0.9  # type: ignore[misc]


def all_settings(model: type[Settings]) -> set[type[Settings]]:
    inner = [f.annotation for f in model.model_fields.values()]
    nested = [m for m in inner if isinstance(m, type) and issubclass(m, Settings)]
    return {model}.union(*(all_settings(m) for m in nested))


@pytest.mark.parametrize(
    "line",
    [
        '"\\u001b[2J\\nERROR forged" = 1',
        'outcomes = ["\\u001b[2J\\nERROR forged"]',
        'preset = "\\u001b[2J\\nERROR forged"',
        "\n".join(f"k{number} = 1" for number in range(9000)),
        'long = "' + "x" * 60_000 + '"',
        "deep = " + "[" * 5000 + "]" * 5000,
        "huge = " + "9" * 5000,
    ],
)
def test_what_a_hostile_text_holds_gets_into_no_log(line: str) -> None:
    """A site writes the error to its log: a code for the terminal or a line break would forge it.
    fedrad 0.1.0 wrote unknown keys as they came."""
    with pytest.raises(ExperimentError) as error:
        parse_experiment(f'name = "t"\n{line}\n')
    lines = str(error.value).splitlines()
    assert all(line.startswith("experiment.toml: ") for line in lines)
    assert all(line.isprintable() for line in lines)
    assert len(str(error.value)) < 60_000


@pytest.mark.parametrize(
    "line",
    [
        'evaluation.subgroups = { sex = ["F\\u202e", "M"] }',
        'evaluation.subgroups = { sex = ["' + "F" * 201 + '", "M"] }',
        'model.weights = "a\\u001b[2J.safetensors"',
        'model.base_outputs = { y = "a\\nb" }',
    ],
)
def test_texts_that_people_are_shown_are_short_and_printable(line: str) -> None:
    with pytest.raises(ExperimentError):
        parse_experiment(f'name = "t"\noutcomes = ["y"]\n{line}\n')


def test_no_part_of_an_experiment_takes_what_it_does_not_know() -> None:
    parts = all_settings(Experiment)
    assert len(parts) == 12
    assert all(m.model_config["extra"] == "forbid" and m.model_config["frozen"] for m in parts)


# The plan of the evaluation


def planned(text: str) -> str:
    return parse_experiment(text).evaluation_sha256


@pytest.mark.parametrize(
    "text",
    [
        "[recipe]\npreset = 'full'",
        "[recipe.augmentation]\nflip = 0.0",
        "[model]\nsize = 256",
        "[federation]\nrounds = 60",
        "[evaluation]\nconfidence = 0.95",  # as it is anyway
    ],
)
def test_how_a_model_is_trained_is_no_part_of_what_is_planned_to_be_reported(text: str) -> None:
    assert planned(HEAD + text) == planned(HEAD)
    assert planned(HEAD.replace("bpd-day1", "other")) == planned(HEAD)


CHANGED: dict[str, Any] = {
    "test": 0.4,
    "validation": 0.2,
    "index_image": "latest",
    "minimum_units": 20,
    "confidence": 0.9,
    "local_baseline": False,
    "ensemble": [0.5],
    "test_after": "2024-06-30",
    "travel": True,
    "subgroups": {"sex": ["F", "M"]},
    "held_out": ["c"],
    "folds": 5,
    "repeats": 2,
}


@pytest.mark.parametrize("key", sorted(EvaluationSettings.model_fields.keys() - {"fold_number"}))
def test_every_evaluation_setting_is_part_of_what_is_planned(key: str) -> None:
    changed = Experiment(
        name="bpd-day1",
        outcomes=["bpd"],
        federation=FederationSettings(sites=("a", "b")),
        evaluation=EvaluationSettings.model_validate({key: CHANGED[key]}),
    )
    assert changed.evaluation_sha256 != planned(HEAD)


def test_outcomes_and_seed_are_part_of_what_is_planned() -> None:
    hashes = {planned(HEAD), planned(HEAD + "seed = 1"), planned(HEAD.replace('"bpd"', '"ivh"'))}
    assert len(hashes) == 3
    assert all(len(h) == 64 for h in hashes)


@pytest.mark.parametrize(
    "module", ["fedrad.models.settings", "fedrad.models.schedule", "fedrad.exchange.experiment"]
)
def test_settings_are_read_without_torch(module: str) -> None:
    heavy = "{'torch', 'torchvision', 'monai', 'torchxrayvision', 'flwr'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
