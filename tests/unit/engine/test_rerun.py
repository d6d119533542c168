"""Repeating a Run from one of its steps: what was done before is taken over, the rest is done anew."""

from pathlib import Path
from typing import Any

import pytest

from kastra.engine.journal import Append
from kastra.engine.progress import Phase, Progress
from kastra.engine.rerun import Rerun
from kastra.engine.step import Effect, StepError
from kastra.sql.interface import Statement
from tests.unit.engine.harness import SELDOM, Engine, engine, single, tool

NEVER = {"limit": 0}


async def keyed(value: Any, effect: Effect) -> Any:
    return {"key": effect.idempotency_key}


async def fail(value: Any, effect: Effect) -> Any:
    raise StepError("tool", "broken", retryable=False)


async def again(e: Engine, old: str, spec: dict[str, Any], value: Any = None, **rerun: Any) -> Progress:
    e.tools.calls.clear()
    e.tools.keys.clear()
    return await e.run(spec, value, rerun=Rerun(old, old, **rerun))


def keys(e: Engine) -> list[str]:
    return [key for key, _ in e.tools.calls]


async def test_the_steps_before_are_taken_over_and_the_rest_is_done_anew() -> None:
    spec = {"steps": [tool("a", "keyed"), tool("b", "keyed"), tool("c")]}
    async with engine({"keyed": keyed}) as e:
        await e.run(spec, "in", uid="old")
        progress = await again(e, "old", spec, from_step="b")
        assert keys(e) == ["b", "c"]
        assert e.tools.calls[0][1] == {"key": "old/a"}
        assert progress.output == {"key": f"{progress.uid}/b"}
        assert progress.counts["succeeded"] == 3


async def test_a_failed_run_goes_on_where_it_failed_once_the_cause_is_gone() -> None:
    spec = {"steps": [tool("a"), tool("b", "flaky"), tool("c")]}
    async with engine({"flaky": fail}) as e:
        assert (await e.run(spec, 1, uid="old")).phase is Phase.FAILED
        del e.tools.functions["flaky"]
        progress = await again(e, "old", spec, from_step="b")
    assert (progress.phase, keys(e)) == (Phase.SUCCEEDED, ["b", "c"])


async def test_without_an_input_of_its_own_a_run_has_that_of_the_one_it_repeats() -> None:
    spec = {"steps": [tool("a"), tool("b", input={"from": ["input"]})]}
    async with engine() as e:
        await e.run(spec, "first", uid="old")
        assert (await again(e, "old", spec, from_step="b")).output == "first"
        assert (await again(e, "old", spec, "second", from_step="b")).output == "second"


async def test_in_a_graph_only_what_depends_on_the_step_is_done_anew() -> None:
    steps = [
        tool("a"),
        tool("b"),
        tool("c", dependsOn=["a"]),
        tool("d", dependsOn=["b", "c"]),
        tool("e", dependsOn=["b"]),
    ]
    async with engine() as e:
        await e.run({"steps": steps}, 1, uid="old")
        await again(e, "old", {"steps": steps}, from_step="c")
    assert keys(e) == ["c", "d"]


async def test_skips_catches_jumps_visits_and_state_are_taken_over() -> None:
    steps = [
        {"id": "count", "set": {"n": "${{ state.n + 1 }}"}},
        tool("never", when="false"),
        tool("bad", "broken", catch=[{"steps": [tool("repair")], "output": "mended"}]),
        {"id": "route", "branch": {"cases": [{"when": "state.n < 3", "next": "count"}], "default": {"next": "last"}}},
        tool("unused"),
        tool(
            "last",
            input={"with": {"n": "${{ state.n }}", "bad": "${{ steps.bad.output }}", "ran": '${{ "never" in steps }}'}},
        ),
    ]
    spec = {"state": {"initial": {"n": 0}}, "steps": steps}
    async with engine({"broken": fail}) as e:
        first = await e.run(spec, 1, uid="old")
        assert first.phase is Phase.FAILED  # "unused" is reached by nothing and refused
    spec["steps"] = [step for step in steps if step["id"] != "unused"]
    async with engine({"broken": fail}) as e:
        first = await e.run(spec, 1, uid="old")
        second = await again(e, "old", spec, from_step="last")
        assert (keys(e), second.output) == (["last"], first.output)
        await again(e, "old", spec, from_step="bad@2")
    assert keys(e)[:2] == ["bad@2", "bad@2/catch[0]/repair"]
    assert second.output == {"n": 3, "bad": "mended", "ran": True}


async def test_an_output_can_be_overridden_before_and_after_the_step() -> None:
    spec = {"steps": [tool("a"), tool("b"), tool("c"), tool("d")]}
    async with engine() as e:
        await e.run(spec, 1, uid="old")
        progress = await again(e, "old", spec, from_step="b", overrides={"a": 10, "c": 30})
    assert e.tools.calls == [("b", 10), ("d", 30)]
    assert progress.output == 30


