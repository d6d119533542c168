"""Workflows and networks that a Run calls are Runs of their own, found again after a crash, and not without end."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import kastra
from kastra.app.running import RunFailed
from kastra.config import Settings

MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: inner}
spec:
  steps: [{id: keep, set: {seen: '${{ input.text }}'}}]
  output: {as: {got: '${{ input.text }}'}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: outer}
spec:
  steps:
  - {id: call, workflow: inner, with: {text: '${{ input.text }}'}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: endless}
spec:
  steps: [{id: again, workflow: endless, retry: 0}]
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: echo}
spec:
  model: {provider: scripted, name: x, parameters: {rules: [{when: 'true', reply: 'echo'}]}}
---
apiVersion: mastra.ai/v1
kind: Network
metadata: {name: pair}
spec:
  agents: [{name: echo, ref: echo}]
  router: {mode: roundRobin}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: ask}
spec:
  steps: [{id: team, network: pair}]
"""


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=(), grace=0.5)
    async with kastra.open(":memory:", settings=settings) as opened:
        report = await opened.apply(tmp_path / "all.yaml")
        assert report.ok, [str(problem) for problem in report.problems]
        assert await opened.settle(10)
        yield opened


async def test_a_workflow_step_is_a_child_run_owned_by_its_parent(k: kastra.Kastra) -> None:
    with anyio.fail_after(10):
        result = await k.run("workflow/outer", {"text": "hi"})
    assert result.output == {"got": "hi"}
    runs = {run.uid: run for run in (await k.client.list("runs")).items}
    [child] = [run for run in runs.values() if run.uid != result.uid]
    assert child.owner_references[0]["uid"] == result.uid
    assert child.spec["target"]["name"] == "inner"


async def test_a_network_runs_inline_as_a_run_and_as_a_child_in_a_step(k: kastra.Kastra) -> None:
    with anyio.fail_after(10):
        await k.run("network/pair", "hello")
        assert len((await k.client.list("runs")).items) == 1
        await k.run("workflow/ask", "hello")
        assert len((await k.client.list("runs")).items) == 3


async def test_a_workflow_that_runs_itself_is_stopped(k: kastra.Kastra) -> None:
    with anyio.fail_after(30), pytest.raises(RunFailed):
        await k.run("workflow/endless", {})
    runs = (await k.client.list("runs")).items
    assert len(runs) == 17
    assert any("does something run itself?" in str(run.status.get("error")) for run in runs)
