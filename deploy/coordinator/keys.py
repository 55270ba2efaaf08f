"""The coordinator's private keys under a passphrase: `ca.key` and `server.key`, one for both.

`fedrad serve` needs it at each start, keeps it in memory for renewals, and hands the server's key
to the SuperLink in memory. A key of the centre's own certificate (`fedrad serve --key`) may have
the same passphrase. The key on loopback (`control.key`) has none: only this user reaches it.
"""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedrad.deploy.refused import Refused
from fedrad.system.files import locked
from fedrad.system.secrets import MemoryFile

from .authority import Authority, is_locked, read_key, set_passphrase

PASSPHRASE = "coordinator.passphrase"
"""Name of the credential with the passphrase."""
CA_KEY = "ca.key"
"""Name of the authority's key in the folder."""
SERVER_KEY = "server.key"
"""Name of the server's key in the folder."""


def locked_keys(folder: Path, own: Path | None) -> list[Path]:
    """Those private keys of a coordinator that have a passphrase; `own`: key of its own
    certificate. Raises Refused if one cannot be read."""
    files = (folder / CA_KEY, own or folder / SERVER_KEY)
    try:
        return [file for file in files if file.is_file() and is_locked(file.read_bytes())]
    except OSError as error:
        raise Refused(f"{error.filename}: cannot be read: {error.strerror}") from None


def change_passphrase(folder: Path, before: bytes | None, after: bytes | None) -> None:
    """Store the keys of a coordinator's folder with another passphrase, or none.

    Parameters
    ----------
    folder
        The folder. Without an authority one is made, whose key never lies there without the
        passphrase.
    before
        The passphrase that they have now; None if they have none.
    after
        The new passphrase; None for none.

    Raises
    ------
    Refused
        If a key cannot be read, or `before` is wrong; no key is changed then.
    """
    with locked(folder / CA_KEY):
        if not (folder / "ca.crt").is_file():
            Authority(folder, after)
            return
        files = [file for name in (CA_KEY, SERVER_KEY) if (file := folder / name).is_file()]
        for file in files:
            read_key(file, before)
        for file in files:
            set_passphrase(file, before, after)


class ServerKey:
    """The key of the certificate that hospitals see, as the SuperLink reads it.

    It is a file, or in memory if it has a passphrase.

    Parameters
    ----------
    folder
        The coordinator's folder.
    own
        Key of the centre's own certificate; None: fedrad's.
    passphrase
        Passphrase of the keys; None if they have none.

    Raises
    ------
    Refused
        If it cannot be read.
    """

    def __init__(self, folder: Path, own: Path | None, passphrase: bytes | None) -> None:
        self._file = own or folder / SERVER_KEY
        self._passphrase = passphrase
        self._memory: MemoryFile | None = None
        self.refresh()

    @property
    def path(self) -> str:
        """Path of the key, without a passphrase."""
        return self._memory.path if self._memory else str(self._file)

    def refresh(self) -> None:
        """Read the key again, after a renewal. Raises Refused."""
        if self._passphrase is None or not is_locked(self._file.read_bytes()):
            return
        key = read_key(self._file, self._passphrase)
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        if self._memory is None:
            self._memory = MemoryFile(content)
        else:
            self._memory.replace(content)
