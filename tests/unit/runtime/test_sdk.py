"""What a controller's functions can ask for, and when they are called besides changes."""

import asyncio
import logging
import time
from collections.abc import Iterable

import anyio
import pytest

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client
from kastra.clock import Clock
from kastra.runtime import Context, Election, InjectionError, Manager, Request, Result, Retry, controller
from kastra.runtime.cache import Cache
from kastra.runtime.recorder import Recorder

from .kinds import AgentView, Env, ToolView, running
from .memory import manifest

AGENT = ObjectRef("Agent", "a", "default")


class Settings:
    """A service of the process."""


# Injection


async def test_a_function_is_given_what_its_parameters_ask_for() -> None:
    env, given = Env(), list[object]()
    settings = Settings()
    env.manager.register_service(Settings, settings)

    @controller(AgentView)
    async def reconcile(
        request: Request,
        agent: AgentView,
        raw: Object,
        client: Client,
        recorder: Recorder,
        clock: Clock,
        cache: Cache,
        found: Settings,
        ctx: Context,
        maybe: ToolView | None,
        *,
        log: logging.Logger,
        size: int = 3,
    ) -> None:
        given.extend((request, agent.metadata.name, raw.name, found, maybe, log.name, size))
        assert (client, recorder, clock, cache) == (ctx.client, env.manager.recorder, ctx.clock, env.manager.cache)

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
    assert given == [Request("default", "a"), "a", "a", settings, None, "kastra.controllers.agent", 3]


async def test_a_function_that_needs_no_context_takes_none() -> None:
    env, seen = Env(), list[str]()

    @controller(AgentView)
    async def reconcile(agent: AgentView) -> None:
        seen.append(agent.metadata.name)

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
    assert seen == ["a"]


async def test_without_annotations_it_is_the_object_and_the_context() -> None:
    env, seen = Env(), list[str]()

    @controller(AgentView)
    async def reconcile(agent, ctx) -> None:  # type: ignore[no-untyped-def]
        seen.append(f"{agent.metadata.name} {ctx.object.name}")

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
    assert seen == ["a a"]


async def test_what_can_not_be_provided_is_told_when_the_controller_is_added() -> None:
    @controller(AgentView)
    async def reconcile(agent: AgentView, settings: Settings) -> None: ...

    with pytest.raises(InjectionError, match=r"test_sdk.py:\d+: parameter 'settings' of controller 'agent' .*Settings"):
        Env().manager.add(reconcile)


async def test_a_class_is_made_once_with_what_its_constructor_asks_for() -> None:
    env, made = Env(), list["Counting"]()

    @controller(AgentView, name="counting")
    class Counting:
        def __init__(self, client: Client, log: logging.Logger) -> None:
            made.append(self)
            self.client = client
            self.seen: list[str] = []

        async def reconcile(self, agent: AgentView, ctx: Context) -> Result:
            self.seen.append(agent.metadata.name)
            return ctx.ready()

        async def finalize(self, agent: AgentView) -> None:
            self.seen.append(f"{agent.metadata.name} goes")

    async with running(env, Counting):  # type: ignore[arg-type]
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
        await env.client.delete(AGENT)
        await env.settle()
    (counting,) = made
    assert (set(counting.seen), counting.client) == ({"a", "a goes"}, env.manager.client)


# Timers and polls


async def test_a_timer_runs_for_each_object_as_often_as_it_says() -> None:
    env, passes, probes = Env(), list[str](), list[str]()

    @controller(AgentView)
    async def reconcile(agent: AgentView, ctx: Context) -> Result:
        passes.append(agent.metadata.name)
        return ctx.ready()

    @reconcile.timer(every=60)
    async def probe(agent: AgentView, ctx: Context) -> None:
        probes.append(agent.metadata.name)
        ctx.status.probed = len(probes)

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
        assert (passes, probes) == (["a"], ["a"])
        await env.client.patch(AGENT, {"spec": {"size": 2}})
        await env.settle()
        assert (passes, probes) == (["a"] * 2, ["a"])
        await env.clock.advance(60)
        await env.settle()
        assert (passes, probes) == (["a"] * 3, ["a"] * 2)
        assert (await env.client.get(AGENT)).status["probed"] == 2


async def test_what_the_function_asks_for_and_the_timers_are_both_kept() -> None:
    env, passes = Env(), list[float]()

    @controller(AgentView)
    async def reconcile(agent: AgentView, ctx: Context) -> Result:
        passes.append(ctx.clock.monotonic())
        return Result(requeue_after=25)

    @reconcile.timer(every=60)
    async def probe(agent: AgentView) -> None: ...

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
        for _ in range(61):
            await env.clock.advance(1)
            await env.settle()
    assert [moment - passes[0] for moment in passes] == [0, 25, 50, 60]


