"""`flower-superlink`, on two listeners: all of it on loopback, and for hospitals what the gate lets
through.

    python -m fedrad.deploy.coordinator.superlink --listen HOST --hospital-port PORT
        --hospital-certificate FILE --hospital-key FILE, and the arguments of `flower-superlink`
        for the one on loopback

Renewed certificates are taken up while it runs.
"""

from fedrad.system.no_telemetry import be_quiet

be_quiet()

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import uvicorn
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.supercore.logger import console_handler
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

from fedrad.client.node.supernode import check_part

from .gate import App, Gate

flower_superlink = importlib.import_module("flwr.superlink.cli.flower_superlink")
REPLACED = {
    "_run_superlink_http_api": "uvicorn.run(",
    "flower_superlink": "_run_superlink_http_api(lifespan_config=config)",
}
"""Function of Flower -> its line that shows it to be what is replaced, or what calls that."""
LOOK_SECONDS = 10.0
"""How often to look whether a certificate was renewed."""
log = logging.getLogger("fedrad.superlink")


class _Second(uvicorn.Server):
    """A server beside another, which alone looks after signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> None:
    """Run the SuperLink until it is told to end."""
    for name, line in REPLACED.items():
        check_part(getattr(flower_superlink, name), line)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--listen", "--hospital-port", "--hospital-certificate", "--hospital-key"):
        parser.add_argument(name, required=True)
    given, sys.argv[1:] = parser.parse_known_args()
    start_parent_process_monitor(os.getppid())

    def serve(lifespan_config: SuperLinkLifespanConfig) -> None:
        asyncio.run(_serve(lifespan_config, given))

    setattr(flower_superlink, "_run_superlink_http_api", serve)  # noqa: B010 private to Flower
    flower_superlink.flower_superlink()


async def _serve(config: SuperLinkLifespanConfig, given: argparse.Namespace) -> None:
    app = create_app(config, flower_superlink.SuperLinkLifespan)
    here = uvicorn.Server(
        _config(app, config.host, config.port, config.ssl_certfile, config.ssl_keyfile)
    )
    hospitals = _Second(
        _config(
            Gate(app),
            given.listen,
            int(given.hospital_port),
            given.hospital_certificate,
            given.hospital_key,
            lifespan="off",
        )
    )
    servers = [asyncio.create_task(server.serve()) for server in (here, hospitals)]
    renewals = [
        asyncio.create_task(_take_up_renewed(server.config)) for server in (here, hospitals)
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


async def _take_up_renewed(config: uvicorn.Config) -> None:
    """Load a certificate again whenever its file has changed."""
    file, key = Path(str(config.ssl_certfile)), Path(str(config.ssl_keyfile))
    loaded = file.stat().st_mtime_ns
    while True:
        await asyncio.sleep(LOOK_SECONDS)
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


if __name__ == "__main__":
    main()
