"""Requests after the last round: which sites are asked again, and how often."""

from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
from flwr.app import Message
from support.federation import LOST, TEXT, Hospital, RunningFederation, TimedGrid

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.figures import Release, Scores
from fedrad.exchange.histogram import CELLS, Histogram
from fedrad.exchange.messages import (
    READY,
    RELEASE,
    SCORE,
    BaselineReply,
    Refusal,
    ReleaseRequest,
    ScoreReply,
    ScoreRequest,
    from_record,
    to_record,
)
from fedrad.exchange.update import pack
from fedrad.models.weights import load_base
from fedrad.server.evaluation.shared_models import SharedModels
from fedrad.server.evaluation.site_requests import FINAL_REFUSALS, SiteRequests


class Site(Hospital):
    """A scripted site that scores, and answers requests for its figures with a list of answers,
    the last of which is repeated."""

    def __init__(self, name: str, base, *answers: object, **more) -> None:
        super().__init__(name, base, **more)
        self.answers = answers
        self.times: list[float] = []

    def reply(self, clock, message: Message) -> object:
        if message.metadata.message_type == SCORE.name:
            return to_record(ScoreReply())
        assert message.metadata.message_type == RELEASE.name
        from_record(message.content, ReleaseRequest)
        self.times.append(clock.now)
        answer = self.answers[min(len(self.times), len(self.answers)) - 1]
        return answer if answer is LOST else to_record(answer)


class City(TimedGrid):
    """A grid whose sites answer the requests after the last round."""

    def pull_messages(self, message_ids):
        replies = []
        for number in message_ids:
            time, message = self.due[number]
            hospital = self.hospitals[message.metadata.dst_node_id]
            if time > self.clock.now:
                continue
            ready = message.metadata.message_type == READY.name
            content = to_record(hospital.ready()) if ready else hospital.reply(self.clock, message)
            del self.due[number]
            replies.append(Message(content, reply_to=message))
        return replies


@pytest.fixture(scope="module")
def base():
    return load_base(parse_experiment(TEXT).model, 1, seed=0)


def figures(positives: int = 12) -> Release:
    """A release, inconsistent if `positives` is not the number in its histogram, 12."""
    histogram = Histogram(edges=[0, 64, CELLS], positives=[4, 8], negatives=[9, 3])
    scores = Scores(
        model="global", outcome="label", positives=positives, negatives=12, histogram=histogram
    )
    return Release(part="test", scores=[scores])


def ask(tmp_path, base, clock, *answers):
    """Ask site a, which works, and site b, which gives these answers, for the final figures.
    Returns site b, the releases, the reasons without a release, and the seconds it took."""
    other = Site("b", base, *answers)
    grid = City(clock, Site("a", base, figures()), other)
    coordinator = RunningFederation(tmp_path, base, grid)
    requests = SiteRequests(coordinator.federation, coordinator.model)
    releases, missing, started = {}, {}, clock.now
    requests.release("test", ["global"], {}, releases, missing, lambda: None)
    assert "a" in releases
    return other, releases, missing, clock.now - started


@pytest.mark.parametrize("reason", FINAL_REFUSALS)
def test_a_final_refusal_is_not_asked_again(tmp_path, base, clock, reason):
    site, releases, missing, seconds = ask(tmp_path, base, clock, Refusal(reason=reason))
    assert len(site.times) == 1
    assert seconds < 30, "and the site is not waited for"
    assert "b" not in releases
    assert missing == {"b": "declined" if reason == "policy" else "error"}


def test_figures_that_contradict_each_other_are_not_asked_for_again(tmp_path, base, clock):
    site, releases, missing, seconds = ask(tmp_path, base, clock, figures(positives=13))
    assert len(site.times) == 1, "it would give the same answer again"
    assert seconds < 30
    assert (set(releases), missing) == ({"a"}, {"b": "error"})


