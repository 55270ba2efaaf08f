"""What may leave a site: figures from enough units, whatever an experiment asks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.figures import CurveBin, Missing
from fedrad.exchange.histogram import CELLS, Histogram, count_in_bins, grid_cells
from fedrad.exchange.messages import Counts, Monitoring
from fedrad.stats.exact import Logits, Units, auroc

NOISY_BINS = 16
"""Bins of a noisy histogram: fixed, for where bins end would disclose something of the scores."""
CURVE_BINS = 10
"""At most so many bins has a calibration curve."""


@dataclass(frozen=True)
class Disclosure:
    """The rule of one site in one experiment.

    A class that is present needs at least `minimum_units` patients before anything about it is
    released; that a class is absent is given: it makes a site a one-class site. No bin of
    a histogram holds fewer than `minimum_bin` patients. With `epsilon` above 0 no exact figure of
    scores leaves: histograms carry noise (`noisy_histogram`), each at the cost of `epsilon`.
    `histograms`, `subgroups`: whether histograms, and figures of groups, leave at all.
    """

    minimum_units: int
    minimum_bin: int
    epsilon: float = 0.0
    histograms: bool = True
    subgroups: bool = True

    def why_withheld(self, units: Units) -> Missing | None:
        """Why no figure of some units may leave; None if they may."""
        if not len(units.labels):
            return "no units"
        classes = (units.count_patients(chosen) for chosen in (units.positive, ~units.positive))
        if any(0 < n < self.minimum_units for n in classes):
            return "below minimum"
        return None

    def counts(self, units: Units) -> Counts:
        """Units of each class, None where withheld."""
        if self.why_withheld(units) == "below minimum":
            return Counts(positives=None, negatives=None)
        positives = int(units.positive.sum())
        return Counts(positives=positives, negatives=len(units.labels) - positives)

    def monitoring(self, logits: Logits, units: Units) -> Monitoring:
        """AUROC and loss of logits (n,) for a round's curve."""
        if missing := self.why_withheld(units):
            return Monitoring(missing=missing)
        if self.epsilon:
            return Monitoring(missing="declined")
        loss = float(np.mean(np.logaddexp(0, logits) - units.labels * logits))
        if not units.both:
            return Monitoring(loss=loss, missing="one class")
        return Monitoring(auroc=auroc(logits, units), loss=loss)

    def denoising(self, losses: Logits, units: Units) -> Monitoring:
        """Mean denoising error of a generator for a round's curve; `losses` (n,)."""
        if missing := self.why_withheld(units):
            return Monitoring(missing=missing)
        if self.epsilon:
            return Monitoring(missing="declined")
        return Monitoring(loss=float(np.mean(losses)))

    def histogram(self, logits: Logits, units: Units, at: list[int]) -> Histogram:
        """Histogram of logits (n,) in bins of enough patients, with edges `at` where these allow
        it."""
        if self.epsilon:
            return self.noisy_histogram(logits, units)
        return count_in_bins(
            logits, units.labels, minimum_bin=self.minimum_bin, patients=units.patients, at=at
        )

    def noisy_histogram(self, logits: Logits, units: Units) -> Histogram:
        """Histogram in fixed bins whose counts carry discrete Laplace noise, P(k) ∝ exp(-ε·|k|)
        (the geometric mechanism, Ghosh, Roughgarden & Sundararajan 2009).

        ε-differentially private for one unit more or less (Dwork et al. 2006): one unit is in one
        bin of one class. Integers, so that no rounding of a float shows the count (Mironov 2012).
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
        rng = np.random.default_rng()  # seeded by the system: nobody may draw it again

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
        """Calibration curve: neighbouring bins of the histogram joined until each holds a tenth of
        the units and `minimum_units` patients. `raw`, `probabilities`: (n,)."""
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
        ends[-1] = CELLS  # what is left over joins the last bin
        starts = [0, *ends[:-1]]
        return [
            CurveBin(end=b, mean=min(1.0, float(probabilities[(cells >= a) & (cells < b)].mean())))
            for a, b in zip(starts, ends, strict=True)
        ]

    def groups(self, units: Units, groups: NDArray[np.int64], number: int) -> set[int]:
        """Of which of `number` groups figures may leave; `groups` (n,): the group of each unit,
        -1 for those in none that is named.

        A group needs `minimum_units` patients of each class. What is left over of the whole must
        not disclose a small rest (complementary suppression): the units outside the groups shown
        are nobody, or at least as many of each class; else the smallest group is withheld too.
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
