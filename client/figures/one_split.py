"""Release of a single split: AUROC, histogram, threshold and figures of probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import expit

from fedrad.exchange.experiment import Groups
from fedrad.exchange.figures import (
    Missing,
    ModelName,
    OperatingPoint,
    Probabilities,
    RankFigures,
    Scores,
    SplitPart,
)
from fedrad.exchange.histogram import Histogram
from fedrad.stats import exact, site_figures, thresholds
from fedrad.stats.exact import Logits, Units
from fedrad.stats.thresholds import SiteChoices

from .disclosure import Disclosure
from .evaluation import SiteEvaluation
from .scored_units import Fold, ScoredUnits, folds_with_scores


class OneSplit(SiteEvaluation):
    """The release of a site on one part of its units.

    Parameters
    ----------
    outcomes, disclosure, own, subgroups
        As in `SiteEvaluation`.
    part
        Part of the units. Comparisons, subgroups and figures by the site's own threshold and
        calibration are released for test units only.
    operating
        Model -> outcome -> common threshold and calibration, if any.
    """

    def __init__(
        self,
        outcomes: Sequence[str],
        disclosure: Disclosure,
        own: ModelName,
        subgroups: Mapping[str, Groups],
        part: SplitPart,
        operating: Mapping[ModelName, Mapping[str, OperatingPoint]],
    ) -> None:
        super().__init__(outcomes, disclosure, own, subgroups)
        self.part = part
        self.operating = operating
        self.compares = part == "test" and not disclosure.epsilon

    def why_withheld(self, units: Units) -> Missing | None:
        """By the rule of the site."""
        return self.disclosure.why_withheld(units)

    def counts(self, units: Units) -> tuple[int, int]:
        """Number of units of each class, as in the histogram."""
        positives = int(units.positive.sum())
        return positives, len(units.labels) - positives

    def variance(self, folds: Sequence[Fold], weights: Sequence[float] | None) -> float:
        """DeLong's or Obuchowski's variance of the only fold."""
        [fold] = folds
        return exact.variance(fold.deviations, fold.units)

    def scores(
        self,
        model: ModelName,
        outcome: int,
        folds: Sequence[Fold],
        tested: Sequence[ScoredUnits],
        validation: Sequence[ScoredUnits],
    ) -> Scores:
        """Figures of one model for one outcome."""
        [fold] = folds
        name, units, raw = self.outcomes[outcome], fold.units, fold.logits[0]
        visiting, rule = self.is_other_sites_model(model), self.disclosure
        if rule.epsilon:
            return self._noisy(model, name, fold, tested[0].digests)
        if missing := rule.why_withheld(units):
            return Scores(model=model, outcome=name, missing=missing)
        common = self.operating.get(model, {}).get(name)
        chosen = self.choices(validation, model, outcome) if self.part == "test" else None
        edges = [chooser.threshold for chooser in (common, chosen) if chooser is not None]
        positives, negatives = self.counts(units)
        auroc = self.auroc(folds)
        open_ = not visiting and rule.histograms
        histogram = self.divided[outcome].histogram(raw, units, edges) if open_ else None
        site = chosen if open_ else None
        return Scores(
            model=model,
            outcome=name,
            positives=positives,
            negatives=negatives,
            auroc=auroc.value if auroc else None,
            variance=auroc.variance if auroc else None,
            ranks=site_figures.rank_figures(raw, units) if units.both else RankFigures(),
            histogram=histogram,
            probabilities=self.probabilities(raw, units, histogram, common, chosen)
            if histogram
            else None,
            site_threshold=site.threshold if site else None,
            site_brier=site_figures.brier(site.calibration.logits(raw), units) if site else None,
            histogram_missing=None if visiting or rule.histograms else "declined",
            missing=None if auroc else "one class",
        )

    def _noisy(
        self, model: ModelName, outcome: str, fold: Fold, digests: Mapping[ModelName, str]
    ) -> Scores:
        """With noise, the histogram is the only figure that is released. The noise protects one
        unit, so it does not protect a patient with several units; then there is no figure. Whether
        a class has enough patients is judged by the noisy counts: the exact ones would disclose
        it.

        Parameters
        ----------
        model, outcome
            What the histogram is of.
        fold
            Units and logits.
        digests
            Model -> digest of its weights, on which the noise depends.
        """
        rule, units = self.disclosure, fold.units
        if not len(units.labels):
            return Scores(model=model, outcome=outcome, missing="no units")
        if self.is_other_sites_model(model) or units.patients is not None or not rule.histograms:
            return Scores(model=model, outcome=outcome, missing="declined")
        histogram = rule.noisy_histogram(fold.logits[0], units, digests[model], outcome)
        if min(histogram.total_positives, histogram.total_negatives) < rule.minimum_units:
            return Scores(
                model=model, outcome=outcome, missing="below minimum", epsilon=rule.epsilon
            )
        return Scores(
            model=model,
            outcome=outcome,
            histogram=histogram,
            epsilon=rule.epsilon,
            positives=histogram.total_positives,
            negatives=histogram.total_negatives,
        )

    def probabilities(
        self,
        raw: Logits,
        units: Units,
        histogram: Histogram,
        common: OperatingPoint | None,
        chosen: SiteChoices | None,
    ) -> Probabilities | None:
        """Figures of the probabilities by the common calibration, or else by the site's own; None
        if there is neither.

        Parameters
        ----------
        raw
            (n,) raw logits.
        units
            The n units.
        histogram
            Of the same units; the curve joins its bins.
        common, chosen
            Threshold and calibration chosen on the validation units of all sites, and of this site.
        """
        line = common.calibration if common is not None else None
        if line is not None:
            calibrated = line.intercept + line.slope * raw
        elif chosen is not None:
            calibrated = chosen.calibration.logits(raw)
        else:
            return None
        return Probabilities(
            by="common" if line is not None else "site",
            exact=site_figures.probability_figures(calibrated, units),
            curve=self.disclosure.curve(histogram, raw, np.asarray(expit(calibrated)), units),
        )

    def choices(
        self, validation: Sequence[ScoredUnits], model: ModelName, outcome: int
    ) -> SiteChoices | None:
        """Threshold and calibration chosen on the site's validation units; None where no figures
        of these units may be released, or a class is missing."""
        folds = folds_with_scores(validation, [model], outcome)
        if not folds or self.disclosure.epsilon:
            return None
        [fold] = folds
        if self.disclosure.why_withheld(fold.units) or not fold.units.both:
            return None
        return thresholds.choose_at_site(fold.logits[0], fold.units)
