"""The position of the lungs, by a simple method or by torchxrayvision's segmentation network."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedrad.client.problems import SiteProblem
from fedrad.models.settings import InputSettings
from fedrad.models.weight_folders import torchxrayvision_folder

from .arrays import Box, Plane

SEARCH_SIDE = 128
"""Pixels on the shorter side of the image in which the simple method searches."""
MARGIN = 0.12
"""Margin around the lung fields on each side, as a share of their own height and width."""
LUNG_AREA = (0.01, 0.30)
"""Area of one lung as a share of the picture."""
THRESHOLDS = np.linspace(0.15, 0.75, 13)
AIR_LEVELS = (0.0, 0.15, 0.25)
"""Grey levels tried as the upper limit of the air around the body."""
WALL_PIXELS = 4
"""Thickness of the chest wall between that air and a lung."""
OPENING_PIXELS = 2
"""Iterations of morphological opening, which separates regions joined by a thin bridge."""

PSPNET = "pspnet_chestxray_best_model_4.pth"
"""Name of torchxrayvision's weights file (Lian et al. 2021, arXiv 2104.10326)."""
PSPNET_SHA256 = "019b167eac6b729fc1bb92bbbc185fc1730aaa65819f4e3fe718186cadc044fc"
"""Its SHA-256 as published (release v1 of torchxrayvision, 272,988,989 bytes). No experiment names
this file, so its hash is here: every site crops its images with the same network."""


def lung_box(image: Plane) -> Box | None:
    """The box around both lung fields, without margin; None if no pair of lungs is found.

    `image` is the displayed image, (rows, columns) in [0, 1], lungs dark. The darkest regions that
    reach the edge of the image are the air around the body; they are removed, with a thin wall. At
    each of several thresholds, the other dark regions that do not touch the edge are candidates.
    A pair is one region on each side of a common midline, of similar area and height. The pair with
    the largest area, weighted by its similarity, is chosen. The method finds a pair in about nine
    of ten adult chests, and in two of three images that are cropped close to the lungs, where
    cropping matters least.
    """
    small = ndimage.zoom(
        image, SEARCH_SIDE / min(image.shape), order=1, grid_mode=True, mode="nearest"
    )
    small = ndimage.gaussian_filter(small, 1.5)
    best: tuple[float, Box] | None = None
    for air in AIR_LEVELS:
        body = ~_outside_air(small < air)
        for threshold in THRESHOLDS[air < THRESHOLDS]:
            pair = _best_pair(_dark_regions((small < threshold) & body), small.shape)
            if pair is not None and (best is None or pair[0] > best[0]):
                best = pair
    if best is None:
        return None
    scale = [whole / part for whole, part in zip(image.shape, small.shape, strict=True)]
    rows, columns = (
        slice(int(s.start * f), int(np.ceil(s.stop * f)))
        for s, f in zip(best[1], scale, strict=True)
    )
    return rows, columns


