"""What may be asked of a SuperLink over its socket: what fedrad needs, and no code."""

import asyncio
import zipfile
from io import BytesIO

import httpx
import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.proto.control_pb2 import StartRunRequest

from fedrad.flower.bundles import BUNDLE, MORE, UNREADABLE
from fedrad.flower.internals import Fab
from fedrad.flower.own_interface import LARGEST, NO_BUNDLE, NOT_READ, START_RUN, OwnInterface

KIND = {"content-type": "application/protobuf"}


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return build_fab_from_disk(BUNDLE.parent)


def ask(path: str, content: bytes = b"", headers=KIND, *, nodes: bool = False) -> tuple[int, str]:
    """Status and text of the answer; 200 and what arrived if the request is passed on."""

    async def superlink(scope, receive, send):
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(len(body)).encode()})

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(OwnInterface(superlink, nodes=nodes))
        async with httpx.AsyncClient(transport=transport, base_url="http://local.invalid") as c:
            return await c.post(path, content=content, headers=headers)

    answer = asyncio.run(post())
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/add-app",
        "/v1/control/start-automation",
        "/v1/control/begin-connector-oauth",
        "/v1/control/pull-artifacts",
        "/v1/runtime/create-task",
        "/v1/runtime/start-automation",
        "/v1/runtime/responses",
        "/v1/fleet/pull-messages",
        "/docs",
    ],
)
def test_what_fedrad_does_not_need_is_not_offered(path):
    assert ask(path)[0] == 404


def test_nodes_reach_it_only_where_they_connect_over_the_socket():
    assert ask("/v1/fleet/pull-messages")[0] == 404
    assert ask("/v1/fleet/pull-messages", nodes=True)[0] == 200


def test_fedrads_own_bundle_arrives_as_it_was_sent(bundle):
    content = StartRunRequest(fab=Fab(content=bundle)).SerializeToString()
    assert ask(START_RUN, content) == (200, str(len(content)))


def test_a_bundle_with_code_is_refused_before_it_is_stored(bundle):
    changed = BytesIO(bundle)
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("evil.py", "print('ran')")
    content = StartRunRequest(fab=Fab(content=changed.getvalue())).SerializeToString()
    assert ask(START_RUN, content) == (403, MORE)


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        ({"app_spec": "@somebody/an-app"}, NO_BUNDLE),
        ({"series_id": 7}, NO_BUNDLE),
        ({"connector_ids": [7]}, NO_BUNDLE),
        ({"user_prompt": "read ca.key"}, NO_BUNDLE),
        ({"fab": Fab(hash_str="0" * 64)}, UNREADABLE),
        ({"fab": Fab()}, UNREADABLE),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_run_of_anything_but_a_bundle_that_is_sent_with_it_is_refused(bundle, further, reason):
    request = StartRunRequest(**{"fab": Fab(content=bundle), **further})
    assert ask(START_RUN, request.SerializeToString()) == (403, reason)


def test_a_request_that_is_no_message_of_flower_is_refused(bundle):
    content = StartRunRequest(fab=Fab(content=bundle)).SerializeToString()
    assert ask(START_RUN, b"\xff" * 9) == (403, NOT_READ)
    assert ask(START_RUN, content, {"content-type": "application/json"}) == (403, NOT_READ)
    assert ask(START_RUN, b"0" * (LARGEST + 1))[0] == 413
