"""`finally` and compensation: what happens between the end of the steps and the end of the Run."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.engine.compiler import check_workflow
from kastra.engine.progress import Phase
from kastra.engine.step import Effect, StepError
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import Engine, engine, tool

NEVER = {"limit": 0}


async def fail(value: Any, effect: Effect) -> Any:
    raise StepError("tool", "broken")


async def name_it(value: Any, effect: Effect) -> Any:
    return {"made": effect.idempotency_key.partition("/")[2]}


async def hang(value: Any, effect: Effect) -> Any:
    await anyio.sleep_forever()


def keys(e: Engine) -> list[str]:
    return [key for key, _ in e.tools.calls]


def undoable(step_id: str, name: str = "", **fields: Any) -> dict[str, Any]:
    """A step that is undone by a tool called `undo`."""
    return tool(step_id, name, compensate={"steps": [tool("u", "undo")]}, **fields)


# --- finally -------------------------------------------------------------------------------------------------------


async def test_finally_runs_after_success_and_the_output_stays() -> None:
    ending = tool(
        "clean", input={"with": {"how": "${{ outcome }}", "a": "${{ steps.a.output }}", "error": "${{ error }}"}}
    )
    async with engine({"a": name_it}) as e:
        progress = await e.run({"steps": [tool("a")], "finally": [ending]})
    assert (progress.phase, progress.output) == (Phase.SUCCEEDED, {"made": "a"})
    assert e.tools.calls[-1] == ("finally/clean", {"how": "Succeeded", "a": {"made": "a"}, "error": None})


async def test_finally_runs_after_a_failure_and_sees_the_error() -> None:
    ending = tool(
        "clean", input={"with": {"how": "${{ outcome }}", "why": "${{ error.title }}", "ran": '${{ "b" in steps }}'}}
    )
    async with engine({"a": fail}) as e:
        progress = await e.run({"steps": [tool("a", retry=NEVER), tool("b")], "finally": [ending]})
    assert progress.phase is Phase.FAILED
    assert progress.error is not None
    assert progress.error["title"] == "broken"
    assert e.tools.calls[-1] == ("finally/clean", {"how": "Failed", "why": "broken", "ran": False})


async def test_finally_runs_after_a_cancellation() -> None:
    ending = tool("clean", input={"with": {"how": "${{ outcome }}"}})
    async with engine({"a": hang}) as e:
        uid = e.submit({"steps": [tool("a")], "finally": [ending, tool("more")]})
        await e.until(uid, lambda progress: progress.counts["running"] == 1)
        assert await e.pool.cancel(uid)
        progress = await e.ended(uid)
    assert progress.phase is Phase.CANCELLED
    assert keys(e) == ["a", "finally/clean", "finally/more"]
    assert e.tools.calls[1][1] == {"how": "Cancelled"}


async def test_finally_runs_after_the_time_of_a_run_is_up() -> None:
    async with engine({"a": hang}) as e:
        progress = await e.run({"steps": [tool("a")], "timeout": {"total": "10s"}, "finally": [tool("clean")]})
    assert (progress.phase, progress.stop_reason) == (Phase.FAILED, "Timeout")
    assert keys(e) == ["a", "finally/clean"]


async def test_a_suspended_run_that_is_cancelled_still_runs_finally() -> None:
    async with engine({"a": hang}) as e:
        uid = e.submit({"steps": [tool("a")], "finally": [tool("clean")]})
        await e.until(uid, lambda progress: progress.counts["running"] == 1)
        await e.pool.suspend(uid)
        await e.pool.cancel(uid)
        progress = await e.ended(uid)
    assert progress.phase is Phase.CANCELLED
    assert keys(e) == ["a", "finally/clean"]


async def test_a_second_cancellation_does_not_stop_finally() -> None:
    release = anyio.Event()

    async def slow(value: Any, effect: Effect) -> Any:
        await release.wait()
        return "cleaned"

    async with engine({"a": hang, "clean": slow}) as e:
        uid = e.submit({"steps": [tool("a")], "finally": [tool("clean"), tool("more")]})
        await e.until(uid, lambda progress: progress.counts["running"] == 1)
        await e.pool.cancel(uid)
        await e.until(uid, lambda progress: "finally/clean" in progress.current_steps)
        await e.pool.cancel(uid)
        await e.settle()
        release.set()
        progress = await e.ended(uid)
    assert progress.phase is Phase.CANCELLED
    assert e.tools.calls[-1] == ("finally/more", "cleaned")


async def test_an_abandoned_effect_that_ends_during_finally_does_not_keep_the_run_from_ending() -> None:
    effect_ends, cleaned = anyio.Event(), anyio.Event()

    async def shielded(value: Any, effect: Effect) -> Any:
        with anyio.CancelScope(shield=True):
            await effect_ends.wait()
        return "too late"

    async def clean(value: Any, effect: Effect) -> Any:
        await cleaned.wait()

    async with engine({"a": shielded, "clean": clean}, grace=5.0) as e:
        uid = e.submit({"steps": [tool("a")], "finally": [tool("clean")]})
        await e.settle()
        await e.pool.cancel(uid)
        while "finally/clean" not in keys(e):
            assert isinstance(e.clock, VirtualClock)
            await e.pass_time(e.clock)
        effect_ends.set()
        await e.settle()
        cleaned.set()
        await e.settle()
        progress = await e.pool.progress(uid)
        journal = await e.journal(uid)
    assert progress is not None
    assert progress.phase is Phase.CANCELLED
    assert journal[-1] == ("RunCancelled", None)


async def test_a_run_whose_effect_does_not_stop_is_cleaned_up_after_its_grace() -> None:
    stubborn = anyio.Event()

    async def shielded(value: Any, effect: Effect) -> Any:
        with anyio.CancelScope(shield=True):
            await stubborn.wait()
        return "too late"

    async with engine({"a": shielded}, grace=5.0) as e:
        uid = e.submit({"steps": [tool("a"), tool("b")], "finally": [tool("clean")]})
        await e.until(uid, lambda progress: progress.counts["running"] == 1)
        await e.pool.cancel(uid)
        progress = await e.ended(uid)
        assert keys(e) == ["a", "finally/clean"]
        stubborn.set()
        await e.settle()
        journal = await e.journal(uid)
    assert progress.phase is Phase.CANCELLED
    assert ("Late", "a") in journal
    assert keys(e) == ["a", "finally/clean"]


async def test_a_finally_that_fails_makes_a_run_fail_that_had_succeeded() -> None:
    async with engine({"clean": fail}) as e:
        progress = await e.run({"steps": [tool("a")], "finally": [tool("clean", retry=NEVER)]}, 1)
    assert progress.phase is Phase.FAILED
    assert progress.error == {"type": "tool", "title": "broken", "details": {"step": "finally/clean"}}


async def test_a_finally_that_fails_leaves_a_failed_run_its_own_error() -> None:
    async def other(value: Any, effect: Effect) -> Any:
        raise StepError("validation", "the reason")

    async with engine({"a": other, "clean": fail}) as e:
        progress = await e.run({"steps": [tool("a")], "finally": [tool("clean", retry=NEVER)]}, 1)
    assert progress.error is not None
    assert progress.error["title"] == "the reason"
    assert progress.error["details"]["finally"]["title"] == "broken"


async def test_finally_may_be_a_graph_and_may_catch() -> None:
    handled = tool("a", "broken", retry=NEVER, catch=[{"output": "caught"}])
    steps = [handled, tool("b", dependsOn=["a"])]
    async with engine({"broken": fail}) as e:
        progress = await e.run({"steps": [tool("x")], "finally": steps}, 1)
    assert progress.phase is Phase.SUCCEEDED
    assert e.tools.calls[-1] == ("finally/b", "caught")


async def test_a_run_taken_up_in_finally_ends_as_it_was_going_to_and_repeats_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    spec = {
        "state": {"initial": {"n": 1}},
        "steps": [
            tool("a", output={"type": "thing"}),
            tool("b", "broken", retry=NEVER, catch=[{"output": "caught"}]),
            {"id": "count", "set": {"n": 2}},
        ],
        "output": {"as": {"n": "${{ state.n }}"}},
        "finally": [
            {"id": "change", "set": {"n": 3}},
            tool("stuck", input={"with": {"a": "${{ steps.a.output }}", "b": "${{ steps.b.output }}"}}),
            tool("end", input={"from": ["thing"]}),
        ],
    }
    async with engine({"a": name_it, "broken": fail, "stuck": hang}, path=path) as e:
        uid = e.submit(spec)
        await e.until(uid, lambda progress: "finally/stuck" in progress.current_steps)
    async with engine(path=path) as e:
        progress = await e.ended(uid)
    assert (progress.phase, progress.output) == (Phase.SUCCEEDED, {"n": 2})
    assert e.tools.calls == [
        ("finally/stuck", {"a": {"made": "a"}, "b": "caught"}),
        ("finally/end", {"made": "a"}),
    ]


# --- compensation --------------------------------------------------------------------------------------------------


async def test_what_completed_is_undone_in_reverse_order_before_finally() -> None:
    steps = [undoable("a", "make"), tool("plain"), undoable("b", "make"), tool("c", "broken", retry=NEVER)]
    async with engine({"make": name_it, "broken": fail}) as e:
        spec = {"steps": steps, "onError": "compensate", "finally": [tool("clean")]}
        progress = await e.run(spec)
    assert progress.phase is Phase.FAILED
    assert progress.compensation == "Compensated"
    assert keys(e)[4:] == ["b/compensate/u", "a/compensate/u", "finally/clean"]
    assert e.tools.calls[4][1] == {"made": "b"}


async def test_nothing_is_undone_unless_the_workflow_asks_for_it_or_when_it_succeeds() -> None:
    async with engine({"broken": fail}) as e:
        await e.run({"steps": [undoable("a"), tool("b", "broken", retry=NEVER)]}, 1)
        await e.run({"steps": [undoable("a"), tool("b")], "onError": "compensate"}, 1)
    assert keys(e) == ["a", "b", "a", "b"]


async def test_what_is_undone_sees_what_its_step_saw_its_output_and_the_error() -> None:
    undo = tool("u", "undo", input={"with": {"item": "${{ n }}", "made": "${{ output.made }}", "before": "${{ steps.first.output }}", "why": "${{ error.type }}"}})  # fmt: skip
    each = {
        "id": "each",
        "forEach": {"items": [7, 8], "as": "n", "steps": [tool("t", "make", compensate={"steps": [undo]})]},
    }
    async with engine({"make": name_it, "broken": fail}) as e:
        spec = {"steps": [tool("first"), each, tool("b", "broken", retry=NEVER)], "onError": "compensate"}
        await e.run(spec, "in")
    assert e.tools.calls[-2:] == [
        ("each[1]/t/compensate/u", {"item": 8, "made": "each[1]/t", "before": "in", "why": "tool"}),
        ("each[0]/t/compensate/u", {"item": 7, "made": "each[0]/t", "before": "in", "why": "tool"}),
    ]


async def test_a_cancelled_run_is_undone_too() -> None:
    async with engine({"b": hang}) as e:
        uid = e.submit({"steps": [undoable("a"), tool("b")], "onError": "compensate"}, 1)
        await e.until(uid, lambda progress: "b" in progress.current_steps)
        await e.pool.cancel(uid)
        progress = await e.ended(uid)
    assert (progress.phase, progress.compensation) == (Phase.CANCELLED, "Compensated")
    assert keys(e) == ["a", "b", "a/compensate/u"]


async def test_the_phase_is_compensating_while_it_goes_on() -> None:
    release = anyio.Event()

    async def slow(value: Any, effect: Effect) -> Any:
        await release.wait()

    async with engine({"undo": slow, "broken": fail}) as e:
        uid = e.submit({"steps": [undoable("a"), tool("b", "broken", retry=NEVER)], "onError": "compensate"}, 1)
        await e.until(uid, lambda progress: progress.phase is Phase.COMPENSATING)
        release.set()
        assert (await e.ended(uid)).phase is Phase.FAILED


async def test_one_that_cannot_be_undone_is_reported_and_keeps_no_other() -> None:
    bad = tool("b", compensate={"steps": [tool("u", "broken", retry=NEVER)]})
    async with engine({"broken": fail}) as e:
        spec = {"steps": [undoable("a"), bad, tool("c", "broken", retry=NEVER)], "onError": "compensate"}
        progress = await e.run(spec, 1)
    assert progress.compensation == "CompensationFailed"
    assert keys(e)[-2:] == ["b/compensate/u", "a/compensate/u"]
    assert progress.error is not None
    assert progress.error["details"]["compensation"][0]["stepKey"] == "b"


async def test_undoing_is_retried_as_the_workflow_says() -> None:
    tries = 0

    async def flaky(value: Any, effect: Effect) -> Any:
        nonlocal tries
        tries += 1
        if tries < 6:
            raise StepError("tool", "not yet")

    async with engine({"undo": flaky, "broken": fail}) as e:
        spec = {
            "steps": [undoable("a"), tool("b", "broken", retry=NEVER)],
            "onError": "compensate",
            "compensation": {"retry": {"limit": 9, "initialInterval": "1s"}},
        }
        progress = await e.run(spec, 1)
    assert (progress.compensation, tries) == ("Compensated", 6)


async def test_in_parallel_all_are_undone_at_once() -> None:
    together = anyio.Event()
    begun = 0

    async def meet(value: Any, effect: Effect) -> Any:
        nonlocal begun
        begun += 1
        if begun == 2:
            together.set()
        await together.wait()

    async with engine({"undo": meet, "broken": fail}) as e:
        spec = {
            "steps": [undoable("a"), undoable("b"), tool("c", "broken", retry=NEVER)],
            "onError": "compensate",
            "compensation": {"order": "parallel"},
        }
        progress = await e.run(spec, 1)
    assert progress.compensation == "Compensated"


async def test_what_a_retried_scope_did_in_a_failed_attempt_is_undone_too() -> None:
    scope = {"id": "do", "do": {"steps": [undoable("a"), tool("b", "broken", retry=NEVER)]}, "retry": {"limit": 1}}
    async with engine({"broken": fail}) as e:
        await e.run({"steps": [scope], "onError": "compensate"}, 1)
    assert keys(e)[-2:] == ["do~2/a/compensate/u", "do/a/compensate/u"]


async def test_a_run_taken_up_while_it_is_undone_goes_on_there(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    inner = {"id": "do", "do": {"steps": [undoable("a", "make"), undoable("b", "make")]}}
    spec = {
        "steps": [inner, undoable("c", "make"), tool("d", "broken", retry=NEVER)],
        "onError": "compensate",
        "finally": [tool("clean")],
    }
    calls = 0

    async def second_hangs(value: Any, effect: Effect) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await anyio.sleep_forever()

    async with engine({"make": name_it, "broken": fail, "undo": second_hangs}, path=path) as e:
        uid = e.submit(spec)
        await e.until(uid, lambda progress: "do/b/compensate/u" in progress.current_steps)
    async with engine(path=path) as e:
        progress = await e.ended(uid)
    assert (progress.phase, progress.compensation) == (Phase.FAILED, "Compensated")
    assert e.tools.calls == [
        ("do/b/compensate/u", {"made": "do/b"}),
        ("do/a/compensate/u", {"made": "do/a"}),
        ("finally/clean", None),
    ]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"steps": [tool("a")], "finally": [tool("x", when="steps.nope.output")]}, "spec.finally[0].when"),
        ({"steps": [tool("a")], "finally": [tool("x", next="a")]}, "spec.finally[0].next"),
        (
            {"steps": [tool("a", compensate={"steps": [tool("u", when="nope")]})]},
            "spec.steps[0].compensate.steps[0].when",
        ),
        ({"steps": [tool("a", when="error == null")], "finally": [tool("x")]}, "spec.steps[0].when"),
    ],
)
def test_mistakes_in_endings_are_found_when_the_workflow_is_compiled(spec: dict[str, Any], field: str) -> None:
    assert [cause.field for cause in check_workflow(spec)] == [field]