def _outside_air(air: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Air that reaches the edge of the image, and the chest wall beside it."""
    labels, _ = ndimage.label(air)
    frame = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    outside = np.isin(labels, frame[frame > 0])
    return ndimage.binary_dilation(outside, iterations=WALL_PIXELS) if outside.any() else outside


def _dark_regions(dark: NDArray[np.bool_]) -> list[tuple[Box, int]]:
    """Box and area of each connected dark region that does not touch the edge of the image."""
    labels, _ = ndimage.label(ndimage.binary_opening(dark, iterations=OPENING_PIXELS))
    areas = np.bincount(labels.ravel())
    regions: list[tuple[Box, int]] = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        touches = any(s.start == 0 or s.stop == n for s, n in zip(box, labels.shape, strict=True))
        if not touches and LUNG_AREA[0] <= areas[index] / labels.size <= LUNG_AREA[1]:
            regions.append(((box[0], box[1]), int(areas[index])))
    return regions


def _best_pair(regions: list[tuple[Box, int]], shape: tuple[int, ...]) -> tuple[float, Box] | None:
    """Score and common box of the best pair of regions; None if none fits."""
    best: tuple[float, Box] | None = None
    for one, area_one in regions:
        for other, area_other in regions:
            if one[1].stop > other[1].start + 0.03 * shape[1]:
                continue  # `one` is on the left of the picture, `other` on the right
            gap = (other[1].start - one[1].stop) / shape[1]
            heights = [r.stop - r.start for r in (one[0], other[0])]
            shared = min(one[0].stop, other[0].stop) - max(one[0].start, other[0].start)
            similarity = min(area_one, area_other) / max(area_one, area_other)
            middle = (one[1].stop + other[1].start) / 2 / shape[1]
            if gap > 0.3 or shared < 0.5 * max(heights) or similarity < 0.3:
                continue
            if not 0.3 <= middle <= 0.7:
                continue
            score = (area_one + area_other) * similarity**0.5 * shared / max(heights)
            rows = slice(min(one[0].start, other[0].start), max(one[0].stop, other[0].stop))
            if best is None or score > best[0]:
                best = (score, (rows, slice(one[1].start, other[1].stop)))
    return best


def with_margin(box: Box, shape: tuple[int, ...]) -> Box:
    """A box widened by MARGIN on each side, clipped to the image."""
    rows, columns = (
        slice(
            max(0, s.start - round(MARGIN * (s.stop - s.start))),
            min(n, s.stop + round(MARGIN * (s.stop - s.start))),
        )
        for s, n in zip(box, shape, strict=True)
    )
    return rows, columns


class LungNetwork:
    """torchxrayvision's PSPNet (Lian et al. 2021, arXiv 2104.10326), on one CPU thread.

    Parameters
    ----------
    file
        Its weights (see `pspnet_file`).

    Raises
    ------
    WeightsError
        If the file has another hash than the published one, or holds anything but its tensors.
    """

    def __init__(self, file: Path) -> None:
        import torch
        from torchvision.transforms import Normalize
        from torchxrayvision.baseline_models import chestx_det

        from fedrad.models.weight_files import WeightsError, file_sha256, unpickle
        from fedrad.models.weights import IMAGENET_MEAN, IMAGENET_STD

        class Loaded(chestx_det.PSPNet):  # type: ignore[misc]
            """A PSPNet whose constructor reads no file: the original one downloads what it does not
            find, and takes whatever it finds."""

            def __init__(self, network: torch.nn.Module) -> None:
                torch.nn.Module.__init__(self)
                self.transform = Normalize(IMAGENET_MEAN, IMAGENET_STD)
                self.model = network

        if file_sha256(file) != PSPNET_SHA256:
            raise WeightsError(f"{file} is not the published file: its SHA-256 is another")
        torch.set_num_threads(1)
        network = chestx_det.pspnet(len(chestx_det.PSPNet.targets))
        state = {name.removeprefix("module."): value for name, value in unpickle(file).items()}
        network.load_state_dict(state)
        self._network = Loaded(network).eval()
        targets = chestx_det.PSPNet.targets
        self._lungs = [targets.index(f"{side} Lung") for side in ("Left", "Right")]

    def mask(self, image: Plane) -> NDArray[np.bool_]:
        """Mask (512, 512) of the pixels whose probability of being lung is above one half.

        `image` is (rows, columns) in [0, 1], of any shape.
        """
        import torch
        from torch.nn.functional import interpolate

        with torch.inference_mode():
            picture = torch.from_numpy(image * 2048 - 1024)[None, None]
            picture = interpolate(picture, size=(512, 512), mode="bilinear", antialias=True)
            lungs = (self._network(picture)[0, self._lungs] > 0).any(dim=0)
            return np.asarray(lungs.numpy())

    def box(self, image: Plane) -> Box | None:
        """As `lung_box`: the box around all pixels of `mask`."""
        lungs = self.mask(image)
        if not lungs.any():
            return None
        rows, columns = ndimage.find_objects(lungs.astype(np.uint8))[0]
        down, across = image.shape[0] / 512, image.shape[1] / 512
        return (
            slice(int(rows.start * down), int(np.ceil(rows.stop * down))),
            slice(int(columns.start * across), int(np.ceil(columns.stop * across))),
        )


@cache
def open_lung_network(file: str) -> LungNetwork:
    """The network with the weights of a file, which are read only once in a process."""
    return LungNetwork(Path(file))


def pspnet_file() -> Path:
    """The published weights of PSPNet, in a folder of $FEDRAD_WEIGHTS, fedrad's cache, or
    torchxrayvision's; nothing is downloaded. Raises SiteProblem("weights") if they are not there,
    or only a file of their name with another hash."""
    from fedrad.models.weight_files import WeightsError, find_weights_file

    try:
        return find_weights_file(
            PSPNET, PSPNET_SHA256, 'region = "lungs-pspnet":', [torchxrayvision_folder()]
        )
    except WeightsError as error:
        raise SiteProblem("weights", str(error)) from error


def pspnet_weights_for(settings: InputSettings) -> str | None:
    """The file of PSPNet's weights if these settings need it, else None. Raises SiteProblem as
    `pspnet_file`."""
    return str(pspnet_file()) if settings.region == "lungs-pspnet" else None
