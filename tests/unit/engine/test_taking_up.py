"""A Run that is taken up from any beginning of its journal ends as it does when nobody stops it."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.clock import SystemClock
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from tests.unit.engine.harness import engine, tool

RETRY = {"limit": 1, "initialInterval": "1ms", "jitter": 0}
CAUGHT = [{"output": "${{ error.type }}"}]


async def refuse(value: Any, effect: Effect) -> Any:
    raise StepError("tool", "not today")


class Agent:
    """One whose model refuses in its first attempt."""

    async def run(self, step: StepContext, target: Any, value: Any, options: Any) -> Any:
        async def think(effect: Effect) -> Any:
            if effect.idempotency_key.endswith("think/turn[0]"):
                raise StepError("model", "overloaded")
            return {"text": "done"}

        return await step.call("turn[0]", think, CallOptions("model"))


SPECS: dict[str, Any] = {
    "an attempt at steps that ended with a failure which may pass": {
        "steps": [
            {"id": "in", "do": {"steps": [tool("no", "refuse", retry={"limit": 0})]}, "retry": RETRY, "catch": CAUGHT}
        ]
    },
    "branches of which one failed": {
        "steps": [
            {
                "id": "fan",
                "parallel": {"steps": [tool("a"), tool("no", "refuse", retry={"limit": 0})]},
                "retry": RETRY,
                "catch": CAUGHT,
            }
        ]
    },
    "a turn of an agent that failed": {"steps": [{"id": "think", "agent": {"name": "a"}, "retry": RETRY}, tool("b")]},
}


def shorten(path: Path, records: int) -> None:
    """Leave so many records of the one journal, as if the process had died then."""
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM journal WHERE seq > ?", (records,))
        connection.execute("UPDATE runs SET phase = 'Running', last_seq = ?, lease_holder = NULL", (records,))
    connection.close()


@pytest.mark.parametrize("name", SPECS)
async def test_a_run_taken_up_from_any_beginning_of_its_journal_goes_the_same_way(name: str, tmp_path: Path) -> None:
    functions, agent = {"refuse": refuse}, {"agent": Agent()}
    whole = tmp_path / "whole.db"
    async with engine(functions, path=str(whole), clock=SystemClock(), runners=agent) as e:
        uid = e.submit(SPECS[name], {"n": 1})
        expected = await e.ended(uid)
        failures = [key for kind, key in await e.journal(uid) if kind == "StepFailed"]
    records = expected.last_seq
    for number in range(1, records):
        path = tmp_path / f"{number}.db"
        shutil.copy(whole, path)
        shorten(path, number)
        async with engine(functions, path=str(path), clock=SystemClock(), runners=agent) as e:
            ended = await e.ended(uid)
            assert (ended.phase, ended.output) == (expected.phase, expected.output), f"after {number} records"
            assert [key for kind, key in await e.journal(uid) if kind == "StepFailed"] == failures


async def test_a_value_is_looked_for_again_if_the_process_died_before_it_was_found(tmp_path: Path) -> None:
    spec = {"steps": [tool("a"), tool("fetch", memoize={"key": "input.url", "scope": "workflow"})]}
    path = tmp_path / "k.db"
    async with engine(path=str(path), clock=SystemClock()) as e:
        await e.run(spec, {"url": "x"}, uid="first")
        await e.run(spec, {"url": "x"}, uid="second")
        assert [key for key in e.tools.keys if key.endswith("fetch")] == ["first/fetch"]
        records = await e.pool.history("second", limit=100)
        number = next(r["seq"] for r in records if (r["type"], r["stepKey"]) == ("StepScheduled", "fetch"))
    with sqlite3.connect(path) as connection:
        second = "(SELECT id FROM runs WHERE uid = 'second')"
        connection.execute(f"DELETE FROM journal WHERE run = {second} AND seq > {number}")
        connection.execute(f"UPDATE runs SET phase = 'Running', last_seq = {number} WHERE uid = 'second'")
    connection.close()
    async with engine(path=str(path), clock=SystemClock()) as e:
        assert (await e.ended("second")).phase == "Succeeded"
        assert e.tools.keys == []


async def test_an_answer_about_one_attempt_in_doubt_is_none_about_the_next(tmp_path: Path) -> None:
    path, called = str(tmp_path / "k.db"), anyio.Event()

    async def hang(value: Any, effect: Effect) -> Any:
        called.set()
        await anyio.sleep_forever()

    async with engine({"pay": hang}, path=path) as e:
        uid = e.submit({"steps": [tool("pay", delivery="AtMostOnce")]})
        await called.wait()
    called = anyio.Event()
    async with engine({"pay": hang}, path=path) as e:
        await e.until(uid, lambda progress: progress.in_doubt)
        # Somebody who saw that it had not happened is impatient, and says so twice.
        assert await e.pool.resume(uid, key="pay", data={"action": "retry"})
        await e.pool.resume(uid, key="pay", data={"action": "retry"})
        await called.wait()
    async with engine({"pay": hang}, path=path) as e:
        await e.until(uid, lambda progress: progress.in_doubt)
        await e.settle()
        assert e.tools.calls == []
        assert await e.pool.resume(uid, key="pay", data={"action": "complete", "output": "paid"})
        assert (await e.ended(uid)).output == "paid"
