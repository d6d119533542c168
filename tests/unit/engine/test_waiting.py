"""Steps that wait for events: what they take, when, in what order, and what is left of that after a restart."""

from pathlib import Path
from typing import Any

import pytest

from kastra.api.cloudevents import CloudEvent
from kastra.engine.compiler import GraphError, compile_workflow
from kastra.engine.mailroom import Mailroom
from kastra.engine.progress import Phase, Progress
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import SELDOM, Engine, engine, tool

HOUR = 3600.0


def event(number: int = 1, type_: str = "paid", **fields: Any) -> CloudEvent:
    return CloudEvent(**{"id": f"e{number}", "source": "/shop", "type": type_, "data": {"id": number}, **fields})


def wait(**body: Any) -> dict[str, Any]:
    return {"id": "paid", "waitForEvent": {"type": "paid", **body}}


def waits(progress: Progress) -> bool:
    return progress.phase is Phase.WAITING


async def delivered(e: Engine, uid: str, *events: CloudEvent) -> Progress:
    for one in events:
        await e.pool.mailroom.deliver("default", one)
    return await e.ended(uid)


async def test_a_step_waits_for_an_event_and_has_it_as_its_output() -> None:
    async with engine() as e:
        uid = e.submit({"steps": [wait(timeout="24h")]})
        waiting = await e.until(uid, waits)
        progress = await delivered(e, uid, event(subject="order-1"))
    [wait_] = waiting.waiting_for
    assert {**wait_, "until": 0} == {"stepKey": "paid", "kind": "Event", "eventType": "paid", "until": 0}
    assert wait_["until"] - (waiting.start_time or 0) == 24 * HOUR * 1000
    assert (progress.output["data"], progress.output["subject"]) == ({"id": 1}, "order-1")


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ({"filter": "event.data.id == input.order"}, 3),
        ({"filter": "event.data.missing > 1 || event.data.id == 2"}, 2),
        ({"source": "/other"}, 4),
        ({"subject": "${{ 'order-' + string(input.order) }}"}, 5),
        ({"correlate": {"id": "${{ input.order }}"}}, 3),
        ({"correlate": {"customer.name": "Ada"}}, 6),
        ({"correlate": {"tenant": "acme"}}, 7),
    ],
    ids=["filter", "filter-of-some", "source", "subject", "correlate", "correlate-nested", "correlate-extension"],
)
async def test_only_an_event_that_fits_is_taken(body: dict[str, Any], taken: int) -> None:
    async with engine() as e:
        uid = e.submit({"steps": [wait(**body)]}, {"order": 3})
        await e.until(uid, waits)
        progress = await delivered(
            e,
            uid,
            event(1),
            event(1, "shipped", id="x"),
            event(9, source="/shop", data=None),
            event(2),
            event(3),
            event(4, source="/other"),
            event(5, subject="order-3"),
            event(6, data={"id": 6, "customer": {"name": "Ada"}}),
            event(7, extensions={"tenant": "acme"}),
        )
    assert progress.output["id"] == f"e{taken}"


async def test_an_event_that_comes_before_its_wait_is_kept_for_it() -> None:
    async with engine(**SELDOM) as e:
        uid = e.submit({"steps": [{"id": "nap", "sleep": {"duration": "1h"}}, wait(count=2)]})
        await e.until(uid, waits)
        progress = await delivered(e, uid, event(1), event(2))
    assert [taken["id"] for taken in progress.output] == ["e1", "e2"]


async def test_an_event_from_before_the_run_was_created_is_not_for_it() -> None:
    clock = VirtualClock()
    async with engine(clock=clock) as e:
        await e.pool.mailroom.deliver("default", event(1))
        await clock.advance(1)
        uid = e.submit({"steps": [wait()]})
        await e.until(uid, waits)
        progress = await delivered(e, uid, event(2))
    assert progress.output["id"] == "e2"


async def test_a_second_event_of_the_same_source_and_id_is_dropped() -> None:
    async with engine() as e:
        uid = e.submit({"steps": [wait(count=2)]})
        await e.until(uid, waits)
        assert await e.pool.mailroom.deliver("default", event(1))
        assert not await e.pool.mailroom.deliver("default", event(1, data="other"))
        assert await e.pool.mailroom.deliver("elsewhere", event(1))
        progress = await delivered(e, uid, event(1, source="/else"))
    assert [(taken["source"], taken["id"]) for taken in progress.output] == [("/shop", "e1"), ("/else", "e1")]


