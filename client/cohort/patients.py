"""Pseudonyms of patients: the same in every experiment of a site, another at each other site."""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedrad.client.problems import SiteProblem
from fedrad.system.files import locked, write_whole


@dataclass(frozen=True)
class Pseudonyms:
    """Turns patient numbers into pseudonyms by a random salt."""

    salt: bytes

    @classmethod
    def load_or_create(cls, state: Path) -> Self:
        """Pseudonyms with the salt of a site's state folder.

        The salt is made at the first call; only its owner can read it. Raises SiteProblem("cohort")
        if the folder cannot be written or the salt is damaged.
        """
        file = state / "salt"
        try:
            if not file.exists():
                _create(file, secrets.token_bytes(32))
            salt = file.read_bytes()
        except OSError as error:
            raise SiteProblem("cohort", f"{file}: cannot be kept ({error.strerror})") from error
        if len(salt) != 32:
            raise SiteProblem(
                "cohort",
                f"{file}: is damaged; restore it from a backup, for with another salt "
                "every patient would count as new",
            )
        return cls(salt)

    @classmethod
    def temporary(cls) -> Self:
        """Pseudonyms with a salt that is not stored, to read a table without writing anything."""
        return cls(secrets.token_bytes(32))

    def of(self, patient: str) -> str:
        """HMAC-SHA-256 of a patient number, hexadecimal."""
        return hmac.new(self.salt, patient.encode(), sha256).hexdigest()

    def secret(self, purpose: str) -> bytes:
        """32 bytes for another purpose, such as noise. They disclose neither the salt nor the
        secrets for other purposes."""
        return hmac.digest(self.salt, f"secret for {purpose}".encode(), sha256)

    @property
    def fingerprint(self) -> str:
        """Identifies the salt without revealing it."""
        return self.of("fingerprint of the salt")[:16]


def patient_numbers(pseudonyms: Iterable[str]) -> NDArray[np.int64]:
    """Number of each patient, (n,), from 0 in the order of first appearance.

    Not in the order of the pseudonyms, which depend on the salt: a draw by number would then depend
    on it too.
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(p, len(numbers)) for p in pseudonyms], dtype=np.int64)


def _create(file: Path, content: bytes) -> None:
    """Write a file unless it exists, also if another process writes it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file):
        if not file.exists():
            write_whole(file, content, private=True)
