"""Client of a SuperLink's own interface, over its socket: runs, and which nodes may connect."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from .bundles import BUNDLE
from .internals import (
    CliClientHttpInterceptor,
    ControlHttpClient,
    Fab,
    ListNodesRequest,
    RegisterNodeRequest,
    RuntimeVersionHttpInterceptor,
    StartRunRequest,
    StreamLogsRequest,
    UnregisterNodeRequest,
    build_fab_from_disk,
    public_key_to_bytes,
    user_config_to_proto,
)
from .local_socket import LOCAL, use_socket

FlowerSettings = Mapping[str, str | int | float | bool]


class FlowerError(Exception):
    """A Flower process did not start, or Flower refused a run; the text has its last log lines."""


class Control:
    """The interface of a SuperLink at a socket. The methods about nodes raise httpx.HTTPError if it
    does not answer or refuses."""

    def __init__(self, socket: Path) -> None:
        use_socket(socket)
        self._client = ControlHttpClient.from_server_address(
            server_address=LOCAL,
            insecure=True,
            root_certificates=None,
            interceptors=[
                CliClientHttpInterceptor(),
                RuntimeVersionHttpInterceptor(component_name="flwr CLI"),
            ],
        )

    def run(
        self, run_config: FlowerSettings, simulation: FlowerSettings | None = None
    ) -> Iterator[str]:
        """Run fedrad's bundle until it has ended.

        Parameters
        ----------
        run_config
            Configuration of the run, for the apps.
        simulation
            Flower's settings of a simulated federation; None: over real nodes.

        Yields
        ------
        str
            The lines of the run's log.

        Raises
        ------
        FlowerError
            If the SuperLink does not answer, refuses the run, or ends before the run.
        """
        bundle = build_fab_from_disk(BUNDLE.parent)
        request = StartRunRequest(
            fab=Fab(hash_str=sha256(bundle).hexdigest(), content=bundle),
            override_config=user_config_to_proto(dict(run_config)),
        )
        if simulation is not None:
            for name, value in simulation.items():
                setattr(request.override_federation_config, name.replace("-", "_"), value)
        try:
            run = self._client.StartRun(request).run_id
            yield from self._log(run)
        except httpx.HTTPStatusError as error:
            answer = error.response.text[:500]
            raise FlowerError(f"the SuperLink refused the run: {answer}") from error
        except httpx.TransportError as error:
            raise FlowerError(
                f"the SuperLink does not answer ({error or type(error).__name__}): it has ended, "
                "and with it the run"
            ) from error

    def _log(self, run: int) -> Iterator[str]:
        partial = ""
        for part in self._client.StreamLogs(StreamLogsRequest(run_id=run)):
            *lines, partial = (partial + part.log_output).split("\n")
            yield from lines
        if partial:
            yield partial

    def nodes(self) -> dict[bytes, tuple[int, str]]:
        """Public key of each node that may connect -> its number and status, such as "online"."""
        answer = self._client.ListNodes(ListNodesRequest())
        return {
            node.public_key: (node.node_id, node.status)
            for node in answer.nodes_info
            if node.status != "unregistered"
        }

    def register(self, public_key: bytes, name: str) -> int:
        """Let a node connect. Returns its number."""
        request = RegisterNodeRequest(public_key=public_key, name=name)
        return int(self._client.RegisterNode(request).node_id)

    def unregister(self, node: int) -> None:
        """Refuse all further requests of a node."""
        self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))


def key_bytes(public_key: str) -> bytes:
    """Convert a public key from OpenSSH's format to Flower's."""
    key = load_ssh_public_key(public_key.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return public_key_to_bytes(key)
