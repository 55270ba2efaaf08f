"""The part of the SuperLink that hospitals reach, with Flower's own app."""

import asyncio

import httpx
import pytest

from fedrad.deploy.coordinator import gate
from fedrad.deploy.coordinator.gate import Gate
from fedrad.flower.internals import create_app
from fedrad.flower.signatures import FRESH_SECONDS, HEADER


@pytest.fixture(scope="module")
def flower():
    return create_app()


def answers(app, method: str, path: str, **given) -> int:
    async def ask() -> int:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://here") as client:
            return (await client.request(method, path, **given)).status_code

    return asyncio.run(ask())


def test_of_all_that_flower_serves_hospitals_reach_the_nodes_requests_and_health(flower):
    """Whatever routes Flower gets: those that are let through are named here."""
    reached = set()
    for path, methods in flower.openapi()["paths"].items():
        for method in methods:
            if answers(Gate(flower), method.upper(), path) != 404:
                reached.add(path)
    assert reached == {"/health"} | {
        f"/v1/fleet/{name}"
        for name in (
            "register-node",
            "activate-node",
            "deactivate-node",
            "unregister-node",
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
    ],
)
def test_everything_else_is_not_there(flower, method, path):
    assert answers(Gate(flower), method, path) in {404, 415}
    assert answers(flower, "POST", "/v1/control/start-run") != 404, "without the gate it is"


def passed(seen: list):
    async def app(scope, receive, send) -> None:
        message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def test_a_signature_is_taken_once(monkeypatch):
    seen = []
    behind = Gate(passed(seen))
    signed = {"headers": {HEADER.decode(): "abc"}}
    assert answers(behind, "POST", "/v1/fleet/pull-messages", **signed) == 200
    assert answers(behind, "POST", "/v1/fleet/pull-messages", **signed) == 401
    assert answers(behind, "POST", "/v1/fleet/push-messages", **signed) == 401
    other = {"headers": {HEADER.decode(): "abd"}}
    assert answers(behind, "POST", "/v1/fleet/pull-messages", **other) == 200
    assert seen == ["/v1/fleet/pull-messages"] * 2


def test_what_flower_would_not_take_for_fresh_any_more_is_forgotten(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gate.time, "monotonic", lambda: now[0])
    behind = Gate(passed([]))
    for number in range(100):
        now[0] = 10.0 * number
        signed = {HEADER.decode(): str(number)}
        assert answers(behind, "POST", "/v1/fleet/x", headers=signed) == 200
    assert len(behind._seen) == 1 + FRESH_SECONDS // 10


def test_a_request_above_the_limit_is_refused_stated_or_not(monkeypatch):
    monkeypatch.setattr(gate, "LARGEST", 1000)
    seen = []
    behind = Gate(passed(seen))

    async def parts():
        for _ in range(20):
            yield b"x" * 100

    assert answers(behind, "POST", "/v1/fleet/x", content=b"x" * 1000) == 200
    assert answers(behind, "POST", "/v1/fleet/x", content=b"x" * 1001) == 413
    assert answers(behind, "POST", "/v1/fleet/x", content=parts()) == 413
    assert len(seen) == 1
