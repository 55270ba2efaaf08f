"""Measures the checks of a cohort: planted faults, and time and memory for many files.

python benchmarks/cohort.py faults SITE_FOLDER      40 faults into a copy of a site
python benchmarks/cohort.py phantom                 the same into a phantom hospital
python benchmarks/cohort.py size 2000               time and memory, cold and cached
python benchmarks/cohort.py alarms 300              false alarms of the check for shortcuts
"""

import csv
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from fedrad.client.cohort.checks.shortcuts import (
    WARNING_LIMIT,
    cross_validated_auroc,
    tags_classifier,
)
from fedrad.client.cohort.inspection import Inspection, inspect
from fedrad.client.settings import open_site
from fedrad.deploy import phantoms

Rows = list[dict[str, str]]


def read(folder: Path) -> Rows:
    with (folder / "cohort.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write(folder: Path, rows: Rows) -> None:
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def grey(file: Path) -> np.ndarray:
    dataset = pydicom.dcmread(file)
    values = dataset.pixel_array.astype(float)
    low, high = np.percentile(values, (0.5, 99.5))
    shown = np.clip((values - low) / (high - low), 0, 1)
    return 1 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def save(picture: np.ndarray, file: Path, side: float = 1.0) -> str:
    image = Image.fromarray((255 * np.clip(picture, 0, 1)).astype(np.uint8))
    image.resize([round(side * n) for n in image.size]).save(file, quality=85)
    return file.name


def plant(  # noqa: PLR0915
    folder: Path, outcome: str, others: list[Path], rng: np.random.Generator
) -> tuple[dict[str, set[str]], set[str]]:
    """40 faults of ten kinds, four each, in images of different patients.

    Returns check -> files, and all files that a fault touched.
    """
    rows = read(folder)
    by_patient = {row["patient_id"]: row for row in rows}
    chosen = [list(by_patient.values())[i] for i in rng.permutation(len(by_patient))[:40]]
    for row in rows:
        row |= {"date": "2024-01-01", "outcome_date": "2024-02-01"}
    planted: dict[str, set[str]] = {}
    originals = {row["file"] for row in chosen}

    def note(check: str, file: str) -> None:
        planted.setdefault(check, set()).add(file)

    new: Rows = []
    for i, row in enumerate(chosen):
        file, kind = folder / row["file"], i // 4
        if kind == 0:  # broken
            content = file.read_bytes()
            file.write_bytes((b"", content[:600], b"text", content[: len(content) // 2])[i % 4])
            note("files set aside", row["file"])
        elif kind == 1:  # a repeated row
            new.append(dict(row))
            note("repeated rows", row["file"])
        elif kind == 2:  # the same bytes again, same patient
            shutil.copy(file, folder / f"copy{i}.dcm")
            new.append(row | {"file": f"copy{i}.dcm"})
            note("duplicate images", f"copy{i}.dcm")
        elif kind == 3:  # saved again under another number
            side = (1.0, 0.8, 0.6, 1.3)[i % 4]
            name = save(grey(file) ** (0.8, 1, 1.2, 1)[i % 4], folder / f"again{i}.jpg", side)
            new.append(row | {"file": name, "patient_id": f"other{i}"})
            note("one patient under two numbers", name)
        elif kind == 4:  # two labels
            shutil.copy(file, folder / f"label{i}.dcm")
            label = str(1 - int(float(row[outcome])))
            new.append(row | {"file": f"label{i}.dcm", outcome: label})
            note("one image with two labels", f"label{i}.dcm")
        elif kind == 5:  # lying on its side, upside down
            save(np.rot90(grey(file), 1 + i % 3), folder / f"turned{i}.png")
            row["file"] = f"turned{i}.png"
            note("not a frontal chest", row["file"])
        elif kind == 6:  # other parts of the body: real ones where given, a bar and noise
            bar = np.clip(rng.normal(0.1, 0.03, (300, 240)), 0, 1)
            bar[:, 100:140] += 0.7
            parts = [grey(f) for f in others] + [bar, rng.random((256, 256))]
            save(parts[i % 4 % len(parts)], folder / f"part{i}.png")
            row["file"] = f"part{i}.png"
            note("not a frontal chest", row["file"])
        elif kind == 7:  # much too dark, too flat, too small
            change = (lambda g: g * 0.04, lambda g: 0.5 + g * 0.02, lambda g: g, lambda g: g**9)
            side = 0.1 if i % 4 == 2 else 1.0
            save(change[i % 4](grey(file)), folder / f"odd{i}.png", side)
            row["file"] = f"odd{i}.png"
            note("outliers", row["file"])
        elif kind == 8:  # a lateral view by its tag
            dataset = pydicom.dcmread(file)
            dataset.ViewPosition = ("LL", "RL", "LATERAL", "LLO")[i % 4]
            dataset.save_as(file)
            note("lateral views", row["file"])
        else:  # taken after the outcome
            row["date"] = "2024-03-01"
            note("images after the outcome", row["file"])
    write(folder, rows + new)
    touched = {row["file"] for row in chosen} | originals | {row["file"] for row in new}
    return planted, touched


def flagged_files(found: Inspection, check: str) -> set[str]:
    result = next(r for r in found.results if r.name == check)
    return {
        name.split(": ")[0].split(" (line")[0]
        for f in result.findings
        if (f.severity or result.severity) != "information"
        for group in f.files
        for name in group
    }


def inspect_folder(folder: Path, state: Path) -> Inspection:
    site = open_site(folder, name="measured", state=state)
    return inspect(site, None, lambda *_: None)[0]


def faults(source: Path, outcome: str, others: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder, state = Path(temporary) / "site", Path(temporary) / "state"
        shutil.copytree(source, folder)
        before = inspect_folder(folder, state)
        planted, touched = plant(folder, outcome, others, np.random.default_rng(0))
        after = inspect_folder(folder, state)
        print(f"{'check':34}{'planted':>8}{'found':>7}{'named before':>14}{'new false':>11}")
        for check, files in planted.items():
            was, now = flagged_files(before, check), flagged_files(after, check)
            false = now - was - touched
            print(f"{check:34}{len(files):8}{len(files & now):7}{len(was):14}{len(false):11}")
            if files - now:
                print("   missed:", *sorted(files - now))


def generate(folder: Path, count: int) -> None:
    """Small 12-bit chests: one phantom, warped differently for each file."""
    rng = np.random.default_rng(0)
    (folder / "dicom").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        phantoms.write_hospital(Path(temporary), phantoms.DEMO_HOSPITALS["phantom-a"], 50, 1)
        drawn = sorted((Path(temporary) / "dicom").iterdir())
        bases = [(pydicom.dcmread(f), grey(f)) for f in drawn]
    rows = []
    for number in range(count):
        dataset, picture = bases[number % len(bases)]
        noise = rng.normal(size=(12, 12))
        smooth = np.asarray(Image.fromarray(noise).resize(picture.shape[::-1], Image.BICUBIC))
        mottled = picture + 0.25 * smooth
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = (4095 * np.clip(mottled, 0, 1)).astype("<u2").tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"dicom/{number:05d}.dcm")
        rows.append(
            {
                "file": f"dicom/{number:05d}.dcm",
                "patient_id": f"p{number // 2}",
                "label": str(int(rng.random() < 0.3)),
                "day": str(number),
            }
        )
    write(folder, rows)


def size(count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder, state = Path(temporary) / "site", Path(temporary) / "state"
        generate(folder, count)
        for name in ("cold", "cached"):
            started = time.perf_counter()
            inspect_folder(folder, state)
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            print(
                f"{count} files, {name}: {time.perf_counter() - started:.0f} s, peak {own:.2f} "
                f"GiB, largest worker {child:.2f} GiB",
                flush=True,
            )


def alarms(count: int) -> None:
    """Sound cohorts: tags (a date; numbers, words and a scanner as well) that say nothing."""
    print(f"{'patients':>8}{'positive':>10}{'a date':>10}{'ten tags':>10}   false alarms")
    for patients, share in ((40, 0.5), (60, 0.5), (60, 0.35), (120, 0.3)):
        seen = [0, 0]
        for seed in range(count):
            rng = np.random.default_rng(seed)
            labels = (rng.permutation(patients) < round(share * patients)).astype(float)
            date = rng.integers(0, 1095, (patients, 1)).astype(float)
            others = (
                rng.normal(size=(patients, 3)),
                rng.integers(0, 2, (patients, 3)),
                np.eye(3)[rng.integers(0, 3, patients)],
            )
            for at, features in enumerate((date, np.column_stack([date, *others]))):
                of = np.arange(patients)
                low = cross_validated_auroc(tags_classifier, features, labels, of)[1][0]
                seen[at] += low > WARNING_LIMIT
        print(
            f"{patients:8}{share:10.0%}" + "".join(f"{n / count:10.1%}" for n in seen), flush=True
        )


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "faults":
        faults(Path(rest[0]), "label", [Path(other) for other in rest[1:]])
    elif what == "phantom":
        with tempfile.TemporaryDirectory() as made:
            style = phantoms.DEMO_HOSPITALS["phantom-a"]
            phantoms.write_hospital(Path(made), style, 200, 9, follow_up=0.2)
            faults(Path(made), "bpd", [])
    elif what == "alarms":
        alarms(int(rest[0]))
    else:
        size(int(rest[0]))
