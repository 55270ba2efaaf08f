"""Withdrawal of patients: what they have been in, and the removal of what is kept of them."""

import csv
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedrad.client.cohort import Pseudonyms, Withdrawn, record_withdrawn
from fedrad.client.cohort.patient_files import ListedPatient, listed_patients
from fedrad.client.cohort.spelling import bare, read_number
from fedrad.client.images import ImageStore
from fedrad.client.policy.ledger import LEDGER, Ledger
from fedrad.client.policy.ledger_lines import LedgerError
from fedrad.client.policy.stored_answers import StoredAnswers
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.system.files import replacing

from .patient_uses import PatientUses
from .score_store import forget_scores
from .trained_patients import TrainedPatients


@dataclass(frozen=True)
class Training:
    """An experiment that trained on a patient: name ("" if no record has it), identity, time of its
    first training (UTC, "" if unknown), and file of the local-only model that this site kept."""

    name: str
    identity: str
    since: str
    local_model: Path | None


@dataclass(frozen=True)
class KnownPatient:
    """What a site knows of a patient's number.

    Attributes
    ----------
    number, key
        Patient number and pseudonym.
    listed
        The patient in the cohort table; None if it is not there.
    trained
        Experiments that trained on the patient.
    counted
        Name of an experiment -> parts in which released figures count the patient.
    withdrawn
        Whether the patient was withdrawn before.
    similar
        Numbers of the table that are nearly the same (case, blanks, leading zeros): perhaps this
        patient, in another spelling.
    """

    number: str
    key: str
    listed: ListedPatient | None
    trained: list[Training]
    counted: dict[str, list[str]]
    withdrawn: bool
    similar: list[str]

    @property
    def is_known(self) -> bool:
        """Whether the table or a record has the patient; otherwise the number may be mistyped."""
        return bool(self.listed or self.trained or self.counted or self.withdrawn)


@dataclass(frozen=True)
class Removed:
    """Numbers of things removed: pictures' files, files of scores, simulated progressions, and
    explanations."""

    images: int
    scores: int
    progressions: int
    explanations: int


def look_up(site: Site, numbers: Sequence[str]) -> list[KnownPatient]:
    """What the site knows of some patient numbers, as a person typed them. Nothing is changed.

    Raises SiteProblem if the cohort table or a record cannot be read, or for a text that is no
    patient number.
    """
    numbers = list(dict.fromkeys(_number(site, given) for given in numbers))
    pseudonyms = Pseudonyms.of_site(site)
    trained = TrainedPatients(site.state / "trained", pseudonyms.fingerprint)
    records = {
        identity: (record, frozenset(record.keys)) for identity, record in trained.all().items()
    }
    uses = PatientUses(site.state / "uses", trained, pseudonyms.fingerprint).all()
    withdrawn = Withdrawn.read(site.state)
    listed, everyone = listed_patients(site, numbers, _store(site).instance_uids)
    patients = []
    for number in numbers:
        key = pseudonyms.of(number)
        patients.append(
            KnownPatient(
                number=number,
                key=key,
                listed=listed.get(number),
                trained=[
                    _training(site, identity, record.name, record.since)
                    for identity, (record, keys) in records.items()
                    if key in keys
                ],
                counted={
                    use.name: sorted(part for part in use.released if key in use.counted[part])
                    for use in uses
                    if any(key in use.counted[part] for part in use.released)
                },
                withdrawn=number in withdrawn,
                similar=[n for n in everyone if n != number and bare(n) == bare(number)],
            )
        )
    return patients


