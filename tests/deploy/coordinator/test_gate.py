"""What hospitals reach of the SuperLink, and with which signatures."""

import asyncio
import json
import logging
import time
from base64 import b64decode, b64encode

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import ObjectTree
from support.gate import BODY, PULL, PUSH, Hospital, admitted, send, status

from fedrad.client.node.events import event
from fedrad.deploy.coordinator import gate_limits, seen
from fedrad.deploy.coordinator.gate import Gate
from fedrad.deploy.coordinator.seen import SeenFile, read_seen
from fedrad.exchange import clocks
from fedrad.exchange.signed_request import HEADER
from fedrad.flower.internals import create_app
from fedrad.flower.request_signing import _log_refusal
from fedrad.system.release import release

ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)


@pytest.fixture(scope="module")
def flower():
    return create_app()


# What is reached


def test_of_all_that_flower_serves_hospitals_reach_the_nodes_requests_and_health(flower, members):
    """Whatever routes Flower gets: those that are let through are named here."""
    reached = set()
    for path, methods in flower.openapi()["paths"].items():
        for method in methods:
            request = httpx.Request(method.upper(), f"https://here{path}")
            if status(Gate(flower, members), request) != 404:
                reached.add(path)
    assert reached == {"/health"} | {
        f"/v1/fleet/{name}"
        for name in (
            "activate-node",
            "deactivate-node",
            "send-node-heartbeat",
            "pull-messages",
            "push-messages",
            "get-run",
            "get-fab",
            "pull-object",
            "push-object",
            "confirm-message-received",
        )
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/start-run"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", "/health"),
        ("GET", "/v1/fleet/pull-messages"),
        ("POST", "//v1/fleet/x"),
        ("POST", "/v1/fleet/%2e%2e/control/start-run"),
        ("POST", "/v1/fleet/../control/start-run"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/pull%2dmessages"),
        ("POST", "/v1/fleet/pull-messages?x=1"),
    ],
)
def test_everything_else_is_not_there(flower, members, method, path):
    request = httpx.Request(method, f"https://here{path}")
    assert status(Gate(flower, members), request) == 404
    start = httpx.Request("POST", "https://here/v1/control/start-run")
    assert status(flower, start) != 404, "without the gate it is"


# Signatures


def test_a_signed_request_is_passed_on_once_and_as_it_was_signed(gate, behind, hospital):
    request = hospital.request(PULL, BODY)
    assert status(gate, request) == 200
    assert behind.passed == [(PULL, BODY.SerializeToString())]
    again = send(gate, request)
    assert (again.status_code, again.text) == (401, "this request was sent before\n")
    assert len(behind.passed) == 1


def test_the_twin_of_a_signature_is_a_replay(gate, behind, hospital):
    request = hospital.request(PULL, BODY)
    assert status(gate, request) == 200
    for header in (HEADER, "flwr-signature"):
        fields, separator, signature = request.headers[header].rpartition(";")
        r, s = decode_dss_signature(b64decode(signature))
        twin = b64encode(encode_dss_signature(r, ORDER - s)).decode()
        request.headers[header] = f"{fields}{separator}{twin}"
        assert status(gate, request) == 401
    assert len(behind.passed) == 1


def test_a_signature_is_for_one_path_and_one_body(gate, behind, hospital):
    request = hospital.request(PULL, BODY)
    elsewhere = httpx.Request(
        "POST", f"https://coordinator{PUSH}", headers=request.headers, content=request.content
    )
    assert status(gate, elsewhere) == 401
    changed = bytes([request.content[0], request.content[1] ^ 1])
    other = httpx.Request("POST", request.url, headers=request.headers, content=changed)
    assert status(gate, other) == 400
    longer = httpx.Request("POST", request.url, content=request.content + b"x")
    longer.headers[HEADER] = request.headers[HEADER]
    assert status(gate, longer) == 400
    assert behind.passed == []


def test_a_request_that_was_refused_is_not_remembered(gate, hospital):
    """Else whoever sees a request could use it up."""
    request = hospital.request(PULL, BODY)
    elsewhere = httpx.Request("POST", f"https://coordinator{PUSH}", headers=request.headers)
    for _ in range(100):
        assert status(gate, elsewhere) in {400, 401}
    assert gate._nonces._of == {}
    assert status(gate, request) == 200


def test_only_keys_of_members_are_let_in(gate, behind, hospital, members):
    stranger = Hospital("hospital-b", ec.derive_private_key(8, ec.SECP384R1()), node=5)
    answer = send(gate, stranger.request(PULL, BODY))
    assert (answer.status_code, answer.text) == (401, "no site with this key is admitted\n")
    unsigned = hospital.request(PULL, BODY)
    del unsigned.headers[HEADER]
    assert "no signature of fedrad" in send(gate, unsigned).text
    assert behind.passed == []
    listed = admitted(hospital, stranger)
    listed.sites[0].status = "revoked"
    members.write_text(listed.model_dump_json())
    assert status(gate, hospital.request(PULL, BODY)) == 401, "revoked: at once"
    assert status(gate, stranger.request(PULL, BODY)) == 200


def test_without_a_list_of_members_nobody_is_let_in(gate, hospital, members, caplog):
    whole = members.read_text()
    members.write_text(whole[:50])
    for _ in range(3):
        assert status(gate, hospital.request(PULL, BODY)) == 503, "nodes try again"
    assert len([m for m in caplog.messages if "nobody is let in until this is mended" in m]) == 1
    members.write_text(whole)
    assert status(gate, hospital.request(PULL, BODY)) == 200


