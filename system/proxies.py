"""The proxy that leads to a host, as the environment of this process has it.

curl's rules hold (its manual: PROXY ENVIRONMENT VARIABLES), as the person who set the variables
tries them with curl. Beyond them, loopback is never reached through a proxy. What connects to
another machine asks `proxy_for`, and leaves no choice to a library: each of those reads
NO_PROXY in a way of its own.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote

from .errors import UserError

PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""The first that is not empty holds for a connection with TLS."""
EXCEPTION_VARIABLES = ("no_proxy", "NO_PROXY")
_LOCAL_NAMES = {"localhost.localdomain", "localhost4", "localhost6", "ip6-localhost"}
_NAME = re.compile(r"\.?[\w-]+(\.[\w-]+)*\.?")
_WITH_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>\d{1,5})")

Address = IPv4Address | IPv6Address
_LeadsPast = Callable[[str, int], bool]


class ProxySettingError(UserError):
    """A variable names no proxy that can be used. The text names it, without its password."""


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable of the environment that names it."""

    variable: str
    scheme: str
    """`http` or `https`: how this machine speaks to the proxy itself."""
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Its URL without a user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        """For logs: without the name and the password of the user."""
        hidden = " (its user is left out)" if self.user or self.password else ""
        return f"{self.variable}={self.url}{hidden}"


def proxy_for(host: str, port: int, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy through which a connection with TLS goes; None: it goes directly.

    Parameters
    ----------
    host, port
        What to connect to: a name, or an address of IPv4 or IPv6.
    environment
        Variables; None: those of this process.

    Raises
    ------
    ProxySettingError
        If a proxy is wanted, and the variable is no URL of one, or of one that is not supported.
    """
    variables = os.environ if environment is None else environment
    variable = _first(PROXY_VARIABLES, variables)
    if variable is None or is_loopback(host):
        return None
    exceptions = _first(EXCEPTION_VARIABLES, variables)
    if exceptions is not None:
        if variables[exceptions].strip() == "*":
            return None
        given = map(_exception, _entries(variables[exceptions]))
        if any(leads_past(host, port) for leads_past in given if leads_past is not None):
            return None
    return _proxy(variable, variables[variable].strip())


def not_understood(environment: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each entry of NO_PROXY that has no meaning, and so changes nothing."""
    variables = os.environ if environment is None else environment
    name = _first(EXCEPTION_VARIABLES, variables)
    if name is None or variables[name].strip() == "*":
        return []
    return [
        f"{name}: {entry!r} is not understood and has no effect: {_advice(entry)}"
        for entry in _entries(variables[name])
        if _exception(entry) is None
    ]


def is_loopback(host: str) -> bool:
    """Whether a name or an address is that of this machine itself, by its form alone."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or name in _LOCAL_NAMES:
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _first(names: tuple[str, ...], variables: Mapping[str, str]) -> str | None:
    """The first variable with a value; curl takes an empty one as one that is not set."""
    return next((name for name in names if variables.get(name, "").strip()), None)


def _entries(text: str) -> list[str]:
    return [entry for entry in re.split(r"[,\s]+", text) if entry]


def _exception(entry: str) -> _LeadsPast | None:
    """What an entry of NO_PROXY means: whether a host and a port are reached without the proxy."""
    if (with_port := _WITH_PORT.fullmatch(entry)) is not None:
        of_host = _exception(with_port["host"])
        if of_host is None:
            return None
        return lambda host, port: port == int(with_port["port"]) and of_host(host, port)
    bare = entry[1:-1] if entry.startswith("[") and entry.endswith("]") else entry
    with suppress(ValueError):
        network = ip_network(bare, strict=False)
        return lambda host, _: (address := _address(host)) is not None and address in network
    domain = entry.strip(".").lower()
    if not _NAME.fullmatch(entry) or domain.rpartition(".")[2].isdigit():
        return None
    return lambda host, _: f".{host.lower().rstrip('.')}".endswith(f".{domain}")


def _advice(entry: str) -> str:
    if entry == "*":
        return "* counts only as the whole value"
    if entry.startswith("*."):
        return f"write {entry[1:]}"
    if "://" in entry:
        return "write the host alone, without http:// or https://"
    if re.fullmatch(r"[\d.*]+", entry):
        return "write a network as 10.0.0.0/8"
    return "write host names, domains, addresses, or networks such as 10.0.0.0/8, with commas"


def _address(host: str) -> Address | None:
    """The address that a host is, if it is one; IPv4 in each form that connects, such as 127.1."""
    bare = host.strip("[]").partition("%")[0]
    try:
        address: Address = ip_address(bare)
    except ValueError:
        if not re.fullmatch(r"[0-9a-fA-FxX.]+", bare):
            return None
        try:
            return IPv4Address(socket.inet_aton(bare))
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _proxy(variable: str, value: str) -> Proxy:
    """The proxy of a variable. Raises ProxySettingError."""
    with_scheme = re.fullmatch(r"([A-Za-z][\w+.-]*)://(.*)", value)
    scheme, rest = with_scheme.groups() if with_scheme else ("http", value)  # as curl does
    scheme = scheme.lower()
    # From the last @ on, so that a password may hold characters that a URL has to encode.
    given, _, place = rest.rpartition("@")
    place = place.partition("/")[0]
    shown = f"{variable}={f'{scheme}://…@{place}' if given else value}"
    shown = shown.encode(errors="backslashreplace").decode()
    if not given.isprintable():  # such as a password in Latin-1, of which no header can be made
        raise ProxySettingError(
            f"{shown}: its name or password is not UTF-8: write such characters as %C3%A4"
        )
    if scheme.startswith("socks"):
        raise ProxySettingError(
            f"{shown}: a SOCKS proxy is not supported. Set HTTPS_PROXY to a proxy that knows "
            "CONNECT, or put the coordinator's host into NO_PROXY"
        )
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w-]+(?:\.[\w-]+)*\.?)(?::(\d{1,5}))?", place)
    if scheme not in {"http", "https"} or match is None:
        raise ProxySettingError(
            f"{shown}: is not the URL of a proxy. It reads http://HOST:PORT or "
            "http://NAME:PASSWORD@HOST:PORT, without quotation marks"
        )
    port = match[2] or ("443" if scheme == "https" else "")
    if not port or not 0 < int(port) < 2**16:
        why = f"{port} is no port" if port else "it names no port, and programs differ in their own"
        raise ProxySettingError(f"{shown}: {why}. Write http://HOST:PORT")
    user, _, password = given.partition(":")
    return Proxy(
        variable, scheme, match[1].strip("[]"), int(port), unquote(user), unquote(password)
    )
