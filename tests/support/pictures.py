"""A folder of pictures, and an image store over it."""

import numpy as np
from PIL import Image

from fedrad.client.images import InputSettings

SMALL = InputSettings(size=32)


def write_pictures(folder, count, seed=0):
    """Small PNG files of noise."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        file = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (40, 36), np.uint8)).save(file)
        files.append(file)
    return files


def load(store, files, settings=SMALL):
    """Pictures, readings, and how many files were decoded."""
    done = []
    images, readings = store.load(files, settings, lambda n, of: done.append((n, of)))
    return images[:], readings, len(done)
