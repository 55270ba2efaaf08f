"""Out-of-distribution images: the distance of an image from known ones, and its p-value.

The distance is the Mahalanobis distance in the features before the head (Lee et al. 2018, "A Simple
Unified Framework for Detecting Out-of-Distribution Samples", arXiv 1807.03888), with one mean for
all images, because their classes are unknown. The covariance is estimated by Ledoit & Wolf (2004),
which also works with fewer images than features. The p-value is conformal (Bates et al. 2023,
"Testing for outliers with conformal p-values", Annals of Statistics 51): it is valid for every
distribution.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

Features = NDArray[np.float32]
Floats = NDArray[np.float64]

LEVEL = 0.05
"""An image counts as unlike the known ones if its p-value is at most this. The same share of images
of the known kind is called unlike by mistake."""

FEWEST = 20
"""Images needed as reference, and as many held out: with fewer than 19 held-out images no p-value
can be as low as LEVEL."""


class Typicality:
    """Compares the distances of images from a reference with those of held-out images.

    Parameters
    ----------
    reference
        Features (R, F) of known images.
    held_out
        Features (H, F) of images of the same kind that are not in the reference.

    Raises
    ------
    ValueError
        If there are fewer than FEWEST of either.
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
        distances: Floats = np.sqrt(np.maximum(squared, 0))
        return distances

    def p_values(self, features: Features) -> Floats:
        """Conformal p-values (N,): (1 + number of held-out images at least as far) / (H + 1).

        For an image of the known kind, the p-value is at most α with a probability of at most α.
        """
        nearer = np.searchsorted(self._held_out, self.distances(features), side="left")
        p_values: Floats = (1 + len(self._held_out) - nearer) / (len(self._held_out) + 1)
        return p_values
