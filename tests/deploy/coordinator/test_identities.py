"""An admitted hospital cannot speak for another one, nor read or spoil what is another's.

The SuperLink is Flower's own. Each attack is made by hospital A, whose key is admitted.
"""

import pytest
from flwr.app import Message
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesResponse,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from support.gate import Coordinator, send


@pytest.fixture(scope="module")
def superlink(tmp_path_factory):
    return Coordinator(tmp_path_factory.mktemp("coordinator"))


@pytest.fixture
def coordinator(superlink):
    """The SuperLink, with no question left of an earlier test."""
    for hospital in (superlink.a, superlink.b):
        superlink.state.get_message_ins(hospital.node, limit=None)
    return superlink


def replies(coordinator: Coordinator, question: Message) -> list[Message]:
    """What the coordinator's app receives as the replies to a question."""
    return coordinator.state.get_message_res({question.metadata.message_id}, coordinator.run)


def test_a_question_reaches_its_hospital_and_the_reply_the_coordinator(coordinator):
    question = coordinator.question(coordinator.a)
    pulled = coordinator.pull(coordinator.a)
    (tree,) = pulled.message_object_trees
    node = Node(node_id=coordinator.a.node)
    ask = PullObjectRequest(node=node, run_id=coordinator.run, object_id=tree.object_id)
    answer = coordinator.ask(coordinator.a, "pull-object", ask)
    assert PullObjectResponse.FromString(answer.content).object_available
    done = ConfirmMessageReceivedRequest(
        node=node, run_id=coordinator.run, message_object_id=tree.object_id
    )
    assert coordinator.ask(coordinator.a, "confirm-message-received", done).status_code == 200
    reply, pushed = coordinator.push(coordinator.a, question)
    objects = {i: part.deflate() for i, part in get_all_nested_objects(reply).items()}
    for object_id in pushed.objects_to_push:
        push = PushObjectRequest(
            node=node,
            run_id=coordinator.run,
            session_id=pushed.session_id,
            object_id=object_id,
            object_content=objects[object_id],
        )
        answer = coordinator.ask(coordinator.a, "push-object", push)
        assert PushObjectResponse.FromString(answer.content).stored
    (stored,) = replies(coordinator, question)
    assert stored.metadata.src_node_id == coordinator.a.node


@pytest.mark.parametrize("gate", [True, False], ids=["the gate", "Flower alone"])
def test_a_reply_in_the_name_of_another_hospital(coordinator, gate):
    """Flower takes it: whose question was answered is compared with the sender that is stated."""
    question = coordinator.question(coordinator.b)
    _, push = coordinator.reply(coordinator.b, question)
    push.node.node_id = coordinator.a.node  # the node that signs
    request = coordinator.a.request("/v1/fleet/push-messages", push)
    answer = send(coordinator.gate if gate else coordinator.flower, request)
    stored = len(replies(coordinator, question))
    assert (answer.status_code, stored) == ((403, 0) if gate else (200, 1))
    if gate:
        assert "in the name of another node" in answer.text


def test_an_answer_to_a_question_that_another_hospital_was_asked(coordinator):
    question = coordinator.question(coordinator.b)
    _, push = coordinator.reply(coordinator.a, question)
    answer = PushMessagesResponse.FromString(
        coordinator.ask(coordinator.a, "push-messages", push).content
    )
    assert not answer.objects_to_push
    assert not replies(coordinator, question)


@pytest.mark.parametrize("gate", [True, False], ids=["the gate", "Flower alone"])
def test_a_question_to_another_hospital_as_if_from_the_coordinator(coordinator, gate):
    """Flower takes it: what answers nothing is a question, by whomever it is pushed."""
    question = coordinator.question(coordinator.a)
    _, push = coordinator.reply(coordinator.a, question)
    metadata = push.messages_list[0].metadata
    metadata.reply_to_message_id, metadata.src_node_id = "", 1
    metadata.dst_node_id = coordinator.b.node
    request = coordinator.a.request("/v1/fleet/push-messages", push)
    answer = send(coordinator.gate if gate else coordinator.flower, request)
    asked = coordinator.state.get_message_ins(coordinator.b.node, limit=10)
    assert (answer.status_code, len(asked)) == ((403, 0) if gate else (200, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda push: push.messages_list.append(push.messages_list[0]),
        lambda push: push.message_object_trees.append(push.message_object_trees[0]),
        lambda push: push.ClearField("messages_list"),
        lambda push: setattr(push.messages_list[0].metadata, "dst_node_id", 7),
        lambda push: setattr(push.messages_list[0].metadata, "reply_to_message_id", ""),
        lambda push: setattr(push.message_object_trees[0], "object_id", "another"),
    ],
    ids=["two messages", "two trees", "none", "to a node", "answers none", "another's objects"],
)
def test_a_push_that_is_not_one_reply_to_the_coordinator(coordinator, change):
    question = coordinator.question(coordinator.a)
    _, push = coordinator.reply(coordinator.a, question)
    change(push)
    assert coordinator.ask(coordinator.a, "push-messages", push).status_code == 403
    assert not replies(coordinator, question)


