"""Simulated progressions in training: made once at the site, never of held-out patients."""

import logging
import shutil

import numpy as np
import pytest
import torch
from conftest import EXPERIMENT, write_site
from pydantic import ValidationError
from test_federated_generator import allow, run

from fedrad.client.participant import Participant
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site
from fedrad.client.trajectories import Trajectories, generator_of
from fedrad.deploy.simulation import prepare, simulate
from fedrad.exchange.experiment import parse_experiment
from fedrad.models.examples import Examples, Later, Views
from fedrad.models.settings import InputSettings, ProgressionAugmentation, RecipeSettings
from fedrad.models.weight_files import file_sha256, look_in

CPU = torch.device("cpu")
NO_CHANGE = {"rotation": 0, "flip": 0, "zoom": 0, "blur": 0, "drop": 0}
USE = """progression = { probability = 0.5, generator = "generator.safetensors", sha256 = "SHA", \
images = 2, steps = 4, mask = "none" }
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("generator")
    sites = {n: allow(write_site(root / n, 30, seed=i)) for i, n in enumerate("ab", start=1)}
    out = run(root, sites)
    shutil.copy(out / "model.safetensors", root / "generator.safetensors")
    return root


def classifier(trained, **changes):
    """An experiment that uses the generator, of the same seed, outcomes and shares."""
    sha = file_sha256(trained / "generator.safetensors")
    text = EXPERIMENT.replace("[federation]", USE.replace("SHA", sha) + "[federation]")
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return text


def participant(trained, tmp_path, text):
    look_in(trained)
    shutil.copytree(trained / "state" / "a", tmp_path / "state")
    return Participant(open_site(trained / "a", state=tmp_path / "state"), parse_experiment(text))


def test_positives_have_later_steps_and_others_have_none(trained, tmp_path):
    site = participant(trained, tmp_path, classifier(trained))
    later, labels = site.training.later, site.parts["train"].labels[:, 0]
    assert set(later) == set(np.flatnonzero(labels == 1))
    for one in later.values():
        assert one.steps.shape == (2, 32, 32)
        assert (one.labels == 1).all()
    assert not site.parts["validation"].later
    assert not site.parts["test"].later


def test_they_are_made_once_and_kept_at_the_site(trained, tmp_path, monkeypatch):
    site = participant(trained, tmp_path, classifier(trained))
    first = {row: np.array(one.steps) for row, one in site.training.later.items()}
    files = list((tmp_path / "state" / "progressions").rglob("*.npy"))
    assert len(files) == len(first)
    again = Participant(open_site(trained / "a", state=tmp_path / "state"),
                        parse_experiment(classifier(trained)))  # fmt: skip

    def never(*arguments):
        raise AssertionError("made again")

    monkeypatch.setattr(Trajectories, "_make", never)
    for row, one in again.training.later.items():
        np.testing.assert_array_equal(one.steps, first[row])


def test_an_experiment_with_them_runs_and_they_do_not_leave(trained, tmp_path):
    text = classifier(trained, local=("minimum_units = 3", "minimum_units = 3"))
    (tmp_path / "e.toml").write_text(text)
    shutil.copy(trained / "generator.safetensors", tmp_path / "generator.safetensors")
    shutil.copytree(trained / "state", tmp_path / "state")
    sites = {name: trained / name for name in "ab"}
    summary = simulate(
        prepare(tmp_path / "e.toml", sites, tmp_path / "out", state=tmp_path / "state")
    )
    assert summary.status == "completed"
    assert list((tmp_path / "state" / "a" / "progressions").rglob("*.npy"))
    assert not list((tmp_path / "out").rglob("*.npy"))


@pytest.mark.parametrize(
    "change",
    [("seed = 3", "seed = 4"), ("test = 0.4", "test = 0.6"),
     ("validation = 0.2", "validation = 0.4")],
)  # fmt: skip
def test_a_generator_that_saw_the_held_out_patients_is_refused(trained, tmp_path, change):
    site = participant(trained, tmp_path, classifier(trained, change=change))
    with pytest.raises(SiteProblem, match="trained the generator") as refusal:
        site.ready()
    assert refusal.value.reason == "trained on test patients"


def test_a_lost_record_of_whom_the_generator_saw_is_refused(trained, tmp_path):
    site = participant(trained, tmp_path, classifier(trained))
    shutil.rmtree(tmp_path / "state" / "trained")
    with pytest.raises(SiteProblem, match="the generator: trained here"):
        site.ready()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("size = 32", "size = 64"), "32 pixels"),
        (("size = 32", "size = 32\nfit = 'crop'"), "fit 'pad'"),
    ],
)
def test_a_generator_of_other_pictures_is_refused(trained, tmp_path, change, why):
    site = participant(trained, tmp_path, classifier(trained, change=change))
    with pytest.raises(SiteProblem, match=why) as refusal:
        site.ready()
    assert refusal.value.reason == "weights"


def opened(trained):
    look_in(trained)
    settings = ProgressionAugmentation(
        probability=0.5, generator="generator.safetensors", mask="none", images=2, steps=4,
        sha256=file_sha256(trained / "generator.safetensors"),
    )  # fmt: skip
    return settings, generator_of(settings, ["label"], InputSettings(size=32))


def test_a_generator_of_other_outcomes_or_another_file_is_refused(trained):
    settings, _ = opened(trained)
    with pytest.raises(SiteProblem, match="not trained on 'edema'"):
        generator_of(settings, ["edema"], InputSettings(size=32))
    with pytest.raises(SiteProblem, match="which is another file"):
        generator_of(settings.model_copy(update={"sha256": "0" * 64}), [], InputSettings(size=32))
    with pytest.raises(SiteProblem, match="was not found"):
        generator_of(
            settings.model_copy(update={"generator": "x.safetensors"}), [], InputSettings(size=32)
        )


def examples(count=6):
    rng = np.random.default_rng(0)
    labels = np.array([[1], [0], [1], [0], [np.nan], [0]], np.float32)[:count]
    return Examples(rng.uniform(-500, 500, (count, 32, 32)).astype(np.float16), labels)


def made(trained, tmp_path, **changes):
    settings, generator = opened(trained)
    settings = settings.model_copy(update=changes)
    log = logging.getLogger("test")
    return Trajectories(settings, generator, ["label"], tmp_path / "p", CPU, log).of(examples())


def test_soft_labels_grow_with_the_steps_of_those_without_the_outcome(trained, tmp_path):
    later = made(trained, tmp_path, soft=0.8)
    assert set(later) == {0, 1, 2, 3, 5}
    np.testing.assert_allclose(later[1].labels[:, 0], [0.4, 0.8])
    np.testing.assert_allclose(later[0].labels[:, 0], [1, 1])


def test_an_image_without_lungs_has_no_later_steps(trained, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert made(trained, tmp_path, mask="lungs") == {}
    assert "2 images are not simulated" in caplog.text


# In the loop


def recipe(probability, **more):
    use = {"probability": probability, "generator": "g.safetensors", "sha256": "0" * 64}
    return RecipeSettings(preset="full", augmentation=NO_CHANGE, progression=use, **more)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.3, 0.25, 0.35),
                                                        (1.0, 1, 1)])  # fmt: skip
def test_a_draw_is_a_later_step_as_often_as_asked(probability, low, high):
    base = examples()
    steps = np.stack([np.full((32, 32), v, np.float16) for v in (900, 901, 902)])
    later = {0: Later(steps, np.full((3, 1), 0.5, np.float32))}
    views = Views(Examples(base.images, base.labels, later=later), recipe(probability), CPU)
    rows = np.array([0, 1] * 1000)
    drawn, labels = views.draw(rows, torch.Generator().manual_seed(0))
    levels = drawn[:, 0, 0, 0]
    simulated = levels >= 900
    assert not simulated[1::2].any()
    assert low <= simulated[::2].float().mean() <= high
    assert (labels[:, 0][simulated] == 0.5).all()
    assert (labels[0::2, 0][~simulated[::2]] == 1).all()
    if probability:
        shares = torch.bincount((levels[simulated] - 900).long()) / simulated.sum()
        assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=0.08)


def test_without_later_steps_draws_are_what_they_were():
    base = examples()
    rows = np.arange(6)
    states = []
    for p in (0.0, 0.7):
        generator = torch.Generator().manual_seed(0)
        states.append((Views(base, recipe(p), CPU).draw(rows, generator)[0], generator.get_state()))
    assert torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])


def test_a_probability_needs_a_generator_and_no_fixed_views():
    with pytest.raises(ValidationError, match="needs generator"):
        RecipeSettings(progression={"probability": 0.5})
    with pytest.raises(ValidationError, match="views = 0"):
        recipe(0.5, views=2)
