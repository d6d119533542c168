"""The events of a Run are one sequence: whoever is cut off, wherever that is, goes on without a gap and without a repetition."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import pytest

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.following import follow_events
from kastra.app.streams import RunEvents
from kastra.client.transport import Unreachable
from kastra.engine.events import LAST, cursor, event_of, id_of
from kastra.engine.history import History
from kastra.engine.step import Effect
from tests.unit.engine.harness import Engine, engine, tool

SPEC = {"steps": [tool("talk"), {"id": "nap", "sleep": {"duration": "1m"}}, tool("talk2", "talk"), tool("end")]}


async def talk(value: Any, effect: Effect) -> Any:
    for word in ("one", "two", "three"):
        effect.emit({"type": "text", "text": word})
        await anyio.lowlevel.checkpoint()
    return "done"


def events_of(running: Engine) -> RunEvents:
    return RunEvents(History(running.writer.query), running.bus, running.clock)


async def durable(running: Engine, uid: str) -> list[Mapping[str, Any]]:
    """What the journal says, once the Run has ended."""
    history = History(running.writer.query)
    row = await history.run(uid)
    assert row is not None
    return [event for record in await history.records(row.id) if (event := event_of(record)) is not None]


async def read(running: Engine, uid: str, cut_after: int | None) -> list[Mapping[str, Any]]:
    """All events of a Run, read by someone whose connection is cut after every `cut_after` events."""
    source, found, at = events_of(running), list[Mapping[str, Any]](), "0"
    while not found or found[-1]["type"] not in LAST:
        stream = source.follow(uid, *cursor(at))
        count = 0
        async for event in stream:
            found.append(event)
            at = id_of(event)
            count += 1
            if count == cut_after:
                break
        await stream.aclose()  # type: ignore[attr-defined]
    return found


async def run_while_read(running: Engine, cut_after: int | None, uid: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []

    async def follow() -> None:
        found.extend(await read(running, uid, cut_after))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await running.settle()
        await running.run(SPEC, uid=uid)
    return found


@pytest.mark.parametrize("cut_after", [None, 1, 2, 3, 5, 7])
async def test_a_reader_who_is_cut_off_again_and_again_sees_each_event_once_and_in_order(cut_after: int | None) -> None:
    async with engine({"talk": talk}) as running:
        found = await run_while_read(running, cut_after, "r")
        lasting = await durable(running, "r")
        assert [event for event in found if "seq" in event] == lasting
        words = [event["data"]["text"] for event in found if event["type"] == "step.output.delta"]
        assert words == ["one", "two", "three"] * 2
        positions = [cursor(id_of(event)) for event in found]
        assert positions == sorted(set(positions))


async def test_a_reader_may_begin_at_any_event_of_a_run_that_has_ended() -> None:
    async with engine({"talk": talk}) as running:
        await running.run(SPEC, uid="r")
        lasting = await durable(running, "r")
        for index, event in enumerate(lasting):
            rest = [later async for later in events_of(running).follow("r", event["seq"])]
            assert rest == lasting[index + 1 :]


async def test_a_reader_who_comes_late_hears_of_what_is_under_way_as_far_as_it_is_remembered() -> None:
    async with engine({"talk": talk}) as running:
        found = await run_while_read(running, None, "r")
        again = await read(running, "r", None)
        assert [id_of(event) for event in again] == [id_of(event) for event in found]


async def test_a_slow_reader_is_not_waited_for_and_still_misses_no_durable_event() -> None:
    async def chatter(value: Any, effect: Effect) -> Any:
        for number in range(3000):
            effect.emit({"n": number})
        return "done"

    async with engine({"talk": chatter}) as running:
        source = events_of(running)
        stream = source.follow("r")
        first: list[Mapping[str, Any]] = []

        async def begin() -> None:
            first.append(await anext(stream))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin)
            await running.settle()
            await running.run(SPEC, uid="r")
        rest = [event async for event in stream]
        assert [event for event in (*first, *rest) if "seq" in event] == await durable(running, "r")
        deltas = [event for event in rest if event["type"] == "step.output.delta"]
        assert len(deltas) < 3000


async def test_while_nobody_listens_nothing_ephemeral_is_kept() -> None:
    async with engine({"talk": talk}) as running:
        await running.run(SPEC, uid="r")
        assert running.bus.floor("run/r") is None


async def test_a_step_that_a_crash_interrupted_is_told_to_begin_again(tmp_path: Any) -> None:
    path, hanging = str(tmp_path / "k.db"), anyio.Event()

    async def hang(value: Any, effect: Effect) -> Any:
        hanging.set()
        await anyio.sleep_forever()

    async with engine({"end": hang}, path=path) as running:
        running.submit({"steps": [tool("end")]}, uid="r")
        await hanging.wait()
    async with engine(path=path) as running:
        await running.ended("r")
        reset = [event for event in await durable(running, "r") if event["type"] == "step.reset"]
        assert [(event["key"], event["attempt"]) for event in reset] == [("end", 2)]


@pytest.mark.parametrize("text", ["", "x", "1.", "1.x", "-1", "1.2.3", "9" * 40, "１"])
def test_what_is_no_id_of_an_event_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no id of an event"):
        cursor(text)


class Cutting:
    """A client whose connection breaks after each event, once cleanly, once not."""

    def __init__(self, source: RunEvents) -> None:
        self._source = source
        self.connections = 0

    async def connect(
        self, ref: ObjectRef, subresource: str, body: Mapping[str, Any] | None = None, since: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        body = body or {}
        wait = body.get("follow") is not False
        self.connections += wait
        async for event in self._source.follow(ref.name, since or 0, body.get("part") or 0, wait=wait):
            yield event
            if wait:
                break
        if wait and self.connections % 2:
            raise Unreachable("the server hung up")

    async def get(self, ref: ObjectRef, *, subresource: str = "") -> Object:
        return Object.of({"metadata": {"name": ref.name}})


async def test_whoever_follows_goes_on_by_itself_after_every_broken_connection() -> None:
    async with engine({"talk": talk}) as running:
        client, found = Cutting(events_of(running)), list[Mapping[str, Any]]()

        async def follow() -> None:
            async for event in follow_events(client, ObjectRef("runs", "r", "default"), clock=running.clock):  # type: ignore[arg-type]
                found.append(event)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await running.settle()
            await running.run(SPEC, uid="r")
            while not found or found[-1]["type"] not in LAST:
                await running.pass_time(running.clock)  # type: ignore[arg-type]
        assert [event for event in found if "seq" in event] == await durable(running, "r")
        assert client.connections >= len(found)
