"""From scores that stay to figures that may leave: one release on one part of a site's units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fedrad.exchange.experiment import Experiment, Groups
from fedrad.exchange.figures import (
    Comparison,
    Missing,
    ModelName,
    Operating,
    Part,
    Probabilities,
    Release,
    Scores,
    Subgroup,
)
from fedrad.exchange.histogram import Histogram
from fedrad.stats import exact as figures
from fedrad.stats.exact import Labels, Logits, Patients, Units, known
from fedrad.stats.thresholds import Choices, choose

from .disclosure import Disclosure


@dataclass(frozen=True)
class Scored:
    """A part of the units with the scores of some models.

    `labels`: (n, K), NaN where unknown. `logits`: model -> (n, K) raw logits, NaN where the model
    was not made for an outcome. `groups`: column -> (n,) group of each unit, -1 for none.
    """

    labels: Labels
    patients: Patients | None
    logits: Mapping[ModelName, Logits]
    groups: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


class Evaluation:
    """The figures of one site in one experiment. `own`: name of its local-only model."""

    def __init__(self, experiment: Experiment, disclosure: Disclosure, own: ModelName) -> None:
        self.outcomes: Sequence[str] = experiment.outcomes
        self.subgroups: Mapping[str, Groups] = experiment.evaluation.subgroups
        self.disclosure = disclosure
        self.own = own

    def release(
        self,
        part: Part,
        units: Scored,
        validation: Scored,
        models: Sequence[ModelName],
        operating: Mapping[ModelName, Mapping[str, Operating]],
        why_missing: Mapping[ModelName, Missing],
    ) -> Release:
        """All that leaves about a part. Comparisons and subgroups are looked at on test units.

        `validation`: the site's validation units, on which it chooses its own thresholds.
        `why_missing`: why a model asked for has no scores.
        """
        scores = []
        for model in models:
            for k, outcome in enumerate(self.outcomes):
                if model not in units.logits:
                    missing = why_missing.get(model, "not run")
                    scores.append(Scores(model=model, outcome=outcome, missing=missing))
                    continue
                chosen = self.choices(validation, model, k) if part == "test" else None
                common = operating.get(model, {}).get(outcome)
                scores.append(self.scores(units, model, k, common, chosen))
        testing = part == "test" and not self.disclosure.epsilon
        noisy = [s for s in scores if s.epsilon]
        return Release(
            part=part,
            scores=scores,
            comparisons=self.comparisons(units, models) if testing else [],
            subgroups=self.of_subgroups(units) if testing and "global" in units.logits else [],
            epsilon=sum(s.epsilon or 0 for s in noisy) if noisy else None,
        )

    def scores(
        self,
        units: Scored,
        model: ModelName,
        k: int,
        common: Operating | None,
        chosen: Choices | None,
    ) -> Scores:
        """One model on outcome `k`. A model of another site gets its AUROC only: many histograms of
        the same patients would tell more of them than one. Noise is for one unit more or less, so
        it is no protection where a patient has several: then nothing is given."""
        outcome, raw, noise = self.outcomes[k], units.logits[model][:, k], self.disclosure.epsilon
        guest = model.startswith("local:") and model != self.own
        there, some = known(units.labels[:, k], units.patients)
        missing = "not run" if np.isnan(raw).any() else self.disclosure.withheld(some)
        closed = guest or units.patients is not None or not self.disclosure.histograms
        if missing is None and noise and closed:  # all that noise protects is a histogram
            missing = "declined"
        if missing:
            return Scores(model=model, outcome=outcome, missing=missing)
        raw = raw[there]
        if not guest and not self.disclosure.histograms:
            return self._exact(model, outcome, raw, some, histogram_missing="declined")
        thresholds = [chooser.threshold for chooser in (common, chosen) if chooser is not None]
        histogram = self.disclosure.histogram(raw, some, thresholds)
        if noise:
            return Scores(
                model=model,
                outcome=outcome,
                histogram=histogram,
                epsilon=noise,
                positives=max(0, histogram.total_positives),
                negatives=max(0, histogram.total_negatives),
            )
        found = self._exact(model, outcome, raw, some)
        if guest:
            return found
        own = (
            {
                "site_threshold": chosen.threshold,
                "site_brier": figures.brier(chosen.calibration.logits(raw), some),
            }
            if chosen
            else {}
        )
        probabilities = self.probabilities(raw, some, histogram, common, chosen)
        return found.model_copy(
            update={"histogram": histogram, "probabilities": probabilities, **own}
        )

    @staticmethod
    def _exact(
        model: ModelName,
        outcome: str,
        raw: Logits,
        units: Units,
        histogram_missing: Missing | None = None,
    ) -> Scores:
        positives = int(units.positive.sum())
        return Scores(
            model=model,
            outcome=outcome,
            positives=positives,
            negatives=len(raw) - positives,
            auroc=figures.auroc(raw, units) if units.both else None,
            variance=figures.auroc_variance(raw, units) if units.both else None,
            average_precision=figures.average_precision(raw, units) if units.both else None,
            histogram_missing=histogram_missing,
            missing=None if units.both else "one class",
        )

    def probabilities(
        self,
        raw: Logits,
        units: Units,
        histogram: Histogram,
        common: Operating | None,
        chosen: Choices | None,
    ) -> Probabilities | None:
        """Figures of the probabilities by the common calibration, else by the site's own."""
        line = common.calibration if common is not None else None
        if line is not None:
            calibrated = line.intercept + line.slope * raw
        elif chosen is not None:
            calibrated = chosen.calibration.logits(raw)
        else:
            return None
        shift, slope = figures.shift_and_slope(calibrated, units)
        return Probabilities(
            by="common" if line is not None else "site",
            brier=figures.brier(calibrated, units),
            intercept=shift,
            slope=slope,
            curve=self.disclosure.curve(histogram, raw, np.asarray(expit(calibrated)), units),
        )

    def choices(self, validation: Scored, model: ModelName, k: int) -> Choices | None:
        """The site's own threshold and calibration from its validation units; None where these may
        not speak or lack a class."""
        if model not in validation.logits or self.disclosure.epsilon:
            return None
        raw = validation.logits[model][:, k]
        there, units = known(validation.labels[:, k], validation.patients)
        if np.isnan(raw).any() or self.disclosure.withheld(units) or not units.both:
            return None
        return choose(raw[there], units)

    def comparisons(self, units: Scored, models: Sequence[ModelName]) -> list[Comparison]:
        """The global model minus the site's own, and minus the base, where they were asked for."""
        found = []
        for other in (self.own, "base"):
            if "global" not in models or other not in models:
                continue
            for k, outcome in enumerate(self.outcomes):
                empty = Comparison(model="global", other=other, outcome=outcome)
                there, some = known(units.labels[:, k], units.patients)
                pair = [units.logits[m][there, k] for m in ("global", other) if m in units.logits]
                missing: Missing | None = self.disclosure.withheld(some)
                if len(pair) < 2 or any(np.isnan(logits).any() for logits in pair):
                    missing = "not run"
                elif missing is None and not some.both:
                    missing = "one class"
                if missing:
                    found.append(empty.model_copy(update={"missing": missing}))
                    continue
                one, two = pair
                apart = figures.deviations(one, some) - figures.deviations(two, some)
                paired = {
                    "difference": figures.auroc(one, some) - figures.auroc(two, some),
                    "variance": figures.variance(apart, some),
                }
                found.append(empty.model_copy(update=paired))
        return found

    def of_subgroups(self, units: Scored) -> list[Subgroup]:
        """The global model in each group that the experiment names, where counts permit."""
        found = []
        for column, named in self.subgroups.items():
            among = len(named) + (0 if isinstance(named[0], str) else 1)
            for k, outcome in enumerate(self.outcomes):
                if not self.disclosure.subgroups:
                    found += [
                        Subgroup(outcome=outcome, column=column, group=g, missing="declined")
                        for g in range(among)
                    ]
                    continue
                there, some = known(units.labels[:, k], units.patients)
                groups, raw = units.groups[column][there], units.logits["global"][there, k]
                told = (
                    set()
                    if self.disclosure.withheld(some)
                    else self.disclosure.groups(some, groups, among)
                )
                for group in range(among):
                    empty = Subgroup(outcome=outcome, column=column, group=group)
                    if group not in told:
                        found.append(empty.model_copy(update={"missing": "below minimum"}))
                        continue
                    inside = groups == group
                    own, logits = some.of(inside), raw[inside]
                    of_group = {
                        "positives": int(own.positive.sum()),
                        "negatives": int((~own.positive).sum()),
                        "auroc": figures.auroc(logits, own),
                        "variance": figures.auroc_variance(logits, own),
                    }
                    found.append(empty.model_copy(update=of_group))
        return found
