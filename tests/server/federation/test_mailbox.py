"""An answer is that of the node that was asked."""

import pytest
from flwr.app import Message, RecordDict
from support.readiness import readiness_with

from fedrad.exchange.messages import READY, ReadyRequest, to_record
from fedrad.flower.internals import TaskIdentity
from fedrad.server.federation.mailbox import Mailbox


class Grid:
    """Gives each question the answer of a node."""

    def __init__(self, node: int) -> None:
        self.node = node

    def push_messages(self, messages):
        (self.asked,) = messages
        return ["1"]

    def pull_messages(self, message_ids):
        answer = Message(
            to_record(readiness_with(site="hospital-a", base_sha256="0" * 64)),
            reply_to=self.asked,
        )
        answer.metadata.__dict__["_src_node_id"] = self.node
        return [answer]


@pytest.mark.parametrize(("answers", "status"), [(5, "ok"), (6, "invalid")])
def test_an_answer_of_another_node_than_was_asked_is_not_used(answers, status):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    mailbox = Mailbox(Grid(answers))
    mailbox.send(5, READY, RecordDict(to_record(ReadyRequest(fedrad="1"))))
    (received,) = mailbox.receive()
    answer = received.read(READY)
    assert (answer.node, answer.status) == (5, status)
    if status == "invalid":
        assert answer.failure == "its answer came from another node"