async def test_each_run_takes_an_event_once_and_every_run_that_waits_takes_it() -> None:
    loop = {"id": "twice", "loop": {"until": "iteration == 2", "maxIterations": 2, "steps": [wait()]}}
    async with engine() as e:
        runs = [e.submit({"steps": [loop]}) for _ in range(2)]
        for uid in runs:
            await e.until(uid, waits)
        await e.pool.mailroom.deliver("default", event(1))
        await e.settle()
        outputs = [(await delivered(e, uid, event(2))).output["id"] for uid in runs]
    assert outputs == ["e2", "e2"]


async def test_waits_one_after_the_other_take_events_in_the_order_of_their_coming_while_more_come() -> None:
    step = tool("t", input={"with": {"n": "${{ steps.paid.output.data.id }}"}})
    spec = {"steps": [{"id": "l", "loop": {"until": "iteration >= 30", "maxIterations": 30, "steps": [wait(), step]}}]}
    async with engine() as e:
        uid = e.submit(spec)
        assert (await delivered(e, uid, *(event(number) for number in range(30)))).phase is Phase.SUCCEEDED
        assert [value["n"] for _, value in e.tools.calls] == list(range(30))


async def test_of_two_branches_that_wait_for_the_same_one_takes_it() -> None:
    steps = [wait(), {**wait(), "id": "other"}]
    async with engine() as e:
        uid = e.submit({"steps": [{"id": "both", "parallel": {"steps": steps}}]})
        await e.until(uid, lambda progress: len(progress.waiting_for) == 2)
        progress = await delivered(e, uid, event(1), event(2))
    assert {key: taken["id"] for key, taken in progress.output.items()} == {"paid": "e1", "other": "e2"}


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        ({}, ("Failed", None)),
        ({"onTimeout": "fail"}, ("Failed", None)),
        ({"onTimeout": "continue"}, ("Succeeded", None)),
        ({"onTimeout": "continue", "count": 2}, ("Succeeded", [1])),
    ],
    ids=["default", "fail", "continue", "continue-with-some"],
)
async def test_a_wait_ends_when_its_time_is_up(body: dict[str, Any], ended: tuple[str, Any]) -> None:
    async with engine(**SELDOM) as e:
        uid = e.submit({"steps": [wait(timeout="1h", **body)]})
        await e.until(uid, waits)
        if body.get("count"):
            await e.pool.mailroom.deliver("default", event(1))
        progress = await e.ended(uid)
    output = [one["data"]["id"] for one in progress.output] if progress.output else progress.output
    assert (progress.phase.value, output) == ended
    if ended[0] == "Failed":
        assert dict(progress.error or {})["type"] == "timeout"
        assert (progress.completion_time or 0) - (progress.start_time or 0) == HOUR * 1000


async def test_the_default_limit_of_an_attempt_is_not_meant_for_waits() -> None:
    async with engine() as e:
        uid = e.submit({"defaults": {"timeout": {"attempt": "1s"}}, "steps": [wait()]})
        await e.until(uid, waits)
        assert isinstance(e.clock, VirtualClock)
        await e.clock.advance(60)
        progress = await delivered(e, uid, event(1))
    assert progress.phase is Phase.SUCCEEDED


async def test_a_wait_goes_on_after_restarts_and_finds_what_it_had_and_what_came(tmp_path: Path) -> None:
    spec = {"steps": [tool("before"), wait(count=3, timeout="48h"), tool("after")]}
    path = str(tmp_path / "k.db")
    calls: list[str] = []
    for number in range(1, 14):  # more restarts than a step has attempts
        async with engine(path=path, **SELDOM) as e:
            uid = e.submit(spec, uid="u")
            progress = await e.until(uid, lambda p: p.phase.terminal or bool(p.waiting_for))
            if number in (1, 7, 13):
                await e.pool.mailroom.deliver("default", event(number))
                await e.settle()
            if number == 13:
                progress = await e.ended(uid)
            calls += [key for key, _ in e.tools.calls]
    assert [one["id"] for one in progress.output] == ["e1", "e7", "e13"]
    assert calls == ["before", "after"]


@pytest.mark.parametrize(("minutes", "phase"), [(30, Phase.SUCCEEDED), (90, Phase.FAILED)], ids=["in-time", "late"])
async def test_when_an_event_came_counts_and_not_when_the_run_saw_it(
    tmp_path: Path, minutes: int, phase: Phase
) -> None:
    path, clock = str(tmp_path / "k.db"), VirtualClock()
    async with engine(path=path, clock=clock) as e:
        uid = e.submit({"steps": [wait(timeout="1h")]}, uid="u")
        await e.until(uid, waits)
    await clock.advance(minutes * 60)
    # The event is taken in while nobody executes the Run.
    database = open_database(path, "sqlite3")
    writer = Writer(database.connection, database.epoch)
    assert await Mailroom(writer, writer.query, clock).deliver("default", event(1))
    await writer.aclose()
    await clock.advance(7200)
    async with engine(path=path, clock=clock) as e:
        assert (await e.ended(uid)).phase is phase


