"""The officer's key: decisions at a site count only if they are signed with it.

The private half is a file that the officer keeps, encrypted with a passphrase. The public half is
in the site's ledger, and again in `officer.pub` of the state folder: either of them alone, changed
or removed, admits nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fedrad.client.problems import SiteProblem
from fedrad.system.files import locked, write_whole
from fedrad.system.folders import make_folder

from .ledger import LEDGER, Ledger
from .ledger_lines import LedgerEntry, signed_bytes

PUBLIC_KEY = "officer.pub"
SHORTEST_PASSPHRASE = 12
"""Fewest characters of a passphrase."""
KIND = "officer key"


@dataclass(frozen=True)
class OfficerKey:
    """The officer's private key, for one decision."""

    _private: Ed25519PrivateKey

    @classmethod
    def create(cls, file: Path, passphrase: str) -> Self:
        """Make a new key in a file, encrypted with a passphrase. Raises SiteProblem."""
        if file.exists():
            raise SiteProblem("internal", f"{file}: exists already; name a new file for the key")
        if len(passphrase) < SHORTEST_PASSPHRASE:
            raise SiteProblem(
                "internal", f"the passphrase needs at least {SHORTEST_PASSPHRASE} characters"
            )
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode())
        )
        write_whole(file, pem)
        return cls(private)

    @classmethod
    def read(cls, file: Path, passphrase: str) -> Self:
        """Read the key from its file. Raises SiteProblem, also for a wrong passphrase."""
        try:
            key = load_pem_private_key(file.read_bytes(), passphrase.encode())
        except OSError as error:
            raise SiteProblem("internal", f"{file}: cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SiteProblem(
                "internal", f"{file}: no officer's key, or the passphrase is wrong"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise SiteProblem("internal", f"{file}: no key that `fedrad-site officer init` made")
        return cls(key)

    @property
    def public(self) -> str:
        """The public half, hexadecimal."""
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return raw.hex()

    def sign(self, content: bytes) -> str:
        """Signature of some bytes, hexadecimal."""
        return self._private.sign(content).hex()


def is_signed(entry: LedgerEntry, public: str) -> bool:
    """Whether an entry of the ledger has the signature of a key (hexadecimal)."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(str(entry["signature"])), signed_bytes(entry))
    except (InvalidSignature, ValueError, KeyError):
        return False
    return True


def pinned_key(state: Path) -> str | None:
    """The public key with which decisions at a site must be signed; None if none was set up.

    The first key of the ledger is trusted, every later one if the key before has signed it.

    Parameters
    ----------
    state
        The site's state folder.

    Raises
    ------
    SiteProblem
        If `officer.pub` is missing, or is not the key of the ledger.
    LedgerError
        If the ledger was changed.
    """
    key: str | None = None
    for entry in reversed(list(Ledger(state / LEDGER).newest(KIND))):
        if key is None or is_signed(entry, key):
            key = str(entry["message"]["public_key"])
    file = state / PUBLIC_KEY
    try:
        stated = file.read_text(encoding="ascii").strip() if file.exists() else None
    except (OSError, UnicodeDecodeError):
        stated = "unreadable"
    if stated == key:
        return key
    if key is None:
        raise SiteProblem(
            "policy",
            f"{file}: an officer's key was set up, and the ledger does not know it: the ledger was "
            "rewritten or replaced. Restore it from a backup, and find out who changed it",
        )
    raise SiteProblem(
        "policy",
        f"{file}: {'is missing' if stated is None else 'is not the key of the ledger'}. Restore "
        f"it from a backup; its only line is {key}",
    )


def pin_key(state: Path, key: OfficerKey, by: str, *, replaced: OfficerKey | None = None) -> None:
    """Let decisions at a site count only if they are signed with a key.

    Parameters
    ----------
    state
        The site's state folder.
    key
        The new key.
    by
        Name of the person who sets it up.
    replaced
        The key that it replaces, which signs this; None for the first key.

    Raises
    ------
    SiteProblem
        If another key is set up, and this is not that key.
    """
    make_folder(state)
    with locked(state / PUBLIC_KEY):
        check_key(state, replaced)
        Ledger(state / LEDGER).note(
            {"kind": KIND, "public_key": key.public, "by": by},
            sign=None if replaced is None else replaced.sign,
        )
        write_whole(state / PUBLIC_KEY, key.public + "\n")


def check_key(state: Path, key: OfficerKey | None) -> None:
    """Raise SiteProblem unless decisions at a site may be signed with this key, or with none."""
    pinned = pinned_key(state)
    if pinned is not None and key is None:
        raise SiteProblem(
            "policy", "decisions at this site are signed with the officer's key: --key FILE"
        )
    if pinned is not None and key is not None and key.public != pinned:
        raise SiteProblem("policy", "this is not the officer's key that is set up at this site")
    if pinned is None and key is not None:
        raise SiteProblem(
            "policy", "no officer's key is set up at this site; `fedrad-site officer init`"
        )
