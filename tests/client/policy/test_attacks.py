"""A hostile coordinator with one approved experiment: what it tries, and how little it gets.

Each test ran as an attack against fedrad 0.1.0, and succeeded there.
"""

import copy
from pathlib import Path

import pytest
import torch
from support.coordinator import Coordinator
from support.hospital import EXPERIMENT, write_site
from support.joined import join

from fedrad.client.participant.participant import Participant
from fedrad.client.policy.approvals import Approvals
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.exchange.messages import RoundRequest, ScoreRequest, ValidationRequest

THRESHOLDS = torch.linspace(-1, 1, 24).tolist()


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    folder = write_site(tmp_path / "a", 60, seed=1)
    return Coordinator(folder, tmp_path / "state", EXPERIMENT)


def step_network(coordinator: Coordinator, threshold: float) -> torch.nn.Module:
    """The base network, whose head is replaced by a steep step at a threshold: AUROC and loss then
    count the positives and negatives above it."""
    network = copy.deepcopy(coordinator.start.network)
    with torch.no_grad():
        head = next(m for m in network.modules() if isinstance(m, torch.nn.Linear))
        head.weight *= 1e4
        head.bias.fill_(-1e4 * threshold)
    return network


def test_crafted_networks_in_validation_requests_count_nobody(coordinator):
    """0.1.0 answered each of these, exactly and as often as it was asked: 266 requests gave label
    and rank of all 167 validation patients."""
    answers = 0
    for threshold in THRESHOLDS:
        manifest, packed = coordinator.crafted(step_network(coordinator, threshold), None)
        request = ValidationRequest(manifest=manifest, alphas=[1.0])
        answers += coordinator.reason(request, packed) is None
    assert answers == 0


def test_crafted_networks_in_rounds_are_no_mean_of_updates(coordinator):
    for threshold in THRESHOLDS:
        manifest, packed = coordinator.crafted(step_network(coordinator, threshold), 0)
        assert coordinator.reason(RoundRequest(round=0, manifest=manifest), packed) == "implausible"
    assert coordinator.reason(*coordinator.round(0)) is None, "the honest round still runs"
    for threshold in THRESHOLDS:
        manifest, packed = coordinator.crafted(step_network(coordinator, threshold), 1)
        assert coordinator.reason(RoundRequest(round=1, manifest=manifest), packed) == "implausible"


def test_running_statistics_of_the_first_round_are_those_of_the_base(coordinator):
    """They scale and shift each channel, and so the scores, without any step that counts."""
    network = copy.deepcopy(coordinator.start.network)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var *= 0.01
    manifest, packed = coordinator.crafted(network, 0)
    assert coordinator.reason(RoundRequest(round=0, manifest=manifest), packed) == "implausible"
    assert coordinator.reason(*coordinator.round(0)) is None


def test_the_model_of_one_round_is_not_taken_for_that_of_another(coordinator):
    request, packed = coordinator.round(0)
    assert coordinator.reason(request, packed) is None
    again = RoundRequest(round=1, manifest=request.manifest)
    assert coordinator.reason(again, packed) == "request"


def test_many_models_of_one_round_are_answered_for_one_of_them(coordinator):
    """Within the clip, where each model is plausible by itself."""
    coordinator.ask(*coordinator.round(0))
    answers = [coordinator.reason(*coordinator.round(1, k * 1e-5)) for k in range(1, 20)]
    assert answers.count(None) == 1
    assert set(answers[1:]) == {"asked"}


def test_a_crafted_network_is_not_scored_under_another_name(coordinator):
    for model in ("global", "best"):
        manifest, packed = coordinator.crafted(step_network(coordinator, 0.0), None)
        request = ScoreRequest(part="test", model=model, manifest=manifest)
        assert coordinator.reason(request, packed) == "implausible"
    for model in ("local:b", "local:phantom"):
        request, packed = coordinator.score("test", model)
        assert coordinator.reason(request, packed) == "asked"


def test_many_spellings_of_one_column_are_one_outcome():
    spelled = ["label", "Label", "LABEL", "lAbel"]
    for names in (spelled, ["a b", "a_b"], ["a-b", "A  b"]):
        with pytest.raises(ExperimentError, match="are one column"):
            parse_experiment(EXPERIMENT.replace('["label"]', str(names)))


def test_every_setting_is_approved_and_not_only_those_that_differ_from_the_defaults():
    before = parse_experiment(EXPERIMENT)
    assert '"patience_hours": 72.0' in before.written_out, "a default of this version"
    other = before.federation.model_copy(update={"patience_hours": 500.0})
    assert before.model_copy(update={"federation": other}).family != before.family


def test_an_update_does_not_leave_if_the_approval_is_revoked_while_it_is_trained(
    tmp_path, monkeypatch
):
    folder, state = write_site(tmp_path / "a", 40, seed=1), tmp_path / "state"
    join(open_site(folder, state=state))
    coordinator, approvals = Coordinator(folder, state, EXPERIMENT), Approvals(state)
    assert coordinator.reason(*coordinator.round(0)) == "approval"
    approvals.decide(approvals.all()[0], "approved", "Dr Data")
    train = Participant._train

    def meanwhile(self, *arguments):
        approvals.decide(approvals.all()[0], "revoked", "Dr Data")
        return train(self, *arguments)

    monkeypatch.setattr(Participant, "_train", meanwhile)
    assert coordinator.reason(*coordinator.round(0)) == "approval"
    assert coordinator.packed is None
