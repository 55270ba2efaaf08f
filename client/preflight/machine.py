"""Checks of this machine and of the site's decisions: versions, GPU, memory, disk, key, policy."""

import importlib.metadata
import re
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fedrad.client.cohort.checks import Check, CheckFinding, CheckResult, Severity, run_check
from fedrad.client.images.worker_processes import decoders
from fedrad.client.policy.admission import check_coordinator
from fedrad.client.policy.approvals import Approvals
from fedrad.client.policy.membership import read_membership
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Policy, Site
from fedrad.system.mounts import LOCAL, Mount, mount_of, sharing_fault
from fedrad.system.resources import allowed_cores, free_memory, usable_cores

from .route import ROUTE_CHECKS, try_route

MEMORY_GIB = (2.0, 8.0)
"""Below the first limit a ResNet-50 cannot train; below the second it may fail at 512 pixels."""
DISK_GIB = (1.0, 8.0)
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Machine:
    """The state of this machine.

    `memory`: free memory in GiB, within the limit of a container; None if unknown. `disk`: free
    space for the state folder in GiB. `wanted_flwr`: minor version of Flower that fedrad requires.
    `driver`: whether an NVIDIA driver is installed. `cores`: how many this process may use, and how
    many it may run on. `decoders`: number of processes that decode files. `mount`: file system of
    the state folder; None if unknown.
    """

    site: Site
    memory: float | None
    disk: float
    versions: dict[str, str]
    wanted_flwr: str | None
    gpus: list[str] = field(default_factory=list)
    driver: bool = False
    cores: tuple[int, int] = (1, 1)
    decoders: int = 1
    mount: Mount | None = None


def inspect_machine(site: Site) -> Machine:
    """The state of this machine. Nothing is changed."""
    memory = free_memory()
    existing = next(folder for folder in (site.state, *site.state.parents) if folder.is_dir())
    required = importlib.metadata.requires("fedrad") or []
    pins = (re.match(r"flwr\S*==([0-9]+\.[0-9]+)", line) for line in required)
    return Machine(
        site=site,
        memory=None if memory is None else memory / 2**30,
        cores=(usable_cores(), allowed_cores()),
        decoders=site.settings.decoders or decoders(),
        mount=mount_of(site.state),
        disk=shutil.disk_usage(existing).free / 2**30,
        versions={name: importlib.metadata.version(name) for name in ("fedrad", "flwr", "torch")},
        wanted_flwr=next((pin[1] for pin in pins if pin), None),
        gpus=_gpus(),
        driver=DRIVER.exists(),
    )


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in devices]


class VersionsCheck(Check[Machine]):
    """Versions of fedrad, Flower and PyTorch."""

    name = "versions"
    problem = "A site of another minor version than the coordinator does nothing."
    remedy = "Install the versions of fedrad's requirements.lock."

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """The installed versions."""
        installed = ", ".join(f"{name} {version}" for name, version in subject.versions.items())
        pin = subject.wanted_flwr
        if pin and not subject.versions["flwr"].startswith(f"{pin}."):
            return [CheckFinding(f"{installed}; fedrad needs flwr {pin}", severity="refused")]
        return [
            CheckFinding(
                f"{installed}; the coordinator's first two numbers of fedrad must be the same",
                severity="information",
            )
        ]


class GpuCheck(Check[Machine]):
    """GPU and driver."""

    name = "GPU"
    problem = "Training on the CPU takes many times as long."
    remedy = (
        "Compare the driver with the CUDA version that PyTorch was built for "
        "(`python -c 'import torch; print(torch.version.cuda)'`), or set device = \"cpu\"."
    )

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """The GPUs that PyTorch can use, compared with `device` in site.toml."""
        wanted = subject.site.settings.device
        if subject.gpus:
            used = '; not used, as device = "cpu"' if wanted == "cpu" else ""
            return [CheckFinding("; ".join(subject.gpus) + used, severity="information")]
        if wanted == "cuda":
            return [CheckFinding('device = "cuda", and PyTorch sees no GPU', severity="refused")]
        if subject.driver and wanted == "auto":
            return [CheckFinding("there is an NVIDIA driver, and PyTorch sees no GPU")]
        return [CheckFinding("none; the CPU trains", severity="information")]


def _compare_amount(gib: float | None, least: tuple[float, float], what: str) -> CheckFinding:
    if gib is None:
        return CheckFinding("cannot be told on this system", severity="information")
    severity: Severity = (
        "refused" if gib < least[0] else ("warning" if gib < least[1] else "information")
    )
    return CheckFinding(f"{gib:.1f} GiB {what}", severity=severity)


class MemoryCheck(Check[Machine]):
    """Free memory."""

    name = "memory"
    problem = "A process that needs more memory than is free is killed, and its round is lost."
    remedy = "Free memory, or raise the container's limit; 8 GiB do for a ResNet-50 at 512 pixels."

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """The free memory, compared with the limits of training."""
        return [_compare_amount(subject.memory, MEMORY_GIB, "free")]


class DiskCheck(Check[Machine]):
    """Free disk space."""

    name = "disk"
    problem = "Decoded images and the files of a round need space on disk."
    remedy = "Make room, or set `state` in site.toml to a folder on another disk."

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """The free space for the state folder, compared with its limits."""
        return [_compare_amount(subject.disk, DISK_GIB, f"free for {subject.site.state}")]