def withdraw(site: Site, patients: Sequence[KnownPatient], by: str) -> Removed:
    """Withdraw patients: recorded in the ledger first, then in `withdrawn.json`; then what the site
    holds of them is removed. Repeating it removes what an interrupted call left.

    Raises SiteProblem, LedgerError or OSError if something cannot be written; whoever was recorded
    before stays withdrawn.
    """
    new = sorted(patient.key for patient in patients if not patient.withdrawn)
    if new:
        Ledger(site.state / LEDGER).append(
            {
                "experiment": "",
                "message": {
                    "kind": "withdrawal",
                    "count": len(new),
                    "pseudonyms": new,
                    "by": by,
                    "time": datetime.now(UTC).isoformat(timespec="seconds"),
                },
                "message_bytes": 0,
                "tensor_bytes": 0,
            }
        )
        record_withdrawn(site.state, new)
    files = [file for patient in patients if patient.listed for file in patient.listed.files]
    keys = {patient.key for patient in patients}
    scores = forget_scores(site.state / "experiments", keys)
    explanations = _forget_explanations(site.state / "experiments", files)
    for patient in patients:
        _forget_updates(site.state / "experiments", patient.trained)
    (site.state / "check.html").unlink(missing_ok=True)  # it shows images of all patients
    shutil.rmtree(site.state / "activations", ignore_errors=True)  # named by no patient
    if not files or not (site.state / "images").is_dir():
        return Removed(0, scores, 0, explanations)
    contents = _store(site).forget(files)
    progressions = _forget_progressions(site.state / "progressions", contents)
    return Removed(len(contents), scores, progressions, explanations)


def withdrawn_now(site: Site) -> frozenset[str]:
    """Pseudonyms of all who withdrew, those included whom only the ledger names because
    `withdrawn.json` was lost: they are added to it again."""
    known = Withdrawn.read(site.state).keys
    if lost := _in_ledger(site.state / LEDGER) - known:
        record_withdrawn(site.state, lost)
    return known | lost


def _in_ledger(file: Path) -> set[str]:
    """Pseudonyms in the withdrawals of a ledger."""
    try:
        withdrawals = list(Ledger(file).newest("withdrawal"))
    except (LedgerError, OSError) as error:
        raise SiteProblem(
            "cohort", f"who withdrew cannot be read in the ledger: {error}"
        ) from error
    return {key for entry in withdrawals for key in entry["message"]["pseudonyms"]}


def _store(site: Site) -> ImageStore:
    settings = site.settings
    return ImageStore(
        site.state / "images", limit_gib=settings.images_gib, workers=settings.decoders
    )


def _training(site: Site, identity: str, name: str, since: str) -> Training:
    """Records of earlier versions have no name; the folder of the experiment has."""
    folders = sorted((site.state / "experiments").glob(f"*-{identity[:12]}*"))
    if not name and folders:
        name = folders[0].name.rpartition("-")[0]
    models = [file for folder in folders if (file := folder / "local.safetensors").is_file()]
    return Training(name, identity, since, models[0] if models else None)


def _number(site: Site, given: str) -> str:
    try:
        return read_number(given, site.settings.patient_numbers)
    except ValueError as error:
        raise SiteProblem("cohort", f"the patient number {error}") from None


def _forget_updates(experiments: Path, trained: Iterable[Training]) -> None:
    """Remove the stored answers that were trained on a patient. One that did not arrive would be
    sent again; now it is refused, because the question book has it as answered."""
    for training in trained:
        for folder in experiments.glob(f"*-{training.identity}/answers"):
            StoredAnswers(folder).forget_trained()


def _forget_progressions(folder: Path, contents: Iterable[str]) -> int:
    """Remove the simulated progressions of images, by the SHA-256 of their files."""
    files = [file for content in contents for file in folder.glob(f"*/{content[:32]}*.npy")]
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _forget_explanations(experiments: Path, files: Collection[Path]) -> int:
    """Remove the pictures of `fedrad-site explain` that show files, and their rows."""
    shown, removed = {str(file) for file in files}, 0
    for table in sorted(experiments.glob("*/explanations/*/images.csv")):
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        stay = [row for row in rows if len(row) < 2 or row[1] not in shown]
        for picture, *_ in (row for row in rows if row not in stay):
            (table.parent / picture).unlink(missing_ok=True)
        if len(stay) < len(rows):
            with (
                replacing(table) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as stream,
            ):
                csv.writer(stream).writerows(stay)
        removed += len(rows) - len(stay)
    return removed
