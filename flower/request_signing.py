"""The node's part of signed requests: a signature over each request to the coordinator's gate."""

import logging

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from fedrad.exchange import clocks
from fedrad.exchange.signed_request import HEADER, sign_request
from fedrad.system.release import release

from .internals import NodeAuthHttpInterceptor, ProtobufCall, ProtobufRequestContext, replace

log = logging.getLogger("fedrad.node")
REFUSED_BY_GATE = "401 Unauthorized: "
"""Beginning of the line in the node's log when the gate refuses it."""
_LONGEST_REASON = 300


def sign_requests() -> None:
    """Let the SuperNode of this process sign each request with its key.

    What Flower signs stays as it is. Raises FlowerMovedError.
    """
    replace("http_request_response", "NodeAuthHttpInterceptor", RequestSigner)


class RequestSigner:
    """Adds fedrad's signature to that of Flower, whose interceptor it replaces.

    Parameters
    ----------
    private_key, public_key
        The node's key; without one of its own, the key that Flower made for this connection.
    """

    def __init__(
        self, private_key: ec.EllipticCurvePrivateKey, public_key: ec.EllipticCurvePublicKey
    ) -> None:
        self._key = private_key
        self._of_flower = NodeAuthHttpInterceptor(private_key, public_key)

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Sign a request and send it. Log what the gate says if it refuses the node."""
        response: httpx.Response = self._of_flower.intercept(
            context, lambda signed: self._send(signed, call_next)
        )
        if response.status_code == httpx.codes.UNAUTHORIZED:
            _log_refusal(response)
        return response

    def _send(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        request = context.request
        request.headers[HEADER] = sign_request(
            self._key, request.method, request.url.path, request.content, release=release()
        )
        response: httpx.Response = call_next(context)
        return response


def _log_refusal(response: httpx.Response) -> None:
    """Log why the gate refuses this node. Flower's own lines do not say it."""
    stated = response.headers.get(clocks.DIFFERENCE_HEADER, "")
    try:
        log.error("%s%s", REFUSED_BY_GATE, clocks.for_the_site(float(stated)))
    except (ValueError, OverflowError):
        reason = response.text[:_LONGEST_REASON].strip()
        log.error("%s%s", REFUSED_BY_GATE, "".join(c if c.isprintable() else " " for c in reason))
