"""Streams and actions below objects, and what becomes of defects."""

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from kastra.api.errors import BadRequest
from kastra.apiserver.subresources import ConnectorRegistry, ConnectRequest

from .conftest import WIDGETS_PATH, Server, serve, widget

ITEM = f"{WIDGETS_PATH}/a"
KIND = "widgets.example.com"


async def records(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    """Records 1 to 3 after `since`."""
    for seq in range((request.since or 0) + 1, 4):
        yield {"seq": seq}


async def action(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    """Echoes; refuses a body without `input`."""
    if not request.body or "input" not in request.body:
        raise BadRequest("the body needs input")
    yield {"echo": request.body["input"], "by": request.user.name}


def broken(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    raise ZeroDivisionError("a secret detail")


async def breaking(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    yield {"seq": 1}
    raise ZeroDivisionError("a secret detail")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    connectors = ConnectorRegistry()
    connectors.register(KIND, "records", records)
    connectors.register(KIND, "broken", broken)
    connectors.register(KIND, "breaking", breaking)
    connectors.register(KIND, "echo", action, verb="create")
    async with serve(connectors) as running:
        await running.client.create(widget("a"))
        yield running


async def test_a_stream_is_a_line_per_record_from_where_one_stopped(server: Server) -> None:
    reply = await server.request("GET", f"{ITEM}/records")
    assert (reply.status, reply.complete, reply.lines) == (200, True, [{"seq": 1}, {"seq": 2}, {"seq": 3}])
    assert (await server.request("GET", f"{ITEM}/records?since=2")).lines == [{"seq": 3}]


async def test_an_action_takes_a_body_and_answers(server: Server) -> None:
    reply = await server.request("POST", f"{ITEM}/echo", {"input": "x"})
    assert reply.lines == [{"echo": "x", "by": "admin"}]


async def test_what_an_action_refuses_is_a_status(server: Server) -> None:
    reply = await server.request("POST", f"{ITEM}/echo", {})
    assert (reply.status, reply.json["message"]) == (400, "the body needs input")


async def test_each_has_its_own_method(server: Server) -> None:
    assert (await server.request("POST", f"{ITEM}/records", {})).status == 405
    assert (await server.request("GET", f"{ITEM}/echo")).status == 405
    assert (await server.request("GET", f"{ITEM}/other")).status == 404
    assert (await server.request("GET", f"{WIDGETS_PATH}/missing/records")).status == 404


async def test_they_are_discovered(server: Server) -> None:
    rows = (await server.request("GET", "/apis/example.com/v1")).json["resources"]
    verbs = {row["name"]: row["verbs"] for row in rows}
    assert (verbs["widgets/records"], verbs["widgets/echo"]) == (["get"], ["create"])


async def test_a_defect_is_a_500_that_names_the_request_and_nothing_else(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        reply = await server.request("GET", f"{ITEM}/broken", headers={"audit-id": "the-id"})
    assert (reply.status, reply.json["reason"]) == (500, "InternalError")
    assert "the-id" in reply.json["message"]
    assert b"secret detail" not in reply.body
    assert "ZeroDivisionError" in caplog.text


async def test_a_defect_in_a_stream_cuts_it_so_that_nobody_takes_it_for_whole(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        reply = await server.request("GET", f"{ITEM}/breaking")
    assert (reply.status, reply.complete, reply.lines) == (200, False, [{"seq": 1}])
    assert "ZeroDivisionError" in caplog.text


async def test_every_request_leaves_an_audit_line(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="kastra.audit"):
        await server.request("DELETE", f"{WIDGETS_PATH}/nope")
    (record,) = caplog.records
    told = {key: getattr(record, key) for key in ("user", "verb", "path", "code")}
    assert told == {"user": "admin", "verb": "delete", "path": f"{WIDGETS_PATH}/nope", "code": 404}
