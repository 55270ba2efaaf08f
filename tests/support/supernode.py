"""A site's node without a coordinator: Flower's SuperNode passes on messages of a test, fedrad's
executor handles them in another process, and the last check holds what comes back against the
ledger.

Only the network to a SuperLink is missing. Flower's own functions receive a message and send the
reply, and the test replaces their network functions, so it gets every byte that would leave.
"""

import itertools
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import uvicorn
from flwr.app import Message
from flwr.app.message import remove_content_from_message

from fedrad.client.node.outgoing_record import LedgerRecord
from fedrad.exchange.messages import READY, ReadyRequest, to_record
from fedrad.flower.internals import PARTS, SUPERLINK_NODE_ID, FlowerPart, Run, TaskIdentity, load
from fedrad.flower.last_check import LastCheck
from fedrad.flower.local_socket import listen_at
from fedrad.flower.runtime_api import runtime_socket

from .processes import wait_until

# Of the node's own loop
pull_and_store_message = load(PARTS["_pull_and_store_message"])
push_messages = load(PARTS["_push_messages"])
# Parts of Flower that only this test site needs: what its network would do
create_app = load(FlowerPart("flwr.supernode.main", "create_app"))
Fab = load(FlowerPart("flwr.supercore.fab", "Fab"))
NodeStateFactory = load(FlowerPart("flwr.supernode.nodestate", "NodeStateFactory"))
ObjectStoreFactory = load(FlowerPart("flwr.supercore.object_store", "ObjectStoreFactory"))
_OBJECTS = "flwr.supercore.inflatable.inflatable_object"
get_all_nested_objects = load(FlowerPart(_OBJECTS, "get_all_nested_objects"))
get_object_tree = load(FlowerPart(_OBJECTS, "get_object_tree"))
iterate_object_tree = load(FlowerPart(_OBJECTS, "iterate_object_tree"))
inflate_object_from_contents = load(
    FlowerPart("flwr.supercore.inflatable.inflatable_utils", "inflate_object_from_contents")
)

EXECUTOR = """
import os, sys
from pathlib import Path
from fedrad.client.node import executor
from fedrad.flower import client_process
from fedrad.client.node.executor import OUTGOING
client_process.guard_client_process(OUTGOING)
executor.import_what_visits_need()
run_clientapp, parent = client_process.run_clientapp, os.getppid()
def faulty(**given):  # in the child that works on one message
    exec(Path(sys.argv[2]).read_text(), {})
    run_clientapp(**given)
client_process.run_clientapp = faulty
client_process.run_tasks(Path(sys.argv[1]), lambda: os.getppid() == parent)
"""


@dataclass(frozen=True)
class VisitOutcome:
    """The result of one message to a site.

    Attributes
    ----------
    answer
        The reply as the coordinator gets it; None if there is none.
    details
        Text that Flower's client process passed to the SuperNode when it ended.
    left
        All bytes that left the site.
    """

    answer: Message | None
    details: str
    left: bytes


class SuperNode:
    """Flower's SuperNode of a site, and an executor that handles its messages.

    Without an executor (`answers`), a message waits for whoever takes it over the socket.
    """

    def __init__(self, folder: Path, node_config: dict[str, str], *, answers: bool = True) -> None:
        self.log = folder / "executor.log"
        self.home = folder / "flower"
        self._fault = folder / "fault.py"
        self._node_config = node_config
        self._runs = itertools.count(1)
        states = NodeStateFactory(objectstore_factory=ObjectStoreFactory())
        self._state = states.state()
        self._store = self._state.object_store
        self._state.set_node_id(1)
        self.home.mkdir(mode=0o700)
        self.socket = runtime_socket(self.home)
        self._check = LastCheck(LedgerRecord, pull_and_store_message, push_messages)
        app = create_app(states)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        sockets = {"sockets": [listen_at(self.socket)]}
        self._thread = threading.Thread(target=self._server.run, kwargs=sockets, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, 20)
        self._executor: subprocess.Popen[bytes] | None = None
        if not answers:
            return
        with self.log.open("w") as log:
            self._executor = subprocess.Popen(
                [sys.executable, "-c", EXECUTOR, str(self.socket), str(self._fault)],
                env={**os.environ, "FLWR_HOME": str(self.home), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> "SuperNode":
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.kill()
            self._executor.wait()
        self._server.should_exit = True
        self._thread.join(timeout=10)

    def visit(self, bundle: bytes, run_config: dict[str, str], fault: str = "") -> VisitOutcome:
        """Ask the site whether it is ready.

        Parameters
        ----------
        bundle
            Flower's bundle, as the coordinator sends it.
        run_config
            Settings of the run.
        fault
            Python code that breaks something in the process of this message.
        """
        self._fault.write_text(fault)
        number = self.receive(bundle, run_config)
        assert self._executor is not None
        (task,) = self._state.get_tasks(run_ids=[number])
        end = time.monotonic() + 300
        while not (task := self._state.get_tasks(task_ids=[task.task_id])[0]).finished_at:
            assert self._executor.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)
        answer, left = self.send()
        return VisitOutcome(answer, task.status.details, left)

    def receive(self, bundle: bytes, run_config: dict[str, str]) -> int:
        """Receive the question whether the site is ready. Returns the number of its run."""
        number = next(self._runs)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = (
            number,
            SUPERLINK_NODE_ID,
            1,
        )
        message = Message(to_record(ReadyRequest(fedrad="0.1.0")), 1, READY.name)
        message.metadata.__dict__["_message_id"] = message.object_id
        parts = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
        digest = sha256(bundle).hexdigest()
        run = Run.create_empty(number)
        run.fab_id, run.fab_version, run.fab_hash = "fedrad/fedrad-bundle", "0.1.0", digest
        run.series_id, run.override_config = number, dict(run_config)
        assert self._check.pull(
            state=self._state,
            object_store=self._store,
            node_config=dict(self._node_config),
            receive=lambda: (remove_content_from_message(message), get_object_tree(message)),
            get_run=lambda _: run,
            get_fab=lambda *_: Fab(digest, bundle, {}),
            pull_object=lambda _, name: parts[name],
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )
        return number

    def lose_the_task(self) -> None:
        """Let the time pass after which Flower takes a process without a sign of life for dead."""
        for record in self._state.task_token_store.values():
            record.active_until -= timedelta(hours=1)
        with self._state.lock_task_store:
            self._state._cleanup_expired_task_tokens_locked()

    def send(self) -> tuple[Message | None, bytes]:
        """What leaves in answer to the message: the reply as the coordinator gets it, its bytes."""
        entries = self._state.msg_store.values()
        if not any(e.message.metadata.reply_to_message_id and not e.is_retrieved for e in entries):
            return None, b""  # Flower's function would wait for an answer
        sent: list[Message] = []
        parts: dict[str, bytes] = {}

        def send(message: Message, tree, seconds: float):
            sent.append(message)
            return {leaf.object_id for leaf in iterate_object_tree(tree)}, ""

        self._check.push(
            state=self._state,
            object_store=self._store,
            send=send,
            push_object=lambda run, session, name, content: parts.update({name: content}),
        )
        if not sent:
            return None, b""
        (message,) = sent
        answer = inflate_object_from_contents(message.metadata.message_id, dict(parts))
        assert isinstance(answer, Message)
        return answer, b"".join(parts.values()) + repr(message.__dict__).encode()
