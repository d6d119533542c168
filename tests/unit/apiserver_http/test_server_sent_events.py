"""Reads below objects as Server-Sent Events: frames, going on after a reconnect, silence, refusals."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import orjson
import pytest

from kastra.api.errors import Conflict
from kastra.apiserver.http.sse import QUIET
from kastra.apiserver.subresources import ConnectorRegistry, ConnectRequest

from .conftest import WIDGETS_PATH, Server, serve, widget

ITEM = f"{WIDGETS_PATH}/a"
KIND = "widgets.example.com"
SSE = "text/event-stream"
RECORDS: list[dict[str, Any]] = [
    {"type": "run.started", "seq": 1},
    {"type": "step.output.delta", "id": "1.1", "data": {"text": "two\nlines"}},
    {"type": "step.output.delta", "id": "1.2"},
    {"type": "run.completed", "seq": 2},
]


def at(record: Mapping[str, Any]) -> tuple[int, int]:
    seq, _, part = str(record.get("seq") or record["id"]).partition(".")
    return int(seq), int(part or 0)


async def events(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    since = (request.since or 0, (request.body or {}).get("part", 0))
    for record in RECORDS:
        if at(record) > since:
            yield record


async def silent(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    await anyio.sleep_forever()
    yield {}


async def failing(request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    yield {"seq": 1}
    raise Conflict("it has been deleted")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    connectors = ConnectorRegistry()
    for name, factory in (("events", events), ("silent", silent), ("failing", failing)):
        connectors.register(KIND, name, factory)
    async with serve(connectors) as running:
        await running.client.create(widget("a"))
        yield running


def frames(body: bytes) -> list[dict[str, str]]:
    """The fields of each event, as a client takes them apart."""
    assert body.endswith(b"\n\n") or not body
    return [
        dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
        for frame in body.decode().split("\n\n")
        if frame and not frame.startswith(":")
    ]


async def test_each_record_is_an_event_with_its_id_its_type_and_its_data_on_one_line(server: Server) -> None:
    reply = await server.request("GET", f"{ITEM}/events", accept=SSE)
    assert (reply.status, reply.header("content-type"), reply.complete) == (200, SSE, True)
    found = frames(reply.body)
    assert [(frame["id"], frame["event"]) for frame in found] == [
        ("1", "run.started"),
        ("1.1", "step.output.delta"),
        ("1.2", "step.output.delta"),
        ("2", "run.completed"),
    ]
    assert [orjson.loads(frame["data"]) for frame in found] == RECORDS


@pytest.mark.parametrize("index", range(len(RECORDS)))
async def test_a_client_that_was_cut_off_at_any_event_goes_on_after_it(server: Server, index: int) -> None:
    last = str(RECORDS[index].get("seq") or RECORDS[index]["id"])
    headers = {"last-event-id": last}
    # A browser asks for the same address again; what it has seen counts more than what stands there.
    reply = await server.request("GET", f"{ITEM}/events?since=0", accept=SSE, headers=headers)
    assert [orjson.loads(frame["data"]) for frame in frames(reply.body)] == RECORDS[index + 1 :]


async def test_the_query_says_where_to_begin_in_both_forms_of_answer(server: Server) -> None:
    reply = await server.request("GET", f"{ITEM}/events?since=1&part=1", accept=SSE)
    assert [frame["id"] for frame in frames(reply.body)] == ["1.2", "2"]
    assert (await server.request("GET", f"{ITEM}/events?since=1&part=2")).lines == [RECORDS[3]]


@pytest.mark.parametrize("last", ["x", "1.x", "-1", "1.", "9" * 40, "1 2"])
async def test_what_is_no_id_is_refused(server: Server, last: str) -> None:
    reply = await server.request("GET", f"{ITEM}/events", accept=SSE, headers={"last-event-id": last})
    assert (reply.status, reply.json["reason"]) == (400, "BadRequest")
    assert "must be the id of an event" in reply.json["message"]


async def test_the_head_comes_at_once_and_a_silence_is_filled_with_comments(server: Server) -> None:
    async with server.stream(f"{ITEM}/silent", accept=SSE) as exchange:
        await exchange.until_started()
        await server.clock.advance(2 * QUIET + 1)
    assert exchange.reply.status == 200
    assert exchange.reply.body == b": nothing new\n\n" * 2


async def test_what_goes_wrong_on_the_way_is_the_last_event(server: Server) -> None:
    reply = await server.request("GET", f"{ITEM}/failing", accept=SSE)
    first, last = frames(reply.body)
    assert (first["id"], last["event"]) == ("1", "error")
    assert orjson.loads(last["data"])["object"]["message"] == "it has been deleted"


async def test_who_may_not_read_is_told_so_as_everywhere(server: Server) -> None:
    for accept in (SSE, "application/json"):
        assert (await server.request("GET", f"{ITEM}/events", accept=accept, token=None)).status in (401, 403)


async def test_a_client_that_prefers_it_among_others_gets_it(server: Server) -> None:
    for accept, kind in (
        ("text/event-stream, */*;q=0.1", SSE),
        ("application/json", "application/json"),
        ("text/event-stream;q=0, application/json", "application/json"),
    ):
        reply = await server.request("GET", f"{ITEM}/events", accept=accept)
        assert reply.header("content-type") == kind
