"""From raw logits to probabilities of a stated prevalence.

A recipe that draws classes evenly makes raw logits speak of a prevalence of one half. That is
undone by the prior, z + logit(π) - logit(π_train) (Saerens, Latinne & Decaestecker 2002, eq. 2.4
on the logit scale), and the rest by an intercept and a slope fitted on validation patients (Platt
1999; Cox 1958). A positive slope keeps every rank, so no AUROC and no threshold on raw logits
changes.
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
"""Prevalence of training draws where classes are drawn evenly (π_train)."""

FEWEST = 10
"""Units of each class below which intercept and slope are not fitted: their standard errors would
exceed what they correct. Then the prior alone is."""


class Calibration(Settings):
    """calibrated logit = intercept + slope · raw logit, for patients of `prevalence`.

    `method` "prior": only the training prevalence was undone (slope 1), and `why` says the reason.
    `positives`, `negatives`: the validation units behind it.
    """

    intercept: float
    slope: Annotated[float, Field(gt=0)]
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    method: Literal["fitted", "prior"]
    why: str | None = None
    positives: int
    negatives: int

    def logits(self, raw: ArrayLike) -> Floats:
        """Calibrated logits of raw ones, any shape."""
        return self.intercept + self.slope * np.asarray(raw, float)

    def probabilities(self, raw: ArrayLike) -> Floats:
        """Probabilities in [0, 1] of raw logits, any shape."""
        return np.asarray(expit(self.logits(raw)))

    def at_prevalence(self, prevalence: float) -> "Calibration":
        """The same for patients of another prevalence in (0, 1), if those with and without the
        outcome look alike there: the intercept moves by the difference of the prior logits."""
        if not 0 < prevalence < 1:
            raise ValueError(f"prevalence = {prevalence}: must lie between 0 and 1")
        shift = float(logit(prevalence) - logit(self.prevalence))
        return self.model_copy(
            update={"prevalence": prevalence, "intercept": self.intercept + shift}
        )


def undo_prior(positives: int, negatives: int, why: str) -> Calibration:
    """The correction by the prior alone, for the prevalence of these units (both at least 1)."""
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
    """Intercept and slope by maximum likelihood, units binned: `raw` (B,) logits, and the numbers
    (B,) of units of each class that have them.

    The fit starts from logits with the training prevalence undone; as the intercept is free, where
    it starts does not change where it ends. Instead of a fit comes the prior correction, with the
    reason, where a class has fewer than `FEWEST` units; where the maximum does not exist, the
    classes being separated (Albert & Anderson 1984); and where the slope is not positive, for
    then the order of the scores is wrong and no intercept mends it. Raises ValueError where a
    class has no unit: there is no prevalence then.
    """
    z, p, n = (np.asarray(values, float) for values in (raw, positives, negatives))
    count_p, count_n = int(p.sum()), int(n.sum())
    if not count_p or not count_n:
        raise ValueError("a calibration needs units of both classes")

    def prior(why: str) -> Calibration:
        return undo_prior(count_p, count_n, why)

    if min(count_p, count_n) < FEWEST:
        return prior(f"fewer than {FEWEST} validation units of a class")
    found = maximum_likelihood(z, p, n)
    if found is None:
        return prior("the classes are separated, so that a slope has no largest likelihood")
    intercept, slope = found
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
    """Intercept and slope of a logistic regression on logits (B,), from the numbers (B,) of units
    of each class. None where there is no maximum (a class is missing or the classes are separated)
    or it was not found."""
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
    found = minimize(
        loss, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-10}
    )
    if not np.abs(gradient(found.x)).max() < 1e-6:
        return None
    slope = float(found.x[1]) / spread
    return float(found.x[0]) - slope * centre, slope


def _spread(z: Floats, weights: Floats) -> float:
    centre = np.average(z, weights=weights)
    return float(np.sqrt(np.average((z - centre) ** 2, weights=weights)))