def test_a_temporary_failure_is_asked_again_with_longer_delays_until_the_deadline(
    tmp_path, base, clock
):
    site, _, missing, seconds = ask(tmp_path, base, clock, Refusal(reason="storage"))
    apart = [b - a for a, b in pairwise(site.times)]
    assert apart[0] == pytest.approx(35, abs=3)
    assert all(later > 1.8 * (sooner - 8) for sooner, later in pairwise(apart))
    assert len(site.times) <= 6, "not twenty times in ten minutes"
    assert 600 <= seconds < 610
    assert missing == {"b": "error"}


def test_a_site_that_recovers_is_included(tmp_path, base, clock):
    site, releases, missing, _ = ask(tmp_path, base, clock, Refusal(reason="storage"), figures())
    assert len(site.times) == 2
    assert set(releases) == {"a", "b"}
    assert missing == {}


def test_a_site_whose_process_ends_each_time_is_asked_with_longer_delays(tmp_path, base, clock):
    site, _, missing, _ = ask(tmp_path, base, clock, LOST)
    assert 2 <= len(site.times) <= 6
    assert missing == {"b": "error"}


def test_an_answer_of_another_kind_is_invalid_and_not_asked_for_again(tmp_path, base, clock):
    site, releases, missing, _ = ask(tmp_path, base, clock, ScoreReply())
    assert len(site.times) == 1
    assert (set(releases), missing) == ({"a"}, {"b": "error"})


class Scorer(Site):
    """A site that refuses to score the first model with a reason."""

    def __init__(self, name: str, base, reason: str) -> None:
        super().__init__(name, base)
        self.reason, self.models = reason, []

    def reply(self, clock, message: Message) -> object:
        request, _ = from_record(message.content, ScoreRequest)
        self.models.append(request.model)
        first = request.model == "local:b"
        return to_record(Refusal(reason=self.reason) if first else ScoreReply())


@pytest.mark.parametrize(
    ("reason", "asked"), [("asked", 2), ("implausible", 2), ("request", 2), ("policy", 1)]
)
def test_a_refusal_of_one_model_leaves_the_other_models(tmp_path, base, clock, reason, asked):
    """One site's local-only model that makes no sense is no reason to leave out the others'."""
    site = Scorer("a", base, reason)
    coordinator = RunningFederation(tmp_path, base, City(clock, site, Scorer("b", base, reason)))
    requests = SiteRequests(coordinator.federation, coordinator.model)
    tensors = coordinator.model.packed("all", 0)
    for model in ("local:b", "local:c"):
        requests.score("test", model, tensors, ["a"])
    assert site.models == ["local:b", "local:c"][:asked]


class Trainer(Site):
    """A site that sends its local-only model, whose values are not numbers if it is odd."""

    odd = False

    def reply(self, clock, message: Message) -> object:
        network = {n: v.numpy().copy() for n, v in self.base.network.state_dict().items()}
        names = [name for name in network if "num_batches" not in name]
        manifest, packed = pack(network, names, round_=9, stage="all", base_sha256=self.base.digest)
        if self.odd:
            packed = np.full_like(packed, 255)
            manifest = manifest.model_copy(update={"sha256": sha256(packed).hexdigest()})
        return to_record(BaselineReply(manifest=manifest, loss=0.1), packed)


@pytest.mark.parametrize(("travel", "stored"), [("true", {"a"}), ("false", set())])
def test_a_local_only_model_is_kept_if_it_was_asked_for_and_is_finite(
    tmp_path, base, clock, travel, stored
):
    text = TEXT.replace("[federation]", '[federation]\nsites = ["a", "b"]').replace(
        "[evaluation]", f"[evaluation]\ntravel = {travel}"
    )
    odd = Trainer("b", base)
    odd.odd = True
    coordinator = RunningFederation(tmp_path, base, City(clock, Trainer("a", base), odd), text=text)
    requests, models = (
        SiteRequests(coordinator.federation, coordinator.model),
        SharedModels(tmp_path / "travellers"),
    )
    trained = []
    requests.baselines([], lambda site, _: trained.append(site), models)
    assert sorted(trained) == ["a", "b"]
    assert {site for site in "ab" if models.has(site)} == stored
