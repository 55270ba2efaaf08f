"""The way from a site to its coordinator: directly, or through the proxy of the environment.

The node and `fedrad-site check` both use this transport, so that they go the same way and say the
same of what is wrong there.
"""

import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx

from fedrad.system.proxies import Proxy, proxy_for

from .internals import replace
from .route_faults import RouteFault, Way, route_fault


class CoordinatorTransport(httpx.HTTPTransport):
    """Connects to one coordinator.

    Parameters
    ----------
    host, port
        Address of the coordinator.
    verify
        Trusts the authority of the invitation.
    report
        Gets each fault, before the exception is raised.

    Raises
    ------
    ProxySettingError
        If the environment names a proxy that cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        verify: ssl.SSLContext | bool,
        report: Callable[[RouteFault], None],
    ) -> None:
        self.proxy = proxy_for(host, port)
        self._way = Way(host, port, self.proxy)
        self._report = report
        super().__init__(verify=verify, trust_env=False, proxy=_for_httpx(self.proxy))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises
        ------
        httpx.TransportError
            As httpx does, but a refusal of the proxy is a ConnectError: Flower tries again after
            that, as the proxy may only be out of reach of the coordinator for now.
        """
        events: list[str] = []  # what httpcore has begun for this request, in its own words

        def trace(event: str, _: object) -> None:
            name, _, state = event.rpartition(".")
            if state == "started":
                events.append(name)

        request.extensions = {**request.extensions, "trace": trace}
        try:
            return super().handle_request(request)
        except (httpx.TransportError, UnicodeError) as error:
            seconds = request.extensions["timeout"]["connect"]
            self._report(route_fault(error, events, self._way, seconds))
            if isinstance(error, httpx.ProxyError | UnicodeError):
                raise httpx.ConnectError(str(error), request=request) from error
            raise


def use_coordinator(address: str, report: Callable[[RouteFault], None]) -> None:
    """Let the clients of Flower in this process reach their coordinator through the transport.

    Parameters
    ----------
    address
        `HOST:PORT` of the coordinator.
    report
        As for CoordinatorTransport.

    Raises
    ------
    FlowerMovedError
        If Flower has changed.
    """
    host, _, port = address.rpartition(":")

    def client(*, verify: ssl.SSLContext | bool, **arguments: Any) -> httpx.Client:
        transport = CoordinatorTransport(host, int(port), verify, report)
        return httpx.Client(**arguments, transport=transport, trust_env=False)

    replace("ProtobufClient", "httpx", SimpleNamespace(**{**vars(httpx), "Client": client}))


def _for_httpx(proxy: Proxy | None) -> httpx.Proxy | None:
    if proxy is None:
        return None
    return httpx.Proxy(
        proxy.url,
        auth=(proxy.user, proxy.password) if proxy.user or proxy.password else None,
        # The proxy's own certificate is not of the invitation, but of whom this machine trusts.
        ssl_context=ssl.create_default_context() if proxy.scheme == "https" else None,
    )
