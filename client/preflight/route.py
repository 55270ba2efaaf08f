"""Checks of the route from this site to its coordinator, one step after the other."""

import os
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from fedrad.client.cohort.checks import Check, CheckFinding, Severity
from fedrad.flower.coordinator_transport import CoordinatorTransport
from fedrad.flower.route_faults import RouteFault, Step
from fedrad.flower.signatures import AHEAD_SECONDS, BEHIND_SECONDS
from fedrad.system.proxies import PROXY_VARIABLES, ProxySettingError, not_understood

PATIENCE = 8.0
"""Seconds to wait for each step."""
SOON_DAYS = 14
"""A certificate that ends within these days is a warning."""
_STEPS: tuple[Step, ...] = ("setting", "name", "connection", "proxy", "certificate", "answer")
"""In the order in which they are gone."""


@dataclass(frozen=True)
class Route:
    """Result of an attempt to reach `host`:`port`.

    Attributes
    ----------
    host, port
        Address of the coordinator.
    proxy
        The proxy in use, if any, as a text without its user.
    fault
        The first step that failed, and why; the steps after it were not tried.
    address
        IP address of the host, or of the proxy, once there was a connection.
    expires
        End of the validity of the coordinator's certificate.
    skew
        Seconds that the coordinator's clock is ahead of this machine's.
    """

    host: str
    port: int
    proxy: str | None = None
    fault: RouteFault | None = None
    address: str | None = None
    expires: datetime | None = None
    skew: float | None = None

    @property
    def target(self) -> str:
        """What this machine connects to: the proxy, or the coordinator."""
        return self.proxy or f"{self.host}:{self.port}"

    def fault_at(self, *steps: Step) -> str | None:
        """The fault, if it is at one of these steps."""
        return self.fault.text if self.fault and self.fault.step in steps else None

    def ended_before(self, step: Step) -> bool:
        """Whether a step was not tried, as one before it failed."""
        return self.fault is not None and _STEPS.index(self.fault.step) < _STEPS.index(step)


def try_route(host: str, port: int, ca: Path, *, patience: float = PATIENCE) -> Route:
    """Try the route to a coordinator as the node goes it: resolve its name, connect, verify TLS,
    request `/health`.

    Parameters
    ----------
    host, port
        Address of the coordinator.
    ca
        Certificate of the authority that must have signed the coordinator's (PEM).
    patience
        Seconds to wait for each step.
    """
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    untrusted: RouteFault | None = None
    try:
        trusted.load_verify_locations(ca)
    except (OSError, ssl.SSLError):
        untrusted = RouteFault("certificate", f"{ca}: is missing, or no certificate; join again")
    faults: list[RouteFault] = []
    try:
        transport = CoordinatorTransport(host, port, trusted, faults.append)
    except ProxySettingError as error:
        return Route(host, port, fault=RouteFault("setting", str(error)))
    proxy = str(transport.proxy) if transport.proxy else None
    with httpx.Client(transport=transport, trust_env=False, timeout=patience) as client:
        before = time.time()
        try:
            with client.stream("GET", f"https://{host}:{port}/health") as answer:
                now = (before + time.time()) / 2
                stream = answer.extensions["network_stream"]
                certificate = stream.get_extra_info("ssl_object").getpeercert()
                server = stream.get_extra_info("server_addr")
                stated = answer.headers.get("Date")
        except httpx.TransportError:
            (fault,) = faults
            late = fault.step in {"certificate", "answer"}
            return Route(host, port, proxy, untrusted if untrusted and late else fault)
    return Route(
        host,
        port,
        proxy,
        address=str(server[0]) if server else None,
        expires=datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC),
        skew=None if stated is None else _seconds(stated) - now,
    )


def _seconds(date: str) -> float:
    """The middle of the second that a date of HTTP names, in seconds since the epoch."""
    return parsedate_to_datetime(date).timestamp() + 0.5


class ResolutionCheck(Check[Route]):
    """Resolution of the coordinator's name."""

    name = "name of the coordinator"
    problem = "The coordinator's name leads nowhere from this machine."
    remedy = (
        "Have the hospital's DNS answer for it, or put it into the machine's hosts file; the name "
        "must stay that of the invitation."
    )
    severity = "refused"

    def findings(self, subject: Route) -> list[CheckFinding]:
        """The address, or the fault."""
        if subject.ended_before("name"):
            return [NOT_TRIED]
        if fault := subject.fault_at("name"):
            return [CheckFinding(fault)]
        known = f"is {subject.address}" if subject.address else "has an address here"
        name = subject.proxy or subject.host
        return [CheckFinding(f"{name} {known}", severity="information")]


