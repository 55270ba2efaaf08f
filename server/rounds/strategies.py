"""What the server makes of the sites' combined step: that itself, momentum, an adaptive rate."""

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.exchange.experiment import FederationSettings
from fedrad.exchange.update import Manifest, lay_out, tensors_of

from .aggregation import learned_values
from .global_model import Tensors

RATES = {"fedavgm": 1.0, "fedadam": 1e-3, "fedyogi": 1e-3}
"""Server learning rates where the experiment sets none; the recipe's rates are of this order."""


def advance(
    combined: Flat,
    start: Flat,
    current: Flat,
    manifest: Manifest,
    moments: Tensors,
    settings: FederationSettings,
) -> tuple[Flat, Tensors]:
    """The next global values (size,) and the moments that belong to them.

    `combined`: what the sites came to from `start`; `current`: the global values, which differ
    from `start` by what encoding lost. With Δ = combined - start:

    - fedavgm: m ← βm + Δ, a step of ηm (Hsu et al. 2019)
    - fedadam, fedyogi: m ← β₁m + (1-β₁)Δ, a step of ηm/(√v + τ) with v ← β₂v + (1-β₂)Δ², or
      v ← v - (1-β₂)Δ² sign(v - Δ²) (Reddi et al. 2021, Algorithm 2; v starts at τ²)
    - all others: a step of Δ

    Running statistics always take the step Δ. Moments are kept by tensor, so what thaws later
    starts with fresh ones.
    """
    plain = combined + (current - start)
    if settings.strategy not in RATES:
        return plain, {}
    delta, server = combined - start, settings.server
    rate = np.float32(server.learning_rate or RATES[settings.strategy])
    m = server.momentum * _of("m", moments, manifest, 0.0)
    if settings.strategy == "fedavgm":
        m += delta
        moved, after = rate * m, {"m": m}
    else:
        m += (1 - server.momentum) * delta
        v, square = _of("v", moments, manifest, server.tau**2), delta**2
        if settings.strategy == "fedadam":
            v = server.beta_2 * v + (1 - server.beta_2) * square
        else:
            v = v - (1 - server.beta_2) * square * np.sign(v - square)
        moved, after = rate * m / (np.sqrt(v) + np.float32(server.tau)), {"m": m, "v": v}
    kept = {
        f"{kind}/{name}": value
        for kind, flat in after.items()
        for name, value in tensors_of(manifest, flat).items()
    }
    return np.where(learned_values(manifest), current + moved, plain), kept


def _of(kind: str, moments: Tensors, manifest: Manifest, fresh: float) -> Flat:
    tensors = {
        name: moments.get(f"{kind}/{name}", np.full(shape, fresh, np.float32))
        for name, shape in zip(manifest.names, manifest.shapes, strict=True)
    }
    return lay_out(tensors, manifest.names)
