"""The question book: an experiment asks a site what was approved, each question once."""

import json
import logging
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.coordinator import Coordinator, one_round
from support.hospital import EXPERIMENT, with_, with_sites, write_site

from fedrad.client import app
from fedrad.client.participant.participant import Participant
from fedrad.client.policy import stored_answers
from fedrad.client.policy.approvals import Decision
from fedrad.client.policy.asked_question import question_of
from fedrad.client.policy.question_book import QuestionBook
from fedrad.client.policy.questions import questions_of
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, SiteSettings
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import (
    BaselineReply,
    BaselineRequest,
    ReadyRequest,
    ReleaseRequest,
    ScoreRequest,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_site(tmp_path_factory.mktemp("sites") / "a", 40, seed=1)


@pytest.fixture
def coordinator(folder, tmp_path) -> Coordinator:
    return Coordinator(folder, tmp_path / "state", EXPERIMENT)


def ready_request() -> ReadyRequest:
    return ReadyRequest(fedrad=version("fedrad"))


def test_the_questions_of_an_experiment_are_a_closed_list():
    assert questions_of(parse_experiment(EXPERIMENT), "a") == [
        "readiness",
        "round 1",
        "round 2",
        "baseline",
        "score validation base",
        "score validation local",
        "score validation global",
        "score validation best",
        "release validation",
        "score test base",
        "score test local",
        "score test global",
        "score test best",
        "release test",
    ]


def test_more_questions_come_only_with_settings_that_a_person_approves():
    plain = set(questions_of(parse_experiment(EXPERIMENT), "a"))
    more = with_(with_sites(EXPERIMENT, "a", "b"), travel="true")
    assert set(questions_of(parse_experiment(more), "a")) - plain == {"score test local:b"}
    folds = parse_experiment(with_(EXPERIMENT, folds="2"))
    assert plain - set(questions_of(folds, "a")) == {"release validation", "release test"}
    last = parse_experiment(with_(EXPERIMENT, folds="2", fold_number="1"))
    assert "release test" in questions_of(last, "a")


def test_a_round_is_asked_once_about_one_model(coordinator):
    assert coordinator.reason(*coordinator.round(0)) is None
    assert coordinator.reason(*coordinator.round(1)) is None
    assert coordinator.reason(*coordinator.round(1, change=2e-4)) == "asked"
    assert coordinator.reason(*coordinator.round(2)) == "asked", "the experiment has two rounds"
    assert coordinator.reason(*coordinator.round(0)) == "asked", "rounds come in order"
    refused = [e for e in coordinator.ledger() if e["message"]["kind"] == "refusal"]
    assert len(refused) == 3, "refusals are in the ledger"


def test_a_round_that_is_asked_again_gets_the_same_answer(coordinator):
    request, packed = coordinator.round(0)
    first = coordinator.ask(request, packed)
    update = coordinator.packed
    again = coordinator.ask(request, packed, run=2)
    assert again == first, "seconds included: the answer was stored, not computed again"
    assert np.array_equal(coordinator.packed, update)
    numbers = [(e["number"], e["received"]) for e in coordinator.answered()]
    assert numbers[0] == numbers[1], "the same question, the same model"
    assert numbers[0][0] == 1


def test_a_round_that_failed_is_answered_for_the_same_model_only(coordinator, monkeypatch):
    train = Participant._train
    monkeypatch.setattr(Participant, "_train", lambda *_: 1 / 0)
    assert coordinator.reason(*coordinator.round(0)) == "internal"
    monkeypatch.setattr(Participant, "_train", train)
    assert coordinator.reason(*coordinator.round(1)) is None, "a site may miss a round"
    assert coordinator.reason(*coordinator.round(0)) == "asked"


def test_after_the_first_score_no_round_is_answered(coordinator):
    assert coordinator.reason(*coordinator.round(0)) is None
    assert coordinator.reason(*coordinator.score("validation")) is None
    assert coordinator.reason(*coordinator.round(1)) == "asked"


def test_mixtures_are_asked_for_once_and_as_the_experiment_names_them(folder, tmp_path):
    plain = Coordinator(folder, tmp_path / "plain", EXPERIMENT)
    assert plain.reason(*plain.validation([1.0])) == "asked"
    text = with_(EXPERIMENT, ensemble="[0.5]")
    weights = 'weights = "random"'
    assert weights in text
    pinned = text.replace(weights, f'weights = "base.safetensors"\nsha256 = "{"0" * 64}"')
    experiment = parse_experiment(pinned)
    request, _ = plain.validation([0.5, 1.0])
    assert question_of(request, experiment, "a") == "validation"
    for alphas in ([1.0], [0.25, 1.0], [0.5, 0.5, 1.0]):
        with pytest.raises(Exception, match="other mixtures"):
            question_of(plain.validation(alphas)[0], experiment, "a")


def test_a_model_is_scored_once_a_part_and_is_the_same_model_on_both(coordinator):
    assert coordinator.reason(*coordinator.score("validation")) is None
    assert coordinator.reason(*coordinator.score("validation")) is None, "the stored answer"
    assert coordinator.reason(*coordinator.score("validation", change=1e-3)) == "asked"
    assert coordinator.reason(*coordinator.score("test", change=1e-3)) == "asked"
    assert coordinator.reason(*coordinator.score("test")) is None
    assert coordinator.reason(*coordinator.score("test", "local:b")) == "asked", (
        "it does not travel"
    )


def test_each_part_is_released_once(coordinator):
    base = ScoreRequest(part="validation", model="base")
    assert coordinator.reason(base) is None
    release = ReleaseRequest(part="validation", models=["base"])
    first = coordinator.ask(release)
    assert coordinator.ask(release) == first
    assert (
        coordinator.reason(ReleaseRequest(part="validation", models=["base", "global"])) == "asked"
    )
    assert coordinator.reason(ReleaseRequest(part="validation", models=["base", "base"])) == "asked"
    assert coordinator.reason(*coordinator.score("validation")) == "asked", "after the release"


def test_a_baseline_is_trained_as_approved(coordinator):
    assert coordinator.reason(BaselineRequest(travel=True)) == "asked"
    assert coordinator.reason(BaselineRequest()) is None
    without = EXPERIMENT.replace("minimum_units = 3", "minimum_units = 3\nlocal_baseline = false")
    other = Coordinator(Path(coordinator.config["folder"]), coordinator.state, without)
    assert other.reason(BaselineRequest()) == "asked"


def test_counts_of_a_cohort_that_changes_are_those_that_were_told_first(tmp_path):
    folder = write_site(tmp_path / "a", 40, seed=1)
    coordinator = Coordinator(folder, tmp_path / "state", EXPERIMENT)
    first = coordinator.ask(ready_request())
    table = folder / "cohort.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-3]) + "\n")
    app._participant.cache_clear()  # another process answers
    again = coordinator.ask(ready_request())
    assert again == first


def test_a_first_round_that_does_not_start_from_the_base_is_implausible(coordinator):
    assert coordinator.reason(*coordinator.round(0, change=1e-3)) == "implausible"
    assert coordinator.reason(*coordinator.round(0)) is None


def test_a_model_further_away_than_the_clip_is_implausible(folder, tmp_path):
    text = EXPERIMENT.replace("[federation]", "[federation]\nclip = 0.5")
    coordinator = Coordinator(folder, tmp_path / "state", text)
    assert coordinator.reason(*coordinator.round(0)) is None
    assert coordinator.reason(*coordinator.round(1, change=0.1)) == "implausible"
    assert coordinator.reason(*coordinator.round(1, change=1e-4)) is None
    assert coordinator.reason(*coordinator.score("validation", change=0.1)) == "implausible"
    assert coordinator.reason(*coordinator.score("validation", change=1e-4)) is None


def test_runs_of_one_experiment_are_counted(coordinator):
    for run in (7, 7, 8):
        assert coordinator.reason(ready_request(), run=run) is None
    [book] = (coordinator.state / "books").glob("*.json")
    assert json.loads(book.read_text())["runs"].keys() == {"7", "8"}


def test_a_run_more_than_was_approved_waits_for_another_decision(coordinator):
    site = Site(coordinator.state, SiteSettings(name="a"), coordinator.state)
    folder = coordinator.state / "answers"
    book = QuestionBook(site, coordinator.experiment, folder, logging.getLogger("test"))

    def ask(run: int, time: str) -> None:
        approval = Decision(decision="approved", by="Dr Data", time=time, runs=2)
        with book.visit("readiness", None, "", run=run, approval=approval):
            pass

    for run in (1, 2, 1):
        ask(run, "2026-01-01T00:00:00+00:00")
    with pytest.raises(SiteProblem, match="approved for 2 runs") as problem:
        ask(3, "2026-01-01T00:00:00+00:00")
    assert problem.value.reason == "approval"
    ask(3, "2999-01-01T00:00:00+00:00")


# Bad input


def test_a_damaged_book_stops_the_experiment_and_says_the_remedy(coordinator):
    coordinator.ask(*coordinator.round(0))
    [book] = (coordinator.state / "books").glob("*.json")
    for damage in ("{", book.read_text().replace('"format": 1', '"format": 2')):
        book.write_text(damage)
        assert coordinator.reason(*coordinator.round(1)) == "internal"
    assert "restore it from a backup" in (coordinator.state / "site.log").read_text()


def test_a_book_that_was_deleted_is_not_begun_anew(coordinator):
    coordinator.ask(*coordinator.round(0))
    [book] = (coordinator.state / "books").glob("*.json")
    book.unlink()
    assert coordinator.reason(*coordinator.round(0)) == "internal"
    assert coordinator.reason(*coordinator.round(1)) == "internal"
    assert (
        "the ledger has answers to this experiment" in (coordinator.state / "site.log").read_text()
    )


def test_an_older_copy_of_the_book_is_not_gone_on_with(coordinator):
    """Restored from a backup, it would answer the questions since then once more."""
    assert coordinator.reason(*coordinator.round(0)) is None
    [book] = (coordinator.state / "books").glob("*.json")
    older = book.read_text()
    assert coordinator.reason(*coordinator.round(1)) is None
    book.write_text(older)
    assert coordinator.reason(*coordinator.round(1, change=2e-4)) == "internal"
    assert "it is an older copy" in (coordinator.state / "site.log").read_text()


def test_a_stored_answer_that_was_changed_does_not_leave(coordinator):
    coordinator.ask(*coordinator.round(0))
    [answer] = coordinator.state.glob("experiments/*/answers/round-1.json")
    answer.write_text(answer.read_text().replace('"images":', '"images":1'))
    assert coordinator.reason(*coordinator.round(0)) == "internal"


def test_a_stored_readiness_that_was_damaged_is_a_fault_of_the_site(coordinator):
    """Without it the site does not know which counts it told first."""
    assert coordinator.reason(ready_request()) is None
    [answer] = coordinator.state.glob("experiments/*/answers/readiness.json")
    for damage in ("{", '{"kind": "refusal", "reason": "hours"}'):
        answer.write_text(damage)
        assert coordinator.reason(ready_request()) == "internal"
    assert "was changed since it was sent" in (coordinator.state / "site.log").read_text()


def test_on_a_full_disk_nothing_leaves(coordinator, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_answers, "write_whole", full)
    assert coordinator.reason(*coordinator.round(0)) == "storage"
    assert coordinator.answered() == []
    monkeypatch.undo()
    assert coordinator.reason(*coordinator.round(0)) is None


# Whatever comes, no question is answered twice


QUESTIONS = questions_of(parse_experiment(EXPERIMENT), "a")
MODELS = [None, "1" * 64, "2" * 64]


class Crash(Exception):
    """A process that ends in the middle."""


steps = st.lists(
    st.tuples(
        st.sampled_from(QUESTIONS),
        st.sampled_from(MODELS),
        st.sampled_from(["answer", "fail", "crash before it is stored", "crash after it"]),
        st.integers(1, 2),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=60)
def test_no_patient_is_in_more_questions_than_approved(steps):
    """Random requests, repeats, failures and crashes; each by a process of its own."""
    experiment = parse_experiment(EXPERIMENT)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        site = Site(state, SiteSettings(name="a"), state)
        answers: dict[str, list[tuple[str | None, float]]] = {}
        for count, (question, model, what, run) in enumerate(steps):
            book = QuestionBook(site, experiment, state / "answers", logging.getLogger("test"))
            if what == "crash before it is stored":
                book._answers.store = crash  # type: ignore[method-assign]
            try:
                with book.visit(question, model, "", run=run) as visit:
                    if visit.earlier is None:
                        if what == "fail":
                            raise SiteProblem("device", "no memory")
                        visit.answer = BaselineReply(seconds=float(count)), None
                    reply, _ = visit.earlier or visit.answer
            except (SiteProblem, Crash):
                continue
            if what != "crash after it":  # then it was stored, and did not leave
                answers.setdefault(question, []).append((model, reply.seconds))
        for question, given in answers.items():
            assert question in QUESTIONS
            if question != "readiness":
                assert len(set(given)) == 1, "one model, one answer"
        rounds = [q for q in answers if q.startswith("round")]
        assert len(rounds) <= experiment.federation.rounds


def crash(*_):
    raise Crash


def test_two_processes_at_once_give_one_answer(folder, tmp_path):
    """They ask the same question in the same moment."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = [
            pool.submit(one_round, str(folder), str(tmp_path / "state"), EXPERIMENT)
            for _ in range(2)
        ]
        first, second = (future.result() for future in answers)
    assert first == second
    assert len({reply for reply, _ in (first, second)}) == 1
