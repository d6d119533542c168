"""What can be run shows what runs: how many, which was last; a Workflow keeps as many finished Runs as it says."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.running import create_run, wait_until
from kastra.config import Settings

MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: echo}
spec:
  model: {provider: scripted, name: x, parameters: {rules: [{when: 'true', reply: hi}]}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: nap}
spec:
  steps: [{id: nap, sleep: 1h}]
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: quick}
spec:
  durability: process
  history: {successfulRunsLimit: 2, failedRunsLimit: 1}
  input: {schema: {type: object, properties: {fail: {type: boolean}}}}
  steps:
  - {id: stop, when: input.fail, raise: {type: user, title: stopped}}
  - {id: go, set: {done: true}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: fleeting}
spec:
  history: {ttlAfterFinished: 1ms}
  steps: [{id: go, set: {done: true}}]
"""
PARENT = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: forgetful}
spec:
  history: {successfulRunsLimit: 0}
  steps: [{id: go, set: {done: true}}]
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: parent}
spec:
  steps:
  - {id: a, workflow: fleeting}
  - {id: b, workflow: forgetful}
  - {id: wait, waitForEvent: {type: never}}
"""


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=(), grace=0.5)
    async with kastra.open(":memory:", settings=settings) as opened:
        assert (await opened.apply(tmp_path / "all.yaml")).ok
        assert await opened.settle(10)
        yield opened


async def seen(k: kastra.Kastra, kind: str, name: str, **status: object) -> Object:
    with anyio.fail_after(10):
        return await wait_until(
            k.client,
            ObjectRef(kind, name, "default"),
            lambda obj: all(obj.status.get(field) == value for field, value in status.items()),
        )


async def test_what_never_ran_says_nothing(k: kastra.Kastra) -> None:
    workflow = await k.client.get(ObjectRef("workflows", "nap", "default"))
    assert not {"activeRuns", "active", "lastRun"} & workflow.status.keys()


async def test_a_workflow_names_the_runs_that_have_not_finished_and_the_last_one(k: kastra.Kastra) -> None:
    first = await create_run(k.client, "workflow/nap", name="first")
    workflow = await seen(k, "workflows", "nap", active=[{"name": "first", "phase": "Waiting"}])
    assert workflow.status["activeRuns"] == 1
    assert workflow.status["lastRun"]["name"] == "first"
    assert workflow.is_condition_true("Ready")
    await k.client.patch(first.ref, {"spec": {"desiredState": "Cancelled"}})
    workflow = await seen(k, "workflows", "nap", activeRuns=0)
    assert "active" not in workflow.status
    assert workflow.status["lastRun"]["phase"] == "Cancelled"


async def test_an_agent_counts_the_runs_under_way(k: kastra.Kastra) -> None:
    await k.run("agent/echo", "hello")
    agent = await seen(k, "agents", "echo", activeRuns=0)
    assert agent.is_condition_true("Ready")


async def test_an_agent_that_came_after_its_run_counts_it_while_it_goes_on(k: kastra.Kastra, tmp_path: Path) -> None:
    run = {"target": {"kind": "Agent", "name": "tardy"}, "input": "hello"}
    metadata = {"name": "early", "namespace": "default"}
    await k.client.create({"apiVersion": "mastra.ai/v1", "kind": "Run", "metadata": metadata, "spec": run})
    assert await k.settle(10)
    (tmp_path / "tardy.yaml").write_text(
        MANIFESTS.partition("---")[0].replace("echo", "tardy").replace("{rules:", "{delay: 1h, rules:")
    )
    assert (await k.apply(tmp_path / "tardy.yaml")).ok
    await seen(k, "agents", "tardy", activeRuns=1)


async def test_a_workflow_keeps_the_newest_finished_runs_up_to_its_limits(k: kastra.Kastra) -> None:
    for number, fail in enumerate((False, True, False, True, False)):
        run = await create_run(k.client, "workflow/quick", {"fail": fail}, name=f"run-{number}")
        await wait_until(k.client, run.ref, lambda run: run.is_condition_true("Complete"))
    with anyio.fail_after(10):
        while len((await k.client.list("runs", "default")).items) > 3:
            await anyio.sleep(0.05)
    kept = {run.name: run.status["phase"] for run in (await k.client.list("runs", "default")).items}
    assert sorted(kept.values()) == ["Failed", "Succeeded", "Succeeded"]


async def test_a_workflow_says_how_long_its_finished_runs_stay(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/fleeting", name="gone")
    with anyio.fail_after(10):
        while (await k.client.list("runs", "default")).items:
            await anyio.sleep(0.02)
    assert run.name == "gone"


async def test_the_durability_of_a_workflow_is_that_of_its_runs(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/quick", {"fail": False}, name="fast")
    await wait_until(k.client, run.ref, lambda run: run.is_condition_true("Complete"))
    [started, *_] = [record async for record in k.client.connect(run.ref, "history")]
    assert started["body"]["durability"] == "process"


async def test_a_run_names_the_fields_that_nothing_is_done_about(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "agent/echo", "hello", name="b", spec={"priority": 3, "budgetRef": "t"})
    ended = await wait_until(k.client, run.ref, lambda run: run.is_condition_true("Complete"))
    condition = ended.condition("UnsupportedFeatures")
    assert condition is not None
    assert condition["message"].endswith("by this version: spec.budgetRef")


async def test_a_run_without_prices_shows_no_cost(k: kastra.Kastra) -> None:
    result = await k.run("agent/echo", "hello")
    assert "costUSD" not in result.usage
    assert result.usage["calls"] == 1


async def test_what_a_run_called_stays_until_that_run_has_ended(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(PARENT)
    assert (await k.apply(tmp_path / "parent.yaml")).ok
    parent = await create_run(k.client, "workflow/parent", name="parent")
    with anyio.fail_after(10):
        await wait_until(k.client, parent.ref, lambda run: run.status.get("phase") == "Waiting")
        while len(runs := (await k.client.list("runs", "default")).items) < 3:
            await anyio.sleep(0.02)
        for child in (run for run in runs if run.name != "parent"):
            await wait_until(k.client, child.ref, lambda run: run.is_condition_true("Complete"))
        # Long enough for another Run, which nobody called, to come and go.
        await create_run(k.client, "workflow/fleeting", name="gone")
        while any(run.name == "gone" for run in (await k.client.list("runs", "default")).items):
            await anyio.sleep(0.02)
    assert len((await k.client.list("runs", "default")).items) == 3
