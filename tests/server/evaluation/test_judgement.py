"""A release is of what was asked for, has each figure once, and contradicts nothing declared."""

import pytest
from support.hospital import EXPERIMENT
from support.readiness import readiness_with

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.figures import ModelComparison, Release, Scores, Subgroup
from fedrad.exchange.histogram import CELLS, Histogram
from fedrad.exchange.messages import Counts, Readiness
from fedrad.server.evaluation import judgement
from fedrad.server.evaluation.judgement import fault_of_release

GROUPED = parse_experiment(
    EXPERIMENT + '[evaluation.subgroups]\nsex = ["F", "M"]\nage = [1.0, 18.0]\n'
)
MODELS = ["base", "local", "global"]


def scores(model: str = "global", outcome: str = "label", **changes: object) -> Scores:
    histogram = Histogram(edges=[0, 64, CELLS], positives=[4, 8], negatives=[9, 3])
    right = {"positives": 12, "negatives": 12, "histogram": histogram}
    return Scores(model=model, outcome=outcome, **(right | changes))


def release(*of: Scores, part: str = "test", **more: object) -> Release:
    return Release(part=part, scores=list(of or [scores()]), **more)


def declared(positives: int | None = 12, negatives: int | None = 12) -> Readiness:
    counts = Counts(positives=positives, negatives=negatives)
    return readiness_with(units={part: {"label": counts} for part in ("validation", "test")})


def fault(sent: Release, readiness: Readiness | None = None, part: str = "test") -> str:
    return fault_of_release(sent, "a", readiness or declared(), part, MODELS, GROUPED)


def test_a_sound_release_is_without_a_fault() -> None:
    sent = release(
        scores("base"),
        scores("local:a", missing="one class", positives=0, negatives=0, histogram=None),
        scores(),
        comparisons=[ModelComparison(model="global", other="local:a", outcome="label")],
        subgroups=[
            Subgroup(outcome="label", column="sex", group=1),
            Subgroup(outcome="label", column="age", group=2),
        ],
    )
    assert fault(sent) == ""
    assert fault(sent, declared(None, None)) == "", "withheld counts contradict nothing"
    assert fault(sent, declared(13, 12)) == "", "a patient may have withdrawn"
    assert fault(release(part="validation"), part="validation") == ""


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (release(part="validation"), "another part"),
        (release(scores("best")), "was not asked for"),
        (release(scores("local:b")), "was not asked for"),
        (release(scores(outcome="Mueller")), "was not asked for"),
        (release(scores(), scores()), "the same figure twice"),
        (release(scores("base"), scores(positives=11, histogram=None)), "different numbers"),
        (
            release(comparisons=[ModelComparison(model="global", other="best", outcome="label")]),
            "comparison that was not",
        ),
        (
            release(subgroups=[Subgroup(outcome="label", column="sex", group=2)]),
            "group that was not",
        ),
        (
            release(subgroups=[Subgroup(outcome="label", column="Mueller", group=0)]),
            "group that was not",
        ),
        (release(subgroups=2 * [Subgroup(outcome="label", column="sex", group=1)]), "twice"),
        (release(scores(positives=13)), "counts are not those of the histogram"),
    ],
)
def test_a_release_that_cannot_be_is_refused_in_our_own_words(sent: Release, words: str) -> None:
    why = fault(sent)
    assert words in why
    assert "Mueller" not in why


def test_more_patients_than_were_declared_are_a_contradiction() -> None:
    assert "more patients than the site declared" in fault(release(), declared(12, 11))
    assert "more patients than the site declared" in fault(release(), declared(None, 11))


def test_a_release_that_cannot_be_computed_with_is_found_before_the_summary(monkeypatch) -> None:
    """An error in the summary of all sites would end the run."""

    def overall(*_):
        raise FloatingPointError

    monkeypatch.setattr(judgement, "overall", overall)
    with pytest.raises(FloatingPointError):
        fault(release())
