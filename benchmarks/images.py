"""Images per second: into the image store, from the store, and decoded again in every epoch.

    python benchmarks/images.py [--files 16] [--opened 20000]

Writes phantoms as 12-bit JPEG 2000 DICOM of about 2000 × 2000 pixels into a temporary folder, then
at 512 px, in one run: the first load through the store (decoding in worker processes), an epoch of
random batches from it, and the plain loop "decode and resize each file at every use". Then the time
to open a store of many cached images (copies of small PNGs, each with a byte of its own).
"""

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, generate_uid

from fedrad.client.images import ImageStore, InputSettings, read_radiograph
from fedrad.deploy.phantoms import DEMO_HOSPITALS, write_hospital

SIDE = 2000
SETTINGS = InputSettings(size=512)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--opened", type=int, default=20_000)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        measure_speed(Path(folder), options.files)
        measure_opening(Path(folder), options.opened)


def measure_speed(folder: Path, count: int) -> None:
    """The three ways beside each other."""
    files = write_large(folder / "large", count)
    store = ImageStore(folder / "store")
    start = time.perf_counter()
    images, readings = store.load(files, SETTINGS)
    cold = time.perf_counter() - start
    assert all(reading.unusable is None for reading in readings)
    rng = np.random.default_rng(0)
    start, epochs = time.perf_counter(), 20
    for _ in range(epochs):
        order = rng.permutation(count)
        for batch in range(0, count, 8):
            images[order[batch : batch + 8]]
    warm = (time.perf_counter() - start) / epochs
    start = time.perf_counter()
    for file in files:
        read_radiograph(file.read_bytes(), SETTINGS)
    plain = time.perf_counter() - start
    size = sum(f.stat().st_size for f in files) / count / 2**20
    print(f"{count} files of {SIDE} x {SIDE}, 12-bit JPEG 2000, {size:.1f} MiB each, at 512 px")
    print(f"first load through the store ({os.cpu_count()} cores): {count / cold:.2f} images/s")
    print(f"plain loop, read and resize at every epoch: {count / plain:.2f} images/s")
    print(f"cached epoch: {count / warm:.0f} images/s")
    print(f"cached epoch : plain loop = {plain / warm:.0f} : 1")


def measure_opening(folder: Path, count: int) -> None:
    """Time to open a cohort that is in the store already."""
    (folder / "small").mkdir()
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8))
    files = []
    for number in range(count):
        info = PngImagePlugin.PngInfo()
        info.add_text("number", str(number))
        files.append(folder / "small" / f"{number}.png")
        picture.save(files[-1], pnginfo=info)
    settings = InputSettings(size=64)
    start = time.perf_counter()
    ImageStore(folder / "many").load(files, settings)
    print(f"{count} small files, first load: {time.perf_counter() - start:.1f} s")
    for _ in range(3):
        start = time.perf_counter()
        images, _ = ImageStore(folder / "many").load(files, settings)
        print(f"opening {len(images)} cached images: {time.perf_counter() - start:.2f} s")


def write_large(folder: Path, count: int) -> list[Path]:
    """Phantom films enlarged to the size of a detector's, with its noise, losslessly encoded."""
    from openjpeg.utils import encode_array

    write_hospital(folder, DEMO_HOSPITALS["phantom-a"], count, seed=3)
    rng = np.random.default_rng(2)
    files = sorted((folder / "dicom").iterdir())[:count]
    for file in files:
        dataset = dcmread(file)
        film = Image.fromarray(dataset.pixel_array.astype(np.float32)).resize((SIDE, SIDE))
        noisy = np.asarray(film) + rng.normal(0, 6, (SIDE, SIDE))
        stored = np.clip(noisy, 0, 4095).astype(np.uint16)
        dataset.Rows = dataset.Columns = SIDE
        dataset.SOPInstanceUID = generate_uid()
        stream = encode_array(stored, bits_stored=12, photometric_interpretation=2)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.save_as(file)
    return files


if __name__ == "__main__":
    main()
