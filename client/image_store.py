"""Decoded images, kept at the site: each file is decoded once, then read memory-mapped."""

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .images import UnusableImage, read_image

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all."""


def load_images(
    files: list[Path], size: int, folder: Path, progress: Progress | None = None
) -> tuple[NDArray[np.float16], dict[int, str]]:
    """Images of some files, decoded at the first call and mapped from disk afterwards.

    Returns (N, size, size) float16 in [-1024, 1024], and for rows that could not be read the
    reason (their image is black). The store is keyed by paths, sizes and times of the files.
    """
    key = sha256()
    for file in files:
        status = file.stat()
        key.update(f"{file}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    stem = folder / f"{size}-{key.hexdigest()[:20]}"
    images, reasons = stem.with_suffix(".npy"), stem.with_suffix(".json")
    if not reasons.is_file():
        _decode(files, size, images, reasons, progress)
    unusable = {int(row): reason for row, reason in json.loads(reasons.read_text()).items()}
    return np.load(images, mmap_mode="r"), unusable


def _decode(
    files: list[Path], size: int, images: Path, reasons: Path, progress: Progress | None
) -> None:
    """Write to a temporary name and move, so that no half-written store is ever read."""
    images.parent.mkdir(parents=True, exist_ok=True)
    temporary = images.with_suffix(f".{os.getpid()}.partial")
    pictures = np.lib.format.open_memmap(
        temporary, mode="w+", dtype=np.float16, shape=(len(files), size, size)
    )
    unusable = {}
    for row, file in enumerate(files):
        try:
            pictures[row] = read_image(file, size)
        except UnusableImage as problem:
            pictures[row] = -1024
            unusable[row] = str(problem)
        if progress:
            progress(row + 1, len(files))
    pictures.flush()
    del pictures
    temporary.replace(images)
    reasons_temporary = reasons.with_suffix(f".{os.getpid()}.partial-json")
    reasons_temporary.write_text(json.dumps(unusable))
    reasons_temporary.replace(reasons)
