"""Tensors that a site stores between rounds and never sends: local normalisation, moments."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.hospital import EXPERIMENT, write_site

from fedrad.client.participant.between_rounds import RoundTensors
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.scoring import Scoring
from fedrad.client.participant.site_data import SiteData
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import RoundRequest, ScoreRequest
from fedrad.exchange.update import pack
from fedrad.models.network import stage_tensors


def test_a_round_starts_from_the_last_one_trained_before_it(tmp_path: Path) -> None:
    store = RoundTensors(tmp_path / "kept")
    assert store.before(0) == {}
    for round_ in (0, 1, 4):
        store.save(round_, {"x": torch.tensor([float(round_)])})
    assert store.before(9)["x"] == 4
    assert store.before(4)["x"] == 1
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_repeated_round_starts_from_the_same_tensors(tmp_path: Path) -> None:
    store = RoundTensors(tmp_path)
    for round_ in (0, 1, 1, 1):
        store.save(round_, {"x": torch.tensor([float(round_)])})
        assert store.before(1)["x"] == 0


def test_an_experiment_that_starts_again_deletes_later_rounds(tmp_path: Path) -> None:
    store = RoundTensors(tmp_path)
    for round_ in (5, 6, 0):
        store.save(round_, {"x": torch.tensor([float(round_)])})
    assert store.before(9)["x"] == 0


def test_a_damaged_file_stops_the_site_and_names_the_file(tmp_path: Path) -> None:
    store = RoundTensors(tmp_path)
    store.save(0, {"x": torch.zeros(1)})
    next(tmp_path.iterdir()).write_bytes(b"damaged")
    with pytest.raises(SiteProblem, match="round-00000"):
        store.before(1)


def participant(folder: Path) -> Participant:
    text = EXPERIMENT.replace("[recipe]", '[recipe]\nbatchnorm = "local"\nmoments = "keep"')
    return Participant(
        SiteData(
            open_site(folder, state=folder.parent / f"state-{folder.name}"), parse_experiment(text)
        )
    )


def ask(
    site: Participant, round_: int, flat: np.ndarray | None = None
) -> tuple[RoundRequest, np.ndarray]:
    """A request of round `round_` that sends the base, or `flat`."""
    network = site.data.base.network
    stage = site.data.schedule.stage(min(round_, site.data.schedule.rounds - 1))
    manifest, packed = pack(
        {k: v.numpy() for k, v in network.state_dict().items()},
        stage_tensors(network, stage, site.data.experiment.recipe),
        round_=round_,
        stage=stage,
        base_sha256=site.data.base.digest,
    )
    return RoundRequest(round=round_, manifest=manifest), packed


def test_local_normalisation_layers_stay_at_the_site_and_are_used_there(tmp_path: Path) -> None:
    site = participant(write_site(tmp_path / "a", 40, seed=1))
    reply, _ = site.round(*ask(site, 0))
    assert reply.manifest is not None
    assert not [name for name in reply.manifest.names if "bn" in name or "downsample.1" in name]
    request, flat = ask(site, 1)
    model = site.receive(request.manifest, flat, "all", 1).state_dict()
    base, stored = site.data.base.network.state_dict(), site.between_rounds.before(1)
    own = {name for name in stored if name in base}
    assert own == {n for n in base if "bn" in n or "downsample.1" in n} - {
        n for n in base if n.endswith("num_batches_tracked")
    }
    assert all(torch.equal(model[name], stored[name]) for name in own)
    assert any(not torch.equal(stored[name], base[name]) for name in own)
    assert all(torch.equal(model[name], base[name]) for name in base.keys() - own)


def test_a_site_that_never_trained_uses_the_normalisation_of_the_base(tmp_path: Path) -> None:
    site = participant(write_site(tmp_path / "one", 20, seed=1, prevalence=1.0))
    reply, update = site.round(*ask(site, 0))
    assert (reply.manifest, update) == (None, None)
    request, flat = ask(site, 1)
    model = site.receive(request.manifest, flat, "all", 1).state_dict()
    assert all(torch.equal(model[k], v) for k, v in site.data.base.network.state_dict().items())


def test_a_repeated_round_gives_the_same_update(tmp_path: Path) -> None:
    site = participant(write_site(tmp_path / "a", 40, seed=1))
    site.round(*ask(site, 0))
    _, first = site.round(*ask(site, 1))
    _, again = participant(tmp_path / "a").round(*ask(site, 1))
    assert first is not None
    assert np.array_equal(first, again)


def test_scores_are_those_of_the_sites_own_normalisation(tmp_path: Path) -> None:
    site = participant(write_site(tmp_path / "a", 40, seed=1))
    request, flat = ask(site, 2)
    wanted = ScoreRequest(part="test", model="global", manifest=request.manifest)

    def scored() -> np.ndarray:
        scoring = Scoring(site)
        scoring.score(wanted, flat)
        logits = scoring.score_store.read("test", "global", site.data.keys("test"))
        assert logits is not None
        return logits

    before = scored()
    site.round(*ask(site, 0))
    site.round(*ask(site, 1))
    assert not np.array_equal(scored(), before)
