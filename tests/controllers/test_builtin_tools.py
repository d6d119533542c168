"""Built-in tools in manifests: named by a Tool or by an Agent, alone or by group."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.runtime.discovery import discover
from kastra.testing import ControlPlane
from kastra.testing.control_plane import ApplyFailed

from .objects import agent, apply, ready, said, status, tool

VIEWS: dict[str, Any] = {view.api_kind: view for view in discover(packages=["kastra.controllers"]).views}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


async def test_a_tool_names_a_builtin_and_gets_its_schema_and_what_it_may_do(env: ControlPlane) -> None:
    await apply(env, tool("read", builtin="files.read"), tool("now", builtin={"name": "time.now"}))
    assert await ready(env, "Tool", "read") == ("True", "Resolved")
    found = await status(env, "Tool", "read")
    assert (found["type"], list(found["inputSchema"]["properties"])) == ("builtin", ["path"])
    view = VIEWS["Tool"].of(await env.get("Tool", "read")).spec.plain()
    assert view["annotations"] == {"readOnly": True, "destructive": False, "idempotent": True, "openWorld": False}
    assert view["timeout"] == "30s"


async def test_a_manifest_may_say_otherwise_of_what_a_builtin_may_do(env: ControlPlane) -> None:
    await apply(env, tool("append", builtin="files.append", annotations={"idempotent": True}, timeout="5s"))
    view = VIEWS["Tool"].of(await env.get("Tool", "append")).spec.plain()
    assert (view["annotations"]["idempotent"], view["annotations"]["readOnly"], view["timeout"]) == (True, False, "5s")


@pytest.mark.parametrize(
    ("builtin", "words"),
    [
        ("files.raed", "spec.builtin.name.*did you mean 'files.read'"),
        ("files", "spec.builtin.name.*is a group"),
        ({"name": "time.now", "folder": "x"}, "spec.builtin.folder.*has no such setting"),
        ({"name": "process.run"}, "spec.builtin.programs.*needs it"),
        ({"name": "files.read", "root": "x"}, "root"),
        ({"name": "files.read", "maxBytes": 0}, "maxBytes"),
        ({}, "name"),
    ],
)
async def test_a_use_that_makes_no_sense_is_refused_when_it_is_applied(
    builtin: Any, words: str, env: ControlPlane
) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await env.apply(tool("t", builtin=builtin))


async def test_a_folder_or_a_program_that_can_not_be_used_is_told_by_a_condition(env: ControlPlane) -> None:
    await apply(
        env,
        tool("folder", builtin={"name": "files.read", "folder": "../up"}),
        tool("program", builtin={"name": "process.run", "programs": ["no-such-program-here"]}),
        agent("a", tools=[{"builtin": {"name": "files.read", "folder": "/etc"}}]),
    )
    assert (await said(env, "Tool", "folder"))[:2] == ("False", "InvalidBuiltin")
    assert (await said(env, "Tool", "program"))[:2] == ("False", "ProgramNotFound")
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "InvalidBuiltin")
    assert "spec.tools[0].builtin.folder" in found.message


async def test_an_agent_names_builtins_without_any_tool_object(env: ControlPlane) -> None:
    await apply(env, agent("a", tools=[{"builtin": "files.read"}, {"builtin": "time.now", "as": "clock"}]))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    found = await status(env, "Agent", "a")
    assert [(entry["name"], entry["resolved"]) for entry in found["tools"]] == [
        ("files_read", "builtin/files.read"),
        ("clock", "builtin/time.now"),
    ]


async def test_a_group_stands_for_its_tools_and_leaves_the_others_where_they_are(env: ControlPlane) -> None:
    tools = [
        {"builtin": {"name": "files", "readOnly": True, "folder": "notes"}, "requireApproval": True},
        {"builtin": "math.round"},
    ]
    await apply(env, agent("a", tools=tools))
    names = [entry["name"] for entry in (await status(env, "Agent", "a"))["tools"]]
    assert names[:2] == ["files_list", "math_round"]
    assert "files_grep" in names
    assert "files_write" not in names
    plain = VIEWS["Agent"].of(await env.get("Agent", "a")).spec.plain()["tools"]
    assert plain[2]["builtin"] == {"name": "files.read", "folder": "notes"}
    assert plain[2]["requireApproval"] is True


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ({"builtin": "fils"}, "no built-in tool"),
        ({"builtin": "files", "as": "x"}, "is a group of tools"),
        ({"builtin": "files", "preset": {"path": "x"}}, "is a group of tools"),
        ({"builtin": "process"}, "programs.*needs it"),
        ({"builtin": "files.read", "toolRef": "x"}, "already given"),
    ],
)
async def test_a_binding_that_makes_no_sense_is_refused(binding: dict[str, Any], words: str, env: ControlPlane) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await env.apply(agent("a", tools=[binding]))


async def test_the_same_builtin_twice_needs_names_of_its_own(env: ControlPlane) -> None:
    with pytest.raises(ApplyFailed, match="Duplicate value"):
        await env.apply(
            agent("a", tools=[{"builtin": "files.read"}, {"builtin": {"name": "files.read", "folder": "x"}}])
        )
    twice = [{"builtin": "files.read"}, {"builtin": {"name": "files.read", "folder": "x"}, "as": "read_x"}]
    await apply(env, agent("b", tools=twice))
    assert await ready(env, "Agent", "b") == ("True", "Resolved")
