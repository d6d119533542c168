"""An agent works with built-in tools in a Run, and a model is told what it did wrong."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ControlPlane


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


def agent(rules: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    spec = {
        "instructions": "Keep notes.",
        "model": {"provider": "scripted", "parameters": {"rules": rules}},
        "tools": tools,
        "maxSteps": 8,
    }
    return {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": "clerk"}, "spec": spec}


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"when": f"size(results) == {number}", "call": {"tool": tool, "arguments": arguments}}


async def test_an_agent_writes_reads_and_corrects_itself(env: ControlPlane) -> None:
    rules = [
        call(0, "files_write", path="a.md", content="one two"),
        call(1, "files_edit", path="a.md", old="three", new="3"),
        call(2, "files_edit", path="a.md", old="two", new="2"),
        call(3, "files_read", path="../a.md"),
        call(4, "files_read", path="a.md"),
        {"reply": "${{ results[1] }} | ${{ results[3] }} | ${{ results[4] }}"},
    ]
    await env.apply(agent(rules, [{"builtin": {"name": "files", "folder": "notes"}}]))
    output = str((await env.run("agent/clerk", input="go")).output)
    assert "occurs 0 times" in output
    assert "'..' is not allowed" in output
    assert output.endswith("| one 2")
    assert (env.settings.project / "notes/a.md").read_text() == "one 2"


async def test_a_tool_that_the_agent_does_not_list_is_not_there_for_it(env: ControlPlane) -> None:
    rules = [call(0, "files_delete", path="a.md"), {"reply": "${{ results[0] }}"}]
    (env.settings.project / "workspace").mkdir()
    (env.settings.project / "workspace/a.md").touch()
    await env.apply(agent(rules, [{"builtin": {"name": "files", "readOnly": True}}]))
    run = await env.run("agent/clerk", input="go")
    assert "files_delete" in f"{run.output} {run.error}"
    assert (env.settings.project / "workspace/a.md").exists()


async def test_the_store_and_its_key_are_out_of_reach_of_an_agent_whose_folder_is_the_project(
    env: ControlPlane,
) -> None:
    data = env.settings.project / ".kastra"
    data.mkdir(exist_ok=True)
    (data / "secret.key").write_text("canary-4711")
    rules = [
        call(0, "files_read", path=".kastra/secret.key"),
        call(1, "files_grep", pattern="canary"),
        {"reply": "${{ results[0] }} ${{ string(results[1].matches.size()) }}"},
    ]
    await env.apply(agent(rules, [{"builtin": {"name": "files", "folder": "."}}]))
    output = str((await env.run("agent/clerk", input="go")).output)
    assert "belongs to the server itself" in output
    assert output.endswith(" 0")
