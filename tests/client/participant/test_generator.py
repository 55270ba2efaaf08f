"""A federated generator: the same rounds, another thing to train; only where the site allows it."""

import csv
import json

import numpy as np
import pytest
import torch
from support.generators import GENERATOR, allow_generator, run_generator
from support.hospital import write_cohort, write_site

from fedrad.client.figures.monitoring import CAP
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.scoring import Scoring
from fedrad.client.participant.site_data import SiteData
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Policy, open_site
from fedrad.deploy.commands.results import READER
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.exchange.lineage import read_lineage
from fedrad.exchange.messages import BaselineRequest, ValidationRequest
from fedrad.exchange.update import Manifest
from fedrad.models.progression.generators import open_generator
from fedrad.models.progression.network import load_generator
from fedrad.models.progression.training import denoising_losses
from fedrad.models.weight_files import WeightsError, file_sha256


def manifest():
    return Manifest(
        round=2, stage="all", names=[], shapes=[], base_sha256="0" * 64, sha256="0" * 64
    )


@pytest.fixture
def permitting(tmp_path):
    return {
        name: allow_generator(write_site(tmp_path / name, 30, seed=seed))
        for seed, name in enumerate(["a", "b"], start=1)
    }


def test_the_experiment_ends_with_a_generator_and_no_figures_on_patients(trained):
    summary = json.loads((trained / "out" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["models"] == summary["cells"] == summary["overall"] == []
    assert len(summary["rounds"]) == 2
    for site in "ab":
        losses = [r["sites"][site]["loss"] for r in summary["rounds"]]
        assert losses[1] < losses[0]
        assert summary["rounds"][0]["sites"][site]["validation_loss"]["label"] is not None
        assert summary["rounds"][0]["sites"][site]["auroc"] == {"label": None}
    assert "loss" in (trained / "out" / "report.html").read_text()


def test_its_file_says_what_it_is_and_who_trained_it(trained):
    network, record, metadata = load_generator(trained / "out" / "model.safetensors")
    assert record.outcomes == ("label",)
    assert record.classes == {"label": (True, True)}
    assert record.input.size == 32
    (ancestor,) = read_lineage(metadata)
    assert ancestor.experiment == record.experiment == parse_experiment(GENERATOR).identity
    assert ancestor.sites == ("a", "b")
    assert network.outcomes == 1
    assert open_generator(trained / "out" / "model.safetensors").condition("label") == 1


def test_the_site_measures_memorisation_before_each_update_leaves(trained):
    for site in "ab":
        lines = (trained / "state" / site / "site.log").read_text()
        assert lines.count("before it is sent: simulated images are") == 2
        messages = (trained / "state" / site / "ledger.jsonl").read_text()
        assert "nearest" not in messages


def test_a_site_remembers_whom_the_generator_trained_on(trained):
    experiment = parse_experiment(GENERATOR)
    for name in "ab":
        site = open_site(trained / name, state=trained / "state" / name)
        data = SiteData(site, experiment)
        assert data.trained_patients.keys(experiment.identity) == set(data.keys("train"))


def test_a_site_takes_no_part_unless_its_policy_allows_it(tmp_path):
    assert Policy().share_generator is False
    folder = write_site(tmp_path / "a")
    participant = Participant(
        SiteData(open_site(folder, state=tmp_path / "s"), parse_experiment(GENERATOR))
    )
    with pytest.raises(SiteProblem, match="share_generator = true") as refusal:
        participant.ready()
    assert refusal.value.reason == "generator"
    with pytest.raises(SiteProblem, match="share_generator"):
        participant.round(None, None)


def test_a_generators_site_refuses_what_only_a_classifier_has(tmp_path, trained):
    site = open_site(trained / "a", state=tmp_path / "s")
    participant = Participant(SiteData(site, parse_experiment(GENERATOR)))
    wanted = ValidationRequest(manifest=manifest(), alphas=[0.5])
    for ask, why in (
        (lambda: participant.baseline(BaselineRequest()), "neither local-only models nor test"),
        (lambda: participant.validation(wanted, None), "neither local-only models nor test"),
        (lambda: Scoring(participant), "a generator is not scored on patients"),
    ):
        with pytest.raises(SiteProblem, match=why) as refusal:
            ask()
        assert refusal.value.reason == "request"


def test_the_coordinator_hears_which_site_does_not_allow_it(tmp_path, permitting):
    from fedrad.server.federation.failure import ExperimentFailed

    sites = {**permitting, "c": write_site(tmp_path / "c", 30, seed=3)}
    summary = json.loads((run_generator(tmp_path, sites) / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["sites"] == ["a", "b"]
    assert any("no weights of a generator" in why for why in summary["absent"].values())
    with pytest.raises(ExperimentFailed, match="no weights of a generator"):
        run_generator(tmp_path, {"a": sites["a"], "c": sites["c"]}, out="other")


def test_the_same_seed_gives_the_same_generator(tmp_path, trained):
    sites = {name: trained / name for name in "ab"}
    again = run_generator(tmp_path, sites)
    first, second = (
        load_generator(out / "model.safetensors")[0].state_dict()
        for out in (trained / "out", again)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("encoding", ["float16", "int8"])
def test_it_travels_in_fewer_bits_too(tmp_path, permitting, encoding):
    text = GENERATOR.replace("rounds = 2", f'rounds = 2\nencoding = "{encoding}"')
    out = run_generator(tmp_path, permitting, text)
    load_generator(out / "model.safetensors")
    rounds = json.loads((out / "summary.json").read_text())["rounds"]
    sent = [r["sites"]["a"]["loss"] for r in rounds]
    assert sent[1] < sent[0]


def test_one_round_of_one_step_is_the_pooled_gradient_step(tmp_path, permitting):
    """The mean of the sites' updates by patients, against the gradient of the pooled loss."""
    from fedrad.models.examples import Examples
    from fedrad.models.progression.network import start_generator
    from fedrad.models.progression.training import draw_batch
    from fedrad.models.training import balanced_order

    text = GENERATOR.replace("rounds = 2", "rounds = 1").replace(
        "batch_size = 8\nlearning_rate = 5e-3",
        'batch_size = 64\nlearning_rate = 0.2\noptimizer = "sgd"',
    )
    trained, _, _ = load_generator(run_generator(tmp_path, permitting, text) / "model.safetensors")
    experiment = parse_experiment(text)
    pooled = start_generator(experiment.generator, experiment.model, ["label"], seed=3).network
    loss, patients = torch.zeros(()), 0
    for name, folder in permitting.items():
        site = Participant(SiteData(open_site(folder, state=tmp_path / "state" / name), experiment))
        examples: Examples = site.data.parts["train"]
        draws = torch.Generator().manual_seed(site.seed_of(0))
        rows = balanced_order(examples.labels, 64, draws)
        batch = draw_batch(pooled, examples, rows, draws, torch.device("cpu"), hide=0.15)
        loss = loss + len(examples) * batch.loss(pooled)
        patients += len(examples)
    (loss / patients).backward()
    state = trained.state_dict()
    moved = 0.0
    for name, parameter in pooled.named_parameters():
        expected = parameter.detach() - 0.2 * parameter.grad
        torch.testing.assert_close(state[name], expected, rtol=1e-4, atol=1e-6)
        moved += float(parameter.grad.abs().sum())
    assert moved > 0


def test_validation_losses_are_those_of_the_received_generator(trained):
    experiment = parse_experiment(GENERATOR)
    site = open_site(trained / "a", state=trained / "state" / "a")
    data = SiteData(site, experiment)
    losses = denoising_losses(
        data.start.network, data.parts["validation"], device=torch.device("cpu")
    )
    summary = json.loads((trained / "out" / "summary.json").read_text())
    sent = summary["rounds"][0]["sites"]["a"]["validation_loss"]["label"]
    assert max(losses) < CAP
    error = CAP / (2 * np.sqrt(len(losses)))
    assert sent == pytest.approx(losses.mean(), abs=3 * error), "but for noise and rounding"


def test_a_generator_goes_on_from_an_earlier_one_of_the_same_split(tmp_path, trained):
    earlier = trained / "out" / "model.safetensors"
    (tmp_path / "base.safetensors").write_bytes(earlier.read_bytes())
    base = f'weights = "base.safetensors"\nsha256 = "{file_sha256(earlier)}"'
    text = GENERATOR.replace('weights = "random"', base).replace(
        'name = "generator"', 'name = "again"'
    )
    import shutil

    shutil.copytree(trained / "state", tmp_path / "state")
    sites = {name: trained / name for name in "ab"}
    out = run_generator(tmp_path, sites, text)
    _, _, metadata = load_generator(out / "model.safetensors")
    assert len(read_lineage(metadata)) == 2


def test_a_site_of_one_class_does_not_train(tmp_path, permitting):
    sites = {
        **permitting,
        "one": allow_generator(write_site(tmp_path / "one", 20, seed=9, prevalence=1.0)),
    }
    summary = json.loads((run_generator(tmp_path, sites) / "summary.json").read_text())
    assert summary["rounds"][0]["sites"]["one"]["status"] == "evaluated"


def test_a_generator_of_one_class_only_knows_no_direction(tmp_path):
    text = GENERATOR.replace("rounds = 2", "rounds = 1\ntrain_one_class = true")
    sites = {
        n: allow_generator(write_site(tmp_path / n, 20, seed=i, prevalence=1.0))
        for i, n in enumerate("ab")
    }
    file = run_generator(tmp_path, sites, text) / "model.safetensors"
    with pytest.raises(WeightsError, match="one class of it only"):
        open_generator(file).condition("label")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('weights = "random"', 'weights = "imagenet"', "starts from"),
        ("size = 32", "size = 33", "multiples of 2"),
        ("[generator]", "[recipe]\nbatch_size = 4\n[generator]", "leave out [recipe]"),
        ("minimum_units = 3", "minimum_units = 3\nensemble = [0.5]", "ensemble"),
        ('task = "progression"', "", "[generator] is for task"),
        ("attention = [false, true]", "attention = [true]", "attention has values for 1 levels"),
        ("groups = 4", "groups = 3", "does not divide"),
    ],
)
def test_what_does_not_go_together_is_refused(old, new, why):
    assert old in GENERATOR
    with pytest.raises(ExperimentError) as refusal:
        parse_experiment(GENERATOR.replace(old, new))
    assert why in str(refusal.value)


def test_missing_labels_and_several_outcomes_are_learnt_from(tmp_path, permitting):
    rng = np.random.default_rng(0)
    for folder in permitting.values():
        with (folder / "cohort.csv").open() as handle:
            rows = list(csv.DictReader(handle))
        write_cohort(folder, [{**r, "other": rng.choice(["0", "1", ""])} for r in rows])
    text = GENERATOR.replace('["label"]', '["label", "other"]')
    opened = open_generator(run_generator(tmp_path, permitting, text) / "model.safetensors")
    np.testing.assert_array_equal(opened.condition("other"), [np.nan, 1])


def test_a_generator_is_not_exported_as_a_classifier(tmp_path, trained):
    from fedrad.server.export.export import ExportFailed, export

    with pytest.raises(ExportFailed, match="fedrad-site progression"):
        export(trained / "out", tmp_path / "export", reader=READER, onnx=False)


def test_report_and_status_show_the_denoising_loss(trained, capsys):
    page = (trained / "out" / "report.html").read_text()
    assert "scored on no patient" in page
    assert "Validation loss" in page
    assert "Validation AUROC" not in page
    assert "scored on no patient" in (trained / "out" / "report.md").read_text()
    from fedrad.deploy.commands.status import watch

    watch(trained / "out", once=True)
    assert "AUROC" not in capsys.readouterr().out
