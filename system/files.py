"""Files that are written whole or not at all, and JSON files that several processes change."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from .text import ESCAPED

PRIVATE_FILE, FILE_FOR_OTHERS = 0o600, 0o644
"""Permissions of a file that only the user who runs fedrad may read, and of one for all users."""


LARGEST_FILE, LARGEST_RECORD = 4_000_000, 2**30
"""Bytes of a file that a person writes, and of one that programs write."""
LONGEST_NAME = 200
"""Bytes of a name with which temporary files are named; file systems allow 255 in all."""


class UnreadableFileError(Exception):
    """A file that exists and has no valid content. The text names the file and the fault, but no
    value in the file."""


def read_regular(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The content of a file that people write, such as settings.

    Parameters
    ----------
    path
        The file, or a link to it.
    largest
        Most bytes that it may have.

    Raises
    ------
    OSError
        If it cannot be read; also for a pipe or a device, which may never end, and for a file that
        is larger. `strerror` says why.
    """
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
    if found.st_size > largest:
        raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes", str(path))
    try:
        return path.read_bytes()
    except OSError as error:  # that of a read, as from a broken disk, names no file
        error.filename = error.filename or str(path)
        raise


def read_if_there(path: Path, largest: int = LARGEST_FILE) -> bytes | None:
    """The content of a file, as `read_regular` reads it; None if there is no file.

    Raises OSError also for a link to what is not there: the disk that it names may not be mounted,
    and who took the file for one that was never written would begin anew without it.
    """
    try:
        return read_regular(path, largest)
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        why = f"it is a link to {os.readlink(path)}, which is not there"
        raise OSError(errno.ENOLINK, why, str(path)) from None


def read_regular_text(path: Path) -> str:
    """The text of a file that a person writes: UTF-8, with any ends of lines and a byte order mark
    or none. Raises OSError, as `read_regular` does, and UnicodeDecodeError."""
    text = read_regular(path).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def replacing(path: Path, *, private: bool = True, durable: bool = True) -> Iterator[Path]:
    """Write a file in one step: other processes see the old content, or all of the new.

    Yields an empty temporary file in the same folder, made with the permissions of the new one.
    When the block ends it takes the place of `path`; if the block raises, it is removed and `path`
    is as it was.

    Parameters
    ----------
    path
        File to write; its folder must exist.
    private
        Whether only this user may read it (mode 600, whatever the umask). False is for a file that
        is meant for others and that a command was told to write so (mode 644).
    durable
        Whether the file must survive a power failure, for which the disk must be waited for. A
        cache of many small files need not.

    Raises
    ------
    OSError
        If the file cannot be written, for example because the disk is full; also for a device or a
        pipe, such as /dev/null, which root would otherwise replace by a file.
    """
    if _is_device(path):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
    temporary = path.with_name(f".{_shortened(path.name)}.{os.getpid()}.partial")
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
        yield temporary
        _set_mode(temporary, PRIVATE_FILE if private else FILE_FOR_OTHERS)
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary), temporary):
            error.filename = str(path)  # the name that the user knows; a full disk names none
        raise


def _is_device(path: Path) -> bool:
    """Whether a path is a device, a pipe or a socket, or a link to an open file (/dev/stdout)."""
    try:
        mode = path.stat().st_mode
    except OSError:  # it does not exist, or what writes there says why it cannot
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return True
    return path.is_symlink() and os.readlink(path).startswith("/proc/")


def _shortened(name: str) -> str:
    """A name, or for a long one its hash: with more around it, it must fit into 255 bytes."""
    data = os.fsencode(name)
    return name if len(data) <= LONGEST_NAME else sha256(data).hexdigest()


def _set_mode(file: Path, mode: int) -> None:
    """Give a file its permissions; a library may have put a file of its own in its place. Raises
    OSError if it stays more open than that, for example on a mounted Windows share."""
    with suppress(PermissionError):
        file.chmod(mode)
    if stat.S_IMODE(file.stat().st_mode) & ~mode & 0o077:
        raise OSError(
            errno.EPERM,
            "the file system keeps no permissions, so others could read it; name a place on a "
            "disk of this machine",
            str(file),
        )


def write_whole(path: Path, content: str | bytes, *, private: bool = True) -> None:
    """Write a file in one step. Parameters and errors are those of `replacing`.

    Text is UTF-8; odd bytes of file names in it are escaped.
    """
    data = content.encode(errors=ESCAPED) if isinstance(content, str) else content
    with replacing(path, private=private) as temporary:
        temporary.write_bytes(data)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[int]:
    """Let one process at a time work on a file. The lock lies beside it, as `.NAME.lock`.

    The system takes the lock from a process that ends, however it ends.

    Parameters
    ----------
    path
        File, which need not exist; its folder must.
    wait
        Whether to wait for another process that holds the lock.

    Yields
    ------
    int
        Descriptor of the lock. A child that inherits it holds the lock too.

    Raises
    ------
    BlockingIOError
        If another process holds the lock and `wait` is false.
    OSError
        If the folder cannot be written.
    """
    descriptor = os.open(lock_of(path), os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file. Raises OSError if the lock cannot be read."""
    try:
        with lock_of(path).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def lock_of(path: Path) -> Path:
    """The file whose lock `locked` takes."""
    return path.with_name(f".{path.name}.lock")


M = TypeVar("M", bound=BaseModel)


class JsonFile(Generic[M]):
    """A JSON file that holds one pydantic model, for this user alone (mode 600).

    Parameters
    ----------
    path
        The file; its folder must exist before it is written.
    kind
        Class of the content.
    """

    def __init__(self, path: Path, kind: type[M]) -> None:
        self.path = path
        self._kind = kind

    def read(self) -> M | None:
        """The content; None if there is no file. Raises UnreadableFileError."""
        try:
            content = read_if_there(self.path, LARGEST_RECORD)
            return None if content is None else self._kind.model_validate_json(content)
        except OSError as error:
            why = error.strerror or type(error).__name__
        except ValidationError as error:
            first = error.errors()[0]
            place = str(first["loc"][0]) if first["loc"] else ""  # deeper keys may be private
            why = f"{place}: {first['type']}" if place else first["type"]
        raise UnreadableFileError(f"{self.path}: cannot be read ({why})")

    def write(self, content: M) -> None:
        """Write the content in one step. Raises OSError."""
        write_whole(self.path, content.model_dump_json(indent=1) + "\n")

    @contextmanager
    def changed(self, default: Callable[[], M]) -> Iterator[M]:
        """The content, to be changed: one process at a time, written when the block ends.

        `default` makes the content of a file that does not exist yet. Nothing is written if the
        block raises or changes nothing. Raises UnreadableFileError and OSError.
        """
        with locked(self.path):
            before = self.read()
            content = default() if before is None else before.model_copy(deep=True)
            yield content
            if content != before:
                self.write(content)
