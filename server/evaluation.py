"""The end of an experiment: validation patients choose, then test patients are scored, once.

`choose` returns all that is decided, and asks nothing of test patients; `measure` takes the
decisions as they are and returns figures. Nothing leads back.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fedrad.exchange.figures import Line, ModelName, Operating, Release
from fedrad.exchange.histogram import CELLS, cut_off
from fedrad.models.calibration import Calibration

from .best import BestRound, validation_units, within_site
from .calibration import calibrate
from .ensemble import aurocs, choose_ensemble
from .federation import Federation
from .figures import LOCAL, Tested
from .statistics.decisions import best_threshold
from .summary import Best, Ensemble

log = logging.getLogger("fedrad.server")

DEFAULT_THRESHOLD = CELLS // 2
"""A logit of 0: where balanced training puts the border between the classes."""

State = Mapping[str, Tensor]
Chosen = dict[str, dict[str, int | None]]


@dataclass(frozen=True)
class Choices:
    """All that validation patients decide.

    `models`: name -> state of those that are tested and need sending. `thresholds`, `calibration`:
    model -> outcome; None where no site could release validation patients of both classes.
    """

    models: Mapping[ModelName, State] = field(default_factory=dict)
    ensemble: Ensemble | None = None
    best: Best | None = None
    thresholds: Chosen = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, Calibration | None]] = field(default_factory=dict)

    epsilon: Mapping[str, float] = field(default_factory=dict)
    """Site -> what its noisy validation histograms cost."""

    @property
    def operating(self) -> dict[ModelName, dict[str, Operating]]:
        """Threshold and calibration of each shared model and outcome."""
        return {
            model: {
                outcome: Operating(
                    threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
                    calibration=_line(self.calibration[model][outcome]),
                )
                for outcome, threshold in of_model.items()
            }
            for model, of_model in self.thresholds.items()
        }

    @property
    def by_default(self) -> dict[ModelName, list[str]]:
        """Model -> outcomes for which no threshold could be chosen."""
        return {
            model: [outcome for outcome, chosen in of_model.items() if chosen is None]
            for model, of_model in self.thresholds.items()
        }


def _line(calibration: Calibration | None) -> Line | None:
    if calibration is None:
        return None
    return Line(intercept=calibration.intercept, slope=calibration.slope)


def choose(federation: Federation, best: BestRound) -> Choices:
    """Mixture with the base, best round, thresholds and calibrations, from validation patients."""
    ensemble = choose_ensemble(federation)
    states: dict[ModelName, State] = {"global": federation.network.state_dict()}
    winner = _best_round(federation, best, ensemble)
    if winner is not None and not winner.final:
        states["best"] = best.weights()
    log.info("Thresholds and calibration from the validation patients")
    asked: list[ModelName] = ["base", LOCAL, *states]
    if not federation.experiment.evaluation.local_baseline:
        asked.remove(LOCAL)
    for model in asked:
        federation.score("validation", model, states.get(model))
    shared = [model for model in asked if model != LOCAL]
    releases, _ = federation.release("validation", shared, {})
    thresholds: Chosen = {}
    calibration: dict[str, dict[str, Calibration | None]] = {}
    for model in shared:
        for outcome in federation.experiment.outcomes:
            histograms = [
                cut_off(s.histogram)
                for release in releases.values()
                for s in release.scores
                if (s.model, s.outcome) == (model, outcome) and s.histogram
            ]
            thresholds.setdefault(model, {})[outcome] = best_threshold(histograms)
            calibration.setdefault(model, {})[outcome] = calibrate(histograms)
    return Choices(states, ensemble, winner, thresholds, calibration, epsilon(releases))


def _best_round(federation: Federation, best: BestRound, ensemble: Ensemble | None) -> Best | None:
    """The best of the models that entered rounds and the final one; of equals the later."""
    if federation.experiment.recipe.batchnorm == "local":
        return None  # the sites' own normalisation of an earlier round is gone
    if ensemble is not None:
        final = next(c.auroc for c in ensemble.candidates if c.alpha == ensemble.alpha)
    else:
        figures = federation.validation([1.0])
        final = within_site(aurocs(figures, 0), validation_units(federation))
    earlier = best.read()
    if earlier is not None and (final is None or final < earlier.auroc):
        return earlier
    if final is None:
        return None
    return Best(round=federation.schedule.rounds, auroc=final, final=True)


def measure(federation: Federation, choices: Choices) -> Tested:
    """Score all models on the test patients, then have every site release its figures, once."""
    log.info("Test patients")
    evaluation = federation.experiment.evaluation
    asked: list[ModelName] = ["base", LOCAL, *choices.models]
    untrained = dict(federation.untrained)
    if not evaluation.local_baseline:
        asked.remove(LOCAL)
    for model in asked:
        federation.score("test", model, choices.models.get(model))
    if evaluation.travel:
        hosts = {site for site, r in federation.sites.items() if r.tests_other_models}
        for site in sorted(federation.sites):
            if (state := federation.travelling(site)) is not None:
                federation.score("test", f"{LOCAL}:{site}", state, hosts - {site})
                asked.append(f"{LOCAL}:{site}")
            else:
                untrained.setdefault(site, "declined")
    releases, absent = federation.release("test", asked, choices.operating)
    return Tested(releases, absent, untrained, choices.operating, choices.by_default)


def epsilon(releases: Mapping[str, Release]) -> dict[str, float]:
    """Site -> what the noisy histograms of a part cost one patient."""
    return {site: r.epsilon for site, r in releases.items() if r.epsilon is not None}


def spent(choices: Choices, tested: Tested) -> dict[str, float]:
    """Site -> ε over the whole experiment: a patient is in one part only, so the dearest counts."""
    found = dict(choices.epsilon)
    for site, of_test in epsilon(tested.releases).items():
        found[site] = max(found.get(site, 0.0), of_test)
    return found
