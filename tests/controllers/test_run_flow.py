"""What the object of a Run shows of endings, budgets, concurrency and repetitions, and how it stays small."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.running import create_run, wait_until
from kastra.client.interface import PatchType
from kastra.config import Settings

MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: upper}
spec:
  python: {inline: 'def upper(text: str) -> str: return text.upper()'}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: echo}
spec:
  model: {provider: scripted, name: x, parameters: {rules: [{when: 'true', reply: hi}]}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: trip}
spec:
  onError: compensate
  steps:
  - id: book
    set: {booked: true}
    compensate: {steps: [{id: cancel, set: {booked: false, because: '${{ error.title }}'}}]}
  - {id: pay, when: '!input.solvent', raise: {type: user, title: no money}}
  - {id: go, set: {travelling: true}}
  finally: [{id: note, set: {ended: '${{ outcome }}'}}]
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: chat}
spec:
  budget: {maxModelCalls: 1, onExceeded: suspend}
  steps: [{id: one, agent: echo}, {id: two, agent: echo}]
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: turns}
spec:
  concurrency: {maxRuns: 1, key: input.key}
  steps: [{id: nap, sleep: 1h}]
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: many}
spec:
  durability: process
  steps:
  - {id: each, forEach: {items: input, concurrency: 100, steps: [{id: keep, set: {last: '${{ item }}'}}]}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: shout}
spec:
  steps:
  - {id: first, tool: upper, with: {text: '${{ input.text }}'}, memoize: {key: input.text}}
  - {id: second, set: {said: '${{ steps.first.output }}'}}
"""


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=(), grace=0.5)
    async with kastra.open(":memory:", settings=settings) as opened:
        assert (await opened.apply(tmp_path / "all.yaml")).ok
        assert await opened.settle(20)
        yield opened


async def until(k: kastra.Kastra, run: Object, condition: str, reason: str) -> Object:
    """The Run once it has a condition with a reason."""
    with anyio.fail_after(20):
        return await wait_until(
            k.client, run.ref, lambda found: (found.condition(condition) or {}).get("reason") == reason
        )


async def ended(k: kastra.Kastra, run: Object) -> Object:
    with anyio.fail_after(20):
        return await wait_until(k.client, run.ref, lambda found: found.is_condition_true("Complete"))


async def act(k: kastra.Kastra, run: Object, action: str, body: dict[str, Any]) -> Object:
    async for record in k.client.connect(run.ref, action, body):
        return Object.of(record)
    raise AssertionError("the action gave nothing")


async def test_a_workflow_that_asks_for_all_of_it_is_ready(k: kastra.Kastra) -> None:
    for name in ("trip", "chat", "turns", "many", "shout"):
        workflow = await k.client.get(ObjectRef("workflows", name, "default"))
        assert workflow.is_condition_true("Ready"), workflow.status


async def test_a_run_shows_that_it_was_undone_and_why_it_failed(k: kastra.Kastra) -> None:
    run = await ended(k, await create_run(k.client, "workflow/trip", {"solvent": False}, name="poor"))
    assert run.status["phase"] == "Failed"
    assert (run.condition("Compensated") or {})["status"] == "True"
    assert run.status["error"]["title"] == "no money"
    rich = await ended(k, await create_run(k.client, "workflow/trip", {"solvent": True}, name="rich"))
    assert rich.status["phase"] == "Succeeded"
    assert rich.condition("Compensated") is None


async def test_a_run_that_used_its_budget_up_says_so_and_goes_on_when_it_is_raised(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/chat", "hello", name="talk")
    held = await until(k, run, "Suspended", "BudgetExceeded")
    condition = held.condition("BudgetExceeded") or {}
    assert condition["status"] == "True"
    assert "maxModelCalls of the Run is 1" in condition["message"]
    await act(k, held, "resume", {"data": {"maxModelCalls": 2}})
    done = await ended(k, run)
    assert done.status["phase"] == "Succeeded"
    assert (done.condition("BudgetExceeded") or {})["reason"] == "Raised"


async def test_the_budget_of_a_run_itself_holds(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "agent/echo", "hello", name="broke", spec={"budget": {"maxModelCalls": 0}})
    failed = await ended(k, run)
    assert failed.status["error"]["type"] == "budget"


async def test_a_run_beyond_the_limit_shows_that_it_is_queued(k: kastra.Kastra) -> None:
    first = await create_run(k.client, "workflow/turns", {"key": "a"}, name="first")
    await until(k, first, "Started", "Started")
    second = await until(
        k, await create_run(k.client, "workflow/turns", {"key": "a"}, name="second"), "Progressing", "Queued"
    )
    assert second.status["phase"] == "Pending"
    await k.client.patch(first.ref, {"spec": {"desiredState": "Cancelled"}}, PatchType.MERGE)
    await until(k, second, "Started", "Started")


async def test_a_run_is_repeated_from_a_step(k: kastra.Kastra) -> None:
    old = await ended(k, await create_run(k.client, "workflow/shout", {"text": "hi"}, name="old"))
    assert old.status["output"] == {"said": "HI"}
    new = await act(k, old, "rerun", {"name": "new", "fromStep": "second", "overrides": {"first": "HO"}})
    assert new.spec["rerunOf"] == {"name": "old", "fromStep": "second", "overrides": {"first": "HO"}}
    assert (await ended(k, new)).status["output"] == {"said": "HO"}


async def test_a_run_that_repeats_one_of_something_else_is_refused_and_one_that_is_not_there_yet_waited_for(
    k: kastra.Kastra,
) -> None:
    waiting = await create_run(k.client, "workflow/shout", name="early", spec={"rerunOf": {"name": "late"}})
    await until(k, waiting, "Accepted", "NotFound")
    await create_run(k.client, "workflow/shout", {"text": "ja"}, name="late")
    assert (await ended(k, waiting)).status["output"] == {"said": "JA"}
    wrong = await create_run(
        k.client, "workflow/trip", {"solvent": True}, name="wrong", spec={"rerunOf": {"name": "late"}}
    )
    await until(k, wrong, "Accepted", "RerunMismatch")


async def test_the_status_of_a_run_over_ten_thousand_items_stays_small(k: kastra.Kastra) -> None:
    sizes: list[int] = []

    def note(run: Object) -> bool:
        sizes.append(len(orjson.dumps(run.status)))
        return run.is_condition_true("Complete")

    run = await create_run(k.client, "workflow/many", list(range(10_000)), name="many")
    with anyio.fail_after(60):
        done = await wait_until(k.client, run.ref, note)
    assert done.status["phase"] == "Succeeded"
    assert done.status["counts"]["succeeded"] == 10_001
    assert max(sizes) < 256 * 1024
    rows = [row async for row in k.client.connect(run.ref, "steps")]
    assert [row["key"] for row in rows] == ["each", "each[*]/keep"]
    assert rows[1]["counts"] == {"Succeeded": 10_000}
