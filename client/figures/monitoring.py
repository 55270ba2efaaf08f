"""What leaves in each round about the validation patients.

Rounding alone protects nobody: who can choose the order of the patients tries orders until the
rounded figure changes, and then knows the two patients that made it change. So each figure has
noise, of the size of its own standard error, before it is rounded. The loss of a classifier does
not leave: of a model that gives all patients but one a logit of about 0, whoever sends it knows
everyone's loss but that one's.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log10, sqrt
from typing import Literal

import numpy as np

from fedrad.exchange.rounding import to_step
from fedrad.stats.exact import Logits, Units, auroc

from .noise import KeptNoise

HowMonitored = Literal["rounded", "noisy", "none"]
UNIT = 1000
"""Noise is added to figures in thousandths, as integers."""
ROUNDS = 30
"""With more questions about an outcome the noise of rounded figures grows like their square root,
so that a longer experiment gives away no more than one of 30 rounds."""
FINEST = 0.01
CAP = 1.0
"""Largest denoising error of a patient that counts. A generator that predicts nothing has about 1,
because what it has to predict has about the variance 1."""


@dataclass(frozen=True)
class MonitoringRule:
    """How figures on validation patients are disguised in every round.

    Parameters
    ----------
    how
        "rounded": with noise of the figure's standard error, then rounded. "noisy": with Laplace
        noise, all figures of the experiment together within `epsilon`.
    minimum_units
        Smallest number of patients of a class.
    secret
        The site's secret, from which the noise is drawn.
    questions
        How many models are asked about for one outcome of one patient, in all trainings of a
        cross-validation in which the patient validates.
    figures
        Figures of the whole experiment: models × outcomes × trainings of a cross-validation.
    epsilon
        Privacy cost of all these figures together, with "noisy".
    """

    how: HowMonitored
    minimum_units: int
    secret: bytes
    questions: int
    figures: int
    epsilon: float

    def auroc(self, logits: Logits, units: Units, model: str, outcome: str) -> float:
        """AUROC of logits (n,), with noise and rounded.

        "rounded": the noise has the standard error of an AUROC of a model that tells nothing,
        √((P + N + 1) / (12·P·N)) with P and N patients of each class (Mann & Whitney 1947). It
        depends on the numbers only, so that it tells nothing about the scores.

        "noisy": Laplace noise. Both classes need not be present. Sensitivity: let T be the sum
        over all pairs of a positive and a negative of 1/2 if the positive is above, -1/2 if below,
        0 if equal, P and N the numbers of patients, and m `minimum_units`. Released is

            f = 1/2 + T / (max(P, m) · max(N, m)),

        which is the AUROC if both classes have m patients. Remove a positive. If P > m, f - 1/2 is
        a mean over positives of values within ±1/2, and the mean of the others differs from it by
        at most 1/P < 1/m. If P ≤ m, one summand of at most N/2 is lost, and f changes by at most
        1/(2m). So removing or adding one patient, of either class, changes f by at most 1/m, and
        replacing one by another by at most 2/m, also if the outcome of one of them is unknown.
        Rounding to thousandths makes it at most ⌈1000 · 2/m⌉ thousandths.
        """
        p, n = units.count_patients(units.positive), units.count_patients(~units.positive)
        if self.how == "noisy":
            m = self.minimum_units
            pairs = p * n * (auroc(logits, units) - 0.5) if units.both else 0.0
            exact = 0.5 + pairs / (max(p, m) * max(n, m))
            return self._noisy(exact, 2 / m, model, outcome)
        exact = auroc(logits, units)
        return self._rounded(exact, sqrt((p + n + 1) / (12 * p * n)), model, outcome)

    def denoising(self, losses: Logits, units: Units, model: str, outcome: str) -> float:
        """Mean denoising error (n,), each at most `CAP`, with noise and rounded.

        A mean of n values between 0 and c has a standard error of at most c/(2·√n) (Popoviciu).
        For the noise of "noisy", the sum is divided by at least `minimum_units` m: replacing one
        patient changes it by at most c/m.
        """
        patients = units.count_patients(np.ones(len(units.labels), bool))
        capped = np.minimum(np.nan_to_num(losses, nan=CAP), CAP)
        if self.how == "noisy":
            m = self.minimum_units
            exact = float(capped.sum()) / max(patients, m)
            return self._noisy(exact, CAP / m, model, outcome)
        return self._rounded(float(capped.mean()), CAP / (2 * sqrt(patients)), model, outcome)

    def _rounded(self, exact: float, error: float, model: str, outcome: str) -> float:
        error *= sqrt(max(1.0, self.questions / ROUNDS))
        variance = Fraction(max(1, round(error * UNIT)) ** 2)
        drawn = self._draws(exact, model, outcome).gauss(variance)
        return to_step(_within(exact, drawn), step_of_error(error))

    def _noisy(self, exact: float, sensitivity: float, model: str, outcome: str) -> float:
        scale = ceil(UNIT * sensitivity) * self.figures / Fraction(repr(self.epsilon))
        drawn = self._draws(exact, model, outcome).laplace(scale)
        return to_step(_within(exact, drawn), FINEST)

    def _draws(self, exact: float, model: str, outcome: str) -> KeptNoise:
        return KeptNoise(self.secret, "monitoring", self.how, model, outcome, repr(exact))


def step_of_error(error: float) -> float:
    """The step that is nearest to a standard error on a logarithmic scale among 1, 2 and 5 times
    the powers of ten, but at least 0.01."""
    exponents = range(-2, 1)
    steps = [digit * 10.0**k for k in exponents for digit in (1, 2, 5)]
    return max(FINEST, min(steps, key=lambda step: abs(log10(step) - log10(error))))


def _within(exact: float, drawn: int) -> float:
    return min(UNIT, max(0, round(exact * UNIT) + drawn)) / UNIT
