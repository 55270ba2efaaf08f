"""How good simulated progressions are: figures over trajectories and over sets of images."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

Floats = NDArray[np.floating]


def monotone_share(values: Floats) -> float:
    """Share of trajectories, rows of (M, N + 1), in which every value is above the one before."""
    return float((np.diff(values, axis=1) > 0).all(axis=1).mean())


def kendall_trends(values: Floats) -> Floats:
    """Kendall's τ_b of each trajectory (M, N + 1) with its step, (M,), in [-1, 1]; 0 for one that
    does not move."""
    steps = np.arange(values.shape[1])
    return np.array([np.nan_to_num(kendalltau(steps, row).statistic) for row in values])


def kernel_inception_distance(one: Floats, other: Floats) -> float:
    """KID: the unbiased squared maximum mean discrepancy of features (n, F) and (m, F) under the
    kernel (x·y/F + 1)³ (Bińkowski et al. 2018, arXiv 1801.01401). 0 on average for two sets from
    one distribution, of whatever size; it can be negative. Raises ValueError for fewer than 2."""
    if min(len(one), len(other)) < 2:
        raise ValueError(f"{len(one)} and {len(other)} images: at least 2 of each are needed")
    x, y = (np.asarray(f, float) for f in (one, other))

    def kernel(a: Floats, b: Floats) -> Floats:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    n, m = len(x), len(y)
    within = [
        (k.sum() - np.trace(k)) / (c * (c - 1)) for k, c in ((kernel(x, x), n), (kernel(y, y), m))
    ]
    return float(sum(within) - 2 * kernel(x, y).mean())


def gain_towards_later(moved: Floats, still: Floats, later: Floats) -> Floats:
    """How much nearer to the real later image an edited image is than the unedited one, for each
    patient: distance(still, later) - distance(moved, later), root mean square over pixels, (M,).
    All (M, S, S); positive: the edit went the right way."""

    def distance(a: Floats) -> Floats:
        return np.asarray(np.sqrt(((a.astype(float) - later) ** 2).mean(axis=(1, 2))))

    return distance(still) - distance(moved)
