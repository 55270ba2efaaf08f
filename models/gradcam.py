"""Regions behind a network's decision: Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2) by MONAI."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .network import ResNet

LAYER = "layer4"
"""The last convolutional block: its map is the finest that reflects the whole decision."""


def heat_maps(
    network: ResNet,
    images: NDArray[np.float16],
    *,
    outcome: int,
    device: torch.device,
    batch_size: int = 8,
) -> NDArray[np.float32]:
    """Evidence for an outcome at each position of each image.

    A map is interpolated from the grid of layer4 (side S/32), so it shows a region and no outline.

    Parameters
    ----------
    network
        The network; it stays as it is.
    images
        (N, S, S) in [-1024, 1024].
    outcome
        Index of the output.
    device
        Where to compute.
    batch_size
        Images at once.

    Returns
    -------
    NDArray[np.float32]
        (N, S, S) in [0, 1], the largest value of each map scaled to 1; all zero if nothing in the
        image is evidence for the outcome.
    """
    from monai.visualize import GradCAM  # its import takes seconds, which only explanations need

    own = copy.deepcopy(network).to(device, memory_format=torch.contiguous_format).eval()
    cam = GradCAM(nn_module=own, target_layers=LAYER, postprocessing=_as_it_is)
    maps = [np.zeros((0, *images.shape[1:]), dtype=np.float32)]
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[start : start + batch_size].astype(np.float32))
        batch = batch.unsqueeze(1).to(device).requires_grad_()  # frozen weights carry no gradient
        heat: Tensor = cam(batch, class_idx=outcome)
        heat = heat.detach()[:, 0]
        largest = heat.amax(dim=(1, 2), keepdim=True)
        maps.append((heat / largest.clamp(min=torch.finfo(heat.dtype).tiny)).cpu().numpy())
    return np.concatenate(maps)


def _as_it_is(heat: Tensor) -> Tensor:
    """Replaces MONAI's scaling, which inverts a map and hides that it is empty."""
    return heat