async def test_a_poll_says_which_objects_to_look_at() -> None:
    env, seen, outside = Env(), list[str](), set[str]()

    @controller(AgentView)
    async def reconcile(agent: AgentView) -> None:
        seen.append(agent.metadata.name)

    @reconcile.poll(every=30)
    async def changed(client: Client) -> Iterable[Request]:
        if "broken" in outside:
            raise OSError("away")
        return [Request("default", name) for name in outside]

    async with running(env, reconcile):
        for name in ("a", "b"):
            await env.client.create(manifest("Agent", name))
        await env.settle()
        seen.clear()
        outside.add("broken")
        await env.clock.advance(30)
        outside.symmetric_difference_update({"broken", "b"})
        await env.clock.advance(30)
        await env.settle()
    assert seen == ["b"]


async def test_nothing_is_settled_while_somebody_polls() -> None:
    env, seen, outside = Env(), list[str](), list[str]()

    @controller(AgentView)
    async def reconcile(agent: AgentView) -> None:
        seen.append(agent.metadata.name)

    @reconcile.poll(every=30)
    async def changed() -> Iterable[Request]:
        await anyio.to_thread.run_sync(time.sleep, 0.05)
        return [Request("default", name) for name in outside]

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        await env.settle()
        outside.append("a")
        await env.clock.advance(30)
        await env.settle()
    assert seen == ["a", "a"]


# Failures


async def test_retries_follow_the_type_of_the_exception() -> None:
    env, moments = Env(), list[float]()

    @controller(AgentView, retries={ConnectionError: Retry(base=10, most=20, attempts=4)})
    async def reconcile(agent: AgentView, clock: Clock) -> None:
        moments.append(clock.monotonic())
        raise ConnectionResetError("gone")

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        for _ in range(100):
            await env.clock.advance(1)
    assert [round(moment - moments[0]) for moment in moments] == [0, 10, 30, 50]
    ready = (await env.client.get(AGENT)).condition("Ready")
    assert ready is not None
    assert ready["reason"] == "TerminalError"
    assert ready["message"] == "given up after 4 attempts: ConnectionResetError: gone"


async def test_a_controller_that_keeps_itself_busy_is_slowed_down_and_says_so() -> None:
    env, passes = Env(), 0

    @controller(AgentView, predicate=lambda old, new: True)
    async def reconcile(agent: AgentView, ctx: Context) -> None:
        nonlocal passes
        passes += 1
        ctx.status.passes = passes

    async with running(env, reconcile):
        await env.client.create(manifest("Agent", "a"))
        await env.client.create(manifest("Agent", "b"))
        await env.settle()
        assert 400 <= passes <= 402
        for _ in range(30):
            await env.clock.advance(1)
        assert passes < 480
        events = [e.data for e in (await env.client.list("Event")).items]
    assert {event["reason"] for event in events} == {"TooFrequent"}
    assert {event["involvedObject"]["name"] for event in events} == {"a", "b"}


async def test_tasks_that_passes_leave_behind_are_told(caplog: pytest.LogCaptureFixture) -> None:
    env, left = Env(), list[asyncio.Task[None]]()

    async def never() -> None:
        await anyio.sleep_forever()

    @controller(AgentView)
    async def reconcile(agent: AgentView) -> None:
        left.append(asyncio.create_task(never()))  # what not to do

    async with running(env, reconcile):
        for number in range(120):
            await env.client.create(manifest("Agent", f"a{number}"))
        await env.settle()
        await env.clock.advance(61)
    for task in left:
        task.cancel()
    (message,) = [record.getMessage() for record in caplog.records if "still running" in record.getMessage()]
    assert "120 tasks that controller 'agent' started" in message
    assert "test_sdk.py:" in message


# Replicas


async def test_a_controller_of_every_replica_does_not_wait_for_the_lead() -> None:
    env, seen = Env(), list[str]()

    @controller(AgentView, name="leading")
    async def leading(agent: AgentView, log: logging.Logger) -> None:
        seen.append("leading")

    @controller(AgentView, name="everywhere", every_replica=True)
    async def everywhere(agent: AgentView) -> None:
        seen.append("everywhere")

    managers = [
        Manager(env.client, env.bus, env.clock, election=Election(identity=name, namespace="default")) for name in "ab"
    ]
    await env.client.create(manifest("Agent", "a"))
    async with anyio.create_task_group() as tasks:
        for manager in managers:
            manager.add(leading)
            manager.add(everywhere)
            tasks.start_soon(manager.run)
            await anyio.wait_all_tasks_blocked()
        await env.clock.advance(1)
        assert sorted(seen) == ["everywhere", "everywhere", "leading"]
        for manager in managers:
            manager.stop()
        await env.clock.advance(5)
