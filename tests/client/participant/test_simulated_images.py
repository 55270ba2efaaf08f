"""Simulated later disease steps of training images: made once at the site and never sent."""

import logging
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from support.generators import write_generator
from support.hospital import SHORT

from fedrad.client.participant.simulated_images import SimulatedImages, open_recipe_generator
from fedrad.client.problems import SiteProblem
from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.models.augment import switched_off
from fedrad.models.examples import Examples, Views
from fedrad.models.progression import measures
from fedrad.models.progression.generators import open_generator
from fedrad.models.settings import InputSettings, ProgressionAugmentation, RecipeSettings
from fedrad.models.streams import Streams
from fedrad.models.weight_files import file_sha256

CPU = torch.device("cpu")
LOG = logging.getLogger("test")
LABELS = np.array([[1.0], [0.0], [np.nan], [1.0]], np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator") / "generator.safetensors")


def settings(file, **changes):
    asked = {"images": 3, "steps": 4, "mask": "none", "probability": 0.5} | changes
    return ProgressionAugmentation(generator=file.name, sha256=file_sha256(file), **asked)


def examples(labels=LABELS):
    rng = np.random.default_rng(1)
    return Examples(rng.normal(0, 200, (len(labels), 32, 32)).astype(np.float16), labels)


def made(file, folder, labels=LABELS, **changes):
    asked = settings(file, **changes)
    opened = open_generator(file)
    return SimulatedImages(asked, opened, ["label"], folder, CPU, LOG).later_steps(examples(labels))


# At the site


def test_images_with_the_outcome_have_later_steps_and_others_have_none(file, tmp_path):
    simulated = made(file, tmp_path)
    assert simulated.keys() == {0, 3}
    for later in simulated.values():
        assert later.steps.shape == (3, 32, 32)
        assert (later.labels == 1).all()
    start = examples().images[0].astype(float)
    moved = [np.abs(step.astype(float) - start).mean() for step in simulated[0].steps]
    assert min(moved) > 0


def test_with_soft_labels_images_without_the_outcome_progress_towards_it(file, tmp_path):
    simulated = made(file, tmp_path, soft=0.6)
    assert simulated.keys() == {0, 1, 3}
    assert simulated[1].labels[:, 0] == pytest.approx([0.2, 0.4, 0.6])
    assert LABELS[1] == 0, "the image itself stays what it is"


def test_steps_are_simulated_once_for_each_settings(file, tmp_path):
    first = made(file, tmp_path)
    times = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.npy")}
    assert len(times) == 2
    again = made(file, tmp_path, probability=0.9)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.npy")} == times
    assert again[0].steps.tobytes() == first[0].steps.tobytes()
    made(file, tmp_path, seed=1)
    assert len(list(tmp_path.rglob("*.npy"))) == 4


def test_an_image_without_visible_lungs_has_no_later_steps(file, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="test"):
        assert made(file, tmp_path, mask="lungs") == {}
    assert "2 images are not simulated: no lungs found" in caplog.text


# What training sees


def drawn(probability, later, rows=400):
    labels = np.ones((1, 1), np.float32)
    of = Examples(np.zeros((1, 32, 32), np.float16), labels, later=later)
    recipe = RecipeSettings(augmentation=switched_off())
    recipe = recipe.model_copy(
        update={"progression": recipe.progression.model_copy(update={"probability": probability})}
    )
    views = Views(of, recipe, CPU)
    return views.draw(np.zeros(rows, np.int64), Streams(0))


def test_a_draw_is_a_later_step_with_the_stated_probability(file, tmp_path):
    later = {0: made(file, tmp_path)[0]}
    images, labels = drawn(0.3, later)
    share = float((images.abs().sum(dim=(1, 2, 3)) > 0).float().mean())
    assert 0.22 < share < 0.38
    assert (labels == 1).all()
    images, _ = drawn(1.0, later)
    assert (images.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_a_recipe_without_simulated_images_draws_no_later_step():
    images, _ = drawn(0.0, {})
    assert (images == 0).all()


# In a federation


def text(folder, file, **changes):
    (folder / "generator.safetensors").write_bytes(file.read_bytes())
    asked = {
        "generator": '"generator.safetensors"',
        "sha256": f'"{file_sha256(file)}"',
        "probability": 0.5,
        "images": 2,
        "steps": 4,
        "mask": '"none"',
    } | changes
    inline = ", ".join(f"{key} = {value}" for key, value in asked.items())
    return SHORT.replace("batch_size = 8", f"batch_size = 8\nprogression = {{ {inline} }}").replace(
        'name = "test"', 'name = "augmented"'
    )


def run(tmp_path, sites, experiment):
    (tmp_path / "experiment.toml").write_text(experiment)
    return simulate(
        prepare(tmp_path / "experiment.toml", sites, tmp_path / "out", state=tmp_path / "state")
    )


def test_a_classifier_trains_with_the_generator_of_the_same_split(tmp_path, trained):
    """The generator's experiment divided the patients as this one does: same seed and shares."""
    shutil.copytree(trained / "state", tmp_path / "state")
    file = trained / "out" / "model.safetensors"
    summary = run(tmp_path, {n: trained / n for n in "ab"}, text(tmp_path, file))
    assert summary.status == "completed"
    assert list((tmp_path / "state" / "a" / "progressions").rglob("*.npy"))
    ledger = (tmp_path / "state" / "a" / "ledger.jsonl").read_text()
    assert "progressions" not in ledger


def test_a_generator_that_was_trained_on_test_patients_is_refused(tmp_path, trained):
    shutil.copytree(trained / "state", tmp_path / "state")
    file = trained / "out" / "model.safetensors"
    other_split = text(tmp_path, file).replace("seed = 3", "seed = 4")
    with pytest.raises(Exception, match="trained at this site in an earlier experiment"):
        run(tmp_path, {n: trained / n for n in "ab"}, other_split)
    log = (tmp_path / "state" / "a" / "site.log").read_text()
    assert "trained the generator in experiment" in log


def test_a_generator_of_other_pictures_or_outcomes_is_refused(file, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRAD_WEIGHTS", str(file.parent))
    assert (
        open_recipe_generator(settings(file), ["label"], InputSettings(size=32)).name == file.name
    )
    for outcomes, size in ((["label"], 64), (["other"], 32)):
        with pytest.raises(SiteProblem) as problem:
            open_recipe_generator(settings(file), outcomes, InputSettings(size=size))
        assert problem.value.reason == "weights"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sha256": '"' + 64 * "0" + '"', "generator": '"x.bin"'}, "needs generator"),
        ({"probability": 2}, "less than or equal to 1"),
    ],
)
def test_impossible_settings_are_refused(file, tmp_path, changes, why):
    with pytest.raises(ExperimentError, match=why):
        parse_experiment(text(tmp_path, file, **changes))
    with pytest.raises(ExperimentError, match="views = 0"):
        parse_experiment(
            text(tmp_path, file).replace("batch_size = 8", "batch_size = 8\nviews = 2")
        )


# Measures


def test_trends_are_scipys_and_a_trajectory_that_stands_still_has_none():
    values = np.random.default_rng(0).normal(size=(20, 6))
    expected = [kendalltau(range(6), row).statistic for row in values]
    assert measures.kendall_trends(values) == pytest.approx(expected)
    assert measures.kendall_trends(np.ones((1, 6))) == 0
    assert measures.monotone_share(np.array([[0, 1, 2], [0, 2, 1]])) == 0.5


def test_the_kernel_distance_is_the_sum_over_all_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 5)), rng.normal(1, 1, size=(9, 5))

    def k(a, b):
        return (a @ b / 5 + 1) ** 3

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return np.mean([k(a[i], b[j]) for i, j in pairs])

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert measures.kernel_inception_distance(x, y) == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least 2"):
        measures.kernel_inception_distance(x[:1], y)


def test_two_halves_of_one_set_are_no_distance_apart_on_average():
    rng = np.random.default_rng(0)
    distances = [
        measures.kernel_inception_distance(*rng.normal(size=(2, 20, 4))) for _ in range(300)
    ]
    assert abs(np.mean(distances)) < 3 * np.std(distances) / np.sqrt(300)


def test_an_edit_that_is_the_later_image_is_nearer_by_all_the_way():
    still, later = np.zeros((2, 4, 4)), np.full((2, 4, 4), 3.0)
    assert measures.gain_towards_later(later, still, later) == pytest.approx([3, 3])
    assert measures.gain_towards_later(-later, still, later) == pytest.approx([-3, -3])
