"""Workflow-level concurrency and priority: which Runs go on at once, and which goes first."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.engine.compiler import check_workflow
from kastra.engine.progress import Phase
from kastra.engine.step import Effect
from tests.unit.engine.harness import Engine, engine, tool


class Door:
    """A tool that waits until the test lets it go; notes who came in."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.open = anyio.Event()

    async def __call__(self, value: Any, effect: Effect) -> Any:
        self.inside.append(effect.idempotency_key.partition("/")[0])
        await self.open.wait()


def limited(**concurrency: Any) -> dict[str, Any]:
    return {"steps": [tool("t", "door")], "concurrency": {"maxRuns": 1, **concurrency}}


async def until(e: Engine, door: Door, count: int) -> None:
    while len(door.inside) < count:
        await e.settle()


async def test_a_run_beyond_the_limit_waits_until_another_has_ended() -> None:
    door = Door()
    async with engine({"door": door}) as e:
        for uid in ("one", "two", "three"):
            e.submit(limited(), uid=uid)
        await until(e, door, 1)
        await e.settle()
        assert door.inside == ["one"]
        assert [e.pool.waits(uid) for uid in ("one", "two", "three")] == [False, True, True]
        door.open.set()
        for uid in ("one", "two", "three"):
            assert (await e.ended(uid)).phase is Phase.SUCCEEDED
    assert door.inside == ["one", "two", "three"]


async def test_runs_with_different_keys_do_not_wait_for_each_other() -> None:
    door = Door()
    async with engine({"door": door}) as e:
        for uid, order in (("a1", "a"), ("b1", "b"), ("a2", "a")):
            e.submit(limited(key="input.order"), {"order": order}, uid=uid)
        await until(e, door, 2)
        await e.settle()
        assert sorted(door.inside) == ["a1", "b1"]
        door.open.set()
        await e.ended("a2")


async def test_a_run_beyond_the_limit_can_be_refused() -> None:
    door = Door()
    async with engine({"door": door}) as e:
        e.submit(limited(policy="Reject"), uid="one")
        await until(e, door, 1)
        refused = await e.run(limited(policy="Reject"), uid="two")
        door.open.set()
        await e.ended("one")
        again = await e.run(limited(policy="Reject"), uid="three")
    assert refused.phase is Phase.FAILED
    assert refused.error is not None
    assert refused.error["type"] == "concurrency"
    assert again.phase is Phase.SUCCEEDED


async def test_a_new_run_can_replace_the_ones_before_it() -> None:
    door = Door()
    async with engine({"door": door}) as e:
        spec = {**limited(policy="Replace"), "finally": [tool("clean")]}
        e.submit(spec, uid="one")
        await until(e, door, 1)
        for uid in ("two", "three"):
            e.submit(spec, uid=uid)
        await until(e, door, 2)
        door.open.set()
        assert (await e.ended("one")).phase is Phase.CANCELLED
        assert (await e.ended("two")).phase is Phase.CANCELLED
        assert (await e.ended("three")).phase is Phase.SUCCEEDED
        order = [key for key, _ in e.tools.calls]
    # What the old one leaves behind is cleaned up before the new one begins.
    assert order == ["t", "finally/clean", "t", "finally/clean"]


async def test_a_waiting_run_can_be_cancelled_and_suspended_and_keeps_no_other() -> None:
    door = Door()
    async with engine({"door": door}) as e:
        for uid in ("one", "two", "three", "four"):
            e.submit(limited(), uid=uid)
        await until(e, door, 1)
        assert await e.pool.cancel("two")
        assert (await e.ended("two")).phase is Phase.CANCELLED
        assert await e.pool.suspend("three")
        door.open.set()
        assert (await e.ended("four")).phase is Phase.SUCCEEDED
    assert door.inside == ["one", "four"]


async def test_a_run_that_a_crash_interrupted_still_counts(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    door = Door()
    async with engine({"door": door}, path=path) as e:
        e.submit(limited(), uid="one")
        await until(e, door, 1)
    door = Door()
    async with engine({"door": door}, path=path) as e:
        e.submit(limited(), uid="two")
        await until(e, door, 1)
        await e.settle()
        assert door.inside == ["one"]
        assert e.pool.waits("two")
        door.open.set()
        await e.ended("two")


async def test_a_key_that_cannot_be_worked_out_fails_the_run() -> None:
    async with engine() as e:
        progress = await e.run(limited(key="input.order"), {"other": 1})
    assert progress.error is not None
    assert progress.error["type"] == "expression"


async def test_of_those_that_wait_for_a_place_the_one_with_the_highest_priority_goes_first() -> None:
    door = Door()
    async with engine({"door": door}, concurrency=1) as e:
        e.submit({"steps": [tool("t", "door")]}, uid="first")
        await until(e, door, 1)
        for uid, priority in (("low", -1), ("middle", 0), ("high", 5), ("also-high", 5)):
            e.submit({"steps": [tool("t", "door")]}, uid=uid, priority=priority)
        door.open.set()
        await e.ended("low")
    assert door.inside == ["first", "high", "also-high", "middle", "low"]


async def test_priority_holds_in_a_group_too() -> None:
    door = Door()
    async with engine({"door": door}) as e:
        for uid, priority in (("first", 0), ("low", 0), ("high", 5)):
            e.submit(limited(), uid=uid, priority=priority)
        await until(e, door, 1)
        door.open.set()
        await e.ended("low")
    assert door.inside == ["first", "high", "low"]


@pytest.mark.parametrize(
    ("concurrency", "field"),
    [
        ({"maxRuns": 1, "key": "steps.a.output"}, "key"),
        ({"key": "input"}, "maxRuns"),
        ({"policy": "Reject"}, "maxRuns"),
    ],
)
def test_mistakes_are_found_when_the_workflow_is_compiled(concurrency: dict[str, Any], field: str) -> None:
    found = check_workflow({"steps": [tool("t")], "concurrency": concurrency})
    assert [cause.field for cause in found] == [f"spec.concurrency.{field}"]
