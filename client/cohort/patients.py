"""What stands for a patient's number: a pseudonym, the same in every experiment of a site, and the
draw that places the patient in the division. Both are made with secrets of the site."""

import hmac
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.system.files import locked, read_if_there, read_regular, write_whole
from fedrad.system.folders import make_folder

from .spelling import Spelling


@dataclass(frozen=True)
class Pseudonyms:
    """Turns patient numbers into pseudonyms by a random salt.

    Attributes
    ----------
    salt
        32 random bytes.
    stored
        Whether the salt is one that the site keeps.
    spelling
        The site's rule of spelling (`patient_numbers` in site.toml), by which the numbers were
        written. Records by another rule do not recognise all patients.
    """

    salt: bytes
    stored: bool = True
    spelling: Spelling | None = None

    @classmethod
    def of_site(cls, site: Site) -> Self:
        """The pseudonyms of a site (see `load_or_create`), by its rule of spelling."""
        return replace(cls.load_or_create(site.state), spelling=site.settings.patient_numbers)

    @classmethod
    def load_or_create(cls, state: Path) -> Self:
        """Pseudonyms with the salt of a site's state folder.

        The salt is made at the first call; only its owner can read it. Raises SiteProblem("cohort")
        if the folder cannot be written or the salt is damaged.
        """
        return cls(
            _load_or_create(state / "salt", "with another salt every patient would count as new")
        )

    @classmethod
    def temporary(cls) -> Self:
        """Pseudonyms with a salt that is not stored, to read a table without writing anything."""
        return cls(secrets.token_bytes(32), stored=False)

    def of(self, patient: str) -> str:
        """HMAC-SHA-256 of a patient number, hexadecimal."""
        return hmac.new(self.salt, patient.encode(), sha256).hexdigest()

    def secret(self, purpose: str) -> bytes:
        """32 bytes for another purpose, such as noise. They disclose neither the salt nor the
        secrets for other purposes."""
        return hmac.digest(self.salt, f"secret for {purpose}".encode(), sha256)

    @property
    def fingerprint(self) -> str:
        """Identifies the salt, and the rule of spelling if it joins numbers, without revealing
        the salt."""
        rule = " and of numbers by their digits" if self.spelling == "digits" else ""
        return self.of(f"fingerprint of the salt{rule}")[:16]


@dataclass(frozen=True)
class PatientDraw:
    """Turns patient numbers into the digests by which patients are placed in the division.

    With a secret key of the site, nobody else can compute them: a coordinator who knows a patient's
    number cannot choose a seed that places the patient. A site that has joined a coordinator always
    has a key. A simulation has none, so that two runs of it are equal: the person who chooses the
    seed has the table too.
    """

    key: bytes | None

    @classmethod
    def of_site(cls, site: Site) -> Self:
        """The draw with the key in `split.key` of the state folder, where it is made at the first
        call if the site has joined. Raises SiteProblem("cohort") as `Pseudonyms.load_or_create`."""
        file = site.state / "split.key"
        if not (site.joined or os.path.lexists(file)):
            return cls(None)
        return cls(
            _load_or_create(file, "with another key new patients would be divided otherwise")
        )

    @classmethod
    def temporary(cls) -> Self:
        """A draw for a table that is read without writing anything, and divided by nobody."""
        return cls(secrets.token_bytes(32))

    def of(self, patient: str) -> str:
        """HMAC-SHA-256 of a patient number, hexadecimal; without a key its SHA-256."""
        number = patient.encode()
        digest = hmac.new(self.key, number, sha256) if self.key else sha256(number)
        return digest.hexdigest()

    @property
    def fingerprint(self) -> str | None:
        """Identifies the key without revealing it; None without a key."""
        return self.of("fingerprint of the key")[:16] if self.key else None


def patient_numbers(pseudonyms: Iterable[str]) -> NDArray[np.int64]:
    """Number of each patient, (n,), from 0 in the order of first appearance.

    Not in the order of the pseudonyms, which depend on the salt: a draw by number would then depend
    on it too.
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(p, len(numbers)) for p in pseudonyms], dtype=np.int64)


def _load_or_create(file: Path, otherwise: str) -> bytes:
    """A secret of 32 bytes in a private file, which is made if it does not exist, also if another
    process makes it at the same time. `otherwise`: what would happen with another one."""
    try:
        if read_if_there(file) is None:
            make_folder(file.parent)
            with locked(file):
                if read_if_there(file) is None:
                    write_whole(file, secrets.token_bytes(32))
        secret = read_regular(file)
    except OSError as error:
        raise SiteProblem("cohort", f"{file}: cannot be kept ({error.strerror})") from error
    if len(secret) != 32:
        raise SiteProblem(
            "cohort", f"{file}: is damaged; restore it from a backup, for {otherwise}"
        )
    return secret
