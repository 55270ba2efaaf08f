"""The disclosure rule of a site: figures leave only if they are from enough patients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.figures import CurveBin, Missing
from fedrad.exchange.histogram import CELLS, Histogram, count_in_bins, grid_cells
from fedrad.exchange.messages import Counts, Monitoring
from fedrad.stats.exact import Logits, Units, auroc

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
        (`noisy_histogram`), and each has a privacy cost of `epsilon`.
    histograms, subgroups
        Whether histograms, and figures of groups, may be released at all.
    """

    minimum_units: int
    minimum_bin: int
    epsilon: float = 0.0
    histograms: bool = True
    subgroups: bool = True

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
        if self.why_withheld(units) == "below minimum":
            return Counts(positives=None, negatives=None)
        positives = int(units.positive.sum())
        return Counts(positives=positives, negatives=len(units.labels) - positives)

    def monitoring(self, logits: Logits, units: Units) -> Monitoring:
        """AUROC and loss of logits (n,), for the curve over rounds."""
        if missing := self.why_withheld(units):
            return Monitoring(missing=missing)
        if self.epsilon:
            return Monitoring(missing="declined")
        loss = float(np.mean(np.logaddexp(0, logits) - units.labels * logits))
        if not units.both:
            return Monitoring(loss=loss, missing="one class")
        return Monitoring(auroc=auroc(logits, units), loss=loss)

    def denoising(self, losses: Logits, units: Units) -> Monitoring:
        """Mean denoising error of a generator, for the curve over rounds; `losses`: (n,)."""
        if missing := self.why_withheld(units):
            return Monitoring(missing=missing)
        if self.epsilon:
            return Monitoring(missing="declined")
        return Monitoring(loss=float(np.mean(losses)))

    def histogram(self, logits: Logits, units: Units, at: list[int]) -> Histogram:
        """Histogram of logits (n,) with enough patients in each bin, or with noise. `at`: preferred
        edges, most important first; each is used if its neighbouring bins allow it."""
        if self.epsilon:
            return self.noisy_histogram(logits, units)
        return count_in_bins(
            logits, units.labels, minimum_bin=self.minimum_bin, patients=units.patients, at=at
        )

    def noisy_histogram(self, logits: Logits, units: Units) -> Histogram:
        """Histogram of logits (n,) in fixed bins, whose counts carry discrete Laplace noise with
        P(k) ∝ exp(-ε·|k|) (the geometric mechanism).

        It is ε-differentially private for one unit more or less, because one unit is in one bin of
        one class. The noise is an integer, so that rounding of floats cannot disclose the count.

        References
        ----------
        Ghosh, Roughgarden & Sundararajan 2009; Dwork et al. 2006; Mironov 2012.
        """
        edges = list(range(0, CELLS + 1, CELLS // NOISY_BINS))
        exact = Histogram(
            edges=edges,
            **{
                name: np.add.reduceat(
                    np.bincount(grid_cells(logits[chosen]), minlength=CELLS), edges[:-1]
                ).tolist()
                for name, chosen in (("positives", units.positive), ("negatives", ~units.positive))
            },
        )
        rng = np.random.default_rng()  # seeded by the system, so that no one can repeat the draws

        def noisy(counts: list[int]) -> list[int]:
            draws = rng.geometric(1 - np.exp(-self.epsilon), (2, len(counts)))
            return [int(n) for n in np.array(counts) + draws[0] - draws[1]]

        return Histogram(
            edges=edges,
            positives=noisy(exact.positives),
            negatives=noisy(exact.negatives),
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
