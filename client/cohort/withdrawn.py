"""Patients who withdrew: their rows of the cohort table are not read."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from fedrad.client.problems import SiteProblem, needed_record
from fedrad.system.files import JsonFile
from fedrad.system.folders import make_folder

from .patients import Pseudonyms

WITHDRAWN = "withdrawn.json"
_SAYS = "names the patients who withdrew"


class _Content(BaseModel):
    """Content of `withdrawn.json`.

    `pseudonyms`: fingerprint of the salt. `patients`: pseudonym -> time of the withdrawal (UTC).
    """

    format: Literal[1] = 1
    pseudonyms: str
    patients: dict[str, str] = {}


@dataclass(frozen=True)
class Withdrawn:
    """The patients who withdrew, by pseudonym; `number in withdrawn` asks by patient number."""

    pseudonyms: Pseudonyms
    keys: frozenset[str] = frozenset()

    @classmethod
    def read(cls, state: Path) -> "Withdrawn":
        """Those in `withdrawn.json` of a state folder; nobody if there is no file.

        Raises SiteProblem("cohort") if it cannot be read or was made with another salt: a patient
        who withdrew would not be recognised.
        """
        with needed_record(_SAYS):
            content = _file(state).read()
        if content is None:
            return cls(Pseudonyms.temporary())
        pseudonyms = Pseudonyms.load_or_create(state)
        _check(state, content, pseudonyms)
        return cls(pseudonyms, frozenset(content.patients))

    def __contains__(self, number: str) -> bool:
        """Whether the patient of this number withdrew."""
        return bool(self.keys) and self.pseudonyms.of(number) in self.keys


def record_withdrawn(state: Path, keys: Iterable[str]) -> None:
    """Add patients, by pseudonym. Raises SiteProblem as `Withdrawn.read`."""
    pseudonyms = Pseudonyms.load_or_create(state)
    make_folder(state)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    file = _file(state)
    with (
        needed_record(_SAYS),
        file.changed(lambda: _Content(pseudonyms=pseudonyms.fingerprint)) as content,
    ):
        _check(state, content, pseudonyms)
        content.patients = dict.fromkeys(sorted(keys), now) | content.patients


def _file(state: Path) -> JsonFile[_Content]:
    return JsonFile(state / WITHDRAWN, _Content)


def _check(state: Path, content: _Content, pseudonyms: Pseudonyms) -> None:
    if content.pseudonyms != pseudonyms.fingerprint:
        raise SiteProblem(
            "cohort",
            f"{state / WITHDRAWN}: was made with another salt than the one in the state folder, so "
            "patients who withdrew cannot be recognised; restore the salt from a backup",
        )
