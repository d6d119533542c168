"""A Run is submitted once, steered by desiredState, and shows in its status what its journal says."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import kastra
from kastra.api.errors import Invalid
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.running import RunFailed, create_run, wait_until
from kastra.config import Settings

MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: echo}
spec:
  model: {provider: scripted, name: x, parameters: {rules: [{when: 'true', reply: 'You said ${{ input.text }}.'}]}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: nap}
spec:
  steps:
  - {id: before, set: {seen: true}}
  - {id: nap, sleep: 1h}
  - {id: after, agent: echo, input: {with: {text: awake}}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: broken}
spec:
  steps: [{id: stop, raise: {type: user, title: No more}}]
"""


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=(), grace=0.5)
    async with kastra.open(":memory:", settings=settings) as opened:
        assert (await opened.apply(tmp_path / "all.yaml")).ok
        assert await opened.settle(10)
        yield opened


async def until_phase(k: kastra.Kastra, run: Object, phase: str) -> Object:
    with anyio.fail_after(10):
        return await wait_until(k.client, run.ref, lambda obj: obj.status.get("phase") == phase)


async def test_a_run_that_succeeds_shows_its_output_and_its_conditions(k: kastra.Kastra) -> None:
    result = await k.run("agent/echo", {"text": "hello"})
    assert (result.phase, result.output) == ("Succeeded", "You said hello.")
    run = await k.client.get(ObjectRef("runs", result.name, "default"))
    for condition in ("Accepted", "Started", "Complete", "Succeeded"):
        assert run.is_condition_true(condition), condition
    assert run.status["counts"]["succeeded"] == 1
    assert run.status["revision"].startswith("sha256:")
    assert run.status["startTime"] <= run.status["completionTime"]


async def test_a_run_that_fails_says_why(k: kastra.Kastra) -> None:
    with pytest.raises(RunFailed, match="user: No more") as caught:
        await k.run("workflow/broken")
    run = await k.client.get(ObjectRef("runs", caught.value.result.name, "default"))
    assert run.is_condition_true("Failed")
    assert run.status["error"]["type"] == "user"
    assert "output" not in run.status


async def test_a_waiting_run_names_what_it_waits_for_and_can_be_cancelled(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/nap")
    waiting = await until_phase(k, run, "Waiting")
    [wait] = waiting.status["waitingFor"]
    assert (wait["stepKey"], wait["kind"]) == ("nap", "Timer")
    await k.client.patch(run.ref, {"spec": {"desiredState": "Cancelled"}})
    ended = await until_phase(k, run, "Cancelled")
    assert ended.is_condition_true("Complete")
    assert ended.condition("Succeeded") is None


async def test_a_run_created_suspended_starts_when_it_is_let(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "agent/echo", {"text": "later"}, spec={"desiredState": "Suspended"})
    held = await until_phase(k, run, "Suspended")
    assert (held.condition("Suspended") or {})["reason"] == "Requested"
    assert held.condition("Started") is None
    await k.client.patch(run.ref, {"spec": {"desiredState": "Running"}})
    ended = await until_phase(k, run, "Succeeded")
    assert ended.status["output"] == "You said later."


async def test_a_run_waits_for_a_target_that_does_not_exist_yet(k: kastra.Kastra, tmp_path: Path) -> None:
    body = {
        "apiVersion": "mastra.ai/v1",
        "kind": "Run",
        "metadata": {"name": "early"},
        "spec": {"target": {"kind": "Agent", "name": "late"}, "input": "hi"},
    }
    run = await k.client.create(body)
    pending = await until_phase(k, run, "Pending")
    assert (pending.condition("Accepted") or {})["message"] == "Agent default/late does not exist (yet)"
    (tmp_path / "late.yaml").write_text(MANIFESTS.partition("---")[0].replace("echo", "late"))
    await k.apply(tmp_path / "late.yaml")
    assert (await until_phase(k, run, "Succeeded")).status["output"] == "You said hi."


async def test_a_run_keeps_the_definitions_that_it_started_with(k: kastra.Kastra) -> None:
    first = await k.run("agent/echo", {"text": "a"})
    ref = ObjectRef("agents", "echo", "default")
    rules = {"rules": [{"when": "true", "reply": "New."}]}
    await k.client.patch(ref, {"spec": {"model": {"parameters": rules}}})
    second = await k.run("agent/echo", {"text": "a"})
    assert (first.output, second.output) == ("You said a.", "New.")
    revisions = {r.status["revision"] for r in (await k.client.list("runs")).items}
    assert len(revisions) == 2


async def test_nothing_but_the_desired_state_of_a_run_can_change(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/nap", {"a": 1})
    await until_phase(k, run, "Waiting")
    for change in ({"input": {"a": 2}}, {"timeout": "1h"}, {"target": {"name": "other"}}):
        with pytest.raises(Invalid, match="immutable"):
            await k.client.patch(run.ref, {"spec": change})


async def test_a_deleted_run_stops(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/nap")
    await until_phase(k, run, "Waiting")
    events: list[str] = []

    async def listen() -> None:
        async for event in k.client.connect(run.ref, "events"):
            events.append(event["type"])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            await k.client.delete(run.ref)
    assert events[-1] == "run.cancelled"


async def test_a_finished_run_goes_when_its_time_is_up(k: kastra.Kastra) -> None:
    result = await k.run("agent/echo", {"text": "x"}, spec={"ttlAfterFinished": 0})
    with anyio.fail_after(10):
        while any(run.name == result.name for run in (await k.client.list("runs")).items):
            await anyio.sleep(0.02)
