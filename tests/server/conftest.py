"""Base weights for tests of the coordinator's side."""

import pytest
from support.federation import TEXT

from fedrad.exchange.experiment import parse_experiment
from fedrad.models.weights import load_base


@pytest.fixture(scope="module")
def base():
    experiment = parse_experiment(TEXT)
    return load_base(experiment.model, 1, seed=0)
