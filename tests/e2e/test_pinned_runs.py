"""A Run executes what it resolved when it began, whatever happens to those objects afterwards."""

from pathlib import Path

import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.app.running import create_run, follow_run, wait_until
from kastra.config import Settings
from kastra.testing.clock import VirtualClock

AGENT = """
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: poet}
spec:
  instructions: Write.
  model: {provider: scripted, parameters: {rules: [{reply: 'old words for ${{ input.text }}'}]}}
"""
WORKFLOW = """
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: verse}
spec:
  steps:
  - {id: rest, sleep: 1h}
  - {id: write, agent: poet}
  - id: sign
    set: {signed: '${{ prev }}, by nobody'}
"""
RUN = ObjectRef("runs", "first", "default")
pytestmark = pytest.mark.timeout(60)


async def begin(settings: Settings, folder: Path, clock: VirtualClock) -> None:
    """Start a Run and stop the process while it rests."""
    (folder / "agent.yaml").write_text(AGENT)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    async with kastra.open(settings=settings, clock=clock) as k:
        report = await k.apply(folder)
        assert report.ok
        await k.settle(30)
        await create_run(k.client, "workflow/verse", "rain", name="first")
        await wait_until(k.client, RUN, lambda run: run.status.get("phase") == "Waiting")


async def change(settings: Settings, folder: Path, clock: VirtualClock) -> None:
    """Without an executor: delete the agent, and make the workflow another one."""
    (folder / "workflow.yaml").write_text(WORKFLOW.replace("by nobody", "by somebody"))
    async with kastra.open(settings=settings, clock=clock, execute=False) as k:
        await k.client.delete(ObjectRef("agents", "poet", "default"))
        (folder / "agent.yaml").unlink()
        assert (await k.apply(folder)).ok
        await k.settle(30)
        # The rest is over, and nobody here may go on.
        await clock.advance(7200)
        await k.settle(30)
        assert not (await k.client.get(RUN)).is_condition_true("Complete")


async def test_an_interrupted_run_ends_as_if_its_workflow_had_not_been_edited_and_its_agent_not_deleted(
    tmp_path: Path,
) -> None:
    settings = Settings(project=tmp_path, controllers=(), data=tmp_path / "data")
    folder = tmp_path / "manifests"
    folder.mkdir()
    clock = VirtualClock()
    await begin(settings, folder, clock)
    await change(settings, folder, clock)
    async with kastra.open(settings=settings, clock=clock) as k:
        result = await follow_run(k.client, await k.client.get(RUN))
        assert (result.phase, result.output) == ("Succeeded", {"signed": "old words for rain, by nobody"})
        changed = await create_run(k.client, "workflow/verse", "rain", name="second")
        waiting = await wait_until(k.client, changed.ref, lambda run: run.condition("Accepted") is not None)
        assert waiting.condition("Accepted")["status"] == "False"  # type: ignore[index] - the agent is gone for new Runs


async def test_a_run_goes_on_as_it_began_when_its_workflow_is_deleted_and_made_anew_under_it(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, controllers=(), data=tmp_path / "data")
    folder = tmp_path / "manifests"
    folder.mkdir()
    clock = VirtualClock()
    await begin(settings, folder, clock)
    async with kastra.open(settings=settings, clock=clock) as k:
        workflow = ObjectRef("workflows", "verse", "default")
        await k.client.delete(workflow)
        await k.settle(30)
        (folder / "workflow.yaml").write_text(
            WORKFLOW.replace("sleep: 1h", "sleep: 2h").replace("nobody", "a stranger")
        )
        assert (await k.apply(folder)).ok
        await k.settle(30)
        await clock.advance(3600)
        result = await follow_run(k.client, await k.client.get(RUN))
        assert (result.phase, result.output) == ("Succeeded", {"signed": "old words for rain, by nobody"})
