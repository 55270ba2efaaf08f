"""The way from this site to its coordinator, tried out step by step."""

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
_CERTIFICATE = {
    9: "is not valid yet: this machine's clock is behind",
    10: "has expired, or this machine's clock is wrong",
    62: "is for other names than the one of the invitation",
    64: "is for other addresses than the one of the invitation",
}
"""By OpenSSL's X509_V_ERR: CERT_NOT_YET_VALID, CERT_HAS_EXPIRED, HOSTNAME_ and
IP_ADDRESS_MISMATCH."""


@dataclass(frozen=True)
class Way:
    """What came of trying to reach `host`:`port`. A step that failed has its fault in words, and
    those after it were not tried.

    `expires`: of the coordinator's certificate. `skew`: seconds that its clock is ahead of ours.
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
        """Whom this machine opens a connection to."""
        return self.proxy or f"{self.host}:{self.port}"


def try_way(host: str, port: int, ca: Path, *, patience: float = PATIENCE) -> Way:
    """Resolve, connect, shake hands, and ask for the health of a coordinator. `ca`: PEM file of the
    authority that must vouch for it. Goes through a proxy where the environment has one."""
    proxy = _proxy(host)
    found = Way(host, port, proxy=f"{proxy[0]}:{proxy[1]}" if proxy else None)
    given = dict(found.__dict__)
    to = proxy or (host, port)
    try:
        infos = socket.getaddrinfo(*to, type=socket.SOCK_STREAM)
        given["addresses"] = sorted({str(info[4][0]) for info in infos})
    except OSError as error:
        given["resolution_fault"] = f"{to[0]} has no address here ({error.strerror or error})"
        return Way(**given)
    try:
        socket.create_connection(to, timeout=patience).close()
    except TimeoutError:
        given["connection_fault"] = f"no answer from {to[0]}:{to[1]} within {patience:g} s"
        return Way(**given)
    except OSError as error:
        given["connection_fault"] = f"{to[0]}:{to[1]}: {error.strerror or type(error).__name__}"
        return Way(**given)
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError):
        given["tls_fault"] = f"{ca}: is missing, or no certificate; join again"
        return Way(**given)
    try:
        given |= _shake_hands(host, port, context, proxy, patience)
    except (OSError, ValueError, http.client.HTTPException) as error:
        given["tls_fault"] = _tls_fault(error, ca, patience)
    return Way(**given)


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
    given = urllib.request.getproxies().get("https")
    if not given or urllib.request.proxy_bypass(host):
        return None
    parts = urllib.parse.urlsplit(given if "://" in given else f"http://{given}")
    return (parts.hostname, parts.port or 3128) if parts.hostname else None


class Resolution(Check[Way]):
    """Name resolution."""

    name = "name of the coordinator"
    problem = "The coordinator's name leads nowhere from this machine."
    remedy = (
        "Have the hospital's DNS answer for it, or put it into the machine's hosts file; the name "
        "must stay that of the invitation."
    )
    severity = "refused"

    def findings(self, subject: Way) -> list[CheckFinding]:
        """The addresses, or why there are none."""
        if subject.resolution_fault:
            return [CheckFinding(subject.resolution_fault)]
        of = f"the proxy {subject.proxy}" if subject.proxy else subject.host
        return [CheckFinding(f"{of} is {', '.join(subject.addresses)}", severity="information")]


class Connection(Check[Way]):
    """TCP."""

    name = "connection"
    problem = "No connection can be opened."
    remedy = (
        "Have the firewall let this machine open connections to that one address and port; if it "
        "is refused, ask the coordinator whether `fedrad serve` runs."
    )
    severity = "refused"

    def findings(self, subject: Way) -> list[CheckFinding]:
        """That it opened, or why not."""
        if subject.resolution_fault:
            return [NOT_TRIED]
        if subject.connection_fault:
            return [CheckFinding(subject.connection_fault)]
        return [CheckFinding(f"{subject.target} answers", severity="information")]


class Certificate(Check[Way]):
    """TLS, chain and names."""

    name = "certificate"
    problem = "What answers is not proven to be the coordinator."
    remedy = (
        "Do not go on. Telephone the coordinator. Where a proxy of the hospital opens TLS, ask for "
        "an exception for this address; after a new authority, for a new invitation."
    )
    severity = "refused"

    def findings(self, subject: Way) -> list[CheckFinding]:
        """That it is the coordinator's, or why not; a warning shortly before its end."""
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


class Clock(Check[Way]):
    """Clock."""

    name = "clock"
    problem = "Signatures of a node whose clock is wrong are refused."
    remedy = "Set this machine's clock by NTP (`timedatectl set-ntp true`)."

    def findings(self, subject: Way) -> list[CheckFinding]:
        """How far this clock is from the coordinator's."""
        if subject.skew is None:
            return [NOT_TRIED]
        ahead = -subject.skew
        away = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the coordinator's"
        if ahead >= AHEAD_SECONDS or -ahead >= BEHIND_SECONDS:
            return [CheckFinding(away, severity="refused")]
        if abs(ahead) > AHEAD_SECONDS / 2:
            return [CheckFinding(away)]
        return [CheckFinding("as the coordinator's", severity="information")]


class Proxy(Check[Way]):
    """Proxy."""

    name = "proxy"
    problem = (
        "A proxy that does not let the coordinator's port through, or opens TLS, keeps it out."
    )
    remedy = "Set NO_PROXY to the coordinator's host where the way is direct."

    def findings(self, subject: Way) -> list[CheckFinding]:
        """Which proxy is used, if any; a warning where the way through it does not work."""
        if subject.proxy is None:
            return [CheckFinding("none is used", severity="information")]
        fault = subject.resolution_fault or subject.connection_fault or subject.tls_fault
        said = f"HTTPS_PROXY leads the way through {subject.proxy}"
        return [CheckFinding(said, severity="warning" if fault else "information")]


NOT_TRIED = CheckFinding("not tried, as there is no way there", severity="information")
WAY_CHECKS: tuple[Check[Way], ...] = (Proxy(), Resolution(), Connection(), Certificate(), Clock())
