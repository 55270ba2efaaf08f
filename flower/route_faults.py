"""What keeps a site from its coordinator, in the words of the site's own settings."""

import socket
import ssl
from collections.abc import Sequence
from typing import Literal, NamedTuple

import httpx

from fedrad.system.proxies import Proxy

Step = Literal["setting", "name", "connection", "proxy", "certificate", "answer"]
_CERTIFICATE = {
    9: "is not valid yet: this machine's clock is behind",
    10: "has expired, or this machine's clock is wrong",
    62: "is for other names than the one of the invitation",
    64: "is for other addresses than the one of the invitation",
}
"""By OpenSSL's X509_V_ERR: CERT_NOT_YET_VALID, CERT_HAS_EXPIRED, HOSTNAME_ and
IP_ADDRESS_MISMATCH."""


class RouteFault(NamedTuple):
    """What went wrong on the way to the coordinator, and at which step."""

    step: Step
    text: str


class Way(NamedTuple):
    """The coordinator's address, and the proxy that leads there, if any."""

    host: str
    port: int
    proxy: Proxy | None

    @property
    def coordinator(self) -> str:
        """`HOST:PORT`."""
        return f"{self.host}:{self.port}"


def route_fault(error: Exception, events: Sequence[str], way: Way, seconds: float) -> RouteFault:
    """The step and the sentence for the exception of a request.

    Parameters
    ----------
    error
        The exception: one of httpx, or UnicodeError for a host that is no name.
    events
        What httpcore has begun: `connection.connect_tcp`, `proxy.start_tls`, … None of them is of
        the connection if that was open from an earlier request.
    way
        The way that was tried.
    seconds
        For how long each step was tried.
    """
    if events[-1:] == ["connection.connect_tcp"]:
        return _not_connected(error, str(way.proxy or way.coordinator), seconds)
    new = "connection.connect_tcp" in events
    if way.proxy is not None and new and "proxy.start_tls" not in events:
        refusal = _status(error, way) or _no_status(error, way)
        return RouteFault("proxy", f"{way.proxy} {refusal}")
    return _not_proven(error, way.proxy, seconds)


def _not_connected(error: Exception, place: str, seconds: float) -> RouteFault:
    cause = _cause(error)
    if isinstance(cause, socket.gaierror | UnicodeError):
        why = getattr(cause, "strerror", None) or "no name"
        return RouteFault("name", f"{place} has no address here ({why})")
    if isinstance(error, httpx.TimeoutException):
        return RouteFault("connection", f"no answer from {place} within {seconds:g} s")
    why = (cause.strerror if isinstance(cause, OSError) else "") or type(cause).__name__
    return RouteFault("connection", f"{place}: {why}")


def _status(error: Exception, way: Way) -> str:
    """What a proxy answers instead of a connection; empty if it did not answer."""
    if not isinstance(error, httpx.ProxyError):
        return ""
    status = str(error)  # such as "403 Forbidden"
    if status.startswith("407"):
        given = way.proxy is not None and way.proxy.user
        so = (
            "it does not accept the name and the password that are given"
            if given
            else "it wants a name and a password: http://NAME:PASSWORD@HOST:PORT"
        )
    elif status.startswith("5"):
        so = "it does not reach the coordinator, or not now"
    else:
        so = _remedy(way)
    return f"answers {status} to CONNECT {way.coordinator}: {so}"


def _no_status(error: Exception, way: Way) -> str:
    """What is wrong with a proxy that takes connections and gives no answer in HTTP."""
    cause = _cause(error)
    if isinstance(error, httpx.TimeoutException):
        return f"answers nothing to CONNECT {way.coordinator}: {_remedy(way)}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            "has a certificate of its own that this machine does not trust "
            f"({cause.verify_message}); SSL_CERT_FILE can name its authority"
        )
    if isinstance(cause, ssl.SSLError):
        return f"does not speak TLS itself ({cause.reason}); http:// may be meant"
    return (
        f"gives no proxy's answer to CONNECT {way.coordinator}. If {way.proxy and way.proxy.url} "
        f"is right, {_remedy(way)}"
    )


def _remedy(way: Way) -> str:
    return f"ask for {way.coordinator} to be let through, or put {way.host} into NO_PROXY"


def _not_proven(error: Exception, proxy: Proxy | None, seconds: float) -> RouteFault:
    """What is wrong with what answers in the coordinator's place."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        other = f"is not the invitation's authority's ({cause.verify_message})"
        text = f"the coordinator's certificate {_CERTIFICATE.get(cause.verify_code, other)}"
        if proxy is not None:
            text += f". It came through {proxy}, which may open TLS"
        return RouteFault("certificate", text)
    if isinstance(error, httpx.TimeoutException):
        said = f"the connection was taken, and then nothing was said for {seconds:g} s"
        return RouteFault("answer", said)
    if isinstance(cause, ssl.SSLError) and cause.reason:
        spoken = f"what answers there does not speak TLS as a coordinator does ({cause.reason})"
        return RouteFault("certificate", spoken)
    return RouteFault("answer", f"the connection was broken off ({type(cause).__name__})")


def _cause(error: BaseException) -> BaseException:
    """The exception that all others come from; httpcore raises again with `from None`."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error
