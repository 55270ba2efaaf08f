"""A Grid within one process: it runs the same apps without Flower's processes and delays.

Sites are visited one after another, in the order of their node ids, so that a run is reproducible.
"""

from collections.abc import Iterable, Sequence
from typing import NoReturn

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from .internals import PARTS, SUPERLINK_NODE_ID, ErrorCode, Run, TaskIdentity, check_source

NodeConfig = dict[str, str]

check_source(PARTS["Metadata"])  # push_messages sets the id of a message as Flower does


class InProcessGrid(Grid):
    """Calls a ClientApp directly for each message, when its reply is pulled.

    Parameters
    ----------
    client_app
        The app of the sites.
    nodes
        Node configuration of each site.
    run_config
        Configuration of the run, the same for all sites.
    """

    def __init__(
        self, client_app: ClientApp, nodes: Sequence[NodeConfig], run_config: dict[str, str]
    ) -> None:
        self._app = client_app
        self._contexts = {
            number: Context(
                run_id=1,
                node_id=number,
                node_config=dict(config),
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for number, config in enumerate(nodes, start=1)
        }
        self._waiting: dict[str, Message] = {}
        self._count = 0
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all sites; all are always connected."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Store messages until their replies are pulled."""
        ids = []
        for message in messages:
            self._count += 1
            message.metadata.__dict__["_message_id"] = str(self._count)
            self._waiting[str(self._count)] = message
            ids.append(str(self._count))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the ClientApp for each message and return its replies."""
        replies = []
        for message_id in message_ids:
            message = self._waiting.pop(message_id)
            try:
                reply = self._app(message, self._contexts[message.metadata.dst_node_id])
            except Exception as error:  # as Flower's client process does
                reason = type(error).__name__
                reply = Message(
                    Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message
                )
            replies.append(reply)
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push messages and pull their replies at once."""
        return self.pull_messages(self.push_messages(messages))

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A new message; deprecated in Flower."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Run) -> NoReturn:
        """Not supported: there is one run in this process."""
        raise RuntimeError("a run inside one process is not set from outside")

    @property
    def run(self) -> Run:
        """An empty run with this grid's id."""
        return Run.create_empty(run_id=1)
