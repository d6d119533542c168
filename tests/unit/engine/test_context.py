"""The step seam: answered from the journal, performed once, committed with what it wrote; or without a Run at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.engine.direct import DirectContext
from kastra.engine.output import Output
from kastra.engine.progress import Phase
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from kastra.sql.interface import Statement
from tests.unit.engine.harness import Engine, engine, single, tool

MODEL, TOOL, ONCE = (
    CallOptions("model"),
    CallOptions("tool"),
    CallOptions("tool", at_most_once=True, on_in_doubt="fail"),
)
WRITE = Statement("INSERT INTO kv(scope, key, ver, value) VALUES ('s', ?, 1, x'00')", ("k",))


class Agent:
    """A runner that thinks, acts and thinks again; `stop_at` makes it hang at that effect."""

    def __init__(self, stop_at: str = "") -> None:
        self.stop_at = stop_at
        self.stopped = anyio.Event()
        self.effects: list[tuple[str, int]] = []

    async def effect(self, effect: Effect, value: Any) -> Any:
        name = effect.idempotency_key.partition("/")[2]
        self.effects.append((name, effect.attempt))
        if name.endswith(self.stop_at) and self.stop_at:
            self.stopped.set()
            await anyio.Event().wait()
        return value

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        first = await step.call(
            "turn[0]", lambda e: self.effect(e, {"say": (1, 2), "usage": {"inputTokens": 3}}), MODEL
        )
        try:
            acted = await step.child("turn[0]").call(
                "tool[0]", self.act, ONCE if options.get("delivery") == "AtMostOnce" else TOOL
            )
        except StepError as error:
            acted = error.type
        chosen = await step.decide("route", "north")
        last = await step.call("turn[1]", lambda e: self.effect(e, {"done": True}), MODEL)
        return {"first": first["say"], "acted": acted, "chosen": chosen, "last": last["done"]}

    async def act(self, effect: Effect) -> Any:
        effect.write(WRITE)
        return await self.effect(effect, "acted")


async def until_stopped(e: Engine, agent: Agent) -> None:
    while not agent.stopped.is_set():
        await e.settle()


SPEC = {"steps": [{"id": "a", "agent": {"name": "x"}}]}


async def test_effects_of_a_step_are_journaled_below_its_key_and_usage_is_counted() -> None:
    agent = Agent()
    async with engine(runners={"agent": agent}) as e:
        progress = await e.run(SPEC, uid="u")
        records = await e.journal("u")
    assert records[1:] == [
        ("StepScheduled", "a"),
        ("ModelTurn", "a/turn[0]"),
        ("ToolCall", "a/turn[0]/tool[0]"),
        ("ToolResult", "a/turn[0]/tool[0]"),
        ("Decision", "a/route"),
        ("ModelTurn", "a/turn[1]"),
        ("StepCompleted", "a"),
        ("RunCompleted", None),
    ]
    assert agent.effects == [("a/turn[0]", 1), ("a/turn[0]/tool[0]", 1), ("a/turn[1]", 1)]
    assert progress.output == {"first": [1, 2], "acted": "acted", "chosen": "north", "last": True}
    assert (progress.usage.input_tokens, progress.usage.calls) == (3, 2)


async def test_after_a_crash_finished_effects_are_answered_from_the_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    async with engine(runners={"agent": (first := Agent("turn[1]"))}, path=path) as e:
        e.submit(SPEC, uid="u")
        await until_stopped(e, first)
    async with engine(runners={"agent": (second := Agent())}, path=path) as e:
        progress = await e.ended("u")
        written = await e.writer.query("SELECT count(*) FROM kv")
    assert second.effects == [("a/turn[1]", 2)]
    assert progress.output == {"first": [1, 2], "acted": "acted", "chosen": "north", "last": True}
    assert written == [(1,)]


async def test_what_an_effect_writes_is_there_exactly_when_its_value_is(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    async with engine(runners={"agent": (agent := Agent("tool[0]"))}, path=path) as e:
        e.submit(SPEC, uid="u")
        await until_stopped(e, agent)
        assert await e.writer.query("SELECT count(*) FROM kv") == [(0,)]
    async with engine(runners={"agent": Agent()}, path=path) as e:
        await e.ended("u")
        assert await e.writer.query("SELECT count(*) FROM kv") == [(1,)]


async def test_a_tool_call_that_must_not_repeat_is_in_doubt_after_a_crash_and_its_failure_is_remembered(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "k.db")
    spec = {"steps": [{"id": "a", "agent": {"name": "x"}, "delivery": "AtMostOnce"}]}
    for stop_at in ("tool[0]", "turn[1]", ""):
        agent = Agent(stop_at)
        async with engine(runners={"agent": agent}, path=path) as e:
            e.submit(spec, uid="u")
            if stop_at == "tool[0]":
                await until_stopped(e, agent)
            elif stop_at:
                await until_stopped(e, agent)
                assert [key for key, _ in agent.effects] == ["a/turn[1]"]
            else:
                progress = await e.ended("u")
    assert progress.output["acted"] == "in_doubt"


async def test_an_agent_that_failed_starts_anew_under_keys_of_its_own() -> None:
    class Failing(Agent):
        async def run(
            self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]
        ) -> Any:
            await step.call("turn[0]", lambda e: self.effect(e, 1), MODEL)
            if not step.key.endswith("~2"):
                raise StepError("model", "overloaded")
            return "ok"

    agent = Failing()
    async with engine(runners={"agent": agent}) as e:
        progress = await e.run({"steps": [{"id": "a", "agent": {"name": "x"}, "retry": {"limit": 1}}]}, uid="u")
    assert progress.output == "ok"
    assert agent.effects == [("a/turn[0]", 1), ("a~2/turn[0]", 2)]


async def test_a_steps_own_idempotency_key_replaces_the_generated_one() -> None:
    async with engine() as e:
        await e.run({"steps": [tool("a", idempotencyKey='"order-" + input.id')]}, {"id": "7"})
        await e.run({"steps": [tool("a")]}, origin="first-run", uid="rerun")
    assert e.tools.keys == ["order-7", "first-run/a"]


async def test_why_a_network_stopped_becomes_the_stop_reason_of_its_run() -> None:
    class Network:
        async def run(
            self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]
        ) -> Any:
            return Output({"said": options["thread"]}, "MaxSteps", {"inputTokens": 9, "calls": 4})

    async with engine(runners={"network": Network()}) as e:
        progress = await e.ended(e.submit_closure(single("Network"), options={"thread": "t"}))
    assert (progress.output, progress.stop_reason, progress.usage.calls) == ({"said": "t"}, "MaxSteps", 4)


async def test_a_value_that_is_no_JSON_fails_the_step() -> None:
    async def odd(value: Any, effect: Effect) -> Any:
        return {"x": object()}

    async with engine({"a": odd}) as e:
        progress = await e.run({"steps": [tool("a")]})
    assert progress.phase is Phase.FAILED
    assert progress.error is not None
    assert progress.error["type"] == "output"


async def test_a_large_value_is_kept_beside_the_journal_and_read_back(tmp_path: Path) -> None:
    async def large(value: Any, effect: Effect) -> Any:
        return "x" * 100_000

    path = str(tmp_path / "k.db")
    async with engine({"a": large}, path=path) as e:
        await e.run({"steps": [tool("a", output={"schema": {}})]}, uid="u")
        # One blob for the closure, one for each of the two bodies that hold the value.
        assert await e.writer.query("SELECT count(*) FROM blobs") == [(3,)]
    async with engine(path=path) as e:
        progress = await e.pool.progress("u")
    assert progress is not None
    assert progress.output == "x" * 100_000


async def test_a_direct_call_performs_every_effect_once_and_commits_what_it_wrote() -> None:
    written: list[Statement] = []
    told: list[tuple[str, Any]] = []

    async def commit(statements: Any) -> None:
        written.extend(statements)

    context = DirectContext(lambda kind, data: told.append((kind, data)), commit, uid="d")
    agent = Agent()
    assert await agent.run(context, {}, None, {}) == await agent.run(context, {}, None, {})
    context.child("turn[0]").emit("step.progress", {"share": 0.5})
    assert agent.effects == [("turn[0]", 1), ("turn[0]/tool[0]", 1), ("turn[1]", 1)]
    assert written == [WRITE]
    assert told == [("step.progress", {"key": "turn[0]", "share": 0.5})]


async def test_a_direct_call_without_a_place_to_write_to_says_so() -> None:
    with pytest.raises(RuntimeError, match="nowhere to write"):
        await DirectContext().call("tool[0]", Agent().act, TOOL)
