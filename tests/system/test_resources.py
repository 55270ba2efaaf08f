"""Cores and memory are those of the container or batch job, not of the machine."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import TESTS

from fedrad.system import mounts, resources

REPOSITORY = TESTS.parent
CORES = 8
V2 = "0::/job/step"
V1 = "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/"


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """A machine of 8 cores and 64 GiB, whose control groups a test writes as files."""

    def write(membership: str, files: dict[str, str], root: str = "/", version: int = 2) -> None:
        fields = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,cpuacct,memory"
        (tmp_path / "mountinfo").write_text(
            f"31 23 0:28 {root} {tmp_path}/group\\040s rw,relatime shared:9 - {fields}\n"
        )
        (tmp_path / "cgroup").write_text(f"{membership}\n")
        for name, content in files.items():
            file = tmp_path / "group s" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")

    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 67108864 kB\n")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)))
    return write


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, CORES),
        ({"job/step/cpu.max": "max 100000"}, CORES),
        ({"job/step/cpu.max": "300000 100000"}, 3),
        ({"job/step/cpu.max": "150000 100000"}, 1),  # half a core is none
        ({"job/step/cpu.max": "50000 100000"}, 1),  # and one is the least
        ({"job/step/cpu.max": "1600000 100000"}, CORES),
        ({"job/step/cpu.max": "max 100000", "job/cpu.max": "200000 100000"}, 2),
        ({"job/step/cpu.max": "600000 100000", "cpu.max": "400000 100000"}, 4),
        ({"other/cpu.max": "100000 100000"}, CORES),  # of another process
        ({"job/step/cpu.max": "rubbish"}, CORES),
    ],
)
def test_the_quota_of_the_group_and_of_all_above_it_counts(groups, files, cores):
    groups(V2, files)
    assert resources.usable_cores() == cores


@pytest.mark.parametrize(("root", "folder"), [("/", "docker/1f/"), ("/docker/1f", "")])
def test_the_first_version_of_cgroups_is_read_in_a_container_and_outside(groups, root, folder):
    files = {f"{folder}cpu.cfs_quota_us": "250000", f"{folder}cpu.cfs_period_us": "100000"}
    groups(V1, files, root, version=1)
    assert resources.usable_cores() == 2
    groups(V1, files | {f"{folder}cpu.cfs_quota_us": "-1"}, root, version=1)
    assert resources.usable_cores() == CORES


def test_a_group_outside_the_namespace_is_that_of_the_mount(groups):
    groups("0::/../../elsewhere", {"cpu.max": "200000 100000"})
    assert resources.usable_cores() == 2


def test_without_control_groups_the_cores_of_the_cpuset_count(groups, monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert resources.usable_cores() == 2


@pytest.mark.parametrize(
    ("quota", "given", "threads"),
    [("300000", None, "3"), ("300000", "2", "2"), ("max", None, None)],
)
def test_libraries_use_no_more_threads_than_the_quota(groups, monkeypatch, quota, given, threads):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    groups(V2, {"job/step/cpu.max": f"{quota} 100000"})
    resources.limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_memory_that_only_caches_files_is_free(groups):
    files = {"memory.max": "8000", "memory.current": "7000", "memory.stat": "inactive_file 4000"}
    groups(V2, {f"job/{name}": text for name, text in files.items()})
    assert resources.free_memory() == 5000
    groups(V2, {"job/memory.max": "max"})
    assert resources.free_memory() == 64 * 2**30


def test_the_limit_of_memory_of_the_first_version_is_read(groups):
    names = "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"
    values = "8000", "7000", "cache 1\ntotal_inactive_file 500"
    files = {f"docker/1f/{n}": v for n, v in zip(names, values, strict=True)}
    groups(V1, files, version=1)
    assert resources.free_memory() == 1500


def test_decoders_follow_cores_and_memory(groups):
    from fedrad.client.images.worker_processes import WORKER_MIB, decoders

    groups(V2, {"job/step/cpu.max": "400000 100000"})
    assert decoders() == 4
    limit = {"memory.max": str(2 * WORKER_MIB * 2**20), "memory.current": "0"}
    limit |= {"memory.stat": "inactive_file 0"}
    groups(V2, {f"job/{name}": text for name, text in limit.items()})
    assert decoders() == 2
    groups(V2, {"job/memory.current": limit["memory.max"]})
    assert decoders() == 1


def test_a_process_on_one_core_starts_one_decoder():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from fedrad.client.images import worker_processes as w\n"
        "list(w.run_isolated(len, [('ab',)] * 4)); print(len(w._idle))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"


@pytest.mark.slow
def test_a_real_quota_is_followed():
    """Needs root and the cpu controller of the first or second version of cgroups."""
    top = next(
        (m.point for m in mounts.mounts() if m.kind == "cgroup" and "cpu" in m.options),
        Path("/sys/fs/cgroup"),
    )
    group = top / f"fedrad-test-{os.getpid()}"
    try:
        group.mkdir()
        try:
            if (group / "cpu.cfs_quota_us").exists():
                (group / "cpu.cfs_quota_us").write_text("150000")
            else:
                (group / "cpu.max").write_text("150000 100000")
        except OSError:
            group.rmdir()
            raise
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    code = (
        f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from fedrad.system.resources import usable_cores; print(usable_cores())"
    )
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    finally:
        group.rmdir()
    assert ended.stdout == "1\n", ended.stderr


def test_no_code_counts_the_cores_of_the_machine():
    rooms = [link for link in (REPOSITORY / "src" / "fedrad").iterdir() if link.is_symlink()]
    counted = [
        f"{file.relative_to(REPOSITORY)}: {ast.unparse(node)}"
        for room in rooms
        for file in (REPOSITORY / room.name).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id)
        in ("cpu_count", "process_cpu_count")
    ]
    assert counted == [], "use usable_cores of system/resources.py"
