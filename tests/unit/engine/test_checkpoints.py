"""A loop that goes on and on keeps a small journal, and nothing that is promised is weakened by that."""

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest

from kastra.api.cloudevents import parse_event
from kastra.engine import checkpoints
from kastra.engine.events import event_of
from kastra.engine.history import History
from kastra.engine.lines import EventLines
from kastra.engine.progress import Phase, Progress
from kastra.engine.records import Record, RecordType
from kastra.engine.rerun import Rerun
from kastra.engine.step import Effect, StepError
from kastra.engine.steps import StepTable
from tests.unit.engine.harness import Engine, engine, tool

ITERATIONS = 60
LOOP = {
    "id": "poll",
    "loop": {
        "until": f"iteration >= {ITERATIONS}",
        "maxIterations": 1000,
        "steps": [tool("t", input={"with": {"n": "${{ iteration }}"}}), {"id": "s", "set": {"n": "${{ iteration }}"}}],
    },
}
LONG: dict[str, Any] = {"steps": [LOOP, tool("after")], "output": {"as": {"n": "${{ state.n }}"}}}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every twenty records, so that short loops take many."""
    monkeypatch.setattr(checkpoints, "EVERY", 20)


async def records(e: Engine, uid: str) -> list[Record]:
    history = History(e.writer.query)
    row = await history.run(uid)
    assert row is not None
    return await history.records(row.id)


async def table(e: Engine, uid: str) -> list[dict[str, Any]]:
    found = StepTable()
    found.feed(await records(e, uid))
    return found.rows()


def lasting(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without what tells of crashes: times, and the attempts of what was under way."""
    return [
        {key: value for key, value in row.items() if key not in ("startedAt", "finishedAt", "attempt")} for row in rows
    ]


async def test_the_journal_of_a_long_loop_has_a_bound_and_the_last_thousand_records_stay() -> None:
    body = {
        "until": "iteration >= 1500",
        "maxIterations": 1500,
        "steps": [{"id": "s", "set": {"n": "${{ iteration }}"}}],
    }
    async with engine() as e:
        progress = await e.run({"steps": [{"id": "poll", "loop": body}]}, uid="long")
        assert (progress.output, progress.counts["succeeded"]) == ({"n": 1500}, 1501)
        kept = await records(e, "long")
    assert progress.last_seq > 6000
    assert 1000 <= len(kept) <= 2100
    assert [r.type for r in kept].count(RecordType.LOOP_CHECKPOINT) == 1
    assert [r.seq for r in kept[-1000:]] == list(range(progress.last_seq - 999, progress.last_seq + 1))


class Deadly:
    """A tool whose first call in some iterations never returns, since the process dies in it."""

    def __init__(self, deaths: set[int]) -> None:
        self._deaths = deaths
        self.reached = anyio.Event()

    async def __call__(self, value: Any, effect: Effect) -> Any:
        if value["n"] in self._deaths:
            self._deaths.remove(value["n"])
            self.reached.set()
            await anyio.sleep_forever()
        return value

    async def kills(self, e: Engine) -> None:
        """Wait for the process to die in the next of these, and take up what it left."""
        await self.reached.wait()
        self.reached = anyio.Event()
        await e.settle()
        await e.pool.restart()


