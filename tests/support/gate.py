"""A gate with two admitted hospitals, in front of a SuperLink of Flower in this process."""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
)

from fedrad.deploy.coordinator.gate import Gate
from fedrad.deploy.coordinator.seen import SeenFile
from fedrad.exchange import signed_request
from fedrad.flower.control import key_bytes
from fedrad.flower.internals import ProtobufRequestContext, TaskIdentity, create_app
from fedrad.flower.request_signing import RequestSigner
from fedrad.server.federation.members import Member, Members

NOW = datetime(2026, 11, 28, tzinfo=UTC)
ADDRESS = "https://coordinator"
PULL = "/v1/fleet/pull-messages"
PUSH = "/v1/fleet/push-messages"
BODY = PullMessagesRequest(node=Node(node_id=5))
"""Body of a pull of the node 5."""


@dataclass
class Hospital:
    """A hospital with a key, and its node in Flower."""

    name: str
    private: ec.EllipticCurvePrivateKey
    node: int | None = None

    @property
    def public(self) -> str:
        public = self.private.public_key()
        return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    @property
    def in_flower(self) -> bytes:
        return key_bytes(self.public)

    def request(self, path: str, content=b"", *, clock: float = 0.0) -> httpx.Request:
        """A request as the hospital's node makes it, whose clock is ahead by some seconds."""
        body = content if isinstance(content, bytes) else content.SerializeToString()
        headers = {"content-type": "application/protobuf"}
        request = httpx.Request("POST", f"{ADDRESS}{path}", content=body, headers=headers)
        sent = []

        def call_next(context: ProtobufRequestContext) -> httpx.Response:
            sent.append(context.request)
            return httpx.Response(200)

        signer = RequestSigner(self.private, self.private.public_key())
        signer.intercept(ProtobufRequestContext("", content, request), call_next)
        if clock:
            self.sign(request, clock=clock)
        return request

    def sign(self, request: httpx.Request, **changes) -> None:
        """Sign a request again, after it was changed."""
        when = datetime.now(UTC) + timedelta(seconds=changes.get("clock", 0.0))
        request.headers[signed_request.HEADER] = signed_request.sign_request(
            self.private,
            "POST",
            changes.get("path", request.url.path),
            changes.get("body", request.content),
            release="1+sha256:0123456789ab",
            now=when,
        )


def send(app, request: httpx.Request) -> httpx.Response:
    """The answer of an app to a request."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.send(request)

    return asyncio.run(ask())


def admitted(*hospitals: Hospital) -> Members:
    """The list of members with these hospitals."""
    return Members(
        sites=[
            Member(
                site=hospital.name,
                invitation=f"{number:032x}",
                invited=NOW,
                expires=NOW,
                since=NOW,
                status="admitted",
                public_key=hospital.public,
                node=hospital.node,
            )
            for number, hospital in enumerate(hospitals)
        ]
    )


class Coordinator:
    """A SuperLink with a run, the gate before it, and two hospitals whose nodes are connected."""

    def __init__(self, folder: Path) -> None:
        with patch.dict(os.environ, {"FLWR_DATABASE": str(folder / "superlink.db")}):
            self.flower = create_app()
        self.state = self.flower.state.linkstate_factory.state()
        self.a = Hospital("hospital-a", ec.generate_private_key(ec.SECP384R1()))
        self.b = Hospital("hospital-b", ec.generate_private_key(ec.SECP384R1()))
        for hospital in (self.a, self.b):
            hospital.node = self.state.create_node("", "", hospital.in_flower, 0)
        self.members = folder / "members.json"
        self.write(admitted(self.a, self.b))
        self.folder = folder
        self.gate = Gate(self.flower, self.members, SeenFile(folder))
        for hospital in (self.a, self.b):
            body = ActivateNodeRequest(public_key=hospital.in_flower, heartbeat_interval=60)
            answer = self.ask(hospital, "activate-node", body)
            assert answer.status_code == 200, answer.text
        self.run = self.state.create_run("", "", "", {}, "@none/default", None, "", "serverapp")
        (task,) = self.state.get_tasks(run_ids=[self.run])
        self.state.claim_task(task.task_id)
        self.state.activate_task(task.task_id)

    def write(self, members: Members) -> None:
        self.members.write_text(members.model_dump_json())

    def ask(self, hospital: Hospital, name: str, body) -> httpx.Response:
        return send(self.gate, hospital.request(f"/v1/fleet/{name}", body))

    def question(self, hospital: Hospital) -> Message:
        """Put a question to a hospital's node, as the coordinator's app does."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = self.run, 1, 1
        message = Message(RecordDict(), hospital.node, "train")
        message.metadata.__dict__["_message_id"] = message.object_id
        tree = get_object_tree(message)
        session = self.state.start_session(self.run)
        stored, _ = self.state.store_message_and_object_tree(message, tree, session)
        assert stored
        for object_id, part in get_all_nested_objects(message).items():
            self.state.store_object(self.run, session, object_id, part.deflate())
        return message

    def pull(self, hospital: Hospital) -> PullMessagesResponse:
        """The next question to a hospital, taken by its node."""
        body = PullMessagesRequest(node=Node(node_id=hospital.node))
        return PullMessagesResponse.FromString(self.ask(hospital, "pull-messages", body).content)

    def reply(self, hospital: Hospital, question: Message) -> tuple[Message, PushMessagesRequest]:
        """The reply of a hospital to a question, and the request that announces it."""
        reply = Message(RecordDict(), reply_to=question)
        reply.metadata.__dict__["_src_node_id"] = hospital.node
        reply.metadata.__dict__["_message_id"] = reply.object_id
        request = PushMessagesRequest(
            node=Node(node_id=hospital.node),
            messages_list=[message_to_proto(reply)],
            message_object_trees=[get_object_tree(reply)],
        )
        return reply, request

    def push(self, hospital: Hospital, question: Message) -> tuple[Message, PushMessagesResponse]:
        """Announce a hospital's reply. Returns it, and the answer."""
        reply, request = self.reply(hospital, question)
        answer = self.ask(hospital, "push-messages", request)
        assert answer.status_code == 200, answer.text
        return reply, PushMessagesResponse.FromString(answer.content)


class Behind:
    """Stands behind a gate in the place of Flower: notes what is passed on."""

    def __init__(self) -> None:
        self.passed: list[tuple[str, bytes]] = []

    async def __call__(self, scope, receive, send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.passed.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def status(app, request: httpx.Request) -> int:
    return send(app, request).status_code
