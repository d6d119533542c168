"""A Tool is Ready when it could be called, says with what arguments, and otherwise says what is missing."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .objects import agent, apply, manifest, namespace, ready, remove, said, secret, status, tool, writes_of


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def write(env: ControlPlane, name: str, source: str) -> None:
    (env.settings.project / f"{name}.py").write_text(source)


async def test_a_function_beside_the_manifest_is_importable_and_gives_the_schema(env: ControlPlane) -> None:
    write(env, "tool_one", "def find(words: list[str], limit: int = 3) -> str:\n    return ''\n")
    await apply(env, tool("find", python={"entrypoint": "tool_one:find"}))
    assert await ready(env, "Tool", "find") == ("True", "Resolved")
    found = await status(env, "Tool", "find")
    assert found["type"] == "python"
    assert sorted(found["inputSchema"]["properties"]) == ["limit", "words"]
    assert found["inputSchema"]["required"] == ["words"]
    assert len(found["schemaHash"]) == 16
    assert found["phase"] == "Running"


async def test_a_schema_of_its_own_is_not_repeated_in_status(env: ControlPlane) -> None:
    await apply(env, tool("t", python={"inline": "def t(**more): ..."}, inputSchema={"type": "object"}))
    assert await ready(env, "Tool", "t") == ("True", "Resolved")
    assert "inputSchema" not in await status(env, "Tool", "t")


async def test_equal_schemas_have_equal_hashes_whatever_the_order_of_their_keys(env: ControlPlane) -> None:
    a, b = {"type": "object", "required": ["x"]}, {"required": ["x"], "type": "object"}
    http = {"url": "https://example.com/"}
    await apply(env, tool("a", http=http, inputSchema=a), tool("b", http=http, inputSchema=b), tool("c", http=http))
    hashes = [(await status(env, "Tool", name))["schemaHash"] for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


BROKEN: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "module": ({"python": {"entrypoint": "no_such_module_here:f"}}, "NotImportable", ["no_such_module_here"]),
    "function": ({"python": {"entrypoint": "json:no_such_one"}}, "NotImportable", ["json", "no_such_one"]),
    "import": ({"python": {"entrypoint": "tool_that_fails:f"}}, "NotImportable", ["tool_that_fails", "KeyError"]),
    "syntax": ({"python": {"inline": "def f(:"}}, "NotCompilable", ["spec.python.inline", "SyntaxError"]),
    "signature": ({"python": {"inline": "def f(*all): ..."}}, "NotCompilable", ["spec.python.inline", "all"]),
    "program": ({"process": {"command": ["no-such-program-here"]}}, "ProgramNotFound", ["PATH"]),
    "script": ({"process": {"command": ["./run.sh"]}}, "ProgramNotFound", ["./run.sh"]),
    "metadata": ({"http": {"url": "http://169.254.169.254/${{ input.a }}"}}, "AddressRefused", ["169.254.169.254"]),
    "local": ({"http": {"url": "http://localhost:8000/"}}, "AddressRefused", ["localhost", "allowPrivate"]),
    "scheme": ({"http": {"url": "ftp://example.com/"}}, "AddressRefused", ["http"]),
    "pattern": (
        {"http": {"url": "https://example.com"}, "inputSchema": {"type": "string", "pattern": "(?=a)"}},
        "InvalidSchema",
        ["spec.inputSchema", "RE2"],
    ),
}


async def test_what_can_not_be_called_says_why(env: ControlPlane) -> None:
    write(env, "tool_that_fails", "{}['x']\n")
    await apply(env, *(tool(name, **body) for name, (body, _, _) in BROKEN.items()))
    for name, (_, reason, words) in BROKEN.items():
        found = await said(env, "Tool", name)
        assert found[:2] == ("False", reason), name
        assert [word for word in words if word not in found.message] == [], name


async def test_programs_that_exist_and_addresses_that_may_be_called_are_ready(env: ControlPlane) -> None:
    bodies: dict[str, Any] = {
        "shell": {"process": {"command": ["sh", "-c", "true"]}},
        "argument": {"http": {"url": "https://example.com/${{ input.a }}"}},
        "whole": {"http": {"url": "${{ input.url }}"}},
        "host": {"http": {"url": "https://${{ input.host }}/x"}},
        "private": {"http": {"url": "http://127.0.0.1/", "allowPrivate": True}},
    }
    await apply(env, *(tool(name, **body) for name, body in bodies.items()))
    for name, body in bodies.items():
        assert await ready(env, "Tool", name) == ("True", "Resolved"), name
        assert (await status(env, "Tool", name))["type"] in body


async def test_a_program_beside_the_manifest_is_found_in_the_project(env: ControlPlane) -> None:
    script = env.settings.project / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    await apply(env, tool("t", process={"command": ["./run.sh"]}))
    assert await ready(env, "Tool", "t") == ("True", "Resolved")


async def test_a_module_that_appears_makes_the_tool_ready_within_half_a_minute(env: ControlPlane) -> None:
    await apply(env, tool("t", python={"entrypoint": "tool_that_appears:f"}))
    assert await ready(env, "Tool", "t") == ("False", "NotImportable")
    write(env, "tool_that_appears", "def f(): ...\n")
    await env.advance(30)
    assert await ready(env, "Tool", "t") == ("True", "Resolved")


async def test_a_secret_that_appears_and_goes_makes_the_tool_ready_and_not(env: ControlPlane) -> None:
    auth = {"type": "bearer", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}}
    await apply(env, tool("t", http={"url": "https://example.com/", "auth": auth}))
    found = await said(env, "Tool", "t")
    assert found[:2] == ("False", "NotFound")
    assert 'no Secret "key" in namespace "default"' in found.message
    await apply(env, secret("key", other="x"))
    found = await said(env, "Tool", "t")
    assert found[:2] == ("False", "ValueNotFound")
    assert 'Secret default/key has no key "token"' in found.message
    await apply(env, secret("key", token="s3cret-value"))
    assert await ready(env, "Tool", "t") == ("True", "Resolved")
    before = (await status(env, "Tool", "t"))["secretHash"]
    await apply(env, secret("key", token="another-value"))
    assert (await status(env, "Tool", "t"))["secretHash"] != before
    assert "another-value" not in str((await env.get("Tool", "t")).data)
    await remove(env, "Secret", "key")
    assert await ready(env, "Tool", "t") == ("False", "NotFound")


async def test_an_optional_value_may_be_missing(env: ControlPlane) -> None:
    value = {"valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}}
    await apply(env, tool("t", http={"url": "https://example.com/", "headers": {"X-A": value}}))
    assert await ready(env, "Tool", "t") == ("True", "Resolved")


async def test_a_tool_that_is_an_agent_waits_for_it_and_takes_a_prompt(env: ControlPlane) -> None:
    await apply(env, tool("ask", agent="helper"))
    assert await ready(env, "Tool", "ask") == ("False", "NotFound")
    await apply(env, agent("helper"))
    assert await ready(env, "Tool", "ask") == ("True", "Resolved")
    await apply(env, agent("helper", suspend=True))
    found = await said(env, "Tool", "ask")
    assert found[:2] == ("False", "DependencyNotReady")
    assert "Agent default/helper is not Ready: Suspended" in found.message
    await remove(env, "Agent", "helper")
    assert await ready(env, "Tool", "ask") == ("False", "NotFound")


async def test_a_tool_that_is_a_workflow_takes_the_workflows_input(env: ControlPlane) -> None:
    schema = {"type": "object", "required": ["a"]}
    await apply(
        env,
        manifest("Workflow", "w", {"inputSchema": schema, "steps": [{"id": "a", "set": {"x": 1}}]}),
        tool("by-workflow", workflow="w"),
        tool("plain", http={"url": "https://example.com/"}, inputSchema=schema),
    )
    assert await ready(env, "Tool", "by-workflow") == ("True", "Resolved")
    assert (await status(env, "Tool", "by-workflow"))["schemaHash"] == (await status(env, "Tool", "plain"))[
        "schemaHash"
    ]


async def test_a_reference_to_another_kind_is_refused_by_name(env: ControlPlane) -> None:
    await apply(env, tool("t"), tool("ask", agent="tools/t"))
    found = await said(env, "Tool", "ask")
    assert found[:2] == ("False", "InvalidKind")
    assert "Tool default/t, where the kind Agent is needed" in found.message


async def test_a_function_with_isolation_is_read_without_being_imported_here(env: ControlPlane) -> None:
    body = {"inline": "import sys\nsys.modules['canary'] = sys\n\ndef double(n: int) -> int:\n    return 2 * n\n"}
    await apply(env, tool("t", python=body, isolation={"type": "process", "memory": "1Gi", "cpu": 30}, timeout="1m"))
    assert await ready(env, "Tool", "t") == ("True", "Resolved")
    assert (await status(env, "Tool", "t"))["inputSchema"]["required"] == ["n"]
    assert "canary" not in sys.modules
    await apply(env, tool("broken", python={"inline": "import os\nos._exit(7)"}, isolation="process"))
    found = await said(env, "Tool", "broken")
    assert (found[:2], "exit code 7" in found.message) == (("False", "NotCompilable"), True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"python": {"inline": "def f(): pass"}, "isolation": "container"}, 'supported values: "process"'),
        ({"http": {"url": "https://example.com/"}, "isolation": "process"}, "goes with python"),
        ({"python": {"inline": "def f(): pass"}, "isolation": {"type": "process", "memory": "1Mi"}}, "128Mi"),
        ({"python": {"inline": "def f(): pass"}, "isolation": {"type": "process", "memory": "much"}}, "memory"),
        ({"python": {"inline": "def f(): pass"}, "isolation": {"type": "process", "cpus": 3}}, "cpus"),
    ],
    ids=["no-such-type", "no-function", "too-little", "no-quantity", "no-such-field"],
)
async def test_an_isolation_that_makes_no_sense_is_refused(env: ControlPlane, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await env.apply(tool("t", **spec))


async def test_a_tool_of_an_mcp_server_that_is_not_there_is_not_ready(env: ControlPlane) -> None:
    await apply(env, tool("t", mcp={"serverRef": "s", "tool": "x"}))
    found = await said(env, "Tool", "t")
    assert found[:2] == ("False", "NotFound")
    assert "spec.mcp.serverRef" in found.message


async def test_a_suspended_tool_says_so(env: ControlPlane) -> None:
    await apply(env, tool("t", http={"url": "https://example.com/"}, suspend=True))
    assert await ready(env, "Tool", "t") == ("False", "Suspended")


async def test_a_namespace_that_closes_itself_takes_back_what_others_use(env: ControlPlane) -> None:
    await apply(env, namespace("theirs"), agent("helper", "theirs"), tool("ask", agent="theirs/helper"))
    assert await ready(env, "Tool", "ask") == ("True", "Resolved")
    await apply(env, namespace("theirs", allowed_namespaces="Same"))
    assert await ready(env, "Tool", "ask") == ("False", "RefNotPermitted")
    await env.client.patch(ObjectRef("Namespace", "theirs"), {"metadata": {"annotations": None}})
    await env.settle()
    assert await ready(env, "Tool", "ask") == ("True", "Resolved")


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, tool("t"))
    await assert_settled_pass_writes_nothing(env.manager, "tool", "default", "t", writes_of(env, "Tool"))
