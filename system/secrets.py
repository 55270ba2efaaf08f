"""Keys and passphrases that come from where the platform keeps them, and never from an argument.

A command line is readable by every user of a machine (`ps`), and so is, by its own user, the
environment. So a secret comes from, in this order:

1. a file descriptor that the caller opened, named by its number (`--passphrase-fd 3`);
2. a credential of systemd (`LoadCredential=`, `LoadCredentialEncrypted=`), which is a file in
   `$CREDENTIALS_DIRECTORY` that only the service can read;
3. the terminal.

A program that reads a key from a file only gets it from memory (`MemoryFile`), so that a key with a
passphrase is nowhere on a disk without it.
"""

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

LARGEST = 65536
"""Bytes of a key or passphrase."""
DESCRIPTORS = "/proc/self/fd/"


class SecretError(UserError):
    """A secret was not given or cannot be read. The text says which, and how to give it."""


def credential(name: str) -> Path | None:
    """File of a systemd credential; None if the service was given none of this name."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder) / name if folder else None
    return file if file is not None and file.is_file() else None


def read_descriptor(number: int) -> bytes:
    """What a file descriptor holds, which the caller opened. It is closed. Raises SecretError."""
    if not 0 <= number < 2**31:
        raise SecretError(f"{number} is no file descriptor; the shell opens one with `3<FILE`")
    try:
        with os.fdopen(number, "rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise SecretError(
            f"file descriptor {number} cannot be read ({error.strerror}); the shell opens one with "
            f"`{number}<FILE`"
        ) from None


def passphrase(name: str, what: str, descriptor: int | None = None) -> bytes:
    """A passphrase, without the end of the line.

    Parameters
    ----------
    name
        Name of its systemd credential.
    what
        What it protects, as a question on the terminal and in errors names it.
    descriptor
        File descriptor that holds it; None if the caller gave none.

    Returns
    -------
    bytes
        The passphrase in UTF-8.

    Raises
    ------
    SecretError
        If it is nowhere, empty, or cannot be read.
    """
    if descriptor is not None:
        given = read_descriptor(descriptor)
    elif (file := credential(name)) is not None:
        try:
            given = file.read_bytes()
        except OSError as error:
            raise SecretError(f"the credential {name} cannot be read: {error.strerror}") from None
    elif sys.stdin is not None and sys.stdin.isatty():
        given = getpass.getpass(f"Passphrase of {what}: ").encode()
    else:
        raise SecretError(
            f"{what} has a passphrase, and none was given: run the command on a terminal, give it "
            f"with --passphrase-fd, or as systemd credential {name!r}"
        )
    if not (given := given.rstrip(b"\r\n")):
        raise SecretError(f"the passphrase of {what} is empty")
    return given


class MemoryFile:
    """A file in memory only, for a program that reads a key from a file.

    Attributes
    ----------
    descriptor
        Its file descriptor, which a child process must inherit (`pass_fds`).
    """

    def __init__(self, content: bytes) -> None:
        self.descriptor = os.memfd_create("fedrad-key", os.MFD_CLOEXEC)
        self.replace(content)

    @property
    def path(self) -> str:
        """Path under which this process, or a child that inherits it, reads the file."""
        return f"{DESCRIPTORS}{self.descriptor}"

    def replace(self, content: bytes) -> None:
        """Replace the content; who opens the path from now on reads the new one."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, content, 0)

    def close(self) -> None:
        """Give the memory back, once no child has it open any more."""
        os.close(self.descriptor)


@contextmanager
def memory_file(content: bytes) -> Iterator[MemoryFile]:
    """A MemoryFile for the time of a block."""
    file = MemoryFile(content)
    try:
        yield file
    finally:
        file.close()


def inherited_descriptors(path: str) -> tuple[int, ...]:
    """The descriptor in the path of a MemoryFile, which a child must inherit; none for a file."""
    number = path.removeprefix(DESCRIPTORS)
    return (int(number),) if number != path and number.isdigit() else ()
