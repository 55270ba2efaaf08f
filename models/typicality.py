"""Is an image like those a network knows? A distance in its features, and how rare it is.

The distance is Mahalanobis' in the features before the head (Lee et al. 2018, "A Simple Unified
Framework for Detecting Out-of-Distribution Samples", arXiv 1807.03888; one mean, for classes are
what is to be found out), the covariance that of Ledoit & Wolf (2004), which exists for fewer
images than features. How rare it is says a conformal p-value (Bates et al. 2023, "Testing for
outliers with conformal p-values", Annals of Statistics 51), valid whatever the distribution.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

Features = NDArray[np.float32]
Floats = NDArray[np.float64]

LEVEL = 0.05
"""An image is called unlike where at most this share of known ones is as far. That many images that
are like them are called so too."""

FEWEST = 20
"""Images on either side, reference and held out: with 19 or fewer held out no share can be as low
as LEVEL."""


class Typicality:
    """Distances from `reference` (R, F), held against those of `held_out` (H, F): images of the
    same kind that had no part in the reference. Raises ValueError for fewer than FEWEST of either.
    """

    def __init__(self, reference: Features, held_out: Features) -> None:
        if min(len(reference), len(held_out)) < FEWEST:
            raise ValueError(
                f"{len(reference)} reference and {len(held_out)} held-out images: at least "
                f"{FEWEST} of each are needed"
            )
        self._covariance = LedoitWolf().fit(reference.astype(float))
        self._held_out = np.sort(self.distances(held_out))

    def distances(self, features: Features) -> Floats:
        """Mahalanobis distances (N,) of features (N, F)."""
        if not len(features):
            return np.zeros(0)
        squared = np.asarray(self._covariance.mahalanobis(features.astype(float)), float)
        found: Floats = np.sqrt(np.maximum(squared, 0))
        return found

    def p_values(self, features: Features) -> Floats:
        """Share (N,) of images at least as far, the image itself counted: (1 + #{held out at least
        as far}) / (H + 1). At most α with probability at most α for an image of the same kind."""
        nearer = np.searchsorted(self._held_out, self.distances(features), side="left")
        share: Floats = (1 + len(self._held_out) - nearer) / (len(self._held_out) + 1)
        return share
