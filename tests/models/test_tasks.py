"""Tasks: their settings in an experiment, and the methods of each task."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.generators import GENERATOR
from support.hospital import SHORT

from fedrad.exchange.experiment import parse_experiment
from fedrad.models.examples import Examples
from fedrad.models.progression.training import denoising_losses
from fedrad.models.schedule import Schedule
from fedrad.models.settings import ModelSettings, RecipeSettings
from fedrad.models.tasks import CLASSIFICATION, GENERATION, TASKS, TrainingRound, task_of
from fedrad.models.training import score, train_round
from fedrad.models.weights import BaseWeights

CPU = torch.device("cpu")


def examples(number=12, side=32, outcomes=1):
    rng = np.random.default_rng(0)
    labels = np.arange(number * outcomes).reshape(number, outcomes) % 2
    pictures = rng.normal(0, 300, (number, side, side)).astype(np.float16)
    return Examples(pictures, labels.astype(np.float32))


def test_settings_name_a_task_and_are_written_with_its_name():
    for text, task in ((SHORT, CLASSIFICATION), (GENERATOR, GENERATION)):
        experiment = parse_experiment(text)
        assert experiment.task == task
        assert json.loads(experiment.model_dump_json())["task"] == task.name
        assert type(experiment).model_validate(experiment.model_dump()) == experiment


def test_a_copied_experiment_is_the_same_experiment():
    for text in (SHORT, GENERATOR):
        experiment = parse_experiment(text)
        for again in (copy.deepcopy(experiment), pickle.loads(pickle.dumps(experiment))):
            assert again == experiment
            assert again.identity == experiment.identity


def test_a_summary_that_names_no_task_is_of_a_classifier():
    assert task_of({}) == CLASSIFICATION
    assert task_of({"task": "progression"}) == GENERATION


def test_tasks_import_neither_numpy_nor_torch():
    code = "import sys, fedrad.models.tasks; sys.exit(bool({'numpy', 'torch'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_classifier_starts_from_base_weights_and_follows_its_recipe():
    experiment = parse_experiment(SHORT)
    start = CLASSIFICATION.load_start(experiment)
    assert isinstance(start, BaseWeights)
    recipe = RecipeSettings(preset="probe")
    assert CLASSIFICATION.schedule(recipe, 5) == Schedule(recipe, 5)
    again = copy.deepcopy(start.network)
    schedule, some = experiment.schedule, examples()
    round_ = TrainingRound(0, schedule, seed=1, device=CPU, moments={})
    CLASSIFICATION.train_round(start.network, some, round_)
    train_round(again, some, schedule, 0, seed=1, device=CPU)
    state = again.state_dict()
    assert all(torch.equal(value, state[k]) for k, value in start.network.state_dict().items())
    logits = CLASSIFICATION.evaluate(start.network, some, device=CPU)
    assert np.array_equal(logits, score(again, some.images, device=CPU))


def test_a_generator_is_trained_whole_in_every_round():
    schedule = GENERATION.schedule(RecipeSettings(), 4)
    assert {schedule.stage(number) for number in range(4)} == {"all"}


def test_a_generators_error_stands_for_every_outcome():
    experiment = parse_experiment(GENERATOR.replace('["label"]', '["a", "b"]'))
    network, some = GENERATION.load_start(experiment).network, examples(5, outcomes=2)
    errors = GENERATION.evaluate(network, some, device=CPU)
    losses = denoising_losses(network, some, device=CPU)
    assert np.array_equal(errors, np.stack([losses, losses], axis=1))


def test_only_a_generator_is_asked_whether_it_gives_images_back():
    experiment = parse_experiment(GENERATOR)
    network = GENERATION.load_start(experiment).network
    parts = {"training": examples(8), "held_out": examples(4), "seed": 1, "device": CPU}
    assert "from the nearest training image" in GENERATION.memorisation(network, **parts)
    assert GENERATION.memorisation(network, **parts | {"held_out": examples(0)}) == ""
    assert [task.name for task in TASKS.values() if task.weights_hold_images] == ["progression"]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_has_words_for_those_who_approve_and_for_the_report(task):
    assert "resnet50" in task.describe(ModelSettings()) or task == GENERATION
    assert task.product in ("classifier", "generator")
    assert bool(task.instead_of_figures) != task.tests_patients
