"""The pool: how many Runs at once, what a crash or a stop leaves, and what can be asked of a Run from outside."""

import gc
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.api.errors import InsufficientStorage
from kastra.clock import milliseconds
from kastra.engine.objects import ChildOutcome, ObjectRef
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.progress import Phase
from kastra.engine.step import Effect, StepError
from kastra.sql.database import open_database
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import Engine, engine, tool


class Gate:
    """A tool that waits until it is let through."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.arrived = 0

    async def __call__(self, value: Any, effect: Effect) -> Any:
        self.arrived += 1
        await self.event.wait()
        return effect.attempt


async def arrived(e: Engine, gate: Gate, number: int) -> None:
    while gate.arrived < number:
        await e.settle()


async def test_runs_begin_in_the_order_of_submission_as_places_become_free() -> None:
    gate = Gate()
    async with engine({"a": gate}, concurrency=2) as e:
        uids = [e.submit({"steps": [tool("a", input={"with": {"i": i}})]}) for i in range(5)]
        await arrived(e, gate, 2)
        await e.settle()
        assert (gate.arrived, (await e.pool.progress(uids[2])).phase) == (2, Phase.PENDING)  # type: ignore[union-attr]
        gate.event.set()
        for uid in uids:
            await e.ended(uid)
    assert [value["i"] for _, value in e.tools.calls] == [0, 1, 2, 3, 4]


async def test_a_run_that_only_waits_gives_its_place_to_another() -> None:
    async with engine(concurrency=1) as e:
        sleeping = e.submit({"steps": [{"id": "nap", "sleep": {"duration": "1h"}}]})
        assert (await e.run({"steps": [tool("a")]})).phase is Phase.SUCCEEDED
        assert (await e.pool.progress(sleeping)).phase is Phase.WAITING  # type: ignore[union-attr]


async def test_a_run_that_ended_leaves_nothing_for_the_garbage_collector() -> None:
    spec = {"steps": [tool("a"), {"id": "both", "parallel": {"steps": [tool("b"), tool("c")]}}, tool("d")]}
    async with engine() as e:
        await e.run(spec)
        await e.settle()
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await e.run(spec)
            await e.settle()
            assert gc.collect() < 10
        finally:
            gc.enable()


async def test_only_a_run_newer_than_the_pool_cannot_have_been_begun_by_another() -> None:
    clock = VirtualClock()
    async with engine(clock=clock) as e:
        now = milliseconds(clock.now())
        assert not e.pool.is_newer(None)
        assert not e.pool.is_newer(now)
        assert e.pool.is_newer(now + 1)


async def test_submitting_the_same_run_again_changes_nothing() -> None:
    async with engine() as e:
        for _ in range(3):
            e.submit({"steps": [tool("a")]}, uid="same")
        await e.ended("same")
        e.submit({"steps": [tool("a")]}, uid="same")
        await e.settle()
    assert len(e.tools.calls) == 1


async def test_progress_is_published_when_the_phase_changes_with_the_name_of_the_run() -> None:
    async with engine() as e, e.bus.subscribe(TOPIC) as changes:
        await e.run({"steps": [tool("a")]}, uid="u", name="n")
        events = [event for _, event in await changes.batch()]
    assert [(event["name"], event["phase"]) for event in events] == [("n", "Running"), ("n", "Succeeded")]


async def test_followers_of_a_run_see_its_durable_events_in_order_and_its_ephemeral_ones() -> None:
    async def talk(value: Any, effect: Effect) -> Any:
        effect.emit({"text": "hel"})
        return "hello"

    async with engine({"a": talk}) as e, e.bus.subscribe("run/u") as events:
        await e.run({"steps": [tool("a")]}, uid="u")
        seen = [event for _, event in await events.batch()]
    assert [(event["type"], event.get("seq")) for event in seen] == [
        ("run.started", 1),
        ("step.scheduled", 2),
        ("step.output.delta", None),
        ("step.completed", 3),
        ("run.completed", 4),
    ]
    assert seen[2]["data"] == {"attempt": 1, "text": "hel"}


async def test_a_run_left_in_the_middle_goes_on_where_it_was_and_repeats_no_finished_step(tmp_path: Path) -> None:
    path, gate = str(tmp_path / "k.db"), Gate()
    steps = [
        tool("a"),
        tool("b"),
        tool("c", input={"with": {"a": "${{ steps.a.output }}", "b": "${{ steps.b.output }}"}}),
    ]
    async with engine({"b": gate}, path=path) as e:
        e.submit({"steps": steps}, 7, uid="u")
        await arrived(e, gate, 1)
    async with engine({"b": gate}, path=path) as again:
        gate.event.set()
        progress = await again.ended("u")
        records = await again.journal("u")
    assert [key for key, _ in e.tools.calls] == ["a", "b"]
    assert [key for key, _ in again.tools.calls] == ["b", "c"]
    assert e.tools.keys[1] == again.tools.keys[0]
    assert progress.output == {"a": 7, "b": 2}
    assert (progress.recoveries, progress.epoch) == (1, 2)
    assert ("Recovered", None) in records


async def test_a_finished_run_can_still_be_asked_for_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    async with engine(path=path) as e:
        before = await e.run({"steps": [tool("a")]}, {"x": 1}, uid="u")
    async with engine(path=path) as again:
        after = await again.pool.progress("u")
        assert await again.pool.progress("unknown") is None
        again.submit({"steps": [tool("a")]}, uid="u")
        await again.settle()
    assert again.tools.calls == []
    assert after is not None
    assert (after.output, after.counts, after.phase) == (before.output, before.counts, before.phase)


async def test_a_wait_for_a_retry_or_a_timer_outlives_the_process_and_is_not_begun_anew(tmp_path: Path) -> None:
    async def fail(value: Any, effect: Effect) -> Any:
        if effect.attempt == 1:
            raise StepError("tool", "later", retry_after=600)
        return effect.attempt

    path, clock = str(tmp_path / "k.db"), VirtualClock()
    steps = [tool("a"), {"id": "nap", "sleep": {"duration": "5m"}}]
    async with engine({"a": fail}, path=path, clock=clock) as e:
        e.submit({"steps": steps}, uid="u")
        await e.until("u", lambda p: p.phase is Phase.WAITING)
        await clock.advance(400)
    async with engine({"a": fail}, path=path, clock=clock) as e:
        progress = await e.until("u", lambda p: bool(p.waiting_for) and p.waiting_for[0]["kind"] == "Timer")
        assert 600 <= clock.monotonic() < 610
        await clock.advance(200)
    async with engine({"a": fail}, path=path, clock=clock) as e:
        progress = await e.ended("u")
    assert progress.output == 2
    assert 900 <= clock.monotonic() < 910


async def test_a_step_that_no_attempt_survives_ends_the_run_instead_of_crashing_for_ever(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    for _ in range(11):
        gate = Gate()
        async with engine({"a": gate}, path=path) as e:
            e.submit({"steps": [tool("a")]}, uid="u")
            await arrived(e, gate, 1)
    async with engine({"a": gate}, path=path) as e:
        progress = await e.ended("u")
    assert progress.error is not None
    assert progress.error["type"] == "no_progress"


async def test_a_run_whose_journal_cannot_be_written_goes_on_when_it_can() -> None:
    gate, clock = Gate(), VirtualClock()
    async with engine({"b": gate}, clock=clock) as e:
        begun = e.submit({"steps": [tool("a"), tool("b"), tool("c")]})
        await arrived(e, gate, 1)
        e.writer.broken = InsufficientStorage("the disk is full")
        late = e.submit({"steps": [tool("d")]})
        gate.event.set()
        await clock.advance(30)
        assert (await e.pool.progress(begun)).phase is Phase.RUNNING  # type: ignore[union-attr]
        e.writer.broken = None
        assert (await e.ended(begun)).recoveries == 1
        assert (await e.ended(late)).phase is Phase.SUCCEEDED
    assert sorted(key for key, _ in e.tools.calls) == ["a", "b", "b", "c", "d"]


async def test_another_process_takes_a_run_over_only_when_its_holder_is_gone(tmp_path: Path) -> None:
    clock, gate = VirtualClock(), Gate()
    async with engine({"a": gate}, path=str(tmp_path / "k.db"), clock=clock) as e:
        uid = e.submit({"steps": [tool("a"), tool("b")]})
        await arrived(e, gate, 1)
        services = e.services
        other = Pool(e.writer, e.writer.query, e.bus, services, holder="other", exclusive=False, grace=0)
        async with other:
            assert await other.progress(uid) is not None
            await e.settle()
            assert gate.arrived == 1
        taking = Pool(e.writer, e.writer.query, e.bus, services, holder="taking", exclusive=True, grace=0)
        async with taking:
            await arrived(e, gate, 2)
            # The first holder lets go of its effect now, and finds that nothing it records counts any more.
            gate.event.set()
            await e.settle()
            progress = await taking.progress(uid)
            while progress is None or not progress.phase.terminal:
                await e.settle()
                progress = await taking.progress(uid)
            records = await e.journal(uid)
    assert (progress.epoch, progress.phase) == (2, Phase.SUCCEEDED)
    assert records.count(("StepCompleted", "a")) == 1


async def test_cancel_ends_a_run_and_what_comes_too_late_is_recorded_as_late() -> None:
    clock = VirtualClock()
    shielded = anyio.Event()

    async def stubborn(value: Any, effect: Effect) -> Any:
        with anyio.CancelScope(shield=True):
            await shielded.wait()
        return "late"

    async with engine({"a": stubborn}, clock=clock, grace=5) as e:
        uid = e.submit({"steps": [tool("a"), tool("b")]})
        while not e.tools.calls:
            await e.settle()
        assert await e.pool.cancel(uid, by="alice")
        progress = await e.ended(uid)
        shielded.set()
        await e.settle()
        records = await e.journal(uid)
    assert (progress.phase, progress.stop_reason) == (Phase.CANCELLED, "Cancelled")
    assert clock.monotonic() >= 5
    assert records[-3:] == [("CancelRequested", None), ("RunCancelled", None), ("Late", "a")]


async def test_a_run_that_waits_for_a_place_or_a_timer_is_cancelled_at_once() -> None:
    gate = Gate()
    async with engine({"a": gate}, concurrency=1) as e:
        first = e.submit({"steps": [tool("a")]})
        queued = e.submit({"steps": [tool("b")]})
        await arrived(e, gate, 1)
        assert await e.pool.cancel(queued)
        assert (await e.ended(queued)).phase is Phase.CANCELLED
        gate.event.set()
        await e.ended(first)
        sleeping = e.submit({"steps": [{"id": "nap", "sleep": {"duration": "9h"}}]})
        await e.until(sleeping, lambda p: p.phase is Phase.WAITING)
        assert await e.pool.cancel(sleeping)
        assert (await e.ended(sleeping)).phase is Phase.CANCELLED
        assert not await e.pool.cancel("unknown")
    assert [key for key, _ in e.tools.calls] == ["a"]


async def test_a_run_taken_up_that_waits_for_a_place_shows_its_progress_and_can_be_cancelled(tmp_path: Path) -> None:
    path, gate = str(tmp_path / "k.db"), Gate()
    async with engine({"a": gate}, path=path) as e:
        for uid in ("first", "second"):
            e.submit({"steps": [tool("a")]}, uid=uid)
        await arrived(e, gate, 2)
    async with engine({"a": gate}, path=path, concurrency=1) as e:
        await arrived(e, gate, 3)
        progress = await e.pool.progress("second")
        assert progress is not None
        assert (progress.name, progress.phase, progress.counts["total"]) == ("second", Phase.RUNNING, 1)
        assert await e.pool.cancel("second")
        assert (await e.ended("second")).phase is Phase.CANCELLED
        gate.event.set()
        assert (await e.ended("first")).phase is Phase.SUCCEEDED


async def test_an_answer_that_was_received_but_not_yet_acted_on_survives_a_crash(tmp_path: Path) -> None:
    path, gate = str(tmp_path / "k.db"), Gate()
    async with engine({"a": gate}, path=path) as e:
        e.submit({"steps": [tool("pay", "a", delivery="AtMostOnce")]}, uid="u")
        await arrived(e, gate, 1)
    async with engine({"a": gate}, path=path) as e:
        await e.until("u", lambda p: p.phase is Phase.SUSPENDED)
    insert = "INSERT INTO inbox(source, event_id, type, run, ts, body) VALUES ('api', 'x', 'resume', 1, 0, ?)"
    body = b'{"data": {"action": "complete", "output": "paid"}}'
    database = open_database(path, "sqlite3")
    database.connection.execute(insert, (body,))
    database.connection.close()
    async with engine({"a": gate}, path=path) as e:
        progress = await e.ended("u")
        assert await e.writer.query("SELECT count(*) FROM inbox WHERE consumed_seq IS NULL") == [(0,)]
    assert (progress.output, e.tools.calls) == ("paid", [])


async def test_suspend_lets_nothing_begin_until_resumed_also_across_a_restart(tmp_path: Path) -> None:
    path, gate = str(tmp_path / "k.db"), Gate()
    async with engine({"a": gate}, path=path) as e:
        e.submit({"steps": [tool("a"), tool("b")]}, uid="u")
        await arrived(e, gate, 1)
        assert await e.pool.suspend("u", event_id="once")
        assert await e.pool.suspend("u", event_id="once")
        gate.event.set()
        progress = await e.until("u", lambda p: p.phase is Phase.SUSPENDED)
        await e.settle()
        assert [key for key, _ in e.tools.calls] == ["a"]
        records = await e.journal("u")
        assert records.count(("Suspended", None)) == 1
    async with engine({"a": gate}, path=path) as e:
        await e.settle()
        assert e.tools.calls == []
        assert await e.pool.resume("u")
        progress = await e.ended("u")
    assert (progress.phase, [key for key, _ in e.tools.calls]) == (Phase.SUCCEEDED, ["b"])


@pytest.mark.parametrize(
    ("answer", "output", "calls"),
    [({"action": "retry"}, 2, 1), ({"action": "complete", "output": "paid"}, "paid", 0), ({"action": "fail"}, None, 0)],
)
async def test_a_step_that_must_not_repeat_is_in_doubt_after_a_crash_and_waits_for_an_answer(
    tmp_path: Path, answer: dict[str, Any], output: Any, calls: int
) -> None:
    path, gate = str(tmp_path / "k.db"), Gate()
    steps = [tool("pay", "a", delivery="AtMostOnce"), tool("b")]
    async with engine({"a": gate}, path=path) as e:
        e.submit({"steps": steps}, uid="u")
        await arrived(e, gate, 1)
    gate.event.set()
    async with engine({"a": gate}, path=path) as e:
        progress = await e.until("u", lambda p: p.phase is Phase.SUSPENDED)
        assert (progress.in_doubt, e.tools.calls) == (True, [])
        # Lifting a suspension is no answer: nobody has said that the call may be repeated.
        await e.pool.resume("u")
        await e.settle()
        assert e.tools.calls == []
        assert await e.pool.resume("u", data=answer)
        progress = await e.ended("u")
    assert progress.output == output
    assert [key for key, _ in e.tools.calls].count("pay") == calls


@pytest.mark.parametrize(("choice", "phase"), [("fail", Phase.FAILED), ("retry", Phase.SUCCEEDED)])
async def test_on_in_doubt_may_decide_beforehand(tmp_path: Path, choice: str, phase: Phase) -> None:
    path, gate = str(tmp_path / "k.db"), Gate()
    async with engine({"a": gate}, path=path) as e:
        e.submit({"steps": [tool("a", delivery="AtMostOnce", onInDoubt=choice)]}, uid="u")
        await arrived(e, gate, 1)
    gate.event.set()
    async with engine({"a": gate}, path=path) as e:
        progress = await e.ended("u")
    assert progress.phase is phase
    assert (progress.error or {}).get("type") == ("in_doubt" if choice == "fail" else None)


async def test_a_graceful_stop_lets_running_effects_finish_and_begins_nothing_further(tmp_path: Path) -> None:
    path, gate, clock = str(tmp_path / "k.db"), Gate(), VirtualClock()
    async with engine({"a": gate}, path=path, clock=clock, grace=5) as e:
        for number in range(3):
            e.submit({"steps": [tool("a"), tool("b")]}, uid=f"u{number}")
        await arrived(e, gate, 3)
        async with anyio.create_task_group() as group:
            group.start_soon(e.pool.stop)
            await e.settle()
            gate.event.set()
        assert clock.monotonic() < 5
    assert {key for key, _ in e.tools.calls} == {"a"}
    async with engine(path=path) as e:
        for number in range(3):
            await e.ended(f"u{number}")
    assert [key for key, _ in e.tools.calls] == ["b", "b", "b"]


class Children:
    """Child objects of a test: created by name, finished by hand."""

    def __init__(self) -> None:
        self.specs: dict[str, Any] = {}
        self.created = 0
        self.finished = anyio.Event()
        self.cancelled: list[str] = []
        self.outcome = ChildOutcome(
            "Succeeded", {"ok": True}, usage={"inputTokens": 5, "outputTokens": 2, "costUSD": 0.5}
        )

    async def create(self, kind: str, namespace: str, name: str, spec: Any, owner: ObjectRef) -> ObjectRef:
        self.created += 1
        self.specs[name] = spec
        return ObjectRef(kind, namespace, name)

    async def wait(self, ref: ObjectRef) -> ChildOutcome:
        await self.finished.wait()
        return self.outcome

    async def cancel(self, ref: ObjectRef) -> None:
        self.cancelled.append(ref.name)


STEP = {"id": "sub", "workflow": {"name": "other"}}


async def test_a_workflow_step_is_a_run_of_its_own_found_again_after_a_crash(tmp_path: Path) -> None:
    path, children = str(tmp_path / "k.db"), Children()
    async with engine(path=path, children=children, concurrency=1) as e:
        e.submit({"steps": [STEP]}, {"q": 1}, uid="u", name="parent")
        progress = await e.until("u", lambda p: p.phase is Phase.WAITING)
        assert progress.waiting_for[0]["kind"] == "Child"
        assert (await e.run({"steps": [tool("a")]})).phase is Phase.SUCCEEDED
    async with engine(path=path, children=children) as e:
        children.finished.set()
        progress = await e.ended("u")
    (name,) = children.specs
    assert name.startswith("parent-")
    assert children.specs[name] == {
        "target": {"kind": "Workflow", "name": "other", "namespace": "default"},
        "input": {"q": 1},
    }
    assert (children.created, progress.output) == (1, {"ok": True})
    assert (progress.usage.input_tokens, progress.usage.cost_usd) == (5, 0.5)


async def test_a_child_that_fails_fails_the_step_and_a_cancelled_parent_cancels_its_child() -> None:
    children = Children()
    children.outcome = ChildOutcome("Failed", error={"type": "tool", "title": "no"})
    async with engine(children=children) as e:
        waiting = e.submit({"steps": [STEP]})
        await e.until(waiting, lambda p: p.phase is Phase.WAITING)
        await e.pool.cancel(waiting)
        await e.ended(waiting)
        children.finished.set()
        progress = await e.run({"steps": [STEP]})
    assert len(children.cancelled) == 1
    assert progress.error is not None
    assert (progress.error["type"], progress.error["title"]) == ("tool", "no")


async def test_a_run_that_is_suspended_while_it_queues_begins_only_when_it_is_submitted_again() -> None:
    gate = Gate()
    async with engine({"a": gate}, concurrency=1) as e:
        e.submit({"steps": [tool("a")]}, uid="first")
        await arrived(e, gate, 1)
        e.submit({"steps": [tool("b")]}, uid="second")
        assert await e.pool.suspend("second")
        gate.event.set()
        await e.ended("first")
        assert await e.pool.progress("second") is None
        assert [key for key, _ in e.tools.calls] == ["a"]
        e.submit({"steps": [tool("b")]}, uid="second")
        assert (await e.ended("second")).phase is Phase.SUCCEEDED


async def test_a_run_that_is_suspended_while_it_waits_to_be_taken_up_begins_nothing_further(tmp_path: Path) -> None:
    path, gate = str(tmp_path / "k.db"), Gate()
    async with engine({"a": gate}, path=path, grace=0) as e:
        for uid in ("first", "second"):
            e.submit({"steps": [tool("a"), tool("b")]}, uid=uid)
        await arrived(e, gate, 2)
    async with engine({"a": gate}, path=path, concurrency=1) as e:
        await arrived(e, gate, 3)
        assert await e.pool.suspend("second", event_id="once")
        gate.event.set()
        await e.ended("first")
        await e.until("second", lambda p: p.phase is Phase.SUSPENDED)
        assert [key for key, _ in e.tools.calls].count("b") == 1
        assert await e.pool.resume("second")
        assert (await e.ended("second")).phase is Phase.SUCCEEDED
