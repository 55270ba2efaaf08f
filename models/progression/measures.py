"""Figures that measure simulated progressions, over trajectories and over sets of images."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

Floats = NDArray[np.floating]


def monotone_share(values: Floats) -> float:
    """Share of the trajectories (rows of (M, N + 1)) in which every value exceeds the previous."""
    return float((np.diff(values, axis=1) > 0).all(axis=1).mean())


def kendall_trends(values: Floats) -> Floats:
    """Kendall's τ_b between step number and value, for each trajectory of (M, N + 1). The result
    (M,) is in [-1, 1]; 0 for a constant trajectory."""
    steps = np.arange(values.shape[1])
    return np.array([np.nan_to_num(kendalltau(steps, row).statistic) for row in values])


def kernel_inception_distance(one: Floats, other: Floats) -> float:
    """Kernel inception distance (KID) of two sets of features, (n, F) and (m, F).

    It is the unbiased estimate of the squared maximum mean discrepancy under the kernel
    (x·y/F + 1)³ (Bińkowski et al. 2018, arXiv 1801.01401). For two sets from one distribution it is
    0 on average for any set size, so it can be negative. Raises ValueError for fewer than 2 images.
    """
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
    """How much closer to the real later image the edited image is than the unedited one.

    For each patient: distance(still, later) - distance(moved, later), where the distance is the
    root mean square over pixels. Positive if the edit went in the right direction.

    Parameters
    ----------
    moved, still, later
        Edited image, unedited image and real later image of each patient, (M, S, S).

    Returns
    -------
    array
        (M,), in grey levels.
    """

    def distance(a: Floats) -> Floats:
        return np.asarray(np.sqrt(((a.astype(float) - later) ** 2).mean(axis=(1, 2))))

    return distance(still) - distance(moved)
