"""Which file system a folder is on, and whether processes can share a database there."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .files import PRIVATE_FILE

MOUNTS = Path("/proc/self/mountinfo")
LOCAL = re.compile(
    "bcachefs|btrfs|ecryptfs|exfat|ext[234]|f2fs|fuse.fuse-overlayfs|fuseblk|jfs|nilfs2|ntfs3|overlay|"
    "ramfs|reiserfs|rootfs|tmpfs|vfat|xfs|zfs"
)
"""File systems of this machine's own disks and memory, and of containers on them."""
NETWORK = re.compile(
    r"(fuse\.)?(9p|afs|beegfs|ceph|cifs|coda|davfs|drvfs|fakeowner|gcsfuse|glusterfs|goofys|gpfs|"
    r"grpcfuse|juicefs|lustre|ncpfs|nfs4?|orangefs|osxfs|panfs|prl_fs|pvfs2|rclone|s3fs|seaweedfs|"
    r"smb[23]|smbfs|sshfs|vboxsf|vmhgfs(-fuse)?|wekafs)"
)
"""File systems of other machines, and of a host that lends a folder to a virtual machine. Locks or
shared memory do not hold there between all processes, whatever a trial shows at one moment."""
LOCAL_DISK = (
    "Several processes work in it at once, and would damage it: name a folder on a disk of this "
    "machine as `state` in site.toml, or with --state"
)
"""What to do, after `sharing_fault`."""
TRIAL_SECONDS = 20
_TRIAL = """
import fcntl, mmap, sys
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
    for lock in (fcntl.flock, fcntl.lockf):
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        sys.exit(1)
    if memory[:5] != b"first":
        sys.exit(1)
    memory[:5] = b"other"
"""
"""What the other process of a trial does: both locks are taken, and memory is shared both ways."""


@dataclass(frozen=True)
class Mount:
    """A mounted file system, as /proc/self/mountinfo has it (proc_pid_mountinfo(5))."""

    device: str
    """Major and minor number, as `8:1`."""
    root: str
    """Folder of the file system that is mounted."""
    point: Path
    """Folder at which it is mounted."""
    kind: str
    """Its type, as `ext4`."""
    options: tuple[str, ...]
    """Options of the file system, which name the controllers of a cgroup."""


def mounts() -> list[Mount]:
    """All mounts that this process sees, in the order in which they were made. Raises OSError."""
    found = []
    for line in os.fsdecode(MOUNTS.read_bytes()).splitlines():
        left, _, right = line.partition(" - ")
        if len(fields := left.split(" ")) >= 5 and len(last := right.split(" ")) >= 3:
            root, point = map(_unescaped, fields[3:5])
            found.append(Mount(fields[2], root, Path(point), last[0], tuple(last[2].split(","))))
    return found


def _unescaped(text: str) -> str:
    """A path of mountinfo, in which blanks and backslashes are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def mount_of(folder: Path) -> Mount | None:
    """The mount that a folder is on, or would be on if it were made; None if it cannot be told.

    Of the mounts at a folder or above, the nearest counts, and the last of several at one place. A
    mount of the folder's own device goes before others: one can be hidden by another above it.
    """
    try:
        real = next(f for f in (folder.resolve(), *folder.resolve().parents) if f.exists())
        above = [m for m in mounts() if real.is_relative_to(m.point)]
        number = real.stat().st_dev
    except (OSError, StopIteration):
        return None
    device = f"{os.major(number)}:{os.minor(number)}"
    above = [m for m in above if m.device == device] or above
    nearest = max((len(m.point.parts) for m in above), default=0)
    return next((m for m in reversed(above) if len(m.point.parts) == nearest), None)


def sharing_fault(folder: Path) -> str | None:
    """Why processes cannot share a database in a folder; None if they can.

    A file system that is neither of this machine nor of another by its name is tried: two processes
    lock a file and share its memory.

    Parameters
    ----------
    folder
        The folder. To be tried, it must exist; one that does not exist is judged by its name only.

    Returns
    -------
    str or None
        Part of a sentence that names the file system.
    """
    mount = mount_of(folder)
    kind = mount.kind if mount else "unknown"
    if LOCAL.fullmatch(kind):
        return None
    if NETWORK.fullmatch(kind):
        return f"is on a network or shared file system ({kind}), on which locks do not hold"
    if not folder.is_dir() or locks_hold(folder):
        return None
    return f"is on a file system ({kind}) on which locks did not hold when they were tried"


def locks_hold(folder: Path) -> bool:
    """Whether two processes can lock a file in a folder and share its memory. Tries it."""
    import fcntl
    import mmap

    file = folder / f".locks.{os.getpid()}.partial"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except OSError:  # one that we may not write says nothing, and who writes there says why
        return True
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with mmap.mmap(descriptor, 0) as memory:
            memory[:5] = b"first"
            other = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _TRIAL, str(file)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TRIAL_SECONDS,
                check=False,
            )
            return other.returncode == 0 and memory[:5] == b"other"
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    finally:
        os.close(descriptor)
        file.unlink(missing_ok=True)
