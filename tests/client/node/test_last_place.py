"""A program of the same user takes the coordinator's message at the node's socket, and answers it.

It can: the socket is open to this user. What it answers does not leave unless the ledger has it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.cli.build import build_fab_from_disk
from support.supernode import SuperNode, get_object_tree

from fedrad.client.node.outgoing_errors import CRASHED, NO_REASON
from fedrad.client.policy.ledger import Ledger
from fedrad.exchange.messages import Refusal, to_record
from fedrad.flower import last_check
from fedrad.flower.bundles import BUNDLE
from fedrad.flower.internals import (
    AcquireTaskRequest,
    ErrorCode,
    FlowerPart,
    ObjectTree,
    RuntimeHttpClient,
    TaskType,
    load,
)
from fedrad.flower.last_check import content_id
from fedrad.flower.local_socket import LOCAL, use_socket

_PROCESS = "flwr.supernode.runtime.run_clientapp"
pull_task_input = load(FlowerPart(_PROCESS, "pull_task_input"))
push_message = load(FlowerPart(_PROCESS, "push_message"))
TokenInterceptor = load(FlowerPart("flwr.supercore.interceptors", "RuntimeTokenHttpInterceptor"))
SECRET = "CANARY-0007 is 37 years old"


class Rogue:
    """A program that took the message before the site's own process did."""

    def __init__(self, node: SuperNode, state: Path) -> None:
        self.node, self.state = node, state
        self.ledger = Ledger(state / "ledger.jsonl")

    def take(self) -> Message:
        """A message comes; take it, and return it with all its content."""
        self.node.receive(build_fab_from_disk(BUNDLE.parent), {})
        use_socket(self.node.socket)
        client = RuntimeHttpClient.from_server_address(LOCAL, True, None, [])
        asked = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        token = client.AcquireTask(asked).token
        assert token, "nobody asks a program of this user who it is"
        self.client = RuntimeHttpClient.from_server_address(
            LOCAL, True, None, [TokenInterceptor(token)]
        )
        message, self.context, *_ = pull_task_input(self.client)
        return message

    def push(self, reply: Message) -> None:
        push_message(self.client, reply, self.context)

    def sent(self) -> Message | None:
        """The answer that leaves; in no byte of it is the secret."""
        answer, left = self.node.send()
        assert b"CANARY" not in left
        return answer

    def record(self, request: Message, content: RecordDict) -> None:
        """Write an answer into the ledger, as the site's own process does."""
        self.ledger.record(
            "test",
            Refusal(reason="internal"),
            request=request.metadata.message_id,
            content=content_id(content),
        )

    def log(self) -> str:
        return (self.state / "site.log").read_text()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperNode]:
    folder = tmp_path_factory.mktemp("node")
    config = {"name": "a", "state": str(folder / "state")}
    with SuperNode(folder, config, answers=False) as node:
        yield node


@pytest.fixture
def rogue(node: SuperNode) -> Rogue:
    state = node.log.parent / "state"
    for file in state.glob("*"):
        if file.name == "site.log":
            os.truncate(file, 0)  # the node has it open
        elif file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()
    return Rogue(node, state)


def answer_of(values: list[float]) -> RecordDict:
    return RecordDict(
        {
            "message": ConfigRecord({"json": "{}"}),
            "packed": ArrayRecord({"flat": Array(np.array(values))}),
        }
    )


def is_replaced_by_a_sentence(answer: Message | None, rogue: Rogue) -> bool:
    """Whether the coordinator gets a sentence of the list, which the ledger has."""
    assert answer is not None
    assert (answer.error.code, answer.error.reason) == (
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
        NO_REASON,
    )
    last = rogue.ledger.entries()[-1]["message"]
    return last == {"kind": "error", "sentence": NO_REASON}


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({"message": ConfigRecord({"json": SECRET})}),
        RecordDict({SECRET: MetricRecord({"auroc": 0.5})}),
        to_record(Refusal(reason="internal")),
    ],
    ids=["free text", "a name", "a well-formed message"],
)
def test_what_the_site_has_not_recorded_does_not_leave(rogue, content):
    request = rogue.take()
    rogue.push(Message(content, reply_to=request))
    assert is_replaced_by_a_sentence(rogue.sent(), rogue)
    assert "NOT SENT" in rogue.log()
    assert "not in the ledger" in rogue.log()


def test_an_update_that_was_changed_after_it_was_recorded_does_not_leave(rogue):
    request = rogue.take()
    rogue.record(request, answer_of([1.0, 2.0]))
    rogue.push(Message(answer_of([1.0, 2.1]), reply_to=request))
    assert is_replaced_by_a_sentence(rogue.sent(), rogue)


def test_what_was_recorded_leaves_byte_for_byte(rogue):
    request = rogue.take()
    rogue.record(request, answer_of([1.0, 2.0]))
    rogue.push(Message(answer_of([1.0, 2.0]), reply_to=request))
    answer = rogue.sent()
    assert content_id(answer.content) == content_id(answer_of([1.0, 2.0]))
    assert answer.metadata.message_type == request.metadata.message_type
    assert answer.metadata.reply_to_message_id == request.metadata.message_id
    assert "NOT SENT" not in rogue.log()


