"""Budgets: what a Run, or a step, may consume, reserved before each call and settled after it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.engine.progress import Phase, Progress
from kastra.engine.step import CallOptions, Effect, StepContext
from tests.unit.engine.harness import engine, single, tool


class Thinker:
    """The runner of agents: makes as many turns as its target says, each of 10 + 10 tokens and a cent."""

    def __init__(self, hang_at: int = -1, estimate: Mapping[str, float] | None = None) -> None:
        self.turns: list[str] = []
        self.hang_at = hang_at
        self.estimate = estimate

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        async def turn(effect: Effect) -> Any:
            if len(self.turns) == self.hang_at:
                await anyio.sleep_forever()
            self.turns.append(effect.idempotency_key.partition("/")[2])
            usage = {"inputTokens": 10, "outputTokens": 10, "costUSD": 0.01}
            return {"text": f"thought {len(self.turns)}", "usage": usage}

        estimate = self.estimate
        options_ = CallOptions("model", estimate=(lambda: estimate) if estimate is not None else None)
        for number in range(target["spec"].get("turns", 1)):
            last = await step.call(f"turn[{number}]", turn, options_)
        return last["text"]


def think(step_id: str, turns: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "agent": {"name": step_id, "spec": {"turns": turns}}, **fields}


async def run(spec: Mapping[str, Any], thinker: Thinker | None = None, **order: Any) -> Progress:
    async with engine(runners={"agent": thinker or Thinker()}) as e:
        return await e.run(spec, "in", **order)


@pytest.mark.parametrize(
    ("limit", "turns"),
    [({"maxModelCalls": 2}, 2), ({"maxTokens": 40}, 2), ({"maxTokens": 41}, 3), ({"maxCostUSD": 0.02}, 2)],
)
async def test_no_call_is_made_beyond_a_limit_and_the_run_fails(limit: dict[str, Any], turns: int) -> None:
    thinker = Thinker()
    progress = await run({"steps": [think("a", 5)], "budget": limit}, thinker)
    assert progress.phase is Phase.FAILED
    assert progress.error is not None
    assert progress.error["type"] == "budget"
    assert len(thinker.turns) == turns
    assert progress.budget is not None
    assert progress.budget["limit"] == next(iter(limit))


async def test_what_a_call_may_come_to_is_reserved_before_it_is_made() -> None:
    thinker = Thinker(estimate={"tokens": 100})
    progress = await run({"steps": [think("a", 5)], "budget": {"maxTokens": 130}}, thinker)
    assert progress.error is not None
    # 20 tokens each were settled: the third would have had 40 spent and 100 reserved.
    assert len(thinker.turns) == 2


async def test_branches_together_do_not_exceed_a_limit() -> None:
    thinker = Thinker(estimate={"tokens": 20})
    fan = {"id": "fan", "parallel": {"join": "settled", "steps": [think(f"a{n}") for n in range(6)]}}
    progress = await run({"steps": [fan], "budget": {"maxTokens": 60}}, thinker)
    assert len(thinker.turns) == 3
    assert progress.phase is Phase.SUCCEEDED


async def test_tools_are_counted_and_so_is_each_attempt() -> None:
    async with engine() as e:
        progress = await e.run({"steps": [tool("a"), tool("b"), tool("c")], "budget": {"maxToolCalls": 2}}, 1)
    assert [key for key, _ in e.tools.calls] == ["a", "b"]
    assert progress.error is not None
    assert progress.error["details"]["limit"] == "maxToolCalls"


async def test_the_least_of_the_limits_of_a_run_and_of_its_workflow_holds() -> None:
    for own, other in ((1, 3), (3, 1)):
        thinker = Thinker()
        spec = {"steps": [think("a", 5)], "budget": {"maxModelCalls": own}}
        await run(spec, thinker, budget={"maxModelCalls": other})
        assert len(thinker.turns) == 1


async def test_a_step_that_used_its_budget_up_can_be_caught() -> None:
    step = think("a", 5, budget={"maxModelCalls": 2}, catch=[{"errors": ["budget"], "output": "enough"}])
    thinker = Thinker()
    progress = await run({"steps": [step, think("b", 3)]}, thinker)
    assert (progress.phase, len(thinker.turns)) == (Phase.SUCCEEDED, 5)


async def test_a_step_can_be_finished_with_what_there_is() -> None:
    step = think("a", 5, budget={"maxModelCalls": 2, "onExceeded": "finish"})
    progress = await run({"steps": [step]})
    assert (progress.phase, progress.output) == (Phase.SUCCEEDED, "thought 2")


async def test_a_run_can_be_finished_with_what_there_is() -> None:
    spec = {"steps": [think("a"), think("b", 5)], "budget": {"maxModelCalls": 3, "onExceeded": "finish"}}
    progress = await run(spec)
    assert (progress.phase, progress.output, progress.stop_reason) == (Phase.SUCCEEDED, "thought 1", "Budget")


async def test_an_agent_that_is_run_by_itself_is_finished_with_its_last_words() -> None:
    async with engine(runners={"agent": Thinker()}) as e:
        uid = e.submit_closure(single("Agent", {"turns": 5}), "in", budget={"maxModelCalls": 2, "onExceeded": "finish"})
        progress = await e.ended(uid)
    assert (progress.phase, progress.output, progress.stop_reason) == (Phase.SUCCEEDED, "thought 2", "Budget")


async def test_a_run_can_be_suspended_until_its_budget_is_raised() -> None:
    async with engine(runners={"agent": Thinker()}) as e:
        uid = e.submit({"steps": [think("a", 3)], "budget": {"maxModelCalls": 1, "onExceeded": "suspend"}})
        for most, raised in ((1, 2), (2, 9)):
            progress = await e.until(uid, lambda progress, most=most: (progress.budget or {}).get("max") == most)
            assert progress.phase is Phase.SUSPENDED
            assert await e.pool.resume(uid, data={"maxModelCalls": raised})
        progress = await e.ended(uid)
    assert (progress.phase, progress.output) == (Phase.SUCCEEDED, "thought 3")
    assert progress.budget is not None
    assert progress.budget["raised"]


async def test_a_suspended_run_that_is_answered_without_a_limit_fails() -> None:
    async with engine(runners={"agent": Thinker()}) as e:
        uid = e.submit({"steps": [think("a", 3)], "budget": {"maxModelCalls": 1, "onExceeded": "suspend"}})
        await e.until(uid, lambda progress: progress.phase is Phase.SUSPENDED)
        assert await e.pool.resume(uid, data={"action": "fail"})
        progress = await e.ended(uid)
    assert progress.error is not None
    assert progress.error["type"] == "budget"


async def test_branches_that_meet_a_limit_together_ask_once() -> None:
    async with engine(runners={"agent": Thinker()}) as e:
        fan = {"id": "fan", "parallel": {"steps": [think(f"a{n}") for n in range(4)]}}
        uid = e.submit({"steps": [fan], "budget": {"maxModelCalls": 1, "onExceeded": "suspend"}})
        await e.until(uid, lambda progress: progress.phase is Phase.SUSPENDED)
        assert await e.pool.resume(uid, data={"maxModelCalls": 4})
        progress = await e.ended(uid)
        journal = await e.journal(uid)
    assert progress.phase is Phase.SUCCEEDED
    assert sum(kind == "BudgetExceeded" for kind, _ in journal) == 1


async def test_a_crash_keeps_what_was_reserved_and_what_was_raised(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    spec = {"steps": [think("a", 4)], "budget": {"maxModelCalls": 1, "onExceeded": "suspend"}}
    async with engine(path=path, runners={"agent": Thinker(hang_at=2)}) as e:
        uid = e.submit(spec)
        await e.until(uid, lambda progress: progress.phase is Phase.SUSPENDED)
        await e.pool.resume(uid, data={"maxModelCalls": 4})
        await e.until(uid, lambda progress: progress.phase is Phase.RUNNING and progress.last_seq > 8)
        await e.settle()
    thinker = Thinker()
    async with engine(path=path, runners={"agent": thinker}) as e:
        # Two were made, the third was reserved when the process died, and is one of the four.
        progress = await e.until(uid, lambda progress: progress.phase is Phase.SUSPENDED)
        assert thinker.turns == ["a/turn[2]"]
        assert progress.budget is not None
        assert progress.budget["max"] == 4
        assert await e.pool.resume(uid, data={"maxModelCalls": 5})
        assert (await e.ended(uid)).phase is Phase.SUCCEEDED


async def test_finally_runs_also_when_the_budget_is_used_up() -> None:
    async with engine() as e:
        spec = {"steps": [tool("a"), tool("b")], "finally": [tool("clean")], "budget": {"maxToolCalls": 1}}
        progress = await e.run(spec, 1)
    assert progress.phase is Phase.FAILED
    assert [key for key, _ in e.tools.calls] == ["a", "finally/clean"]