def requests_about(coordinator: Coordinator, node: int) -> dict:
    """Each kind of request that names a node."""
    named = Node(node_id=node)
    return {
        "pull-messages": PullMessagesRequest(node=named),
        "deactivate-node": DeactivateNodeRequest(node_id=node),
        "send-node-heartbeat": SendNodeHeartbeatRequest(node=named, heartbeat_interval=60),
        "get-run": GetRunRequest(node=named, run_id=coordinator.run),
        "push-object": PushObjectRequest(node=named, run_id=coordinator.run),
    }


def test_no_request_may_name_another_node(coordinator):
    question = coordinator.question(coordinator.b)
    for name, body in requests_about(coordinator, coordinator.b.node).items():
        answer = coordinator.ask(coordinator.a, name, body)
        assert (answer.status_code, "names another node" in answer.text) == (403, True), name
    other = ActivateNodeRequest(public_key=coordinator.b.in_flower, heartbeat_interval=60)
    assert coordinator.ask(coordinator.a, "activate-node", other).status_code == 403
    leave = UnregisterNodeFleetRequest(node_id=coordinator.b.node)
    assert coordinator.ask(coordinator.a, "unregister-node", leave).status_code == 404
    (left,) = coordinator.pull(coordinator.b).messages_list
    assert left.metadata.message_id == question.metadata.message_id


@pytest.mark.parametrize("gate", [True, False], ids=["the gate", "Flower alone"])
def test_objects_of_another_hospital_are_not_handed_out(coordinator, gate):
    """Flower hands out any object to whoever knows its id, the hash of its content: whoever guesses
    what another hospital said can ask whether it is so."""
    coordinator.question(coordinator.b)
    (tree,) = coordinator.pull(coordinator.b).message_object_trees
    node = Node(node_id=coordinator.a.node)
    body = PullObjectRequest(node=node, run_id=coordinator.run, object_id=tree.object_id)
    request = coordinator.a.request("/v1/fleet/pull-object", body)
    answer = send(coordinator.gate if gate else coordinator.flower, request)
    assert answer.status_code == (403 if gate else 200)
    if not gate:
        assert PullObjectResponse.FromString(answer.content).object_content


@pytest.mark.parametrize("gate", [True, False], ids=["the gate", "Flower alone"])
def test_questions_to_another_hospital_are_not_deleted(coordinator, gate):
    question = coordinator.question(coordinator.b)
    body = ConfirmMessageReceivedRequest(
        node=Node(node_id=coordinator.a.node),
        run_id=coordinator.run,
        message_object_id=question.metadata.message_id,
    )
    request = coordinator.a.request("/v1/fleet/confirm-message-received", body)
    answer = send(coordinator.gate if gate else coordinator.flower, request)
    left = len(coordinator.pull(coordinator.b).messages_list)
    assert (answer.status_code, left) == ((403, 1) if gate else (200, 0))


@pytest.mark.parametrize("gate", [True, False], ids=["the gate", "Flower alone"])
def test_objects_are_not_pushed_into_the_session_of_another_hospital(coordinator, gate):
    question = coordinator.question(coordinator.b)
    reply, pushed = coordinator.push(coordinator.b, question)
    content = reply.deflate()
    for session in (pushed.session_id, ""):
        body = PushObjectRequest(
            node=Node(node_id=coordinator.a.node),
            run_id=coordinator.run,
            session_id=session,
            object_id=pushed.objects_to_push[0],
            object_content=content,
        )
        request = coordinator.a.request("/v1/fleet/push-object", body)
        answer = send(coordinator.gate if gate else coordinator.flower, request)
        assert answer.status_code == (403 if gate else 200)
        if not gate and session:
            assert PushObjectResponse.FromString(answer.content).stored


def test_flowers_signature_must_be_by_the_same_key(coordinator):
    """Else a member could sign, and another member's captured Flower headers name the node."""
    body = PullMessagesRequest(node=Node(node_id=coordinator.b.node))
    request = coordinator.b.request("/v1/fleet/pull-messages", body)
    coordinator.a.sign(request)
    answer = send(coordinator.gate, request)
    assert (answer.status_code, answer.text) == (401, "Flower's signature is by another key\n")


def test_what_cannot_be_decoded_is_refused(coordinator):
    assert coordinator.ask(coordinator.a, "pull-messages", b"\xff\xff\xff").status_code == 403