def test_around_a_recorded_content_nothing_is_free_to_choose(rogue):
    """Type, group, addressee, times: all of it is made anew from the request."""
    request = rogue.take()
    rogue.record(request, answer_of([1.0]))
    reply = Message(answer_of([1.0]), reply_to=request)
    chosen = {"_group_id": SECRET, "_dst_node_id": 37, "_created_at": 37.0, "_ttl": 37.0}
    reply.metadata.__dict__.update(chosen, _message_type="train.CANARY")
    rogue.push(reply)
    answer = rogue.sent()
    assert answer.metadata.group_id == request.metadata.group_id
    assert answer.metadata.dst_node_id == request.metadata.src_node_id
    assert answer.metadata.message_type == request.metadata.message_type
    assert 37.0 not in (answer.metadata.created_at, answer.metadata.ttl)


def test_a_recorded_content_takes_no_other_object_along(rogue, monkeypatch):
    """The list of objects that comes with a reply names one more below the recorded content."""
    request = rogue.take()
    rogue.record(request, answer_of([1.0]))
    reply = Message(answer_of([1.0]), reply_to=request)
    hidden = RecordDict({"message": ConfigRecord({"json": SECRET})})

    def with_one_more(message: Message) -> ObjectTree:
        tree = get_object_tree(message)
        tree.children[0].children.append(get_object_tree(hidden))
        return tree

    monkeypatch.setattr(f"{_PROCESS}.get_object_tree", with_one_more)
    objects = {part.object_id: part for part in (hidden, hidden["message"])}
    every = load(FlowerPart(_PROCESS, "get_all_nested_objects"))
    monkeypatch.setattr(f"{_PROCESS}.get_all_nested_objects", lambda m: {**every(m), **objects})
    rogue.push(reply)
    assert is_replaced_by_a_sentence(rogue.sent(), rogue)
    assert "not of its content" in rogue.log()


def test_an_answer_of_yesterday_does_not_answer_the_question_of_today(rogue):
    """A line of the ledger permits one reply, to the request that it names."""
    first = rogue.take()
    rogue.record(first, answer_of([1.0]))
    rogue.push(Message(answer_of([1.0]), reply_to=first))
    assert rogue.sent().has_content()
    second = rogue.take()
    rogue.push(Message(answer_of([1.0]), reply_to=second))
    assert is_replaced_by_a_sentence(rogue.sent(), rogue)


def test_a_second_answer_to_a_message_waits_for_no_other_message_to_leave_with(rogue):
    first = rogue.take()
    old = rogue.client, rogue.context
    rogue.record(first, answer_of([1.0]))
    rogue.push(Message(answer_of([1.0]), reply_to=first))
    assert rogue.sent().has_content()
    push_message(old[0], Message(answer_of([2.0]), reply_to=first), old[1])
    second = rogue.take()
    rogue.record(second, answer_of([3.0]))
    rogue.push(Message(answer_of([3.0]), reply_to=second))
    assert content_id(rogue.sent().content) == content_id(answer_of([3.0]))
    assert "answers no open request" in rogue.log()


def test_an_error_leaves_as_a_sentence_of_the_list(rogue):
    request = rogue.take()
    rogue.push(Message(Error(3737, SECRET), reply_to=request))
    assert is_replaced_by_a_sentence(rogue.sent(), rogue)


def test_an_answer_whose_content_never_comes_does_not_stop_the_node(rogue, monkeypatch):
    monkeypatch.setattr(last_check, "PUSH_SECONDS", 0.3)
    request = rogue.take()
    rogue.record(request, answer_of([1.0]))
    monkeypatch.setattr(f"{_PROCESS}.push_objects", lambda *_, **__: None)
    rogue.push(Message(answer_of([1.0]), reply_to=request))
    assert is_replaced_by_a_sentence(rogue.sent(), rogue)


def test_a_visit_whose_process_died_is_an_error_that_the_ledger_has(rogue):
    """Flower's SuperNode makes this error itself: the process cannot any more."""
    rogue.take()
    rogue.node.lose_the_task()
    answer = rogue.sent()
    assert (answer.error.code, answer.error.reason) == (ErrorCode.CLIENT_APP_CRASHED, CRASHED)
    (entry,) = rogue.ledger.entries()
    assert entry["message"] == {"kind": "error", "sentence": CRASHED}


def test_without_a_ledger_nothing_leaves(rogue):
    request = rogue.take()
    (rogue.state / "ledger.jsonl").mkdir()
    rogue.push(Message(Error(1, SECRET), reply_to=request))
    assert rogue.sent() is None
    (rogue.state / "ledger.jsonl").rmdir()


def test_a_node_without_a_state_folder_sends_nothing(tmp_path):
    with SuperNode(tmp_path, {"name": "a"}, answers=False) as node:
        rogue = Rogue(node, tmp_path)
        request = rogue.take()
        rogue.push(Message(answer_of([1.0]), reply_to=request))
        assert rogue.sent() is None


def test_the_node_itself_does_not_import_pytorch():
    """It is small, and starts at once."""
    code = "import sys; import fedrad.client.node.supernode; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"
