"""Mutated radiographs through the reading chain in worker processes: results, time and memory.

    python benchmarks/fuzz_images.py FOLDER [FOLDER ...] --count 20000 [--seed 0]

Takes the small files (up to 400 kB) in the folders and some phantoms, and mutates them by seed. It
fails if the result of a file is neither a picture nor a stated reason.
"""

import argparse
import io
import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from fedrad.client.images import InputSettings, UnusableImage, read_radiograph
from fedrad.client.images.worker_processes import Failure, run_isolated

LARGEST = 400_000
SECONDS, MEMORY_MIB = 5, 1024
SYNTAXES = [value for value in uid.UID_dictionary if value.startswith("1.2.840.10008.1.2")]
NUMBERS = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PlanarConfiguration",
)
TEXTS = (
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "PhotometricInterpretation",
    "PixelSpacing",
    "PixelAspectRatio",
    "NumberOfFrames",
    "VOILUTFunction",
    "BodyPartExamined",
    "SpecificCharacterSet",
    "PresentationLUTShape",
    "ShutterShape",
    "ShutterLeftVerticalEdge",
)
VALUES = ("", "0", "-1", "1e308", "nan", "inf", "1", "65536", "x", "1\\2", "0\\0", "MONOCHROME1")


def sources(folders: list[Path]) -> list[bytes]:
    """Small files of the folders, twenty of each at most, and phantoms of several encodings."""
    found: list[bytes] = []
    for folder in folders:
        files = sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size <= LARGEST)
        found += [f.read_bytes() for f in files[:: max(1, len(files) // 20)]]
    return found + phantoms()


def phantoms(side: int = 96) -> list[bytes]:
    """A picture with gradients and a shape, in the encodings that can be written."""
    import imagecodecs
    from openjpeg.utils import encode_array

    rows, columns = np.mgrid[:side, :side] / side
    plane = 0.6 * rows + 0.3 * ((rows - 0.5) ** 2 + (columns - 0.4) ** 2 < 0.09)
    twelve, eight = (plane * 4095).astype(np.uint16), (plane * 255).astype(np.uint8)
    encoded = {
        uid.ExplicitVRLittleEndian: None,
        uid.ImplicitVRLittleEndian: None,
        uid.DeflatedExplicitVRLittleEndian: None,
        uid.RLELossless: None,
        uid.JPEG2000Lossless: encode_array(twelve, bits_stored=12, photometric_interpretation=2),
        uid.JPEGLSLossless: imagecodecs.jpegls_encode(twelve),
        uid.JPEGLosslessSV1: imagecodecs.ljpeg_encode(twelve, bitspersample=12),
        uid.JPEGExtended12Bit: imagecodecs.jpeg8_encode(twelve, bitspersample=12),
        uid.HTJ2KLossless: imagecodecs.htj2k_encode(twelve, reversible=True),
    }
    files = [_dicom(twelve, syntax, frame) for syntax, frame in encoded.items()]
    files.append(imagecodecs.png_encode(np.repeat(twelve[..., None] * 16, 3, 2)))
    for values, kind in ((eight, "PNG"), (twelve, "PNG"), (eight, "JPEG")):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, kind)
        files.append(buffer.getvalue())
    return files


def _dicom(stored: np.ndarray, syntax: uid.UID, frame: bytes | None) -> bytes:
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    ds.Modality, ds.PhotometricInterpretation, ds.SamplesPerPixel = "CR", "MONOCHROME1", 1
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope, ds.RescaleIntercept = 2000, 3500, 1, 0
    ds.PixelPaddingValue, ds.PixelSpacing = 0, [0.2, 0.2]
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [64, 0, 12], list(range(0, 4096, 64))
    table["LUTDescriptor"].VR = "US"
    table["LUTData"].VR = "US"
    ds.VOILUTSequence = [table]
    ds.PixelData = stored.astype("<u2").tobytes()
    if syntax == uid.RLELossless:
        ds.compress(syntax, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = syntax
    if frame is not None:
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to three mutations of a file; `other` gives the header of a splice."""
    for _ in range(rng.randint(1, 3)):
        data = rng.choice((_flip, _flip_header, _cut, _length, _tags, _syntax, _splice, _fill))(
            data, other, rng
        )
    return data


def _flip(data: bytes, _: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 30) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_header(data: bytes, other: bytes, rng: random.Random) -> bytes:
    end = min(len(data), 1600)
    return _flip(data[:end], other, rng) + data[end:]


def _cut(data: bytes, _: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    if rng.random() < 0.5:
        return data[:start]
    return data[:start] + data[start + rng.randint(1, 2000) :]


def _length(data: bytes, _: bytes, rng: random.Random) -> bytes:
    """Four bytes, likely a length or a size, become an extreme."""
    if len(data) < 8:
        return data
    at = rng.randrange(min(len(data) - 4, 3000 if rng.random() < 0.8 else len(data)))
    value = rng.choice((0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)))
    return data[:at] + struct.pack(rng.choice("<>") + "I", value) + data[at + 4 :]


def _fill(data: bytes, _: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.choice((0, 255))]) * rng.randint(1, 64) + data[at + 64 :]


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return other[: rng.randrange(len(other) + 1)] + data[rng.randrange(len(data) + 1) :]


def _edited(data: bytes, edit, rng: random.Random) -> bytes:  # type: ignore[no-untyped-def]
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        edit(dataset)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=False)
        return buffer.getvalue()
    except Exception:  # pydicom cannot write every broken dataset: break bytes instead
        return _flip(data, b"", rng)


def _tags(data: bytes, _: bytes, rng: random.Random) -> bytes:
    def edit(dataset: pydicom.Dataset) -> None:
        for _ in range(rng.randint(1, 4)):
            keyword = rng.choice(NUMBERS + TEXTS)
            if rng.random() < 0.2:
                dataset.pop(keyword, None)
            elif keyword in NUMBERS:
                value = rng.choice((0, 1, 2, 7, 8, 12, 15, 16, 17, 32, 255, 4096, 65535))
                setattr(dataset, keyword, value)
            else:
                vr = pydicom.datadict.dictionary_VR(keyword)
                with_config = rng.choice(VALUES).encode()
                tag = pydicom.datadict.tag_for_keyword(keyword)
                dataset[tag] = pydicom.dataelem.RawDataElement(
                    pydicom.tag.Tag(tag), vr, len(with_config), with_config, 0, False, True
                )

    return _edited(data, edit, rng)


def _syntax(data: bytes, _: bytes, rng: random.Random) -> bytes:
    """Another transfer syntax is stated; the old one is replaced in place where it has room."""
    found = re.search(rb"1\.2\.840\.10008\.1\.2[.0-9]*", data[:2000])
    if found is None:
        return data
    new = rng.choice(SYNTAXES).encode()
    old = found.group()
    return data.replace(old, new[: len(old)].ljust(len(old), b"\0"), 1)


def read_mutated(path: str, size: int) -> tuple[str, float, int]:
    """Result, seconds, and the worker's peak memory (MiB) so far."""
    start = time.monotonic()
    try:
        picture = read_radiograph(Path(path).read_bytes(), InputSettings(size=size)).picture
        sound = picture.shape == (size, size) and bool((np.abs(picture) <= 1024).all())
        result = "a picture" if sound else "FINDING: picture out of range or not finite"
    except UnusableImage as problem:
        result = _kind(str(problem))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result, time.monotonic() - start, peak


def _kind(reason: str) -> str:
    """A reason without its particulars."""
    return re.sub(r"-?\d+(\.\d+)*", "N", reason.split(":", maxsplit=1)[0])[:60]


def main() -> None:
    """Mutate, read, count."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where workers find `read_mutated`
    from fuzz_images import read_mutated

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that were findings")
    arguments = parser.parse_args()
    originals = sources(arguments.folders)
    rng = random.Random(arguments.seed)
    counts: Counter[str] = Counter()
    slowest, peak, findings, done = 0.0, 0, 0, 0
    chunk = 1000
    start = time.monotonic()
    while done < arguments.count:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / str(n) for n in range(min(chunk, arguments.count - done))]
            for file in files:
                file.write_bytes(mutated(rng.choice(originals), rng.choice(originals), rng))
            items = [(str(file), 64) for file in files]
            for item, result in run_isolated(
                read_mutated, items, seconds=SECONDS, memory_mib=MEMORY_MIB
            ):
                failed = isinstance(result, Failure)
                kind, seconds, memory = (f"FAILURE {result.reason}", 0.0, 0) if failed else result
                counts[kind] += 1
                slowest, peak = max(slowest, seconds), max(peak, memory)
                if "FAILURE" in kind or "FINDING" in kind:
                    findings += 1
                    if arguments.keep:
                        arguments.keep.mkdir(parents=True, exist_ok=True)
                        kept = f"{arguments.seed}-{done + item}-{_kind(kind).replace(' ', '_')}"
                        (arguments.keep / kept).write_bytes(files[item].read_bytes())
        done += len(files)
        print(f"{done} files, {time.monotonic() - start:.0f} s, {findings} findings", flush=True)
    print(f"\n{len(originals)} sources, {done} mutated files, seed {arguments.seed}")
    print(f"slowest {slowest:.2f} s, peak of a worker {peak} MiB")
    for kind, count in counts.most_common():
        print(f"{count:7d}  {kind}")
    sys.exit(any("unexpected" in k or "FINDING" in k for k in counts))


if __name__ == "__main__":
    main()
