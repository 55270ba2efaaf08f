"""The best round is decided by figures that sites released of both models on the same patients."""

from types import SimpleNamespace

import pytest
from support.hospital import EXPERIMENT

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.figures import Release, Scores
from fedrad.exchange.messages import Counts
from fedrad.server.evaluation.evaluation import best_round
from fedrad.server.results.summary import BestModel
from fedrad.server.rounds.checkpoint import Progress

EARLIER = BestModel(round=1, auroc=0.9, final=False)
"""With the figure of its round, which is coarser than a released one."""


def release(**aurocs: float | None) -> Release:
    scores = [Scores(model=m, outcome="label", auroc=auroc) for m, auroc in aurocs.items()]
    return Release(part="validation", scores=scores)


def decide(releases: dict[str, Release], earlier: BestModel | None = EARLIER, **counts):
    units = {site: counts.get(site, Counts(positives=5, negatives=5)) for site in releases}
    sites = {s: SimpleNamespace(units={"validation": {"label": c}}) for s, c in units.items()}
    federation = SimpleNamespace(sites=sites, experiment=parse_experiment(EXPERIMENT))
    progress = Progress(experiment="x", started="now", validation=releases)
    models = ["base", "global"] + (["best"] if earlier else [])
    return best_round(progress, earlier, SimpleNamespace(federation=federation), models)


@pytest.mark.parametrize("final", [0.8, 0.7])
def test_the_final_model_is_the_best_where_it_is_at_least_as_good(final):
    sent = {"a": release(**{"global": final, "best": 0.7})}
    assert decide(sent) == BestModel(round=2, auroc=final, final=True)


def test_an_earlier_model_is_the_best_where_it_is_better():
    sent = {
        "a": release(**{"global": 0.7, "best": 0.8}),
        "b": release(**{"global": 0.9, "best": 0.8}),
    }
    large = Counts(positives=50, negatives=50)
    best = decide(sent, a=large)
    assert (best.round, best.final) == (1, False)
    assert best.auroc == pytest.approx(0.8), "the figure that was released of it"
    assert decide(sent, b=large).final


def test_only_sites_that_released_both_decide():
    sent = {
        "a": release(**{"global": 0.7, "best": 0.8}),
        "b": release(**{"global": 1.0, "best": None}),
        "c": release(**{"global": 1.0}),
    }
    assert not decide(sent).final


def test_where_nothing_was_released_the_earlier_model_stays_a_candidate():
    assert decide({"a": release(**{"global": None, "best": None})}) == EARLIER
    assert decide({}) == EARLIER
    assert decide({}, None) is None


def test_without_an_earlier_model_the_final_one_has_its_figure():
    assert decide({"a": release(**{"global": 0.6})}, None) == BestModel(
        round=2, auroc=0.6, final=True
    )
