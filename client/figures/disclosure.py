"""The disclosure rule of a site: figures leave only if they are from enough patients.

**What ε means here.** Two cohorts are neighbours if one patient of the one is replaced by another
patient, with another image and outcome, in the other, and all others are in the same parts of the
split. What leaves then has nearly the same probability for both: the ratio is at most exp(ε).
Whoever knows all other patients cannot tell well which image and which outcome the last one has.

What this does not cover, because it is the same in both cohorts: the number of patients in each
part, which leaves with the weights, and so whether there is one patient more; in which part a
patient is, and that the division of classes evenly over the parts can move another patient when
one is added; weights, which carry no noise; whether a site trains at all, which depends on its
exact numbers; and whether an outcome is known of any patient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedrad.client.settings import Policy
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import CurveBin, Missing
from fedrad.exchange.histogram import CELLS, PATIENT_CELLS, Histogram, count_in_bins, grid_cells
from fedrad.exchange.messages import Counts, Monitoring
from fedrad.exchange.rounding import to_step
from fedrad.stats.exact import Logits, Units

from .monitoring import FINEST, HowMonitored, MonitoringRule
from .noise import KeptNoise

NOISY_BINS = 16
"""Number of bins of a noisy histogram. They are fixed, because their edges would disclose something
about the scores."""
CURVE_BINS = 10
"""Largest number of bins of a calibration curve."""


@dataclass(frozen=True)
class Disclosure:
    """The disclosure rule of one site in one experiment.

    Parameters
    ----------
    minimum_units
        Smallest number of patients of a class that is present before any figure about it is
        released. That a class is absent is released: the site then is a one-class site.
    minimum_bin
        Smallest number of patients in a bin of a histogram.
    epsilon
        If above 0, no exact figure of scores is released: histograms carry noise
        (`noisy_histogram`), and each has a privacy cost of `epsilon`. Numbers of patients of each
        class, and losses, are withheld.
    histograms, subgroups
        Whether histograms, and figures of groups, may be released at all.
    secret
        The site's secret for noise that is kept (`KeptNoise`). Without it, what needs noise raises
        ValueError: it never leaves with other noise, or none.
    monitored
        What leaves about validation patients in each round (`MonitoringRule`).
    questions, figures
        As in `MonitoringRule`.
    """

    minimum_units: int
    minimum_bin: int
    epsilon: float = 0.0
    histograms: bool = True
    subgroups: bool = True
    secret: bytes | None = None
    monitored: HowMonitored = "rounded"
    questions: int = 30
    figures: int = 30

    @classmethod
    def of(cls, policy: Policy, experiment: Experiment, secret: bytes) -> Self:
        """The rule of a site with this policy in this experiment."""
        plan = experiment.evaluation
        # The mixtures of the one validation question; without an ensemble the final model at most.
        mixtures = len({*plan.ensemble, 1.0})
        each = experiment.federation.rounds + mixtures
        trainings = max(1, plan.folds * plan.repeats)
        # A patient validates in some of the trainings: in this many, on average.
        validates = trainings * (1 - 1 / plan.folds) * plan.validation if plan.folds else 1
        return cls(
            max(policy.minimum_units, plan.minimum_units),
            policy.minimum_bin,
            policy.epsilon,
            histograms=policy.share_histograms,
            subgroups=policy.share_subgroups,
            secret=secret,
            monitored=policy.monitoring,
            questions=each * max(1, ceil(validates)),
            figures=each * len(experiment.outcomes) * trainings,
        )

    @property
    def epsilon_of_monitoring(self) -> float:
        """Privacy cost of all monitoring of one experiment; 0 without noise that is accounted."""
        return self.epsilon if self.monitored == "noisy" else 0.0

    def why_withheld(self, units: Units) -> Missing | None:
        """Why no figure of these units may be released; None if it may."""
        if not len(units.labels):
            return "no units"
        classes = (units.count_patients(chosen) for chosen in (units.positive, ~units.positive))
        if any(0 < n < self.minimum_units for n in classes):
            return "below minimum"
        return None

    def counts(self, units: Units) -> Counts:
        """Number of units of each class, None where withheld."""
        if self.epsilon or self.why_withheld(units) == "below minimum":
            return Counts(positives=None, negatives=None)
        positives = int(units.positive.sum())
        return Counts(positives=positives, negatives=len(units.labels) - positives)

    def monitoring(self, logits: Logits, units: Units, model: str, outcome: str) -> Monitoring:
        """AUROC of logits (n,), for the curve over rounds.

        Parameters
        ----------
        logits
            (n,) raw logits.
        units
            The n units.
        model
            Digest of the model's weights.
        outcome
            The outcome.
        """
        missing = self._why_not_monitored(units)
        if missing is None and self.monitored == "rounded" and not units.both:
            missing = "one class"
        if missing:
            return Monitoring(missing=missing)
        value = self._rule.auroc(logits, units, model, outcome)
        return Monitoring(auroc=value, epsilon=self.epsilon_of_monitoring or None)

    def denoising(self, losses: Logits, units: Units, model: str, outcome: str) -> Monitoring:
        """Mean denoising error of a generator, for the curve over rounds; `losses`: (n,). The
        others as in `monitoring`."""
        if missing := self._why_not_monitored(units):
            return Monitoring(missing=missing)
        value = self._rule.denoising(losses, units, model, outcome)
        return Monitoring(loss=value, epsilon=self.epsilon_of_monitoring or None)

    def training_loss(self, loss: float) -> float | None:
        """Mean training loss as it may leave: to two decimals, or not at all. It adds little to the
        weights that leave with it, which were trained on the same patients."""
        if self.epsilon or self.monitored == "none":
            return None
        return to_step(loss, FINEST)

    def _why_not_monitored(self, units: Units) -> Missing | None:
        """With noise that is accounted, numbers of each class decide nothing: they would disclose
        whether a class reaches the minimum."""
        if not len(units.labels):
            return "no units"
        if self.monitored == "noisy":
            several = units.patients is not None
            return "declined" if several or not self.epsilon else None
        if self.monitored == "none" or self.epsilon:
            return "declined"
        return self.why_withheld(units)

    @property
    def _rule(self) -> MonitoringRule:
        return MonitoringRule(
            how=self.monitored,
            minimum_units=self.minimum_units,
            secret=self._secret,
            questions=self.questions,
            figures=self.figures,
            epsilon=self.epsilon,
        )

    @property
    def _secret(self) -> bytes:
        if self.secret is None:
            raise ValueError("a figure with noise needs the site's secret")
        return self.secret

    def histogram(
        self, logits: Logits, units: Units, at: list[int], allowed: Callable[[int], bool]
    ) -> Histogram:
        """Histogram of logits (n,) with enough patients in each bin. `at`: preferred edges, most
        important first; each is used if its neighbouring bins allow it. `allowed`: whether an edge
        may be used at all (`Divided`)."""
        if self.epsilon:
            raise ValueError("with epsilon, only histograms with noise are released")
        return count_in_bins(
            logits,
            units.labels,
            minimum_bin=self.minimum_bin,
            patients=units.patients,
            at=at,
            allowed=allowed,
        )

    def noisy_histogram(self, logits: Logits, units: Units, model: str, outcome: str) -> Histogram:
        """Histogram of logits (n,) in fixed bins, whose counts carry discrete Laplace noise with
        P(k) ∝ exp(-ε·|k|/2) (the geometric mechanism).

        It is ε-differentially private for the replacement of one patient with one unit: the patient
        leaves one count, and the other enters another one, so that two counts change by one. The
        noise is kept (`KeptNoise`); other parameters as in `monitoring`.

        References
        ----------
        Ghosh, Roughgarden & Sundararajan 2009; Dwork et al. 2006.
        """
        edges = list(range(0, CELLS + 1, CELLS // NOISY_BINS))
        positives, negatives = (
            np.add.reduceat(
                np.bincount(grid_cells(logits[chosen]), minlength=CELLS), edges[:-1]
            ).tolist()
            for chosen in (units.positive, ~units.positive)
        )
        draws = KeptNoise(self._secret, "histogram", model, outcome, positives, negatives)
        scale = PATIENT_CELLS / Fraction(repr(self.epsilon))
        return Histogram(
            edges=edges,
            positives=[n + draws.laplace(scale) for n in positives],
            negatives=[n + draws.laplace(scale) for n in negatives],
            noisy=True,
        )

    def curve(
        self, histogram: Histogram, raw: Logits, probabilities: Logits, units: Units
    ) -> list[CurveBin]:
        """Calibration curve: neighbouring bins of the histogram are joined until each holds a tenth
        of the units and `minimum_units` patients.

        Parameters
        ----------
        histogram
            Of the same units, whose bins are joined.
        raw
            (n,) raw logits.
        probabilities
            (n,) calibrated probabilities.
        units
            The n units.
        """
        cells = grid_cells(raw)
        wanted = len(cells) / CURVE_BINS
        ends, start = [], 0
        for end in histogram.edges[1:]:
            inside = (cells >= start) & (cells < end)
            enough = units.count_patients(inside) >= self.minimum_units
            if enough and int(inside.sum()) >= wanted:
                ends.append(end)
                start = end
        if not ends:
            ends = [CELLS]
        ends[-1] = CELLS  # units left over join the last bin
        starts = [0, *ends[:-1]]
        return [
            CurveBin(end=b, mean=min(1.0, float(probabilities[(cells >= a) & (cells < b)].mean())))
            for a, b in zip(starts, ends, strict=True)
        ]

    def groups(self, units: Units, groups: NDArray[np.int64], number: int) -> set[int]:
        """Groups whose figures may be released.

        A group needs `minimum_units` patients of each class. The difference between all units and
        the released groups must not disclose a small rest (complementary suppression): either no
        patients are outside these groups, or at least `minimum_units` of each class; if not, the
        smallest group is withheld too.

        Parameters
        ----------
        units
            The n units.
        groups
            (n,) group of each unit, -1 if it is in none.
        number
            Number of groups.

        Returns
        -------
        set
            Groups that may be released.
        """
        size = {
            g: [
                units.count_patients((groups == g) & of_class)
                for of_class in (units.positive, ~units.positive)
            ]
            for g in range(number)
        }
        shown = {g for g, classes in size.items() if min(classes) >= self.minimum_units}
        while shown:
            outside = ~np.isin(groups, list(shown))
            rest = [
                units.count_patients(outside & of_class)
                for of_class in (units.positive, ~units.positive)
            ]
            if not any(rest) or min(rest) >= self.minimum_units:
                break
            shown.remove(min(shown, key=lambda g: (min(size[g]), sum(size[g]), g)))
        return shown