@pytest.mark.parametrize("keep", [True, False])
async def test_idempotency_keys_are_new_unless_they_are_kept(keep: bool) -> None:
    spec = {"steps": [tool("a"), tool("b", "keyed")]}
    async with engine({"keyed": keyed}) as e:
        await e.run(spec, 1, uid="old")
        progress = await again(e, "old", spec, from_step="b", keep_keys=keep)
    assert e.tools.keys == ["old/b" if keep else f"{progress.uid}/b"]


async def test_a_repetition_can_be_repeated_and_the_old_run_stays_as_it_was() -> None:
    spec = {"steps": [tool("a"), tool("b"), tool("c")]}
    async with engine() as e:
        await e.run(spec, 1, uid="old")
        before = await e.pool.history("old")
        middle = await again(e, "old", spec, from_step="b")
        await again(e, middle.uid, spec, from_step="c")
        assert await e.pool.history("old") == before
    assert keys(e) == ["c"]


async def test_any_other_run_can_be_repeated_whole() -> None:
    closure = single("Tool")
    async with engine() as e:
        await e.ended(e.submit_closure(closure, "in", uid="old"))
        uid = e.submit_closure(closure, rerun=Rerun("old", "old", keep_keys=True))
        assert (await e.ended(uid)).output == "in"
        refused = await e.ended(e.submit_closure(closure, rerun=Rerun("old", "old", from_step="x")))
    assert e.tools.keys == ["old/", "old/"]
    assert refused.phase is Phase.FAILED


async def test_what_was_taken_over_is_undone_if_the_repetition_fails_and_what_was_undone_is_not_taken_over() -> None:
    spec = {"steps": [tool("a", compensate={"steps": [tool("undo")]}), tool("b"), tool("c", "broken")]}
    undoing = {**spec, "onError": "compensate"}
    async with engine({"broken": fail}) as e:
        await e.run(spec, 1, uid="old")
        await again(e, "old", undoing, from_step="b")
        assert keys(e) == ["b", "c", "a/compensate/undo"]
        await e.run(undoing, 1, uid="undone")
        refused = await again(e, "undone", undoing, from_step="b")
        assert refused.error is not None
        assert "step a was undone" in refused.error["title"]
        assert (await again(e, "undone", undoing, from_step="a")).compensation == "Compensated"


@pytest.mark.parametrize(
    ("rerun", "changed", "message"),
    [
        ({"from_step": "cc"}, None, 'never came to step "cc"; did you mean "c"'),
        ({"from_step": "c"}, [tool("a"), tool("c")], "it has no step b any more"),
        ({"from_step": "c"}, [tool("a"), {"id": "b", "set": {}}, tool("c")], "step b was of kind tool"),
        ({"overrides": {"x": 1}}, None, 'there is no step "x"'),
    ],
)
async def test_a_repetition_that_makes_no_sense_is_refused(rerun: dict[str, Any], changed: Any, message: str) -> None:
    spec = {"steps": [tool("a"), tool("b"), tool("c")]}
    async with engine() as e:
        await e.run(spec, 1, uid="old")
        progress = await again(e, "old", {"steps": changed} if changed else spec, **rerun)
    assert progress.error is not None
    assert message in progress.error["title"]
    assert e.tools.calls == []


async def test_a_run_that_goes_on_or_never_was_cannot_be_repeated() -> None:
    spec = {"steps": [{"id": "nap", "sleep": {"duration": "1h"}}]}
    async with engine() as e:
        uid = e.submit(spec)
        await e.until(uid, lambda progress: progress.phase is Phase.WAITING)
        for old, message in ((uid, "has not ended"), ("nobody", "has no journal")):
            progress = await again(e, old, spec, from_step="nap")
            assert progress.error is not None
            assert message in progress.error["title"]


async def test_a_run_whose_journal_is_being_forgotten_cannot_be_repeated() -> None:
    spec = {"steps": [tool("a"), tool("b")]}
    async with engine() as e:
        await e.run(spec, uid="old")
        first = Statement("DELETE FROM journal WHERE seq = 1")
        await e.writer.submit((Append("process", [first]),))
        e.tools.calls.clear()
        progress = await again(e, "old", spec, from_step="b")
        assert progress.error is not None
        assert "has no journal (any more)" in progress.error["title"]
        assert e.tools.calls == []


async def test_a_repetition_survives_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    spec = {"steps": [tool("a", "keyed"), {"id": "nap", "sleep": {"duration": "1h"}}, tool("c")]}
    async with engine({"keyed": keyed}, path=path, **SELDOM) as e:
        await e.run(spec, 1, uid="old")
        new = e.submit(spec, rerun=Rerun("old", "old", from_step="nap"))
        await e.until(new, lambda progress: progress.phase is Phase.WAITING)
    async with engine({"keyed": keyed}, path=path, **SELDOM) as e:
        progress = await e.ended(new)
    assert (keys(e), progress.output) == (["c"], {"key": "old/a"})
