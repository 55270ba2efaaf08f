"""A mask of the lung fields, by a simple method or by torchxrayvision's network."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from fedrad.models.settings import InputSettings

from .lungs import LungNetwork, lung_box, open_lung_network, pspnet_weights_for

SoftMask = NDArray[np.float32]

SMALLEST_LUNG = 0.15
"""Smallest share of its half of the box that a dark region must fill to be a lung."""


def lung_mask(picture: NDArray[np.floating], network: LungNetwork | None = None) -> SoftMask | None:
    """A mask (S, S): 1 in the lungs, 0 outside, soft at the border; None if no lungs are found.

    With a network the mask is its lung pixels. Without one, the box of both lungs (`lung_box`) is
    divided at its middle, and the mask of each half is the convex hull of the largest region darker
    than the mean of the box. The hull includes dense areas within the lung, which may be disease.
    It also includes a part of the heart, and omits the lung behind the heart.

    Parameters
    ----------
    picture
        (S, S) in [-1024, 1024].
    network
        Segments the lungs; the simple method is used if None.
    """
    image = np.asarray(np.clip(picture / 2048 + 0.5, 0, 1), np.float32)
    if network is not None:
        lungs = network.mask(image)
        return _resized(lungs.astype(np.float32), len(image)) if lungs.any() else None
    box = lung_box(image)
    if box is None:
        return None
    rows, columns = box
    middle = (columns.start + columns.stop) // 2
    mask = np.zeros(image.shape, np.float32)
    dark = image < image[box].mean()
    for side in (slice(columns.start, middle), slice(middle, columns.stop)):
        half = _hull(_largest(dark[rows, side]))
        if half is None:
            return None
        mask[rows, side] = half
    return np.asarray(ndimage.gaussian_filter(mask, len(image) / 128), np.float32)


def region_mask(
    picture: NDArray[np.floating], region: Literal["none", "lungs", "lungs-pspnet"]
) -> SoftMask | None:
    """The part of a picture that a simulated progression may change.

    Parameters
    ----------
    picture
        (S, S) in [-1024, 1024].
    region
        `none` is the whole picture, `lungs` the mask of the simple method, and `lungs-pspnet` the
        mask of torchxrayvision's network.

    Returns
    -------
    array
        (S, S), 1 inside and 0 outside; None if no lungs are found.

    Raises
    ------
    SiteProblem
        "weights" if the network's weights are needed, but missing or not the published ones.
    """
    if region == "none":
        return np.ones(picture.shape, np.float32)
    if region == "lungs":
        return lung_mask(picture)
    file = pspnet_weights_for(InputSettings(region=region))
    return lung_mask(picture, open_lung_network(file) if file else None)


def _largest(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(region)
    if not count:
        return region
    return np.asarray(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))


def _hull(region: NDArray[np.bool_]) -> SoftMask | None:
    if region.mean() < SMALLEST_LUNG:
        return None
    points = np.argwhere(region)[:, ::-1]
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return None
    drawn = Image.new("L", region.shape[::-1])
    ImageDraw.Draw(drawn).polygon([(int(x), int(y)) for x, y in corners], fill=1, outline=1)
    return np.asarray(drawn, np.float32)


def _resized(mask: SoftMask, side: int) -> SoftMask:
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.BOX), np.float32)
