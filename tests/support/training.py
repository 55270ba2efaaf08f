"""Small networks and cohorts to train on."""

import numpy as np
import torch

from fedrad.models.examples import Examples
from fedrad.models.network import ResNet
from fedrad.models.settings import ModelSettings

CPU = torch.device("cpu")


NARROW = ModelSettings(backbone="resnet18", width=0.125, weights="random", size=32)


NAN = float("nan")


def network(outputs: int = 1, seed: int = 2) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(NARROW, outputs)


def cohort(count: int, seed: int = 0) -> Examples:
    """Noise, with a bright lower half in those of class 1."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2).astype(np.float32)[:, None]
    images = rng.normal(-300, 200, (count, 32, 32))
    images[:, 16:] += 500 * labels[:, :, None]
    return Examples(images.clip(-1024, 1024).astype(np.float16), labels)
