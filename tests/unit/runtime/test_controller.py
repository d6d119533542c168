"""A Controller calls its reconciler for what changed, survives whatever that does, and tells what came of it."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from kastra.api.errors import Conflict, ServiceUnavailable
from kastra.api.meta import ObjectRef
from kastra.runtime import Request, Result, TerminalError
from kastra.runtime.predicates import always, generation_changed

from .kinds import Env, running
from .memory import manifest


class Scripted:
    """A reconciler that remembers its calls and does what a function says."""

    def __init__(self, act: Callable[[Request], Awaitable[Result | None]] | None = None) -> None:
        self.seen: list[str] = []
        self.act = act

    async def reconcile(self, request: Request) -> Result:
        self.seen.append(f"{request.namespace}/{request.name}")
        return (await self.act(request) if self.act else None) or Result()


async def test_an_object_is_looked_at_when_it_appears_changes_and_goes() -> None:
    env, reconciler = Env(), Scripted()
    await env.client.create(manifest("Tool", "present"))
    env.manager.controller("Tool", reconciler)
    async with running(env):
        await env.settle()
        await env.client.create(manifest("Tool", "new"))
        await env.settle()
        await env.client.patch(ObjectRef("Tool", "new", "default"), {"spec": {"v": 2}})
        await env.settle()
        await env.client.delete(ObjectRef("Tool", "new", "default"))
        await env.settle()
    assert reconciler.seen == ["default/present", "default/new", "default/new", "default/new"]
    triggers = [(event["name"], event["trigger"], event["outcome"]) for event in await env.outcomes()]
    assert triggers == [
        ("present", "added", "success"),
        ("new", "added", "success"),
        ("new", "changed", "success"),
        ("new", "deleted", "success"),
    ]


async def test_changes_of_the_status_alone_are_not_looked_at_unless_asked_for() -> None:
    env, quiet, keen = Env(), Scripted(), Scripted()
    env.manager.controller("Tool", quiet, name="quiet")
    env.manager.controller("Tool", keen, name="keen", predicate=always)
    env.manager.controller("Tool", spec_only := Scripted(), name="spec-only", predicate=generation_changed)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.settle()
        await env.client.patch(ObjectRef("Tool", "t", "default"), {"status": {"phase": "Running"}})
        await env.settle()
        await env.client.patch(ObjectRef("Tool", "t", "default"), {"metadata": {"labels": {"a": "b"}}})
        await env.settle()
    assert (len(quiet.seen), len(keen.seen), len(spec_only.seen)) == (2, 3, 1)


async def test_a_change_of_an_owned_object_leads_to_its_owner() -> None:
    env, reconciler = Env(), Scripted()
    owner = await env.client.create(manifest("Agent", "boss"))
    env.manager.controller("Agent", reconciler).owns("Tool")
    reference = {"apiVersion": "mastra.ai/v1", "kind": "Agent", "name": "boss", "uid": owner.uid}
    async with running(env):
        await env.settle()
        await env.client.create(manifest("Tool", "theirs", ownerReferences=[{**reference, "kind": "System"}]))
        await env.client.create(manifest("Tool", "mine", ownerReferences=[reference]))
        await env.settle()
    assert [(e["name"], e["trigger"]) for e in await env.outcomes()] == [("boss", "added"), ("boss", "Tool/mine")]


async def test_a_change_of_a_watched_object_leads_where_its_map_function_says() -> None:
    env, reconciler = Env(), Scripted()
    env.manager.controller("Agent", reconciler).watches("Secret", lambda secret: [Request("default", secret.name)])
    async with running(env):
        await env.client.create(manifest("Secret", "s"))
        await env.settle()
    assert reconciler.seen == ["default/s"]


async def test_an_event_of_the_bus_leads_where_its_map_function_says() -> None:
    env, reconciler = Env(), Scripted()
    env.manager.controller("Agent", reconciler).source("progress", lambda event: [Request("default", event["run"])])
    async with running(env):
        await anyio.wait_all_tasks_blocked()
        env.bus.publish("progress", [(1, {"run": "r1"}), (2, {"broken": True}), (3, {"run": "r2"})])
        await env.settle()
    assert reconciler.seen == ["default/r1", "default/r2"]


async def test_when_events_of_the_bus_are_lost_every_object_is_looked_at() -> None:
    env, reconciler = Env(), Scripted()
    await env.client.create(manifest("Agent", "a"))
    env.manager.controller("Agent", reconciler).source("progress", lambda event: [])
    async with running(env):
        await env.settle()
        env.bus.publish("progress", [(n, {}) for n in range(1, 5000)])
        await env.settle()
    assert reconciler.seen == ["default/a", "default/a"]


async def test_a_failure_is_retried_with_backoff_recorded_and_counted() -> None:
    env = Env()

    async def fail_twice(request: Request) -> None:
        if len(reconciler.seen) < 3:
            raise ZeroDivisionError("by zero")

    reconciler = Scripted(fail_twice)
    env.manager.controller("Tool", reconciler)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.settle()
    outcomes = [(e["trigger"], e["outcome"], e["requeueAfter"], e.get("message")) for e in await env.outcomes()]
    assert outcomes == [
        ("added", "error", 0.005, "ZeroDivisionError: by zero"),
        ("retry", "error", 0.01, "ZeroDivisionError: by zero"),
        ("retry", "success", None, None),
    ]
    events = (await env.client.list("Event")).items
    assert [(e.data["reason"], e.data["message"], e.data["count"]) for e in events] == [
        ("ReconcileError", "ZeroDivisionError: by zero", 2)
    ]
    assert env.manager.metrics.counter("kastra_controller_reconcile_errors_total", "").value("tool") == 2


async def test_a_terminal_error_is_not_retried() -> None:
    env = Env()

    async def give_up(request: Request) -> None:
        raise TerminalError("no such database")

    env.manager.controller("Tool", Scripted(give_up))
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.settle()
        await env.clock.advance(1000)
        await env.settle()
    assert [(e["outcome"], e["message"]) for e in await env.outcomes()] == [("terminal", "no such database")]


async def test_a_conflict_is_retried_without_a_word() -> None:
    env = Env()

    async def conflict_once(request: Request) -> None:
        if len(reconciler.seen) == 1:
            raise Conflict("changed meanwhile")

    reconciler = Scripted(conflict_once)
    env.manager.controller("Tool", reconciler)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.settle()
    assert [e["outcome"] for e in await env.outcomes()] == ["conflict", "success"]
    assert (await env.client.list("Event")).items == []


async def test_a_server_that_asks_to_wait_is_given_that_time() -> None:
    env = Env()

    async def overloaded(request: Request) -> None:
        if len(reconciler.seen) == 1:
            raise ServiceUnavailable("busy", retry_after=30)

    reconciler = Scripted(overloaded)
    env.manager.controller("Tool", reconciler)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.settle()
        await env.clock.advance(29)
        assert len(reconciler.seen) == 1
        await env.clock.advance(2)
        await env.settle()
    assert len(reconciler.seen) == 2


async def test_a_reconcile_beyond_its_deadline_is_cancelled_and_retried() -> None:
    env = Env()

    async def hang_once(request: Request) -> None:
        if len(reconciler.seen) == 1:
            await anyio.sleep_forever()

    reconciler = Scripted(hang_once)
    env.manager.controller("Tool", reconciler, deadline=5)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.clock.advance(11)
        await env.settle()
    outcomes = [(e["outcome"], e.get("message")) for e in await env.outcomes()]
    assert outcomes == [("timeout", "reconcile took longer than 5 s"), ("success", None)]


async def test_a_worker_whose_pass_was_cancelled_goes_on_with_the_next() -> None:
    env = Env()

    async def hang(request: Request) -> None:
        if request.name.startswith("stuck"):
            await anyio.sleep_forever()

    env.manager.controller("Tool", Scripted(hang), deadline=5, concurrency=1)
    async with running(env):
        for name in ("stuck", "stuck-too", "t"):
            await env.client.create(manifest("Tool", name))
        await env.clock.advance(11)
        outcomes = [(e["name"], e["outcome"]) for e in await env.outcomes()]
    assert ("t", "success") in outcomes
    assert outcomes[:2] == [("stuck", "timeout"), ("stuck-too", "timeout")]


async def test_a_pass_that_clears_up_when_its_deadline_comes_fails_as_it_says() -> None:
    env = Env()

    async def clear_up(request: Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise TerminalError("could not finish")

    env.manager.controller("Tool", Scripted(clear_up), deadline=5)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.clock.advance(6)
        await env.settle()
    assert [(e["outcome"], e.get("message")) for e in await env.outcomes()] == [("terminal", "could not finish")]


async def test_a_result_can_ask_for_another_look_later() -> None:
    env = Env()

    async def poll(request: Request) -> Result:
        return Result(requeue_after=60)

    reconciler = Scripted(poll)
    env.manager.controller("Tool", reconciler)
    async with running(env):
        await env.client.create(manifest("Tool", "t"))
        await env.settle()
        await env.clock.advance(125)
        await env.settle()
    assert [e["trigger"] for e in await env.outcomes()] == ["added", "requeue", "requeue"]


async def test_objects_are_worked_on_side_by_side_but_never_the_same_one() -> None:
    env, running_now, most = Env(), [], 0
    gate = anyio.Event()

    async def wait(request: Request) -> None:
        nonlocal most
        assert request.name not in running_now
        running_now.append(request.name)
        most = max(most, len(running_now))
        await gate.wait()
        running_now.remove(request.name)

    env.manager.controller("Tool", Scripted(wait), concurrency=3)
    async with running(env):
        for name in "abcde":
            await env.client.create(manifest("Tool", name))
        await anyio.wait_all_tasks_blocked()
        await env.client.patch(ObjectRef("Tool", "a", "default"), {"spec": {"v": 2}})
        await anyio.wait_all_tasks_blocked()
        assert len(running_now) == 3
        gate.set()
        await env.settle()
    assert most == 3


@pytest.mark.parametrize(("concurrency", "deadline"), [(0, 1), (1, 0)])
async def test_impossible_limits_are_refused(concurrency: int, deadline: float) -> None:
    with pytest.raises(ValueError, match="controller tool: need concurrency >= 1 and deadline > 0"):
        Env().manager.controller("Tool", Scripted(), concurrency=concurrency, deadline=deadline)
