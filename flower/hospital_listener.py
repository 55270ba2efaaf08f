"""The SuperLink's listener for hospitals: TLS, with a certificate that is renewed while it runs."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from .asgi import App
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
                access_log=False,
                log_config=get_uvicorn_log_config(console_handler.level),
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        self._address = address

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

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
