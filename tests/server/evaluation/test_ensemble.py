"""A mixture of the trained model and its base, chosen by validation patients alone."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.policy.ledger import Ledger
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.exchange.messages import Counts, Monitoring, ValidationRequest
from fedrad.exchange.update import pack
from fedrad.models.ensemble import interpolate
from fedrad.models.network import ResNet, stage_tensors
from fedrad.models.settings import ModelSettings
from fedrad.models.training import score
from fedrad.server.evaluation.ensemble import best_mixture
from fedrad.server.results.summary import read_summary

GRID = "minimum_units = 3\nensemble = {}"


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDRAD_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def network(seed: int) -> ResNet:
    torch.manual_seed(seed)
    net = ResNet(
        ModelSettings(backbone="resnet18", width=0.125, weights="random", sha256=None, size=32), 1
    )
    for name, value in net.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
    return net


@settings(deadline=None, max_examples=20)  # builds two networks per example
@given(alpha=st.floats(0, 1))
def test_every_backbone_tensor_is_interpolated_from_base_to_trained(alpha):
    base, tuned = network(1), network(2)
    mixed = interpolate(base, tuned, alpha).state_dict()
    for name, value in mixed.items():
        b, t = base.state_dict()[name], tuned.state_dict()[name]
        if name.startswith("fc."):
            assert torch.equal(value, t), "the base's head is a random draw"
        elif value.is_floating_point():
            torch.testing.assert_close(value, (1 - alpha) * b + alpha * t)


def test_alpha_0_and_1_give_the_models_themselves_and_frozen_tensors_stay():
    base, tuned = network(1), network(2)
    tuned.layer1.load_state_dict(base.layer1.state_dict())  # frozen
    before = {k: v.clone() for k, v in tuned.state_dict().items()}
    whole = interpolate(base, tuned, 1.0).state_dict()
    assert all(torch.equal(whole[k], v) for k, v in tuned.state_dict().items())
    none = interpolate(base, tuned, 0.0).state_dict()
    assert all(
        torch.equal(none[k], v) for k, v in base.state_dict().items() if not k.startswith("fc.")
    )
    some = interpolate(base, tuned, 0.3).state_dict()
    assert all(
        torch.equal(some[k], v) for k, v in base.state_dict().items() if k.startswith("layer1.")
    )
    assert all(torch.equal(tuned.state_dict()[k], v) for k, v in before.items())


# The choice


def units(positives: int | None, negatives: int | None) -> dict[str, Counts]:
    return {"label": Counts(positives=positives, negatives=negatives)}


def aurocs(*values: float | None) -> list[dict[str, Monitoring]]:
    return [{"label": Monitoring(auroc=v)} for v in values]


def test_the_largest_pair_weighted_validation_auroc_wins():
    ensemble = best_mixture(
        [0.0, 0.5, 1.0],
        {"large": aurocs(0.6, 0.8, 0.7), "small": aurocs(0.9, 0.5, 0.9)},
        {"large": units(20, 20), "small": units(3, 3)},
    )
    assert ensemble.alpha == 0.5
    assert ensemble.candidates[0].auroc == pytest.approx((400 * 0.6 + 9 * 0.9) / 409)


def test_on_a_tie_the_mixture_nearest_to_the_trained_model_wins():
    ensemble = best_mixture([0.2, 0.6, 1.0], {"a": aurocs(0.7, 0.7, 0.7)}, {"a": units(5, 5)})
    assert ensemble.alpha == 1.0


def test_a_site_that_withholds_its_counts_or_figures_does_not_choose():
    ensemble = best_mixture(
        [0.5, 1.0],
        {"few": aurocs(0.9, 0.1), "one": aurocs(None, None), "a": aurocs(0.6, 0.7)},
        {"few": units(None, None), "one": units(0, 8), "a": units(5, 5)},
    )
    assert ensemble.alpha == 1.0
    no_figure = best_mixture([0.5, 1.0], {"one": aurocs(None, None)}, {"one": units(0, 8)})
    assert (no_figure.alpha, no_figure.why) == (1.0, "no site could release a validation AUROC")


# In a federation


def test_off_is_the_trained_model_bitwise(hospitals):
    base = hospitals.run(1)
    off = hospitals.run(2, base=base)
    whole = hospitals.run(3, base=base, grid=("minimum_units = 3", GRID.format("[1.0]")))
    one, two = (load_file(out / "model.safetensors") for out in (off, whole))
    assert all((one[k] == two[k]).all() for k in one)
    assert read_summary(off).ensemble is None
    assert read_summary(off).cells == read_summary(whole).cells


def test_the_chosen_mixture_is_the_best_on_validation_patients_and_is_what_is_tested(hospitals):
    base = hospitals.run(1)
    trained = load_file(hospitals.run(2, base=base) / "model.safetensors")
    out = hospitals.run(3, base=base, grid=("minimum_units = 3", GRID.format("[0.0, 0.3, 0.7]")))
    summary = read_summary(out)
    experiment = parse_experiment((out / "experiment.toml").read_text())
    own = {
        name: SiteData(open_site(folder, state=hospitals.state / name), experiment)
        for name, folder in hospitals.sites.items()
    }
    tuned = ResNet(experiment.model, 1)
    tuned.load_state_dict(trained)
    expected = []
    for alpha in (0.0, 0.3, 0.7, 1.0):
        wins = pairs = 0.0
        for data in own.values():
            mixture = interpolate(data.base.network, tuned, alpha)
            validation = data.parts["validation"]
            labels = validation.labels[:, 0]
            logits = score(mixture, validation.images, device=data.device)[:, 0]
            weight = labels.sum() * (1 - labels).sum()
            if min(labels.sum(), (1 - labels).sum()) >= 3:
                wins, pairs = wins + weight * roc_auc_score(labels, logits), pairs + weight
        expected.append(wins / pairs)
    stated = [c.auroc for c in summary.ensemble.candidates]
    assert stated == pytest.approx(expected, abs=0.5), "few patients, so much noise"
    alpha = summary.ensemble.alpha
    assert stated[[0.0, 0.3, 0.7, 1.0].index(alpha)] == max(stated)
    chosen = interpolate(own["a"].base.network, tuned, alpha).state_dict()
    written = load_file(out / "model.safetensors")
    assert all(torch.equal(written[k], v) for k, v in chosen.items())
    with safe_open(out / "model.safetensors", "pt") as file:
        assert float(file.metadata()["ensemble_alpha"]) == alpha
    cell = next(c for c in summary.cells if (c.model, c.site) == ("global", "a"))
    test = own["a"].parts["test"]
    tested = score(
        interpolate(own["a"].base.network, tuned, alpha),
        test.images,
        device=torch.device("cpu"),
    )
    exact = roc_auc_score(test.labels[:, 0], tested[:, 0])
    assert cell.auroc == pytest.approx(exact, abs=0.05)


def test_no_test_patient_is_touched_by_the_choice(hospitals):
    out = hospitals.run(2, base=hospitals.run(1), grid=("minimum_units = 3", GRID.format("[0.5]")))
    text = (out / "experiment.toml").read_text()
    ledger = Ledger(hospitals.state / "a" / "ledger.jsonl").entries()
    kinds = [e["message"]["kind"] for e in ledger if e["experiment"] == "test-2"]
    decided = kinds.index("release")  # threshold and calibration follow from it
    assert kinds[:decided] == ["readiness", "round", "validation", *kinds[3:decided]]
    assert set(kinds[3:decided]) == {"scored"}, "on validation patients, as asked"
    participant = Participant(
        SiteData(
            open_site(hospitals.sites["a"], state=hospitals.state / "a"), parse_experiment(text)
        )
    )
    participant.data.parts.pop("test")  # using it would raise an error
    net, stage = participant.data.base.network, participant.data.schedule.last_stage
    names = stage_tensors(net, stage, participant.data.experiment.recipe)
    manifest, flat = pack(
        {k: v.numpy() for k, v in net.state_dict().items()},
        names,
        round_=participant.data.schedule.rounds,
        stage=stage,
        base_sha256=participant.data.base.digest,
    )
    request = ValidationRequest(manifest=manifest, alphas=[0.5, 1.0])
    assert len(participant.validation(request, flat).figures) == 2


def test_only_figures_within_the_disclosure_rule_leave_for_the_choice(hospitals):
    file = hospitals.sites["b"] / "site.toml"
    file.write_text(file.read_text().replace("minimum_units = 3", "minimum_units = 4"))
    hospitals.run(2, base=hospitals.run(1), grid=("minimum_units = 3", GRID.format("[0.5]")))
    for site, withheld in (("a", False), ("b", True)):
        sent = next(
            e["message"]
            for e in Ledger(hospitals.state / site / "ledger.jsonl").entries()
            if e["message"]["kind"] == "validation"
        )
        for figures in sent["figures"]:
            if withheld:
                assert figures == {"label": {"missing": "below minimum"}}
            else:
                assert set(figures["label"]) == {"auroc"}


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ("[0.5]", "the base weights, which are random"),
        ("[1.5]", "less than or equal to 1"),
        (str([0.1] * 12), "at most 11"),
    ],
)
def test_an_invalid_grid_is_refused(grid, words, experiment_file):
    text = experiment_file.read_text().replace("minimum_units = 3", GRID.format(grid))
    with pytest.raises(ExperimentError, match=words):
        parse_experiment(text)


def test_the_models_file_and_the_summary_hold_its_calibration(hospitals):
    out = hospitals.run(1)
    entry = read_summary(out).calibration["label"]
    assert entry.method == "prior"
    assert entry.why == "no site's histogram is fine enough"
    assert entry.intercept == pytest.approx(np.log(entry.positives / entry.negatives))
    with safe_open(out / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["calibration"])["label"] == entry.model_dump()
    report = (out / "report.html").read_text()
    assert "undoes balanced sampling only" in report
