"""Client of a SuperLink's control interface, over loopback: which nodes may connect."""

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
from .processes import SuperLinkConnection


class Control:
    """The control interface of a SuperLink with TLS. All methods raise httpx.HTTPError if it does
    not answer or refuses."""

    def __init__(self, connection: SuperLinkConnection) -> None:
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