async def hurt(
    spec: dict[str, Any], *deaths: int
) -> tuple[Progress, Progress, list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """How a Run ends, and its table of steps: of one that nothing happens to, and of one whose process dies."""
    async with engine() as e:
        whole = await e.run(spec, uid="same")
        rows = lasting(await table(e, "same"))
    async with engine({"t": (deadly := Deadly(set(deaths)))}) as e:
        e.submit(spec, uid="same")
        for _ in deaths:
            await deadly.kills(e)
        progress = await e.ended("same")
        return whole, progress, rows, lasting(await table(e, "same"))


@pytest.mark.usefixtures("often")
async def test_completed_iterations_never_repeat_however_often_the_process_dies() -> None:
    deaths = (3, 15, 16, 40, 59)
    async with engine({"t": (deadly := Deadly(set(deaths)))}) as e:
        e.submit(LONG, uid="hurt")
        for _ in deaths:
            await deadly.kills(e)
        progress = await e.ended("hurt")
        calls = [value["n"] for key, value in e.tools.calls if key.endswith("/t")]
        kept = await records(e, "hurt")
    assert (progress.phase, progress.output) == (Phase.SUCCEEDED, {"n": ITERATIONS})
    assert progress.recoveries == len(deaths)
    # The call in which the process died is made again, and no other.
    assert sorted(calls) == sorted([*range(1, ITERATIONS + 1), *deaths])
    assert len(kept) < 80


@pytest.mark.usefixtures("often")
async def test_counts_usage_and_the_table_of_steps_are_those_of_a_run_that_was_never_interrupted() -> None:
    whole, progress, rows, found = await hurt(LONG, 30, 55)
    assert progress.counts == whole.counts
    assert progress.counts["succeeded"] == 2 * ITERATIONS + 2
    assert found == rows
    assert [(row["key"], row.get("counts")) for row in rows] == [
        ("poll", None),
        ("poll#*/t", {"Succeeded": ITERATIONS}),
        ("poll#*/s", {"Succeeded": ITERATIONS}),
        ("after", None),
    ]


@pytest.mark.usefixtures("often")
async def test_loops_in_loops_and_in_items_are_folded_into_each_other() -> None:
    inner = {
        "id": "inner",
        "loop": {
            "until": "iteration >= 12",
            "maxIterations": 12,
            "steps": [{"id": "x", "set": {"x": "${{ iteration }}"}}],
        },
    }
    outer = {
        "id": "outer",
        "loop": {
            "until": "iteration >= 4",
            "maxIterations": 4,
            "steps": [inner, tool("t", input={"with": {"n": "${{ iteration }}"}})],
        },
    }
    spec = {
        "steps": [{"id": "each", "forEach": {"items": [1, 2], "as": "item", "steps": [outer]}}],
        "output": {"as": "${{ state }}"},
    }
    whole, progress, rows, found = await hurt(spec, 3)
    assert (progress.output, progress.counts) == (whole.output, whole.counts)
    assert found == rows
    assert {row["key"]: row["counts"]["Succeeded"] for row in rows if "counts" in row} == {
        "each[*]/outer": 2, "each[*]/outer#*/inner": 8, "each[*]/outer#*/inner#*/x": 96, "each[*]/outer#*/t": 8,
    }  # fmt: skip


@pytest.mark.usefixtures("often")
async def test_each_of_many_loops_at_the_same_time_has_a_small_journal() -> None:
    body = {"until": "iteration >= 300", "maxIterations": 300, "steps": [tool("t", input={"with": {"n": 1}})]}
    each = {"id": "each", "forEach": {"items": list(range(8)), "concurrency": 8, "steps": [{"id": "l", "loop": body}]}}
    async with engine() as e:
        progress = await e.run({"steps": [each]}, uid="many")
        kept = await records(e, "many")
    assert progress.counts["succeeded"] == 8 * 301 + 1
    for number in range(8):
        # Of 900.
        assert sum((record.key or "").startswith(f"each[{number}]/l#") for record in kept) < 200


@pytest.mark.usefixtures("often")
async def test_a_loop_while_goes_on_from_a_checkpoint() -> None:
    body = {**LOOP["loop"], "while": f"iteration < {ITERATIONS}"}  # type: ignore[dict-item]
    del body["until"]
    whole, progress, *_ = await hurt({**LONG, "steps": [{"id": "poll", "loop": body}]}, 44)
    assert (progress.output, progress.counts) == (whole.output, whole.counts)


@pytest.mark.usefixtures("often")
async def test_a_run_that_repeats_it_takes_over_what_folded_iterations_set_in_its_order() -> None:
    both = {"id": "both", "parallel": {"steps": [LOOP, {"id": "other", "set": {"n": "first", "m": 1}}]}}
    spec = {"steps": [both, {"id": "set", "set": {"k": 1}}, tool("after")], "output": {"as": "${{ state }}"}}
    async with engine() as e:
        whole = await e.run(spec, uid="old")
        again = await e.run(spec, rerun=Rerun("old", "old", "after"))
        assert again.output == whole.output == {"n": ITERATIONS, "m": 1, "k": 1}
        assert [key for key, _ in e.tools.calls][-2:] == ["after", "after"]


@pytest.mark.usefixtures("often")
async def test_what_can_be_undone_is_kept_and_undone_in_the_reverse_order() -> None:
    undo = {"steps": [{"id": "u", "tool": {"name": "u"}, "input": {"with": {"n": "${{ output.n }}"}}}]}
    step = tool("t", input={"with": {"n": "${{ iteration }}"}}, compensate=undo)
    body = {"until": "iteration >= 40", "maxIterations": 40, "steps": [step, {"id": "s", "set": {"n": 1}}]}
    spec = {"onError": "compensate", "steps": [{"id": "poll", "loop": body}, tool("broken", retry={"limit": 0})]}

    async def broken(value: Any, effect: Effect) -> Any:
        raise StepError("tool", "broken", retryable=False)

    async with engine({"t": (deadly := Deadly({33})), "broken": broken}) as e:
        e.submit(spec, uid="undone")
        await deadly.kills(e)
        progress = await e.ended("undone")
        undone = [value["n"] for key, value in e.tools.calls if key.endswith("/compensate/u")]
    assert (progress.phase, progress.compensation) == (Phase.FAILED, "Compensated")
    assert undone == list(range(40, 0, -1))


@pytest.mark.usefixtures("often")
async def test_an_event_that_a_folded_iteration_took_is_not_taken_again() -> None:
    wait = {"id": "w", "waitForEvent": {"type": "tick"}}
    step = tool("t", input={"with": {"n": "${{ steps.w.output.data.n }}"}})
    spec = {"steps": [{"id": "poll", "loop": {"until": "iteration >= 30", "maxIterations": 30, "steps": [wait, step]}}]}
    async with engine({"t": (deadly := Deadly({25}))}) as e:
        for n in range(1, 31):
            event = {"specversion": "1.0", "id": f"e{n}", "source": "test", "type": "tick", "data": {"n": n}}
            await e.pool.mailroom.deliver("default", parse_event(event))
        uid = e.submit(spec)
        await deadly.kills(e)
        progress = await e.ended(uid)
        assert progress.phase is Phase.SUCCEEDED
        assert [value["n"] for _, value in e.tools.calls] == [*range(1, 26), *range(25, 31)]


@pytest.mark.usefixtures("often")
async def test_what_folded_iterations_consumed_still_counts_towards_the_budget() -> None:
    spec = {**LONG, "budget": {"maxToolCalls": 50}}
    whole, progress, *_ = await hurt(spec, 44)
    assert whole.phase is Phase.FAILED
    assert progress.error is not None
    assert progress.error["type"] == "budget"
    # The call in which the process died keeps its reservation.
    assert progress.counts["succeeded"] == whole.counts["succeeded"] - 2


@pytest.mark.usefixtures("often")
async def test_large_values_of_folded_iterations_are_deleted_unless_they_are_named_elsewhere() -> None:
    async def large(value: Any, effect: Effect) -> Any:
        return "x" * 40_000 + str(value["n"])

    first = tool("first", "t", input={"with": {"n": 7}})
    async with engine({"t": large}) as e:
        await e.run({"steps": [first, LOOP, tool("after", input={"with": {}})]}, uid="large")
        kept = await records(e, "large")
        names = await e.writer.query("SELECT DISTINCT blob FROM journal WHERE blob IS NOT NULL")
        blobs = await e.writer.query("SELECT sha256 FROM blobs")
    assert {row[0] for row in blobs} == {row[0] for row in names}
    assert len(blobs) < 30
    assert next(r.body["output"] for r in kept if r.key == "first" and "output" in r.body).endswith("x7")


@pytest.mark.usefixtures("often")
async def test_the_history_and_the_events_say_what_is_not_there_any_more() -> None:
    async with engine() as e:
        await e.run(LONG, uid="told")
        kept = await records(e, "told")
    [checkpoint] = [record for record in kept if record.type == RecordType.LOOP_CHECKPOINT]
    body = checkpoint.body
    assert body["records"] + len(kept) >= checkpoint.seq
    assert (checkpoint.key, body["counts"]["succeeded"]) == ("poll", 2 * (body["iteration"] - 1))
    event = event_of(checkpoint)
    assert event is not None
    assert (event["type"], event["data"]["iteration"]) == ("loop.checkpoint", body["iteration"])
    line = EventLines(timestamps=True, everything=True).line(event)
    assert line is not None
    assert f"iterations 1 to {body['iteration'] - 1} are kept as counts only" in line


@pytest.mark.usefixtures("often")
async def test_a_reader_who_saw_iterations_before_they_were_folded_counts_them_once() -> None:
    async with engine({"t": (deadly := Deadly({20}))}) as e:
        e.submit(LONG, uid="read")
        await deadly.reached.wait()
        await e.settle()
        found = StepTable()
        found.feed(before := await records(e, "read"))
        await deadly.kills(e)
        await e.ended("read")
        found.feed([record for record in await records(e, "read") if record.seq > before[-1].seq])
        assert lasting(found.rows()) == lasting(await table(e, "read"))
