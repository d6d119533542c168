"""An MCPServer shows what its server offers, quarantines what has changed since it was accepted, and lets Agents call the rest."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing
from tests.support import warm

from .objects import agent, apply, manifest, ready, remove, said, secret, status, the, tool, writes_of

SERVERS = Path(__file__).resolve().parents[1] / "support" / "mcp"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


def server(name: str = "files", behaviour: str = "", **spec: Any) -> dict[str, Any]:
    raw, ordinary = [sys.executable, str(SERVERS / "raw.py"), behaviour], [warm.python(), str(SERVERS / "ordinary.py")]
    command = raw if behaviour else ordinary
    return manifest("MCPServer", name, {"transport": "stdio", "command": command, **spec})


def calling(tool_name: str, **arguments: Any) -> dict[str, Any]:
    """A model that calls one tool and then repeats what it gave."""
    rules = [
        {"when": "size(results) == 0", "call": {"tool": tool_name, "arguments": arguments}},
        {"when": "size(results) > 0", "reply": "${{ string(results[0]) }}"},
    ]
    return {"provider": "scripted", "parameters": {"rules": rules}}


async def test_a_server_shows_its_tools_and_what_it_calls_itself(env: ControlPlane) -> None:
    await apply(env, server(toolFilter={"allow": ["add", "greet"]}))
    assert await ready(env, "MCPServer", "files") == ("True", "Connected")
    found = await status(env, "MCPServer", "files")
    assert [(entry["name"], entry["state"]) for entry in found["discoveredTools"]] == [
        ("add", "Callable"),
        ("greet", "Callable"),
    ]
    assert (found["toolCount"], found["quarantinedCount"]) == (2, 0)
    assert (found["server"], found["protocolVersion"]) == ("ordinary 1.2.3", "2026-07-28")
    assert (await said(env, "MCPServer", "files", "Connected")).status == "True"


async def test_an_agent_calls_the_tools_of_a_server(env: ControlPlane) -> None:
    await apply(
        env, server(), agent("a", tools=[{"mcp": {"server": "files"}}], model=calling("files_greet", name="Ada"))
    )
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    shown = (await status(env, "Agent", "a"))["tools"]
    assert {"files_add", "files_greet"} <= {entry["name"] for entry in shown}
    assert all(entry["resolved"].startswith("MCPServer/default/files/") and entry["schemaHash"] for entry in shown)
    assert (await env.run("agent/a", "Say hello")).output == "Hello, Ada"


async def test_one_tool_of_a_server_can_have_a_name_and_arguments_of_its_own(env: ControlPlane) -> None:
    binding = {"mcp": {"server": "files", "tools": ["add"]}, "as": "plus", "preset": {"b": 40}}
    rules = [
        {"when": "size(results) == 0", "call": {"tool": "plus", "arguments": {"a": 2}}},
        {"when": "size(results) > 0", "reply": "${{ string(results[0].total) }}"},
    ]
    model = {"provider": "scripted", "parameters": {"rules": rules}}
    await apply(env, server(), agent("a", tools=[binding], model=model))
    assert [entry["name"] for entry in (await status(env, "Agent", "a"))["tools"]] == ["plus"]
    assert (await env.run("agent/a", "2 + 40")).output == "42"


async def test_an_agent_reads_what_a_server_holds_where_its_spec_says_so(env: ControlPlane) -> None:
    reads = agent("a", tools=[{"mcp": {"server": "files"}}], model=calling("files_read_resource", uri="notes://today"))
    await apply(env, server(resources=True, toolFilter={"allow": ["*_resource*"]}), reads)
    found = await status(env, "MCPServer", "files")
    assert [entry["name"] for entry in found["discoveredTools"]] == ["list_resources", "read_resource"]
    assert (await env.run("agent/a", "What is there to do?")).output == "buy milk"
    step = {"id": "r", "tool": "today", "with": {"uri": "notes://today"}}
    await apply(
        env,
        tool("today", mcp={"serverRef": "files", "tool": "read_resource"}),
        manifest("Workflow", "w", {"steps": [step]}),
    )
    assert (await env.run("workflow/w")).output == "buy milk"
    await apply(env, server())
    assert "list_resources" not in {one["name"] for one in (await status(env, "MCPServer", "files"))["discoveredTools"]}


async def test_a_tool_may_stand_for_one_of_a_server(env: ControlPlane) -> None:
    await apply(env, server(), tool("plus", mcp={"serverRef": "files", "tool": "add"}))
    assert await ready(env, "Tool", "plus") == ("True", "Resolved")
    assert (await status(env, "Tool", "plus"))["schemaHash"]
    assert (await env.run("tool/plus", {"a": 1, "b": 2})).output == {"total": 3}


async def test_a_tool_or_an_agent_says_which_tool_the_server_does_not_have(env: ControlPlane) -> None:
    await apply(
        env,
        server(),
        tool("t", mcp={"serverRef": "files", "tool": "nope"}),
        agent("a", tools=[{"mcp": {"server": "files", "tools": ["nope"]}}]),
    )
    found = await said(env, "Tool", "t")
    assert found[:2] == ("False", "ToolNotFound")
    assert "MCPServer default/files has no tool 'nope'" in found.message
    assert (await said(env, "Agent", "a", "ToolsResolved"))[:2] == ("False", "ToolNotFound")


async def test_a_changed_tool_is_quarantined_until_its_hash_is_accepted(env: ControlPlane) -> None:
    await apply(env, server())
    known = await status(env, "MCPServer", "files")
    pin = {entry["name"]: entry["schemaHash"] for entry in known["discoveredTools"]}
    await apply(env, server(pin={**pin, "greet": "0123456789abcdef"}), agent("a", tools=[{"mcp": {"server": "files"}}]))
    drift = await said(env, "MCPServer", "files", "SchemaDrift")
    assert drift[:2] == ("True", "SchemaDrift")
    assert "greet (it has the hash" in drift.message
    assert await ready(env, "MCPServer", "files") == ("True", "Connected")
    found = await status(env, "MCPServer", "files")
    assert [entry["name"] for entry in found["discoveredTools"] if entry["state"] == "Quarantined"] == ["greet"]
    assert "files_greet" not in {entry["name"] for entry in (await status(env, "Agent", "a"))["tools"]}
    assert "greet is quarantined" in (await said(env, "Agent", "a", "ToolsResolved")).message
    await apply(env, server(pin=found["schemaHash"]))
    assert (await said(env, "MCPServer", "files", "SchemaDrift"))[:2] == ("False", "Accepted")
    assert "files_greet" in {entry["name"] for entry in (await status(env, "Agent", "a"))["tools"]}


async def test_a_server_is_not_ready_when_all_its_tools_are_quarantined(env: ControlPlane) -> None:
    await apply(env, server(pin="0123456789abcdef"))
    assert await ready(env, "MCPServer", "files") == ("False", "SchemaDrift")


async def test_a_run_does_not_call_a_tool_that_the_server_changed_while_it_ran(env: ControlPlane) -> None:
    rules = [
        {"when": "size(results) == 0", "call": {"tool": "files_change", "arguments": {}}},
        {"when": "size(results) == 1", "call": {"tool": "files_greet", "arguments": {"name": "Ada"}}},
        {"when": "size(results) == 2", "reply": "${{ results[1].error.title }}"},
    ]
    model = {"provider": "scripted", "parameters": {"rules": rules}}
    await apply(env, server(), agent("a", tools=[{"mcp": {"server": "files"}}], model=model))
    before = (await status(env, "MCPServer", "files"))["schemaHash"]
    result = await env.run("agent/a", "Say hello")
    assert result.output == "greet has changed on the server since this began; it was not called"
    await env.settle()
    assert (await status(env, "MCPServer", "files"))["schemaHash"] != before
    assert [obj.data["reason"] for obj in await the(env, "events") if obj.data["reason"] == "ToolsChanged"]


async def test_a_server_that_dies_in_a_call_is_an_error_that_the_model_sees(env: ControlPlane) -> None:
    rules = [
        {"when": "size(results) == 0", "call": {"tool": "files_act", "arguments": {}}},
        {"when": "size(results) > 0", "reply": "${{ results[0].error.title }}"},
    ]
    model = {"provider": "scripted", "parameters": {"rules": rules}}
    await apply(env, server(behaviour="die"), agent("a", tools=[{"mcp": {"server": "files"}}], model=model))
    result = await env.run("agent/a", "Act")
    assert "the program ended with exit code 7; it said: out of cheese" in result.output


async def test_a_program_that_does_not_start_is_reported_and_tried_again(env: ControlPlane, tmp_path: Path) -> None:
    program = tmp_path / "serve.py"
    await apply(env, server(command=[str(program)]))
    found = await said(env, "MCPServer", "files")
    assert found[:2] == ("False", "ProgramNotFound")
    assert (await said(env, "MCPServer", "files", "Connected"))[:2] == ("False", "ProgramNotFound")
    program.write_text(f"#!{sys.executable}\nexec(open({str(SERVERS / 'raw.py')!r}).read())")
    program.chmod(0o755)
    await apply(env, server(command=[str(program), "ok"]))
    assert await ready(env, "MCPServer", "files") == ("True", "Connected")


async def test_a_server_that_hangs_is_reported_and_holds_nobody_up(env: ControlPlane) -> None:
    await env.apply(server(behaviour="hang-handshake", timeout="5s"), agent("other"))
    while await ready(env, "MCPServer", "files") == ("", ""):
        await env.clock.advance(1)
    assert await ready(env, "MCPServer", "files") == ("False", "TimedOut")
    assert await ready(env, "Agent", "other") == ("True", "Resolved")


async def test_a_variable_of_a_secret_is_used_and_a_rotated_one_starts_the_program_anew(env: ControlPlane) -> None:
    env_ = {"TOKEN": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}}
    await apply(env, server(env=env_))
    assert await ready(env, "MCPServer", "files") == ("False", "NotFound")
    await apply(env, secret("s", token="first-token-value"), tool("v", mcp={"serverRef": "files", "tool": "variable"}))
    assert await ready(env, "MCPServer", "files") == ("True", "Connected")
    assert (await env.run("tool/v", {"name": "TOKEN"})).output == "[redacted]"
    await apply(env, secret("s", token="second-token-value"))
    assert [obj for obj in await the(env, "events") if obj.data["reason"] == "SecretChanged"]
    assert (await env.run("tool/v", {"name": "TOKEN"})).output == "[redacted]"
    shown = str((await env.get("MCPServer", "files")).data)
    assert "token-value" not in shown


async def test_an_unsound_tool_is_left_out_and_named(env: ControlPlane) -> None:
    await apply(env, server(behaviour="bad-schemas"))
    degraded = await said(env, "MCPServer", "files", "Degraded")
    assert degraded[:2] == ("True", "UnusableTools")
    assert "'huge'" in degraded.message


async def test_a_suspended_server_is_disconnected(env: ControlPlane) -> None:
    await apply(env, server(suspend=True))
    assert await ready(env, "MCPServer", "files") == ("False", "Suspended")


async def test_a_deleted_server_is_disconnected(env: ControlPlane, tmp_path: Path) -> None:
    from tests.unit.tool.mcp_servers import alive, until

    command = [sys.executable, str(SERVERS / "raw.py"), "child", str(tmp_path)]
    await apply(env, server(command=command))
    pids = [int(pid) for pid in (tmp_path / "pids.txt").read_text().split()]
    await remove(env, "MCPServer", "files")
    await env.advance(60)
    await until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"transport": "stdio"}, r"spec\.command.*transport stdio needs command"),
        (
            {"transport": "stdio", "url": "http://x"},
            r"spec\.command.*stdio needs command and takes no url.*streamableHttp",
        ),
        ({"transport": "streamableHttp"}, r"spec\.url.*this transport needs url"),
        ({"transport": "stdio", "command": ["x"], "url": "http://x"}, r"spec\.url.*the transport is stdio"),
        ({"transport": "streamableHttp", "url": "http://x", "env": {"A": "b"}}, r"spec\.env.*the transport is stream"),
        ({"transport": "streamableHttp", "url": "file:///etc"}, r"spec\.url"),
        ({"transport": "pigeon", "url": "http://x"}, r"spec\.transport"),
        ({"transport": "stdio", "command": "sh -c x"}, r"spec\.command"),
        ({"transport": "stdio", "command": ["x"], "pin": 5}, r"spec\.pin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_server_that_makes_no_sense_is_refused(env: ControlPlane, spec: dict[str, Any], why: str) -> None:
    with pytest.raises(ApplyFailed, match=why):
        await env.apply(manifest("MCPServer", "files", spec))


async def test_an_address_that_may_never_be_called_is_reported(env: ControlPlane) -> None:
    await apply(
        env, manifest("MCPServer", "files", {"transport": "streamableHttp", "url": "http://169.254.169.254/mcp"})
    )
    assert await ready(env, "MCPServer", "files") == ("False", "AddressRefused")


async def test_the_older_transport_is_accepted_and_not_spoken(env: ControlPlane) -> None:
    await apply(env, manifest("MCPServer", "files", {"transport": "sse", "url": "https://example.com/sse"}))
    assert await ready(env, "MCPServer", "files") == ("False", "UnsupportedFeatures")


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, server())
    writes = writes_of(env, "MCPServer")
    await assert_settled_pass_writes_nothing(env.manager, "mcpserver", "default", "files", writes)
