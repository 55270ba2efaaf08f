"""Cores and memory that this process may use: those of its container or batch job, not of the
machine.

The limits are those of cpusets (`sched_setaffinity`) and of control groups, versions 1 and 2
(cgroups(7)): of the process's own group and of all groups above it that can be seen.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from .mounts import mounts

CGROUPS = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")


def usable_cores() -> int:
    """Number of cores that this process may use, at least 1: those it may run on, within the quota
    of its control groups, of which a fraction of a core is none."""
    quotas = [
        quota for folder, version in _control_groups("cpu") if (quota := _quota(folder, version))
    ]
    return max(1, int(min([float(allowed_cores()), *quotas])))


def allowed_cores() -> int:
    """Number of cores that this process may run on, whatever its share of their time."""
    return len(os.sched_getaffinity(0))


def limit_threads() -> None:
    """Let numerical libraries, here and in processes that are started, use no more threads than
    this process may use cores. They see the cores of a cpuset by themselves, but no quota."""
    if (cores := usable_cores()) < allowed_cores():
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(variable, str(cores))


def free_memory() -> int | None:
    """Bytes of memory that are free, of the machine and within the limits of its control groups;
    None if unknown. Memory that only caches files counts as free."""
    try:
        lines = MEMORY.read_text("ascii").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    left = [_memory_left(folder, version) for folder, version in _control_groups("memory")]
    return min([free * 1024, *(bytes_ for bytes_ in left if bytes_ is not None)])


def _control_groups(controller: str) -> Iterator[tuple[Path, int]]:
    """Folders of the control groups that limit this process, with the version of cgroups."""
    try:
        groups = os.fsdecode(CGROUPS.read_bytes()).splitlines()
        mounted = [mount for mount in mounts() if mount.kind in ("cgroup", "cgroup2")]
    except OSError:
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        version = 1 if controllers else 2
        if version == 1 and controller not in controllers.split(","):
            continue
        for mount in mounted:
            if mount.kind == "cgroup2" if version == 2 else controller in mount.options:
                own = mount.point  # in a namespace of cgroups, the path can lie outside the mount
                if PurePosixPath(path).is_relative_to(mount.root):
                    own = mount.point / PurePosixPath(path).relative_to(mount.root)
                for folder in (own, *own.parents):
                    yield folder, version
                    if folder == mount.point:
                        break


def _quota(folder: Path, version: int) -> float | None:
    """Cores whose time a control group may use; None without a limit."""
    with suppress(OSError, ValueError):  # "max", or no file, as in the topmost group
        if version == 2:
            quota, period = (folder / "cpu.max").read_text("ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text("ascii")
            period = (folder / "cpu.cfs_period_us").read_text("ascii")
        if int(quota) > 0 and int(period) > 0:
            return int(quota) / int(period)
    return None


def _memory_left(folder: Path, version: int) -> int | None:
    """Bytes that a control group may still use; None without a limit."""
    limit, used, cached = (
        ("memory.max", "memory.current", "inactive_file ")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
    )
    with suppress(OSError, ValueError, StopIteration):
        left = int((folder / limit).read_text("ascii")) - int((folder / used).read_text("ascii"))
        lines = (folder / "memory.stat").read_text("ascii").splitlines()
        return max(
            0, left + next(int(line.split()[1]) for line in lines if line.startswith(cached))
        )
    return None
