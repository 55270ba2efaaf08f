"""`flower-superlink` with two listeners: the whole API on loopback, and a part of it for hospitals.

A certificate that was renewed is loaded while the SuperLink runs.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import uvicorn

from .asgi import App
from .internals import (
    SuperLinkLifespan,
    SuperLinkLifespanConfig,
    console_handler,
    create_app,
    flower_superlink,
    get_uvicorn_log_config,
    replace,
    start_parent_process_monitor,
)

CHECK_SECONDS = 10.0
"""How often to check whether a certificate was renewed."""
log = logging.getLogger("fedrad.superlink")


class _ServerWithoutSignals(uvicorn.Server):
    """A server that leaves the handling of signals to another server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_superlink(gate: Callable[[App], App]) -> None:
    """Run a SuperLink until it gets a signal to end.

    The command line holds the arguments of `flower-superlink`, for the listener on loopback, and
    `--listen HOST --hospital-port PORT --hospital-certificate FILE --hospital-key FILE` for the
    listener that hospitals reach.

    Parameters
    ----------
    gate
        The SuperLink's application -> the application that hospitals reach.

    Raises
    ------
    FlowerMovedError
        If Flower has changed; raised before the SuperLink starts.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--listen", "--hospital-port", "--hospital-certificate", "--hospital-key"):
        parser.add_argument(name, required=True)
    given, sys.argv[1:] = parser.parse_known_args()
    start_parent_process_monitor(os.getppid())

    def serve(lifespan_config: SuperLinkLifespanConfig) -> None:
        asyncio.run(_serve(lifespan_config, given, gate))

    replace("flower_superlink", "_run_superlink_http_api", serve)
    flower_superlink()


async def _serve(
    config: SuperLinkLifespanConfig, given: argparse.Namespace, gate: Callable[[App], App]
) -> None:
    app: App = create_app(config, SuperLinkLifespan)
    here = uvicorn.Server(
        _config(app, config.host, config.port, config.ssl_certfile, config.ssl_keyfile)
    )
    hospitals = _ServerWithoutSignals(
        _config(
            gate(app),
            given.listen,
            int(given.hospital_port),
            given.hospital_certificate,
            given.hospital_key,
            lifespan="off",
        )
    )
    servers = [asyncio.create_task(server.serve()) for server in (here, hospitals)]
    renewals = [
        asyncio.create_task(_reload_certificate(server.config)) for server in (here, hospitals)
    ]
    await asyncio.wait(servers, return_when=asyncio.FIRST_COMPLETED)
    here.should_exit = hospitals.should_exit = True
    await asyncio.gather(*servers)
    for task in renewals:
        task.cancel()


def _config(
    app: App,
    host: str,
    port: int,
    certificate: str | None,
    key: str | None,
    *,
    lifespan: Literal["on", "off"] = "on",
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        lifespan=lifespan,
        access_log=False,
        log_config=get_uvicorn_log_config(console_handler.level),
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


async def _reload_certificate(config: uvicorn.Config) -> None:
    """Load a certificate again when its file has changed."""
    file, key = Path(str(config.ssl_certfile)), Path(str(config.ssl_keyfile))
    loaded = file.stat().st_mtime_ns
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        with contextlib.suppress(OSError):
            changed = file.stat().st_mtime_ns
            if changed == loaded or config.ssl is None:
                continue
            try:
                config.ssl.load_cert_chain(file, key)
                loaded = changed
                log.info("the certificate %s was renewed", file.name)
            except ssl.SSLError:  # one of the two files is not there yet
                continue
