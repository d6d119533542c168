"""The Recorder writes Events without making anyone wait: aggregated, limited per object, and free of secrets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from kastra.api.errors import ServiceUnavailable
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.runtime.recorder import Recorder
from kastra.telemetry import Metrics, register_secret
from kastra.testing.clock import VirtualClock

from .memory import MemoryClient, manifest


def thing(name: str = "t") -> Object:
    return Object.of(manifest("Tool", name, "kitchen", uid=f"uid-of-{name}"))


@asynccontextmanager
async def running(recorder: Recorder) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recorder.run)
        yield
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def events(client: MemoryClient) -> list[Any]:
    return [obj.data for obj in (await client.list("events")).items]


async def test_an_event_stands_beside_its_object_and_points_at_it() -> None:
    client, clock = MemoryClient(), VirtualClock()
    recorder = Recorder(client, clock, "kastra", Metrics())
    async with running(recorder):
        recorder.event(thing(), "Warning", "Unreachable", "no route")
    (event,) = await events(client)
    assert event["metadata"]["namespace"] == "kitchen"
    assert event["metadata"]["name"].startswith("t.")
    assert event["involvedObject"]["kind"] == "Tool"
    assert event["involvedObject"]["uid"] == "uid-of-t"
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "Unreachable", "no route")
    assert (event["count"], event["lastTimestamp"]) == (1, "2026-01-01T00:00:00Z")


async def test_the_same_again_raises_the_count_of_the_event_that_is_there() -> None:
    client, clock = MemoryClient(), VirtualClock()
    recorder = Recorder(client, clock, "kastra", Metrics())
    async with running(recorder):
        recorder.event(thing(), "Normal", "Pulled", "ok")
        await anyio.wait_all_tasks_blocked()
        await clock.advance(60)
        for _ in range(3):
            recorder.event(thing(), "Normal", "Pulled", "ok")
        await anyio.wait_all_tasks_blocked()
        recorder.event(thing(), "Normal", "Pulled", "differently")
    found = sorted(await events(client), key=lambda e: e["message"])
    assert [(e["message"], e["count"]) for e in found] == [("differently", 1), ("ok", 4)]
    assert (found[1]["firstTimestamp"], found[1]["lastTimestamp"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z")
    assert client.calls["patch", "Event"] == 1


async def test_an_event_that_has_expired_on_the_server_is_written_anew() -> None:
    client, clock = MemoryClient(), VirtualClock()
    recorder = Recorder(client, clock, "kastra", Metrics())
    async with running(recorder):
        recorder.event(thing(), "Normal", "Pulled", "ok")
        await anyio.wait_all_tasks_blocked()
        (event,) = await events(client)
        await client.delete(ObjectRef("events", event["metadata"]["name"], "kitchen"))
        await clock.advance(3600)
        recorder.event(thing(), "Normal", "Pulled", "ok")
    (event,) = await events(client)
    assert (event["count"], event["firstTimestamp"]) == (1, "2026-01-01T01:00:00Z")


async def test_a_noisy_object_loses_events_and_others_do_not() -> None:
    client, metrics = MemoryClient(), Metrics()
    recorder = Recorder(client, VirtualClock(), "kastra", metrics, burst=5)
    async with running(recorder):
        for number in range(50):
            recorder.event(thing("noisy"), "Normal", "Tick", f"{number}")
        recorder.event(thing("quiet"), "Normal", "Tick", "once")
    about = [e["involvedObject"]["name"] for e in await events(client)]
    assert (about.count("noisy"), about.count("quiet")) == (5, 1)
    assert metrics.counter("kastra_events_total", "").value("limited") == 45


async def test_a_failing_server_is_nobodys_problem(caplog: pytest.LogCaptureFixture) -> None:
    client, metrics = MemoryClient(), Metrics()
    client.fail["create"] = [ServiceUnavailable("down")]
    recorder = Recorder(client, VirtualClock(), "kastra", metrics)
    async with running(recorder):
        recorder.event(thing(), "Normal", "A", "lost")
        recorder.event(thing(), "Normal", "B", "kept")
    assert [e["reason"] for e in await events(client)] == ["B"]
    assert "could not write Event A of t: down" in caplog.text
    assert recorder.idle


async def test_secrets_do_not_get_into_events_and_long_messages_are_cut() -> None:
    client = MemoryClient()
    register_secret("correct-horse-battery")
    recorder = Recorder(client, VirtualClock(), "kastra", Metrics())
    async with running(recorder):
        recorder.event(thing(), "Warning", "Refused", "key correct-horse-battery was refused" + "!" * 5000)
    (event,) = await events(client)
    assert event["message"].startswith("key [redacted] was refused!")
    assert len(event["message"]) == 1024
