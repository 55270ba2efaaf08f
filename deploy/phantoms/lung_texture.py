"""The inside of the lungs: normal vessels and the marks of disease.

The marks are too fine for a thumbnail (10 to 30 cycles across the field), so that a model has to
look into the lungs and not at the picture as a whole. They are noise made in the frequency domain,
so a seed gives the same lungs at every image size.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .shapes import Frame, Plane

_CELLS = 128  # noise is drawn on this grid, finer than any mark


def band_noise(seed: np.random.SeedSequence, size: int, cycles: float, octaves: float) -> Plane:
    """Noise of unit variance, (size, size), in a log-normal band of frequencies around `cycles` per
    field, with a width of `octaves`."""
    noise = np.random.default_rng(seed).standard_normal((_CELLS, _CELLS), dtype=np.float32)
    spectrum = fft.rfft2(noise)
    down = fft.fftfreq(_CELLS, 1 / _CELLS).astype(np.float32)[:, None]
    across = fft.rfftfreq(_CELLS, 1 / _CELLS).astype(np.float32)[None, :]
    octave = np.log2(np.maximum(np.hypot(down, across), 0.5) / cycles)
    spectrum *= np.exp(-0.5 * (octave / octaves) ** 2)
    padded = np.zeros((size, size // 2 + 1), dtype=np.complex64)
    half = min(_CELLS, size) // 2  # the highest frequency itself is dropped
    padded[:half, :half] = spectrum[:half, :half]
    padded[-half + 1 :, :half] = spectrum[-half + 1 :, :half]
    field: NDArray[np.float32] = fft.irfft2(padded, s=(size, size)).astype(np.float32)
    return np.asarray(field / field.std(), dtype=np.float32)


def disease(severity: float, seed: int, size: int) -> Plane:
    """Change of attenuation by disease, (size, size), not yet limited to the lungs.

    It is a net of thickened septa, small air bubbles with walls, and patchy haze, all growing with
    `severity` in [0, 1]; zero at 0.
    """
    if severity <= 0:
        return np.zeros((size, size), dtype=np.float32)
    roots = np.random.SeedSequence([seed, 1]).spawn(3)
    net = band_noise(roots[0], size, 10.0, 0.25)
    septa = np.exp(-((net * 2.6) ** 2)) - np.float32(0.26)  # ridges where the noise crosses 0
    cells = band_noise(roots[1], size, 15.0, 0.25)
    walls = np.exp(-(((cells - 1.0) * 3.5) ** 2)) - np.float32(0.11)
    bubbles = np.maximum(cells - 1.2, 0) - np.float32(0.056)
    # Disease is patchy but nowhere absent, so that every part of the lung shows it.
    patches = np.clip(0.85 + 0.35 * band_noise(roots[2], size, 2.5, 0.5), 0.4, 1.6)
    marks = 0.48 * septa + 0.28 * walls - 0.46 * bubbles + 0.20
    return np.asarray(np.float32(severity) * patches * marks, dtype=np.float32)


def vessels(frame: Frame, hila: list[tuple[float, float, float]], reach: float, seed: int) -> Plane:
    """Attenuation of tapering vessels that branch from the hila.

    Each hilum is `(x, y, side)`, with side -1 on the left of the image and 1 on the right. `reach`
    is half the width of the thorax; lengths are in body units.
    """
    rng = np.random.default_rng([seed, 2])
    fan = np.linspace(-1.35, 1.3, 11)
    roots = [(x, y, side, angle) for x, y, side in hila for angle in fan + rng.normal(0, 0.1, 11)]
    x, y, side, angle = np.array(roots).T[:, :, None]
    total = np.zeros((frame.size, frame.size), dtype=np.float32)
    steps = max(16, int(frame.in_pixels(0.3 * reach)))
    for radius, amount in ((0.017, 0.34), (0.011, 0.17), (0.007, 0.08)):
        length = 0.26 * reach * rng.uniform(0.7, 1.2, (len(x), 1))
        heading = angle + np.cumsum(rng.normal(0, 0.9 / steps**0.5, (len(x), steps)), axis=1)
        x = x + side * np.cumsum(np.cos(heading), axis=1) * length / steps
        y = y + np.cumsum(np.sin(heading), axis=1) * length / steps
        rows, columns = (np.rint(v).astype(int).ravel() for v in frame.pixel(x, y))
        inside = (rows >= 0) & (rows < frame.size) & (columns >= 0) & (columns < frame.size)
        cells = rows[inside] * frame.size + columns[inside]
        hits = np.bincount(cells, minlength=frame.size**2).astype(np.float32)
        # About one point per pixel of length, so that the blurred line peaks near 1 at every size.
        sigma = max(0.6, frame.in_pixels(radius) / 1.5)
        line = ndimage.gaussian_filter(hits.reshape(total.shape), sigma, truncate=2.5)
        total += np.float32(amount * 2.5 * sigma) * line
        # Each vessel forks into two.
        x, y = (np.repeat(v[:, -1:], 2, axis=0) for v in (x, y))
        fork = rng.uniform(0.2, 0.5, (len(heading), 2)) * (-1, 1)
        angle = (heading[:, -1:] + fork).reshape(-1, 1)
        side = np.repeat(side, 2, axis=0)
    return np.minimum(total, 0.45)
