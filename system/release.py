"""Which fedrad is installed: its version, and a hash over its code.

The version is what the authors call it; the hash is what is on the disk. Two installations of the
same release have the same hash, whether from a wheel or a working tree; one edited, added or
missing file gives another. It names the installed code and does not protect it: whoever can write
to the installation can also change what this module says.
"""

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.machinery import all_suffixes
from pathlib import Path

RELEASE_PATTERN = r"[0-9][0-9A-Za-z.+-]{0,39}\+sha256:[0-9a-f]{12,64}"
"""A release: the version, and at least the first 12 of the 64 characters of the hash."""
SHOWN = 12
"""Characters of the hash that tables show."""
_DATA_FOLDERS = ("templates", "bundle")
"""Folders whose files the distribution contains beside its modules (`package-data`)."""


@cache
def release() -> str:
    """Version and hash of the installed code, for example `0.2.0+sha256:1f3a…` with all 64
    characters of the hash. The first call reads all of the code, in some milliseconds."""
    return f"{importlib.metadata.version('fedrad')}+sha256:{code_sha256(_package())}"


def short_release(full: str) -> str:
    """A release as tables show it: with the first 12 characters of its hash."""
    version, separator, hash_ = full.partition("+sha256:")
    return f"{version}{separator}{hash_[:SHOWN]}"


def same_release(one: str, other: str) -> bool:
    """Whether two texts name the same release. Either may give only the beginning of the hash, at
    least 12 characters."""
    if not all(re.fullmatch(RELEASE_PATTERN, text) for text in (one, other)):
        return False
    return one.startswith(other) or other.startswith(one)


def code_sha256(package: Path) -> str:
    """SHA-256 over what Python could import from a package's folder, and its data.

    Parameters
    ----------
    package
        Folder of the package. Links in it are followed.

    Returns
    -------
    str
        Hexadecimal. It depends on the files' paths in the package and on their content, and on
        nothing else: not on where the package is installed, on times, or on `__pycache__`.
    """
    total = sha256()
    for name, path in sorted(_files(package)):
        content = path.read_bytes()
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def _files(package: Path) -> Iterator[tuple[str, Path]]:
    """Path in the package and on the disk, of each file that counts."""
    importable = tuple(all_suffixes())  # a `.so` or a lone `.pyc` would be run in place of a `.py`
    for folder, folders, names in os.walk(package, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = Path(folder, name)
            if name.endswith(importable) or path.parent.name in _DATA_FOLDERS:
                yield path.relative_to(package).as_posix(), path


def _package() -> Path:
    """Folder of the installed package. It is not that of this file, whose room can be a link."""
    spec = importlib.util.find_spec("fedrad")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("fedrad is not installed as a package")
    return Path(spec.origin).parent
