"""Weight-space ensemble of a fine-tuned network and its base network.

WiSE-FT (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", eq. 3):
θ = (1 - α)·θ_base + α·θ_fine-tuned. It often improves results at
hospitals that did not train.
"""

import copy
from typing import TypeVar

import torch
from torch import nn

from .network import block_of

N = TypeVar("N", bound=nn.Module)


def interpolate(base: nn.Module, tuned: N, alpha: float) -> N:
    """Mix the backbones of two networks.

    Normalisation statistics are mixed like weights. The head is that of the trained network,
    because the head of the base is random. Tensors that training did not change stay the same to
    the bit; with alpha 1 all do.

    Parameters
    ----------
    base
        The network that training started from.
    tuned
        The trained network, of the same shape.
    alpha
        Share of the trained backbone, in [0, 1].

    Returns
    -------
    N
        A new network; both others stay as they are.
    """
    result = copy.deepcopy(tuned)
    if alpha == 1.0:
        return result
    mixed, start = result.state_dict(), base.state_dict()
    with torch.no_grad():
        for name, value in mixed.items():
            if block_of(name) == "head" or not value.is_floating_point():
                continue
            origin = start[name].to(value.device)
            if not torch.equal(origin, value):
                value.copy_(torch.lerp(origin, value, alpha))
    return result