def test_a_hospital_that_is_revoked_while_its_request_comes_is_not_let_in(
    gate, behind, hospital, members
):
    request = hospital.request(PULL, BODY)
    content = request.content

    async def slow():
        yield content[:1]
        listed = admitted(hospital)
        listed.sites[0].status = "revoked"
        members.write_text(listed.model_dump_json())
        yield content[1:]

    slowly = httpx.Request("POST", request.url, headers=request.headers, content=slow())
    assert status(gate, slowly) == 401
    assert behind.passed == []


def test_nonces_are_kept_as_long_as_their_requests_are_accepted_and_of_members_only(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gate_limits.time, "monotonic", lambda: now[0])
    nonces = gate_limits.Nonces()
    for number in range(100):
        now[0] = 10.0 * number
        assert nonces.is_new("a", str(number))
    kept = 1 + (gate_limits.FRESH_SECONDS + gate_limits.AHEAD_SECONDS) // 10
    assert len(nonces._of["a"]) == kept
    monkeypatch.setattr(gate_limits, "NONCES_OF_ONE", kept)
    with pytest.raises(gate_limits.TooManyError):
        nonces.is_new("a", "one more")
    assert nonces.is_new("b", "one more"), "the others go on"
    nonces.keep({"b"})
    assert set(nonces._of) == {"b"}


# Clocks


@pytest.mark.parametrize(("clock", "away"), [(-10_920, "3 h 2 min behind"), (3630, "1 h ahead of")])
def test_a_wrong_clock_is_named_on_both_sides(gate, behind, hospital, caplog, clock, away):
    """Nobody knows which of the two is wrong."""
    caplog.set_level(logging.WARNING, "fedrad.gate")
    gate._started -= 1000
    for _ in range(3):
        answer = send(gate, hospital.request(PULL, BODY, clock=clock))
        assert answer.status_code == 401
        assert abs(float(answer.headers[clocks.DIFFERENCE_HEADER]) - clock) < 15
        assert f"this machine's clock is {away} the coordinator's" in answer.text
    (said,) = [m for m in caplog.messages if "its clock" in m]
    assert said.startswith(f"hospital-a: its clock is {away} this machine's")
    assert behind.passed == []
    assert status(gate, hospital.request(PULL, BODY, clock=-200)) == 200, "Flower takes it too"
    send(gate, hospital.request(PULL, BODY, clock=clock))
    assert len([m for m in caplog.messages if "its clock" in m]) == 2, "wrong again"


def test_the_nodes_log_says_by_how_much_the_clock_is_wrong(gate, hospital, caplog):
    _log_refusal(send(gate, hospital.request(PULL, BODY, clock=-10_920)))
    level, words = event(caplog.messages[-1])
    assert level == logging.ERROR
    assert words.startswith("this machine's clock is 3 h 2 min behind the coordinator's. One of")
    stranger = Hospital("b", ec.derive_private_key(8, ec.SECP384R1()))
    _log_refusal(send(gate, stranger.request(PULL, BODY)))
    assert caplog.messages[-1] == "401 Unauthorized: no site with this key is admitted"
    assert "does not let this node in" in event(caplog.messages[-1])[1]


def test_what_was_signed_before_the_gate_started_is_signed_again(gate, behind, hospital):
    """Which of these it has passed on, an earlier gate knew."""
    gate._started += 60
    assert status(gate, hospital.request(PULL, BODY)) == 503, "nodes try again"
    assert behind.passed == []


# What is told


def test_the_file_says_when_a_hospital_was_heard_with_which_release_and_clock(
    gate, hospital, tmp_path, monkeypatch
):
    monkeypatch.setattr(seen, "WRITE_SECONDS", 0.0)

    def told():
        end = time.monotonic() + 10
        while not read_seen(tmp_path).sites and time.monotonic() < end:
            time.sleep(0.01)
        return read_seen(tmp_path).sites["hospital-a"]

    send(gate, hospital.request(PULL, BODY))
    one = told()
    assert one.release == release()
    assert abs(one.clock) < 15
    file = tmp_path / "seen.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(file.read_text())["sites"]) == {"hospital-a"}


def test_a_gate_that_cannot_write_its_file_lets_hospitals_in(behind, members, hospital, tmp_path):
    nowhere = Gate(behind, members, SeenFile(tmp_path / "nowhere"))
    assert status(nowhere, hospital.request(PULL, BODY)) == 200


def test_a_node_gets_no_part_of_an_answer_before_the_gate_has_noted_it(members, hospital):
    """Flower sends the end of an answer by itself; a node asks for objects before that."""
    answer = PullMessagesResponse(message_object_trees=[ObjectTree(object_id="question")])
    noted: list[bool] = []

    async def flower(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = answer.SerializeToString()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    gate = Gate(flower, members)
    request = hospital.request(PULL, BODY)
    body = iter([{"type": "http.request", "body": request.content, "more_body": False}])

    async def receive():
        return next(body)

    async def note(message) -> None:
        noted.append("question" in gate._fleet._of(5).objects)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PULL,
        "query_string": b"",
        "headers": [(k.lower(), v) for k, v in request.headers.raw],
    }
    asyncio.run(gate(scope, receive, note))
    assert noted == [True, True]
