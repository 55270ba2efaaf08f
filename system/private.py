"""What fedrad writes is for the user who runs it, and for no other user of the machine.

Programs call `make_private` first. The Python interface does not, because its process belongs to
somebody else; the folders and files that it makes are private all the same (`files`, `folders`).
"""

import os
import resource
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from .folders import make_folder

OTHERS = 0o077
"""Permissions of the group and of all others."""
TEMPORARY = "tmp"
"""Folder for temporary files, in the folder of a site, a coordinator or an experiment."""
_own_process: list[bool] = []
"""Not empty if this process is fedrad's own, so that its environment may be changed."""


def make_private() -> None:
    """Make this process and those that it starts private: new files are for this user alone, and
    memory, which may hold images, is never written into a core file. Every `main` begins with it.
    """
    os.umask(OTHERS)
    forbid_core_files()
    _own_process.append(True)


def forbid_core_files() -> None:
    """Let no core file of this process be written, nor of those that it starts.

    A limit of 0 does not end it where the system passes core files to a program (`core_pattern`
    with a pipe); the limit 1 does (core(5), and do_coredump in Linux). Where the limit can only be
    0, an empty filter keeps the memory out of the file.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = 0 if hard == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    with suppress(OSError):  # not Linux, or /proc is closed to us
        Path("/proc/self/coredump_filter").write_text("0", encoding="ascii")


def temporary_folder(folder: Path) -> dict[str, str]:
    """Environment of a process whose temporary files are to lie in a folder, which is made in
    `folder`. Raises OSError."""
    make_folder(folder / TEMPORARY)
    return {"TMPDIR": str((folder / TEMPORARY).resolve())}


def use_temporary_folder(folder: Path) -> None:
    """Put the temporary files of this process and of those that it starts into `folder`, instead
    of one that all users share. A process that is not fedrad's own stays as it is. Raises OSError.
    """
    if not _own_process:
        return
    os.environ.update(temporary_folder(folder))
    tempfile.tempdir = None  # it is looked up again


def set_privacy(path: Path, *, private: bool) -> None:
    """Let only this user read a file, or a folder with all that is in it; or let all users.

    Parameters
    ----------
    path
        The file or folder.
    private
        Whether it is for this user alone (modes 600 and 700) or for all to read (644 and 755).

    Raises
    ------
    OSError
        If the permissions cannot be changed.
    """
    for one in (path, *(path.rglob("*") if path.is_dir() else ())):
        if not one.is_symlink():
            mode = 0o755 if one.is_dir() else 0o644
            one.chmod(mode & ~OTHERS if private else mode)


def privacy_fault(
    folder: Path, *, entries: bool = False, above: bool = False, advice: str = ""
) -> str | None:
    """Why other users of this machine can reach into a folder; None if they cannot.

    What is below a folder of mode 700 is closed to others whatever its own mode, so it is not
    walked through.

    Parameters
    ----------
    folder
        The folder. One that does not exist has no fault.
    entries
        Whether its files and folders must be closed too, in case that it was open earlier.
    above
        Whether others must not be able to put another folder in its place either, which needs no
        more than the permission to write into a folder above it.
    advice
        Where else such a folder can be, for a file system that keeps no permissions.

    Returns
    -------
    str or None
        A sentence with what to do.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    if not folder.exists():
        return None
    found = folder.stat()
    if found.st_uid != os.geteuid():
        return (
            f"{folder}: belongs to another user than the one who runs fedrad; run the command as "
            "that user, or give the folder to this one (chown -R)"
        )
    if not _keeps_permissions(folder):
        return (
            f"{folder}: its file system keeps no permissions (a mounted Windows share?), so other "
            f"users of this machine may read what is in it. Use a folder on a disk of this "
            f"machine{advice}"
        )
    if above and (replaceable := _replaceable_in(folder)) is not None:
        return (
            f"{replaceable}: other users of this machine can write there, and so put another "
            f"folder in the place of {folder}. Use a folder that is in folders of your own{advice}"
        )
    loose = [folder] if found.st_mode & OTHERS else []
    if entries and not loose:
        loose = [entry for entry in sorted(folder.iterdir()) if _is_loose(entry)]
    if not loose:
        return None
    return (
        f"{loose[0]}: other users of this machine can read or change it. Look whether they did; "
        f"then: chmod -R go= {folder}"
    )


def _is_loose(entry: Path) -> bool:
    """Whether a file or folder is open to others. A link is as open as what it names."""
    try:
        return bool(entry.stat().st_mode & OTHERS)
    except FileNotFoundError:  # a link to nothing, or a file that is just being replaced
        return False


def _replaceable_in(folder: Path) -> Path | None:
    """A folder above this one in which others can rename it; None if there is none.

    In a folder with the sticky bit, such as /tmp, only its owner can.
    """
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}  # in a user namespace, root has another id
    above = {*Path(os.path.abspath(folder)).parents, *folder.resolve().parents}
    for one in sorted(above):
        found = one.stat()
        by_group = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())
        open_to_others = by_group or found.st_mode & stat.S_IWOTH
        if found.st_uid not in trusted or (open_to_others and not found.st_mode & stat.S_ISVTX):
            return one
    return None


def _keeps_permissions(folder: Path) -> bool:
    """Whether the file system of a folder keeps the permissions that a file is given."""
    probe = folder / f".permissions.{os.getpid()}.partial"
    with suppress(FileNotFoundError):
        probe.unlink()
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:  # one that we may not write says nothing, and who writes there says why
        return True
    try:
        for mode in (0o400, 0o600):
            probe.chmod(mode)
            if stat.S_IMODE(probe.stat().st_mode) != mode:
                return False
    except PermissionError:
        return False
    finally:
        probe.unlink()
    return True
