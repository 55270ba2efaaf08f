"""What a gate takes of one request, and of all requests of one hospital at once."""

import asyncio
import time

import httpx
import pytest
from support.gate import BODY, PULL, send, status

from fedrad.deploy.coordinator import gate_limits
from fedrad.exchange.signed_request import HEADER
from fedrad.flower.fleet import LARGEST_BODY


@pytest.mark.parametrize(
    "name", [HEADER, "flwr-signature", "flwr-public-key", "content-length", "host", "content-type"]
)
def test_a_header_that_is_there_twice_is_refused(gate, behind, hospital, name):
    request = hospital.request(PULL, BODY)
    twice = [*request.headers.multi_items(), (name.upper(), request.headers[name])]
    doubled = httpx.Request("POST", request.url, headers=twice, content=request.content)
    answer = send(gate, doubled)
    assert (answer.status_code, answer.text) == (400, "a header is there twice\n")
    assert behind.passed == []


def test_headers_are_few_and_small(gate, hospital):
    many = hospital.request(PULL, BODY)
    many.headers.update({f"x-{number}": "" for number in range(40)})
    assert status(gate, many) == 431
    large = hospital.request(PULL, BODY)
    large.headers["x"] = "x" * 16_384
    assert status(gate, large) == 431


@pytest.mark.parametrize("path", LARGEST_BODY)
def test_each_request_has_its_largest_body(gate, behind, hospital, path):
    body = bytes(LARGEST_BODY[path] + 1)
    assert status(gate, hospital.request(path, body)) == 413
    assert status(gate, hospital.request(path, body[1:])) in {400, 403}, "and is read"
    assert behind.passed == []


def test_a_body_without_a_stated_length_is_refused(gate, hospital):
    request = hospital.request(PULL, BODY)

    async def parts():
        yield request.content

    headers = {k: v for k, v in request.headers.items() if k != "content-length"}
    assert status(gate, httpx.Request("POST", request.url, headers=headers, content=parts())) == 411


def post(app, request: httpx.Request, receive) -> int:
    """The status of the answer to a request whose body comes from `receive`."""
    started: list[int] = []

    async def note(message) -> None:
        if message["type"] == "http.response.start":
            started.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": request.url.path,
        "raw_path": request.url.path.encode(),
        "query_string": b"",
        "headers": [(k.lower(), v) for k, v in request.headers.raw],
    }
    asyncio.run(app(scope, receive, note))
    return started[0]


def test_a_body_that_does_not_come_is_waited_for_as_long_as_it_makes_progress(
    gate, behind, hospital, monkeypatch
):
    monkeypatch.setattr(gate_limits, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(gate_limits, "SLOWEST", 1000)
    path = "/v1/fleet/send-node-heartbeat"
    request = hospital.request(path, bytes(2000))

    async def never():
        await asyncio.sleep(60)

    async def drop():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"\0", "more_body": True}

    for receive in (never, drop):
        began = time.monotonic()
        assert post(gate, hospital.request(path, bytes(2000)), receive) == 408
        assert time.monotonic() - began < 2
    left = [bytes(100)] * 20

    async def slow_and_steady():
        await asyncio.sleep(0.03)
        part = left.pop()
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    assert post(gate, request, slow_and_steady) == 403, "all of it came; it is no heartbeat"


def test_bodies_of_one_hospital_leave_room_for_the_others(gate, hospital, monkeypatch):
    monkeypatch.setattr(gate_limits, "WAIT_SECONDS", 0.1)

    async def waits() -> list[str]:
        bodies, said = gate_limits.Bodies(), []

        async def take(key: str, size: int, seconds: float) -> None:
            try:
                async with bodies.room(key, size):
                    await asyncio.sleep(seconds)
                    said.append(f"{key} had room")
            except gate_limits.NoRoomError:
                said.append(f"{key} must try again")

        most = gate_limits.BODIES_OF_ONE
        await asyncio.gather(take("a", most, 0.3), take("a", 1, 0), take("b", most, 0))
        await asyncio.gather(take("a", most, 0.05), take("a", most, 0))
        assert bodies._of.total() == 0
        return said

    assert asyncio.run(waits()) == [
        "b had room",
        "a must try again",
        "a had room",
        "a had room",
        "a had room",
    ]
