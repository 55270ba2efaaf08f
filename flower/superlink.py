"""`flower-superlink` with two listeners: the whole API on loopback, and a part of it for hospitals."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn

from .asgi import App
from .hospital_listener import HospitalAddress, HospitalListener
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
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            ssl_certfile=config.ssl_certfile,
            ssl_keyfile=config.ssl_keyfile,
            access_log=False,
            log_config=get_uvicorn_log_config(console_handler.level),
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
    hospitals = HospitalListener(
        gate(app),
        HospitalAddress(
            given.listen,
            int(given.hospital_port),
            Path(given.hospital_certificate),
            Path(given.hospital_key),
        ),
    )
    servers = [asyncio.create_task(server.serve()) for server in (here, hospitals)]
    renewal = asyncio.create_task(hospitals.reload_certificate())
    await asyncio.wait(servers, return_when=asyncio.FIRST_COMPLETED)
    here.should_exit = hospitals.should_exit = True
    await asyncio.gather(*servers)
    renewal.cancel()
