"""Calibration: raw logits to probabilities for a stated prevalence.

Training draws both classes equally often, so raw logits hold for a prevalence of one half. The
prior correction z + logit(π) - logit(π_train) undoes this (Saerens, Latinne & Decaestecker 2002,
eq. 2.4 on the logit scale). An intercept and a slope, fitted on validation patients, correct the
rest (Platt 1999; Cox 1958). A positive slope keeps the order of the scores, so AUROC and
thresholds on raw logits stay the same.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit, logit

from .settings import Settings

Floats = NDArray[np.float64]

BALANCED = 0.5
"""Prevalence among training draws, because classes are drawn equally often (π_train)."""

FEWEST = 10
"""Units of each class that a fit needs. With fewer, the standard errors of intercept and slope
would exceed what they correct, and only the prior correction is applied."""


class Calibration(Settings):
    """calibrated logit = intercept + slope · raw logit, for patients of one prevalence.

    Attributes
    ----------
    intercept, slope
        Of the line.
    prevalence
        Prevalence that the calibrated probabilities hold for, in (0, 1).
    method
        "fitted", or "prior" if only the prior correction was applied (slope 1).
    why
        Why there was no fit.
    positives, negatives
        Numbers of validation units.
    """

    intercept: float
    slope: Annotated[float, Field(gt=0)]
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    method: Literal["fitted", "prior"]
    why: str | None = None
    positives: int
    negatives: int

    def logits(self, raw: ArrayLike) -> Floats:
        """Calibrated logits of raw logits, of any shape."""
        return self.intercept + self.slope * np.asarray(raw, float)

    def probabilities(self, raw: ArrayLike) -> Floats:
        """Probabilities in [0, 1] of raw logits, of any shape."""
        return np.asarray(expit(self.logits(raw)))

    def at_prevalence(self, prevalence: float) -> "Calibration":
        """The calibration for patients of another prevalence in (0, 1).

        The intercept moves by the difference of the prior logits. This assumes that images with
        the outcome look alike in both populations, and images without it too.
        """
        if not 0 < prevalence < 1:
            raise ValueError(f"prevalence = {prevalence}: must lie between 0 and 1")
        shift = float(logit(prevalence) - logit(self.prevalence))
        return self.model_copy(
            update={"prevalence": prevalence, "intercept": self.intercept + shift}
        )


def undo_prior(positives: int, negatives: int, why: str) -> Calibration:
    """The prior correction alone, for the prevalence of these units (each at least 1)."""
    prevalence = positives / (positives + negatives)
    return Calibration(
        intercept=float(logit(prevalence) - logit(BALANCED)),
        slope=1.0,
        prevalence=prevalence,
        method="prior",
        why=why,
        positives=positives,
        negatives=negatives,
    )


def fit(raw: ArrayLike, positives: ArrayLike, negatives: ArrayLike) -> Calibration:
    """Fit intercept and slope by maximum likelihood, on binned units.

    The prior correction is returned instead, with the reason, in three cases: a class has fewer
    than `FEWEST` units; the classes are separated, so that no maximum exists (Albert & Anderson
    1984); the slope is not positive, so that the order of the scores is wrong and no intercept can
    correct it.

    Parameters
    ----------
    raw
        Raw logits of the bins, (B,).
    positives, negatives
        Number of units of each class in each bin, (B,).

    Returns
    -------
    Calibration
        For the prevalence of these units.

    Raises
    ------
    ValueError
        If a class has no unit, because there is no prevalence then.
    """
    z, p, n = (np.asarray(values, float) for values in (raw, positives, negatives))
    count_p, count_n = int(p.sum()), int(n.sum())
    if not count_p or not count_n:
        raise ValueError("a calibration needs units of both classes")

    def prior(why: str) -> Calibration:
        return undo_prior(count_p, count_n, why)

    if min(count_p, count_n) < FEWEST:
        return prior(f"fewer than {FEWEST} validation units of a class")
    fitted = maximum_likelihood(z, p, n)
    if fitted is None:
        return prior("the classes are separated, so that a slope has no largest likelihood")
    intercept, slope = fitted
    if slope <= 0:
        return prior(f"the fitted slope is {slope:.2g}, not positive")
    return Calibration(
        intercept=intercept,
        slope=slope,
        prevalence=count_p / (count_p + count_n),
        method="fitted",
        positives=count_p,
        negatives=count_n,
    )


def maximum_likelihood(
    z: Floats, positives: Floats, negatives: Floats
) -> tuple[float, float] | None:
    """Intercept and slope of a logistic regression on logits.

    Parameters
    ----------
    z
        Logits of the bins, (B,).
    positives, negatives
        Number of units of each class in each bin, (B,).

    Returns
    -------
    tuple[float, float] | None
        Intercept and slope. None if there is no maximum (a class is missing, or the classes are
        separated) or the search does not converge.
    """
    total = float(positives.sum() + negatives.sum())
    of_p, of_n = z[positives > 0], z[negatives > 0]
    if not len(of_p) or not len(of_n):
        return None
    if of_n.max() <= of_p.min() or of_p.max() <= of_n.min():
        return None
    both = positives + negatives
    centre, spread = float(np.average(z, weights=both)), _spread(z, both)
    design = np.stack([np.ones_like(z), (z - centre) / spread], axis=1)  # (B, 2)

    def loss(theta: Floats) -> float:
        eta = design @ theta
        lost = positives @ np.logaddexp(0, -eta) + negatives @ np.logaddexp(0, eta)
        return float(lost) / total

    def gradient(theta: Floats) -> Floats:
        surplus = both * expit(design @ theta) - positives
        return np.asarray(design.T @ surplus / total)

    def hessian(theta: Floats) -> Floats:
        share = expit(design @ theta)
        weights = both * share * (1 - share)
        return np.asarray(design.T @ (weights[:, None] * design) / total)

    start = np.array([logit(positives.sum() / total), 0.0])
    optimum = minimize(
        loss, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-10}
    )
    if not np.abs(gradient(optimum.x)).max() < 1e-6:
        return None
    slope = float(optimum.x[1]) / spread
    return float(optimum.x[0]) - slope * centre, slope


def _spread(z: Floats, weights: Floats) -> float:
    centre = np.average(z, weights=weights)
    return float(np.sqrt(np.average((z - centre) ** 2, weights=weights)))
