"""Checks of the route from this site to its coordinator, one step after the other."""

import http.client
import socket
import ssl
import time
import urllib.parse
import urllib.request
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from fedrad.client.cohort.checks import Check, CheckFinding
from fedrad.flower.signatures import AHEAD_SECONDS, BEHIND_SECONDS

PATIENCE = 8.0
"""Seconds to wait for each step."""
SOON_DAYS = 14
"""A certificate that ends within these days is a warning."""
_CERTIFICATE = {
    9: "is not valid yet: this machine's clock is behind",
    10: "has expired, or this machine's clock is wrong",
    62: "is for other names than the one of the invitation",
    64: "is for other addresses than the one of the invitation",
}
"""By OpenSSL's X509_V_ERR: CERT_NOT_YET_VALID, CERT_HAS_EXPIRED, HOSTNAME_ and
IP_ADDRESS_MISMATCH."""


@dataclass(frozen=True)
class Route:
    """Result of an attempt to reach `host`:`port`.

    The first step that failed has its fault as a sentence; the steps after it were not tried.

    Attributes
    ----------
    host, port
        Address of the coordinator.
    proxy
        `HOST:PORT` of the proxy in use, if any.
    addresses
        Addresses of the host, or of the proxy.
    resolution_fault, connection_fault, tls_fault
        Fault of the step, if it failed.
    expires
        End of the validity of the coordinator's certificate.
    skew
        Seconds that the coordinator's clock is ahead of this machine's.
    """

    host: str
    port: int
    proxy: str | None = None
    addresses: list[str] = field(default_factory=list)
    resolution_fault: str | None = None
    connection_fault: str | None = None
    tls_fault: str | None = None
    expires: datetime | None = None
    skew: float | None = None

    @property
    def target(self) -> str:
        """The address that this machine connects to: the proxy, or the coordinator."""
        return self.proxy or f"{self.host}:{self.port}"


def try_route(host: str, port: int, ca: Path, *, patience: float = PATIENCE) -> Route:
    """Try the route to a coordinator: resolve its name, connect, verify TLS, request `/health`.

    Uses the proxy of the environment, if there is one.

    Parameters
    ----------
    host, port
        Address of the coordinator.
    ca
        Certificate of the authority that must have signed the coordinator's (PEM).
    patience
        Seconds to wait for each step.
    """
    proxy = _proxy(host)
    untried = Route(host, port, proxy=f"{proxy[0]}:{proxy[1]}" if proxy else None)
    results = dict(untried.__dict__)
    target = proxy or (host, port)
    try:
        infos = socket.getaddrinfo(*target, type=socket.SOCK_STREAM)
        results["addresses"] = sorted({str(info[4][0]) for info in infos})
    except OSError as error:
        results["resolution_fault"] = f"{target[0]} has no address here ({error.strerror or error})"
        return Route(**results)
    try:
        socket.create_connection(target, timeout=patience).close()
    except TimeoutError:
        results["connection_fault"] = (
            f"no answer from {target[0]}:{target[1]} within {patience:g} s"
        )
        return Route(**results)
    except OSError as error:
        results["connection_fault"] = (
            f"{target[0]}:{target[1]}: {error.strerror or type(error).__name__}"
        )
        return Route(**results)
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError):
        results["tls_fault"] = f"{ca}: is missing, or no certificate; join again"
        return Route(**results)
    try:
        results |= _shake_hands(host, port, context, proxy, patience)
    except (OSError, ValueError, http.client.HTTPException) as error:
        results["tls_fault"] = _tls_fault(error, ca, patience)
    return Route(**results)


def _shake_hands(
    host: str, port: int, context: ssl.SSLContext, proxy: tuple[str, int] | None, patience: float
) -> dict[str, object]:
    connection = http.client.HTTPSConnection(
        *(proxy or (host, port)), timeout=patience, context=context
    )
    if proxy:
        connection.set_tunnel(host, port)
    with closing(connection):
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert() or {}
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        before = time.time()
        connection.request("GET", "/health")
        answer = connection.getresponse()
        now = (before + time.time()) / 2
        stated = answer.getheader("Date")
    skew = (
        parsedate_to_datetime(stated).timestamp() + 0.5 - now if stated else None
    )  # whole seconds
    return {"expires": datetime.fromtimestamp(ends, UTC), "skew": skew}


def _tls_fault(error: Exception, ca: Path, patience: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        other = f"is not the invitation's authority's ({error.verify_message})"
        return f"the coordinator's certificate {_CERTIFICATE.get(error.verify_code, other)}"
    if isinstance(error, TimeoutError):
        return f"the connection was taken, and then nothing was said for {patience:g} s"
    if "Tunnel" in str(error):
        return f"the proxy refuses: {error}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"what answers there does not speak TLS as a coordinator does ({error.reason})"
    return f"the connection was broken off ({type(error).__name__})"


def _proxy(host: str) -> tuple[str, int] | None:
    url = urllib.request.getproxies().get("https")
    if not url or urllib.request.proxy_bypass(host):
        return None
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    return (parts.hostname, parts.port or 3128) if parts.hostname else None


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
        """The addresses, or the fault."""
        if subject.resolution_fault:
            return [CheckFinding(subject.resolution_fault)]
        name = f"the proxy {subject.proxy}" if subject.proxy else subject.host
        return [CheckFinding(f"{name} is {', '.join(subject.addresses)}", severity="information")]


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
        if subject.resolution_fault:
            return [NOT_TRIED]
        if subject.connection_fault:
            return [CheckFinding(subject.connection_fault)]
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
        if subject.resolution_fault or subject.connection_fault:
            return [NOT_TRIED]
        if subject.tls_fault or subject.expires is None:
            return [CheckFinding(subject.tls_fault or "no certificate was shown")]
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
    """The proxy of the environment."""

    name = "proxy"
    problem = (
        "A proxy that does not let the coordinator's port through, or opens TLS, keeps it out."
    )
    remedy = "Set NO_PROXY to the coordinator's host where the way is direct."

    def findings(self, subject: Route) -> list[CheckFinding]:
        """The proxy, if any; a warning if the route through it fails."""
        if subject.proxy is None:
            return [CheckFinding("none is used", severity="information")]
        fault = subject.resolution_fault or subject.connection_fault or subject.tls_fault
        text = f"HTTPS_PROXY leads the way through {subject.proxy}"
        return [CheckFinding(text, severity="warning" if fault else "information")]


NOT_TRIED = CheckFinding("not tried, as there is no way there", severity="information")
ROUTE_CHECKS: tuple[Check[Route], ...] = (
    ProxyCheck(),
    ResolutionCheck(),
    ConnectionCheck(),
    CertificateCheck(),
    ClockCheck(),
)
