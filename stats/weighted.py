"""Weighted means over sites."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fedrad.models.calibration import Floats


def pair_weighted_mean(
    values: ArrayLike, positives: Sequence[int], negatives: Sequence[int]
) -> Floats:
    """Mean over sites with the weights P_k·N_k: Σ P_k·N_k·A_k / Σ P_k·N_k. Of AUROCs it is the
    within-site AUROC.

    Parameters
    ----------
    values
        A_k of each site, (sites,), or several of each, (sites, K).
    positives, negatives
        Numbers P_k and N_k of each site, (sites,); at least one site has both.

    Returns
    -------
    Floats
        () or (K,).
    """
    weights = np.array(positives, float) * np.array(negatives, float)
    return np.asarray(weights @ np.asarray(values, float) / weights.sum())


def mean_with_variance(
    values: ArrayLike, variances: ArrayLike, weights: Sequence[float]
) -> tuple[float, float]:
    """Weighted mean Σ w_k·x_k of independent estimates, and its variance Σ w_k²·Var_k.

    Parameters
    ----------
    values, variances
        Estimate x_k of each site, (sites,), and its variance, (sites,).
    weights
        Weights, of which the w_k are the shares; taken as fixed, and not all 0.
    """
    share = np.array(weights, float) / float(sum(weights))
    return float(share @ np.asarray(values)), float(share**2 @ np.asarray(variances))
