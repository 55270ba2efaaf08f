"""The SuperNode's interface for the processes that handle its messages: a Unix socket, no port.

Whoever reaches this interface can take a message from the coordinator and answer in the site's
name, and Flower asks nobody there who he is.
"""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .internals import replace
from .local_socket import listen_at


def runtime_socket(home: Path | None = None) -> Path:
    """The socket of a SuperNode, in its `FLWR_HOME`; default: that of this process."""
    return (home or Path(os.environ["FLWR_HOME"])) / "runtime.sock"


def serve_at_socket() -> None:
    """Let the SuperNode of this process serve its interface at its socket instead of a port.

    Raises
    ------
    SocketError
        If the socket cannot be made, or would be open to others.
    FlowerMovedError
        If Flower has changed.
    """
    import uvicorn

    listener = listen_at(runtime_socket())

    class AtSocket(uvicorn.Server):
        """Takes connections of the socket, whatever host and port its configuration names."""

        def run(self, sockets: Any = None) -> None:
            """Serve until the node ends."""
            super().run(sockets=[listener])

    replace(
        "_start_supernode_http_api",
        "uvicorn",
        SimpleNamespace(Config=uvicorn.Config, Server=AtSocket),
    )
