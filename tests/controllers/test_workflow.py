"""A Workflow is Ready when it compiles, the executor does all it asks for, and everything its steps name can be used."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .objects import agent, apply, manifest, namespace, ready, remove, said, status, tool, writes_of


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def workflow(name: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return manifest("Workflow", name, {"steps": list(steps), **spec})


async def test_a_compiled_workflow_shows_its_graph(env: ControlPlane) -> None:
    inner = {"id": "inner", "set": {"x": 1}}
    await apply(env, workflow("w", {"id": "a", "do": {"steps": [inner]}}, {"id": "b", "set": {"y": "${{ prev }}"}}))
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")
    graph = (await status(env, "Workflow", "w"))["graph"]
    assert graph["steps"] == 3
    await apply(env, workflow("w", {"id": "a", "set": {"x": 1}}))
    changed = (await status(env, "Workflow", "w"))["graph"]
    assert changed["steps"] == 1
    assert changed["hash"] != graph["hash"]


async def test_what_steps_name_makes_it_ready_by_appearing_and_not_by_going(env: ControlPlane) -> None:
    nested = {"id": "n", "parallel": {"steps": [{"id": "x", "tool": "find"}, {"id": "y", "agent": "cook.chef"}]}}
    await apply(env, workflow("w", nested))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "NotFound")
    assert 'spec.steps[0].parallel.steps[0].tool: no Tool "find" in namespace "default"' in found.message
    await apply(env, namespace("cook"), agent("chef", "cook"), tool("find"))
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")
    await apply(env, agent("chef", "cook", tools=["knife"]))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "DependencyNotReady")
    assert "Agent cook/chef is not Ready: NotFound" in found.message
    await remove(env, "Agent", "chef", "cook")
    assert await ready(env, "Workflow", "w") == ("False", "NotFound")


async def test_workflows_that_run_each_other_and_agents_that_call_them_are_ready(env: ControlPlane) -> None:
    await apply(
        env,
        workflow("w", {"id": "a", "workflow": "v"}),
        workflow("v", {"id": "a", "agent": "caller", "input": "user-input"}),
        agent("caller", tools=[{"workflowRef": "w"}]),
    )
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")
    assert await ready(env, "Workflow", "v") == ("True", "Compiled")
    assert await ready(env, "Agent", "caller") == ("True", "Resolved")


async def test_a_step_that_names_another_kind_is_reported(env: ControlPlane) -> None:
    await apply(env, tool("t"), workflow("w", {"id": "a", "agent": "tools/t"}))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "InvalidKind")
    assert "spec.steps[0].agent" in found.message


async def test_what_the_executor_does_not_do_keeps_a_workflow_from_being_ready(env: ControlPlane) -> None:
    await apply(env, workflow("w", {"id": "a", "set": {"x": 1}, "queue": "slow"}))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "UnsupportedFeatures")
    assert "spec.steps[0].queue: queue" in found.message
    assert (await said(env, "Workflow", "w", "UnsupportedFeatures")).status == "True"
    assert (await status(env, "Workflow", "w"))["graph"]["steps"] == 1
    await apply(env, workflow("w", {"id": "a", "set": {"x": 1}}))
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")
    assert (await said(env, "Workflow", "w", "UnsupportedFeatures")).status == "False"


async def test_the_function_of_a_python_step_must_be_importable(env: ControlPlane) -> None:
    await apply(env, workflow("w", {"id": "a", "python": {"entrypoint": "workflow_code:run"}}))
    found = await said(env, "Workflow", "w")
    assert found[:2] == ("False", "NotImportable")
    assert "spec.steps[0].python.entrypoint" in found.message
    (env.settings.project / "workflow_code.py").write_text("def run(x: int = 1): return x\n")
    await env.advance(30)
    assert await ready(env, "Workflow", "w") == ("True", "Compiled")


async def test_a_suspended_workflow_says_so(env: ControlPlane) -> None:
    await apply(env, workflow("w", {"id": "a", "set": {"x": 1}}, suspend=True))
    assert await ready(env, "Workflow", "w") == ("False", "Suspended")


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, tool("find"), workflow("w", {"id": "a", "tool": "find"}))
    await assert_settled_pass_writes_nothing(env.manager, "workflow", "default", "w", writes_of(env, "Workflow"))