async def test_what_is_sensitive_is_shown_to_nobody() -> None:
    steps = [{**wait(), "output": {"sensitive": True}}, {"id": "hold", "suspend": {}, "output": {"sensitive": True}}]
    async with engine() as e:
        uid = e.submit({"steps": steps})
        async with e.bus.subscribe(f"run/{uid}", since=0, limit=1000) as followed:
            await e.until(uid, waits)
            await e.pool.mailroom.deliver("default", event(1, data="secret"))
            await e.until(uid, lambda progress: progress.phase is Phase.SUSPENDED)
            await e.pool.resume(uid, data={"code": "secret"})
            await e.ended(uid)
            told = await followed.batch()
    assert any(one["type"] == "event.received" for _, one in told)
    assert "secret" not in str(told)


async def test_a_signal_is_an_event_to_one_run_and_counts_once() -> None:
    async with engine(**SELDOM) as e:
        first, second = (e.submit({"steps": [{"id": "nap", "sleep": {"duration": "1h"}}, wait()]}) for _ in range(2))
        await e.until(first, waits)
        for _ in range(2):
            assert await e.pool.signal(first, event(1, source="signal"), by="ada")
        progress = await e.ended(first)
        other = await e.until(second, lambda p: bool(p.waiting_for) and p.waiting_for[0]["kind"] == "Event")
        assert not await e.pool.signal(first, event(2, source="signal"))
        await e.pool.cancel(second)
        await e.ended(second)
    assert (progress.output["id"], other.phase) == ("e1", Phase.WAITING)


async def test_a_signal_is_kept_over_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    async with engine(path=path, **SELDOM) as e:
        uid = e.submit({"steps": [{"id": "nap", "sleep": {"duration": "1h"}}, wait()]}, uid="u")
        await e.until(uid, waits)
        await e.pool.signal(uid, event(1, source="signal"))
    async with engine(path=path, **SELDOM) as e:
        assert (await e.ended(uid)).output["id"] == "e1"


async def test_emit_delivers_an_event_once_and_to_runs_that_wait() -> None:
    emit = {"id": "tell", "emit": {"type": "paid", "subject": "order-${{ input }}", "data": {"n": "${{ input }}"}}}
    async with engine() as e:
        waiting = e.submit({"steps": [wait()]})
        await e.until(waiting, waits)
        sent = await e.run({"steps": [emit]}, 7, name="teller")
        taken = (await e.ended(waiting)).output
    assert sent.output == {"id": f"{sent.uid}/tell", "source": taken["source"], "type": "paid"}
    assert taken["source"] == "/apis/mastra.ai/v1/namespaces/default/runs/teller"
    assert (taken["subject"], taken["data"]) == ("order-7", {"n": 7})


async def test_an_event_that_is_too_large_fails_its_step() -> None:
    async with engine() as e:
        progress = await e.run(
            {"steps": [{"id": "tell", "emit": {"type": "big", "data": "${{ input }}"}}]}, "x" * 300_000
        )
    assert dict(progress.error or {})["type"] == "validation"
    assert "larger than" in dict(progress.error or {})["title"]


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ({"type": "${{ input }}"}, "spec.steps[0].waitForEvent.type", "written out"),
        ({"type": "x", "filter": "event.data.x ="}, "spec.steps[0].waitForEvent.filter", ""),
        ({"type": "x", "filter": "evnt.data"}, "spec.steps[0].waitForEvent.filter", "evnt"),
        ({"type": "x", "timeout": "soon"}, "spec.steps[0].waitForEvent.timeout", "soon"),
        ({"type": "x", "correlate": {"a": "${{ steps.b.output }}"}}, "spec.steps[0].waitForEvent", '"b"'),
        ({}, "spec.steps[0].waitForEvent.type", "Required"),
    ],
    ids=["type", "syntax", "variable", "timeout", "unknown-step", "no-type"],
)
def test_what_is_wrong_with_a_wait_is_said_when_it_is_applied(body: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(GraphError) as refused:
        compile_workflow({"steps": [{"id": "w", "waitForEvent": body}]})
    assert any(cause.field.startswith(path) and says in cause.message for cause in refused.value.causes)