class CoresCheck(Check[Machine]):
    """Cores of the container or batch job."""

    name = "cores"
    problem = "More processes or threads than cores hinder each other."
    remedy = "Set `threads` and `decoders` in site.toml to 0, or raise the container's limit."

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """The cores that may be used, and what is set beyond them."""
        usable, allowed = subject.cores
        quota = f" (of {allowed}, by the quota of the container)" if usable < allowed else ""
        text = f"{usable} may be used{quota}; files are decoded by {subject.decoders} at once"
        threads = subject.site.settings.threads
        if max(threads, subject.site.settings.decoders) > usable:
            beyond = f"threads = {threads}, decoders = {subject.site.settings.decoders}"
            return [CheckFinding(f"{text}; site.toml asks for more: {beyond}", severity="warning")]
        return [CheckFinding(text, severity="information")]


class FileSystemCheck(Check[Machine]):
    """File system of the state folder."""

    name = "file system"
    problem = "Processes that share a database on a network file system damage it."
    remedy = "Set `state` in site.toml to a folder on a disk of this machine."

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """The kind of file system, and whether locks hold on it."""
        state, kind = subject.site.state, subject.mount.kind if subject.mount else "unknown"
        if fault := sharing_fault(state):
            return [CheckFinding(f"{state}: {fault}", severity="refused")]
        tried = "" if LOCAL.fullmatch(kind) else ", not known to fedrad; locks held when tried"
        return [CheckFinding(f"{kind}{tried}", severity="warning" if tried else "information")]


class PrivateKeyCheck(Check[Machine]):
    """Permissions of the node's private key."""

    name = "private key"
    problem = "Anyone who can read the node's key can take part in this site's name."
    remedy = "chmod 600 the file; if others could have read it, ask for a new invitation."

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """Whether other users of this machine can read it."""
        key = subject.site.state / "node.key"
        if not key.is_file():
            return [CheckFinding("none yet; `fedrad-site join` makes it", severity="information")]
        if stat.S_IMODE(key.stat().st_mode) & 0o077:
            return [CheckFinding(f"{key}: others on this machine can read it")]
        return [CheckFinding("its owner alone can read it", severity="information")]


class PolicyCheck(Check[Machine]):
    """The site's policy."""

    name = "policy"
    problem = "What the policy does not admit is refused."
    remedy = "Change [policy] in site.toml, or leave it: that is this site's decision."

    def findings(self, subject: Machine) -> list[CheckFinding]:
        """The policy in words, and what it would refuse at present."""
        site = subject.site
        findings = [
            CheckFinding(
                describe_policy(site.settings.policy, joined=site.joined), severity="information"
            )
        ]
        try:
            if site.joined:
                check_coordinator(site)
            waiting = [one.name for one in Approvals(site.state).all() if not one.decisions]
        except SiteProblem as problem:
            return [*findings, CheckFinding(str(problem), severity="refused")]
        if waiting:
            names = ", ".join(waiting)
            findings.append(CheckFinding(f"wait for `fedrad-site approve FOLDER NAME`: {names}"))
        return findings


MACHINE_CHECKS: tuple[Check[Machine], ...] = (
    VersionsCheck(),
    GpuCheck(),
    MemoryCheck(),
    CoresCheck(),
    DiskCheck(),
    FileSystemCheck(),
    PrivateKeyCheck(),
    PolicyCheck(),
)


def describe_policy(policy: Policy, *, joined: bool) -> str:
    """A policy in one sentence. `joined`: whether the site has joined a federation."""
    names = ", ".join(policy.experiments) or "none"
    parts = ["experiments of any name" if names == "*" else f"experiments {names}"]
    if joined:
        parts.append("each approved by a person" if policy.approval else "none needs approval")
    if policy.hours:
        parts.append(f"from {policy.hours.replace('-', ' to ')}")
    if policy.rounds_per_day is not None:
        parts.append(f"{policy.rounds_per_day} rounds a day")
    if policy.compute_hours_per_day is not None:
        parts.append(f"{policy.compute_hours_per_day:g} hours of computing a day")
    parts.append(
        f"no class below {policy.minimum_units} patients, no bin below {policy.minimum_bin}"
    )
    if policy.epsilon:
        parts.append(f"noise of ε = {policy.epsilon:g}")
    for shared, what in (
        (policy.share_histograms, "histograms"),
        (policy.share_subgroups, "groups of patients"),
        (policy.share_local_model, "the local-only model"),
        (policy.share_generator, "weights of a generator"),
    ):
        parts.append(f"{what} {'shared' if shared else 'not shared'}")
    return "; ".join(parts)


def check_machine(site: Site) -> list[CheckResult]:
    """Check this machine and, if the site has joined, the route to its coordinator."""
    machine = inspect_machine(site)
    results = [run_check(check, machine) for check in MACHINE_CHECKS]
    if not site.joined:
        return results
    member = read_membership(site.state)
    route = try_route(member.host, member.port, member.ca)
    return [*results, *(run_check(check, route) for check in ROUTE_CHECKS)]