class ConnectionCheck(Check[Route]):
    """TCP connection."""

    name = "connection"
    problem = "No connection can be opened."
    remedy = (
        "Have the firewall let this machine open connections to that one address and port; if it "
        "is refused, ask the coordinator whether `fedrad serve` runs."
    )
    severity = "refused"

    def findings(self, subject: Route) -> list[CheckFinding]:
        """That the connection was opened, or the fault."""
        if subject.ended_before("connection"):
            return [NOT_TRIED]
        if fault := subject.fault_at("connection"):
            return [CheckFinding(fault)]
        return [CheckFinding(f"{subject.target} answers", severity="information")]


class CertificateCheck(Check[Route]):
    """TLS certificate: its authority, its names and its validity."""

    name = "certificate"
    problem = "What answers is not proven to be the coordinator."
    remedy = (
        "Do not go on. Telephone the coordinator. Where a proxy of the hospital opens TLS, ask for "
        "an exception for this address; after a new authority, for a new invitation."
    )
    severity = "refused"

    def findings(self, subject: Route) -> list[CheckFinding]:
        """That the certificate is valid, or the fault; a warning shortly before it ends."""
        if subject.ended_before("certificate"):
            return [NOT_TRIED]
        if subject.expires is None:
            fault = subject.fault_at("certificate", "answer")
            return [CheckFinding(fault or "no certificate was shown")]
        days = (subject.expires - datetime.now(UTC)).days
        return [
            CheckFinding(
                f"of the invitation's authority, for {subject.host}, valid for {days} days",
                severity="warning" if days < SOON_DAYS else "information",
            )
        ]


class ClockCheck(Check[Route]):
    """This machine's clock."""

    name = "clock"
    problem = "Signatures of a node whose clock is wrong are refused."
    remedy = "Set this machine's clock by NTP (`timedatectl set-ntp true`)."

    def findings(self, subject: Route) -> list[CheckFinding]:
        """The difference from the coordinator's clock."""
        if subject.skew is None:
            return [NOT_TRIED]
        ahead = -subject.skew
        away = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the coordinator's"
        if ahead >= AHEAD_SECONDS or -ahead >= BEHIND_SECONDS:
            return [CheckFinding(away, severity="refused")]
        if abs(ahead) > AHEAD_SECONDS / 2:
            return [CheckFinding(away)]
        return [CheckFinding("as the coordinator's", severity="information")]


class ProxyCheck(Check[Route]):
    """The proxy of the environment, and what there is not understood."""

    name = "proxy"
    problem = (
        "A proxy that does not let the coordinator's port through, or opens TLS, keeps it out."
    )
    remedy = (
        "Ask for the coordinator's address and port to be let through unopened, or put its host "
        "into NO_PROXY where the way is direct. The node's environment counts: where systemd or a "
        "container starts it, that of the unit or the container."
    )

    def findings(self, subject: Route) -> list[CheckFinding]:
        """The proxy, if any; a warning if the route through it fails; a failure if it refuses."""
        ignored = [CheckFinding(text) for text in not_understood()]
        if fault := subject.fault_at("setting", "proxy"):
            return [CheckFinding(fault, severity="refused"), *ignored]
        if subject.proxy is None:
            return [CheckFinding(f"none is used{_only_http()}", severity="information"), *ignored]
        text = f"the way leads through {subject.proxy}"
        severity: Severity = "warning" if subject.fault else "information"
        return [CheckFinding(text, severity=severity), *ignored]


def _only_http() -> str:
    """A remark for those who have set the wrong one of two variables."""
    given = [name for name in ("http_proxy", "HTTP_PROXY") if os.environ.get(name)]
    wanted = any(os.environ.get(name) for name in PROXY_VARIABLES)
    return f"; {given[0]} is not for TLS, HTTPS_PROXY would be" if given and not wanted else ""


NOT_TRIED = CheckFinding("not tried, as there is no way there", severity="information")
ROUTE_CHECKS: tuple[Check[Route], ...] = (
    ProxyCheck(),
    ResolutionCheck(),
    ConnectionCheck(),
    CertificateCheck(),
    ClockCheck(),
)
