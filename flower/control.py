"""What a coordinator asks of its own SuperLink, over loopback: which nodes may connect."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from .internals import (
    CliClientHttpInterceptor,
    ControlHttpClient,
    ListNodesRequest,
    RegisterNodeRequest,
    RuntimeVersionHttpInterceptor,
    UnregisterNodeRequest,
    public_key_to_bytes,
)
from .processes import Connection


class Control:
    """The control interface of a SuperLink with TLS. All raise httpx.HTTPError where it does not
    answer, or refuses."""

    def __init__(self, connection: Connection) -> None:
        assert connection.root_certificates is not None
        self._client = ControlHttpClient.from_server_address(
            server_address=connection.address,
            insecure=False,
            root_certificates=connection.root_certificates.read_bytes(),
            interceptors=[
                CliClientHttpInterceptor(),
                RuntimeVersionHttpInterceptor(component_name="flwr CLI"),
            ],
        )

    def nodes(self) -> dict[bytes, tuple[int, str]]:
        """Public key of each node that may connect -> its number, and "online" or not."""
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
        """Turn a node away: its next request is refused."""
        self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))


def key_bytes(public_key: str) -> bytes:
    """A public key in OpenSSH's form, as Flower has it."""
    key = load_ssh_public_key(public_key.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return public_key_to_bytes(key)
