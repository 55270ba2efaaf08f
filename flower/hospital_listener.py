"""The SuperLink's listener for hospitals: TLS, with a certificate that is renewed while it runs."""

import asyncio
import contextlib
import logging
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import uvicorn

from . import hospital_connections
from .asgi import App
from .hospital_connections import Connection, Connections
from .internals import console_handler, get_uvicorn_log_config

CHECK_SECONDS = 10.0
"""How often to check whether a certificate was renewed."""
log = logging.getLogger("fedrad.superlink")


@dataclass(frozen=True)
class HospitalAddress:
    """Where hospitals reach the SuperLink, and the files of its certificate."""

    host: str
    port: int
    certificate: Path
    key: Path


class HospitalListener(uvicorn.Server):
    """The server that hospitals reach. It leaves the handling of signals to another server."""

    def __init__(self, app: App, address: HospitalAddress) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=address.host,
                port=address.port,
                ssl_certfile=address.certificate,
                ssl_keyfile=address.key,
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=get_uvicorn_log_config(console_handler.level),
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=int(hospital_connections.IDLE_SECONDS),
                timeout_graceful_shutdown=5,
                h11_max_incomplete_event_size=hospital_connections.LARGEST_HEADERS,
            )
        )
        self._address = address
        self._connections = Connections()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen. TLS begins on a connection when there is room for it, so uvicorn does not begin
        it."""
        await self.lifespan.startup()
        where = self._address
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: Connection(self._connections, self), where.host, where.port
            )
        except OSError as error:
            log.error("%s:%d cannot be had: %s", where.host, where.port, error.strerror or error)
            sys.exit(1)
        self.servers = [server]
        self.started = True

    async def reload_certificate(self) -> None:
        """Load the certificate again whenever its file has changed; does not return."""
        file, key = self._address.certificate, self._address.key
        loaded = file.stat().st_mtime_ns
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with contextlib.suppress(OSError):
                changed = file.stat().st_mtime_ns
                if changed == loaded or self.config.ssl is None:
                    continue
                try:
                    self.config.ssl.load_cert_chain(file, key)
                    loaded = changed
                    log.info("the certificate %s was renewed", file.name)
                except ssl.SSLError:  # one of the two files is not there yet
                    continue
