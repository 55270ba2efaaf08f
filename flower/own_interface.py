"""What the user of a SuperLink may ask of it over its socket: a list, and a bundle without code.

The socket is open to this user only. So this is no door against strangers, but it keeps every other
program of the user, and every mistake, from running code that is not installed here: Flower would
store any bundle, fetch one from a public shop of apps, or start agents.
"""

from .asgi import App, Event, Receive, Scope, Send
from .bundles import BundleNotApprovedError, check_bundle
from .internals import PROTOBUF_MEDIA_TYPE, StartRunRequest

START_RUN = "/v1/control/start-run"
OF_COMMANDS = {
    "/v1/control/stream-logs",
    "/v1/control/list-nodes",
    "/v1/control/register-node",
    "/v1/control/unregister-node",
}
OF_TASKS = {
    f"/v1/runtime/{name}"
    for name in (
        "acquire-task",
        "confirm-message-received",
        "get-nodes",
        "pull-messages",
        "pull-object",
        "pull-task-input",
        "push-logs",
        "push-messages",
        "push-object",
        "push-task-output",
        "send-task-heartbeat",
    )
}
OF_NODES = "/v1/fleet/"
LARGEST = 16 * 2**20
"""Largest request to start a run, bytes; it holds the text of the experiment."""
NOT_OFFERED = "fedrad's SuperLink does not offer this"
NOT_READ = "the request to start a run cannot be read"
NO_BUNDLE = "the request to start a run asks for more than a bundle"


class OwnInterface:
    """An ASGI app that passes on to another what fedrad itself asks of a SuperLink.

    Parameters
    ----------
    app
        The SuperLink's application.
    nodes
        Whether nodes connect over the socket.
    """

    def __init__(self, app: App, *, nodes: bool) -> None:
        self._app = app
        self._nodes = nodes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with a sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            return  # this closes a websocket
        elif (path := scope["path"]) == START_RUN:
            await self._start_run(scope, receive, send)
        elif (
            path in OF_COMMANDS | OF_TASKS
            or path == "/health"
            or (self._nodes and path.startswith(OF_NODES))
        ):
            await self._app(scope, receive, send)
        else:
            await _refuse(send, 404, NOT_OFFERED)

    async def _start_run(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = b""
        while (event := await receive())["type"] == "http.request":
            content += event.get("body", b"")
            if len(content) > LARGEST:
                await _refuse(send, 413, NOT_READ)
                return
            if not event.get("more_body"):
                break
        else:
            return  # the caller has gone
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        if (fault := _fault(kinds, content)) is not None:
            await _refuse(send, 403, fault)
            return
        body = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive_again() -> Event:
            return next(body, None) or await receive()

        await self._app(scope, receive_again, send)


def _fault(kinds: list[bytes], content: bytes) -> str | None:
    """Why a run is not started; None if it may be."""
    if kinds != [PROTOBUF_MEDIA_TYPE.encode()]:
        return NOT_READ
    try:
        request = StartRunRequest.FromString(content)
    except Exception:
        return NOT_READ
    asked = {field.name for field, _ in request.ListFields()}
    if asked - {"fab", "override_config", "override_federation_config"}:
        return NO_BUNDLE
    try:
        check_bundle(request.fab.content)
    except BundleNotApprovedError as error:
        return str(error)
    return None


async def _refuse(send: Send, status: int, text: str) -> None:
    content = text.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
