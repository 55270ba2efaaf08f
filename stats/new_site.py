"""Prediction of the AUROC at a hospital that did not take part: random-effects meta-analysis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import t as student

from fedrad.models.calibration import Floats

from .auroc import AurocFigures
from .intervals import Interval, hanley_mcneil

FEWEST_SITES = 4
"""Smallest number of sites for a prediction interval."""


@dataclass(frozen=True)
class NewSite:
    """Prediction for a new site.

    `mean`, `interval`: random-effects mean AUROC and its confidence interval. `prediction`:
    interval in which the true AUROC of another site of the same kind is expected. `tau`: standard
    deviation between sites, of logits.
    """

    mean: float
    interval: Interval
    prediction: Interval
    tau: float


def new_site(cells: Sequence[AurocFigures], confidence: float) -> NewSite | None:
    """Random-effects meta-analysis of logit(AUROC) of at least four sites; None with fewer.

    An AUROC of 0 or 1, or one without variance, is moved by half a pair and gets Hanley and
    McNeil's variance.

    References
    ----------
    Debray et al. 2019, Statistical Methods in Medical Research 28:2768.
    """
    with_auroc = [(c.auroc, c.variance, c) for c in cells if c.auroc is not None]
    if len(with_auroc) < FEWEST_SITES:
        return None
    values, variances = [], []
    for auroc, variance, c in with_auroc:
        if auroc in (0.0, 1.0) or not variance:
            pairs = c.positives * c.negatives
            moved = (pairs * auroc + 0.5) / (pairs + 1)
            values.append(moved)
            variances.append(hanley_mcneil(moved, c.positives, c.negatives))
        else:
            values.append(auroc)
            variances.append(variance)
    a = np.array(values)
    return meta_analysis(logit(a), np.array(variances) / (a * (1 - a)) ** 2, confidence)


def meta_analysis(y: Floats, v: Floats, confidence: float) -> NewSite:
    """Random-effects meta-analysis of logits.

    τ² is estimated as by Paule & Mandel (1982). The interval of the mean has the variance of
    Hartung & Knapp (2001) and Student's t with k - 1 degrees of freedom. The prediction interval is
    the mean ± t·√(τ² + that variance) with k - 2 degrees of freedom (Higgins et al. 2009; Partlett
    & Riley 2017).

    Parameters
    ----------
    y, v
        (k,) logits of the AUROCs of k sites, and their variances.
    confidence
        Confidence level, in (0.5, 1).
    """
    k = len(y)

    def mean_and_excess(tau2: float) -> tuple[float, float]:
        w = 1 / (v + tau2)
        mean = float(w @ y / w.sum())
        return mean, float(w @ (y - mean) ** 2) - (k - 1)

    tau2 = 0.0
    if mean_and_excess(0.0)[1] > 0:
        high = float(np.var(y, ddof=1)) + 1.0
        while mean_and_excess(high)[1] > 0:
            high *= 2
        tau2 = float(brentq(lambda t: mean_and_excess(t)[1], 0.0, high, xtol=1e-12))
    w = 1 / (v + tau2)
    mean = float(w @ y / w.sum())
    # Q/(k-1) is at least 1, so that the interval is not narrower than with known variances.
    scale = max(1.0, float(w @ (y - mean) ** 2) / (k - 1))
    error2 = scale / float(w.sum())
    half = float(student.ppf(0.5 + confidence / 2, k - 1)) * np.sqrt(error2)
    wide = float(student.ppf(0.5 + confidence / 2, k - 2)) * np.sqrt(tau2 + error2)
    return NewSite(
        mean=float(expit(mean)),
        interval=(float(expit(mean - half)), float(expit(mean + half))),
        prediction=(float(expit(mean - wide)), float(expit(mean + wide))),
        tau=float(np.sqrt(tau2)),
    )
