"""Phantoms: the same seed gives the same hospital, and the ground truth matches the images."""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fedrad.deploy import phantoms

PATIENTS = 6
IDENTITY = (
    "PatientName",
    "PatientID",
    "AccessionNumber",
    "InstitutionName",
    "ReferringPhysicianName",
    "StudyID",
)
SYNTAX = {
    "explicit": "Explicit VR Little Endian",
    "rle": "RLE Lossless",
    "jpeg2000": "JPEG 2000 Image Compression (Lossless Only)",
}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo hospitals with a few patients each, one folder per hospital."""
    root = tmp_path_factory.mktemp("hospitals")
    for name, style in phantoms.DEMO_HOSPITALS.items():
        phantoms.write_hospital(root / name, style, PATIENTS, seed=7, follow_up=0.5)
    return root


@pytest.mark.parametrize("name", phantoms.DEMO_HOSPITALS)
def test_the_same_seed_gives_the_same_bytes(name: str, hospitals: Path, tmp_path: Path) -> None:
    style = phantoms.DEMO_HOSPITALS[name]
    phantoms.write_hospital(tmp_path, style, PATIENTS, seed=7, follow_up=0.5)
    assert contents(tmp_path) == contents(hospitals / name)


def test_another_seed_gives_other_patients(hospitals: Path, tmp_path: Path) -> None:
    phantoms.write_hospital(tmp_path, phantoms.DEMO_HOSPITALS["phantom-a"], 2, seed=8)
    first = {row["patient_id"] for row in table(hospitals / "phantom-a" / "cohort.csv")}
    assert first.isdisjoint(row["patient_id"] for row in table(tmp_path / "cohort.csv"))


@pytest.mark.parametrize("age_group", ["infant", "adult"])
def test_severity_changes_the_lungs_and_nothing_else(age_group: phantoms.AgeGroup) -> None:
    anatomy = phantoms.random_anatomy(age_group, np.random.default_rng(3))
    healthy, ill = (phantoms.draw_radiograph(anatomy, severity, 5, 192) for severity in (0.0, 1.0))
    lungs = phantoms.true_lung_mask(anatomy, 192)
    change = np.abs(ill - healthy)
    assert 0.08 < lungs.mean() < 0.6
    assert not change[~lungs].any()
    assert (change[lungs] > 0.01).mean() > 0.5
    assert healthy.min() >= 0
    assert healthy.max() <= 1


def test_more_severe_disease_changes_more() -> None:
    anatomy = phantoms.random_anatomy("infant", np.random.default_rng(4))
    severities = (0.0, 0.3, 0.6, 0.9)
    films = [phantoms.draw_radiograph(anatomy, severity, 5, 192) for severity in severities]
    changes = [float(np.abs(film - films[0]).mean()) for film in films]
    assert changes == sorted(changes)
    assert changes[1] > 0


@pytest.mark.parametrize("name", phantoms.DEMO_HOSPITALS)
def test_every_identity_field_holds_the_canary(name: str, hospitals: Path) -> None:
    for path in (hospitals / name / "dicom").iterdir():
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        missing = [field for field in IDENTITY if "CANARY" not in str(ds.get(field))]
        assert not missing


@pytest.mark.parametrize("name", phantoms.DEMO_HOSPITALS)
def test_images_are_stored_as_the_style_declares(name: str, hospitals: Path) -> None:
    style = phantoms.DEMO_HOSPITALS[name]
    for path in (hospitals / name / "dicom").iterdir():
        ds = pydicom.dcmread(path)
        assert ds.file_meta.TransferSyntaxUID.name == SYNTAX[style.transfer_syntax]
        assert (ds.Rows, ds.Columns) == (style.rows, style.columns)
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (16, style.bits, style.bits - 1)
        assert ds.PhotometricInterpretation == style.photometric
        assert ("WindowCenter" in ds) == ("WindowWidth" in ds) == style.window
        assert float(ds.get("RescaleSlope", 1)) == style.slope
        assert float(ds.get("RescaleIntercept", 0)) == style.intercept
        assert (ds.Modality, ds.BodyPartExamined, ds.ViewPosition) == ("CR", "CHEST", "AP")
        assert ds.SOPInstanceUID.is_valid
        assert ds.StudyInstanceUID.is_valid
        pixels = ds.pixel_array
        assert pixels.max() < 2**style.bits
        assert np.ptp(pixels) > 0.4 * 2**style.bits


@pytest.mark.parametrize("name", phantoms.DEMO_HOSPITALS)
def test_the_tables_agree_with_the_files(name: str, hospitals: Path) -> None:
    folder, style = hospitals / name, phantoms.DEMO_HOSPITALS[name]
    rows = table(folder / "cohort.csv")
    assert list(rows[0]) == ["file", "patient_id", "bpd", "sex", "gestational_age", "day"]
    assert {row["file"] for row in rows} == {f"dicom/{p.name}" for p in folder.glob("dicom/*")}
    assert [row["file"] for row in table(folder / "truth.csv")] == [row["file"] for row in rows]
    outcomes = {row["patient_id"]: row["bpd"] for row in rows}
    assert len(outcomes) == PATIENTS
    assert list(outcomes.values()).count("1") == round(style.prevalence * PATIENTS)
    uids = set()
    for row in rows:
        ds = pydicom.dcmread(folder / row["file"], stop_before_pixels=True)
        assert (ds.PatientID, ds.PatientSex) == (row["patient_id"], row["sex"])
        assert int(ds.PatientAge[:3]) == int(row["day"])
        assert row["bpd"] == outcomes[ds.PatientID]
        uids.add(ds.SOPInstanceUID)
    assert len(uids) == len(rows)


def test_follow_up_adds_later_images_of_the_same_patients(hospitals: Path) -> None:
    rows = table(hospitals / "phantom-a" / "cohort.csv")
    days: dict[str, list[int]] = {}
    for row in rows:
        days.setdefault(row["patient_id"], []).append(int(row["day"]))
    assert all(own[0] == 1 and own == sorted(set(own)) for own in days.values())
    assert sum(len(own) > 1 for own in days.values()) == PATIENTS // 2


def test_the_public_cohort_is_of_adults_without_identity(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    phantoms.write_public_cohort(tmp_path, 4, seed=1, progress=lambda *step: seen.append(step))
    rows = table(tmp_path / "cohort.csv")
    assert list(rows[0]) == ["file", "patient_id", "lung_disease", "sex", "age"]
    assert sorted(row["lung_disease"] for row in rows) == ["0", "0", "1", "1"]
    assert all(int(row["age"]) >= 18 for row in rows)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert not any(b"CANARY" in content for content in contents(tmp_path).values())
