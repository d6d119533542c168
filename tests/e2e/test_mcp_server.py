"""`/mcp` of `kastra serve`, with the official SDK as the client: what is exported can be called, by whoever may."""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from kastra.apiserver.authentication import token_hash
from kastra.app.access import NamedUser, read_users, token_of, write_users
from kastra.app.serving import Address, Serving, serving
from kastra.client.interface import Client as Kube
from kastra.config import Settings
from kastra.manifest.decode import decode

MODES = ["auto", "legacy"]
TOKEN = "a-token-of-ada-that-nobody-guesses"
EXPORT = {"mastra.ai/export": "mcp"}


@dataclass
class Plane:
    """A server, its administrator's client, and MCP clients for it."""

    serving: Serving
    data: Path

    @property
    def kube(self) -> Kube:
        return self.serving.parts.client

    @property
    def url(self) -> str:
        return f"{self.serving.url}/mcp"

    @property
    def tls(self) -> ssl.SSLContext:
        cluster = decode((self.data / "kubeconfig").read_bytes())[0].value["clusters"][0]["cluster"]
        return ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())

    def http(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        token = token or token_of(self.serving.kubeconfig)
        return httpx2.AsyncClient(verify=self.tls, headers={"Authorization": f"Bearer {token}", **headers}, timeout=30)

    @asynccontextmanager
    async def mcp(self, mode: Any = "auto", token: str | None = None, **options: Any) -> AsyncIterator[Client]:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(self.http(token))
            transport = streamable_http_client(self.url, http_client=http)
            yield await stack.enter_async_context(Client(transport, mode=mode, cache=None, **options))

    async def apply(self, kind: str, name: str, spec: dict[str, Any], **labels: str) -> None:
        metadata = {"name": name, "namespace": "default", "labels": labels or EXPORT}
        await self.kube.create({"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": metadata, "spec": spec})

    async def runs(self) -> list[Any]:
        return list((await self.kube.list("runs")).items)


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Plane]:
    made = Settings(project=folder, data=folder / ".kastra", grace=1, **settings)
    async with serving(made, Address("127.0.0.1", 0)) as found:
        yield Plane(found, folder / ".kastra")


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as made:
        await made.apply("Tool", "add", ADD)
        yield made


ADD = {
    "description": "Add two numbers.",
    "python": {"inline": "def add(a: int, b: int) -> dict:\n    return {'total': a + b}\n"},
    "inputSchema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
    "outputSchema": {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]},
    "annotations": {"readOnly": True, "idempotent": True},
}
GREETER = {
    "description": "Greets people.",
    "instructions": "Greet.",
    "model": {"provider": "scripted", "parameters": {"rules": [{"reply": "Hello, ${{ input.text }}"}]}},
}
LINE = {
    "description": "Two steps.",
    "steps": [{"id": "one", "tool": "add"}, {"id": "two", "tool": "add", "input": {"from": "input"}}],
}
SLEEP = {"steps": [{"id": "nap", "sleep": "5m"}]}


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_exported_is_listed_with_its_schemas_and_nothing_else(plane: Plane, mode: str) -> None:
    await plane.apply("Agent", "greeter", GREETER)
    await plane.apply("Tool", "hidden", ADD, other="x")
    async with plane.mcp(mode) as client:
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"tool_default_add", "agent_default_greeter"}
    add = tools["tool_default_add"]
    assert (add.description, add.input_schema["required"]) == ("Add two numbers.", ["a", "b"])
    assert add.output_schema is not None
    assert add.annotations is not None
    assert add.annotations.read_only_hint is True
    assert list(tools["agent_default_greeter"].input_schema["properties"]) == ["prompt"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_is_a_run_and_its_output_the_result(plane: Plane, mode: str) -> None:
    await plane.apply("Agent", "greeter", GREETER)
    async with plane.mcp(mode) as client:
        result = await client.call_tool("tool_default_add", {"a": 1, "b": 2})
        assert (result.structured_content, result.is_error) == ({"total": 3}, False)
        result = await client.call_tool("agent_default_greeter", {"prompt": "Ada"})
        assert [block.text for block in result.content if isinstance(block, types.TextContent)] == ["Hello, Ada"]
    runs = await plane.runs()
    assert sorted(run.spec["target"]["name"] for run in runs) == ["add", "greeter"]
    assert all(run.status["phase"] == "Succeeded" and run.spec["ttlAfterFinished"] for run in runs)


@pytest.mark.parametrize("mode", MODES)
async def test_steps_of_a_workflow_are_progress(plane: Plane, mode: str) -> None:
    await plane.apply("Workflow", "line", LINE)
    told: list[tuple[float, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, message))

    async with plane.mcp(mode) as client:
        result = await client.call_tool("workflow_default_line", {"a": 1, "b": 2}, progress_callback=progress)
    assert result.structured_content == {"total": 3}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert any("one" in (message or "") for _, message in told)


@pytest.mark.parametrize("mode", MODES)
async def test_who_gives_a_call_up_cancels_its_run(plane: Plane, mode: str) -> None:
    await plane.apply("Workflow", "nap", SLEEP)
    async with plane.mcp(mode) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.call_tool, "workflow_default_nap", {})
        await _until(plane, lambda runs: bool(runs) and runs[0].status.get("phase") in ("Running", "Waiting"))
        tasks.cancel_scope.cancel()
    await _until(plane, lambda runs: runs[0].status["phase"] == "Cancelled")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (types.ElicitResult(action="accept", content={"decision": "approve"}), "sent"),
        (types.ElicitResult(action="accept", content={"decision": "reject", "reason": "not now"}), "not now"),
        (types.ElicitResult(action="decline"), "reject"),
    ],
    ids=["approve", "reject", "decline"],
)
async def test_an_approval_is_asked_of_the_person_behind_the_client(
    plane: Plane, mode: str, answer: types.ElicitResult, outcome: str
) -> None:
    await plane.apply("Tool", "send", {"python": {"inline": "def send() -> str:\n    return 'sent'\n"}}, other="x")
    steps = [{"id": "ask", "approve": {"message": "Send it?"}}, {"id": "send", "tool": "send", "input": {"with": {}}}]
    await plane.apply("Workflow", "mail", {"steps": steps})
    asked: list[str] = []

    async def elicited(ctx: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return answer

    async with plane.mcp(mode, elicitation_callback=elicited) as client:
        result = await client.call_tool("workflow_default_mail", {})
    assert asked == ["Send it?"]
    assert outcome in str(result.content)
    assert result.is_error == (outcome != "sent")
    assert len(await plane.runs()) == 1


async def test_a_client_that_can_ask_nobody_waits_for_whoever_decides_elsewhere(plane: Plane) -> None:
    await plane.apply("Workflow", "mail", {"steps": [{"id": "ask", "approve": {"message": "Send it?"}}]})
    results: list[types.CallToolResult] = []

    async def call(client: Client) -> None:
        results.append(await client.call_tool("workflow_default_mail", {}))

    async with plane.mcp() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(call, client)
        await _until(plane, lambda runs: bool(runs) and runs[0].status.get("waitingFor"))
        [approval] = (await plane.kube.list("approvals")).items
        body = {"status": {"decision": {"verdict": "approve"}}}
        await plane.kube.patch(approval.ref, body, subresource="status")
    assert not results[0].is_error


async def test_a_call_that_can_not_be_done_is_an_error_that_says_why(plane: Plane) -> None:
    failing = {"python": {"inline": "def fail() -> str:\n    raise ValueError('out of cheese')\n"}}
    await plane.apply("Tool", "fail", failing)
    async with plane.mcp() as client:
        wrong = await client.call_tool("tool_default_add", {"a": "one"})
        assert wrong.is_error
        assert "arguments of tool_default_add" in str(wrong.content)
        failed = await client.call_tool("tool_default_fail", {})
        assert failed.is_error
        assert "out of cheese" in str(failed.content)
        for name in ("tool_default_none", "secret_default_x", "nonsense", "tool__", "tool_default_../x"):
            with pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool(name, {})
    assert len(await plane.runs()) == 1


async def test_a_name_of_ones_own_is_used_unless_two_claim_it(plane: Plane) -> None:
    for name in ("one", "two"):
        body = {"apiVersion": "mastra.ai/v1", "kind": "Tool", "spec": ADD}
        metadata = {"name": name, "namespace": "default", "labels": EXPORT}
        metadata["annotations"] = {"mastra.ai/export-name": "sum"}  # type: ignore[assignment]
        await plane.kube.create({**body, "metadata": metadata})
        async with plane.mcp() as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            if name == "one":
                assert names == {"tool_default_add", "sum"}
                assert (await client.call_tool("sum", {"a": 1, "b": 2})).structured_content == {"total": 3}
                assert (await client.call_tool("tool_default_one", {"a": 1, "b": 2})).structured_content == {"total": 3}
            else:
                assert names == {"tool_default_add", "tool_default_one", "tool_default_two"}


@pytest.mark.parametrize("mode", MODES)
async def test_clients_hear_of_new_tools_and_not_of_changed_statuses(plane: Plane, mode: str) -> None:
    heard = anyio.Event()

    async def note(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            heard.set()

    async with plane.mcp(mode, message_handler=note) as client, anyio.create_task_group() as tasks:
        if mode == "auto":

            async def listen() -> None:
                async with client.listen(tools_list_changed=True) as changes:
                    tasks_ready.set()
                    async for _ in changes:
                        heard.set()

            tasks_ready = anyio.Event()
            tasks.start_soon(listen)
            await tasks_ready.wait()
        await client.call_tool("tool_default_add", {"a": 1, "b": 1})
        await plane.apply("Agent", "greeter", GREETER)
        with anyio.fail_after(10):
            await heard.wait()
        assert "agent_default_greeter" in {tool.name for tool in (await client.list_tools()).tools}
        tasks.cancel_scope.cancel()


async def test_without_a_token_there_is_nothing(plane: Plane) -> None:
    async with httpx2.AsyncClient(verify=plane.tls) as http:
        answer = await http.post(
            plane.url, json=_initialize(), headers={"Accept": "application/json, text/event-stream"}
        )
        assert answer.status_code == 401


async def test_a_user_sees_and_calls_what_rbac_lets_them(plane: Plane) -> None:
    _user(plane, "ada")
    async with plane.mcp(token=TOKEN) as client:
        assert (await client.list_tools()).tools == []
        with pytest.raises(MCPError, match="Unknown tool: tool_default_add"):
            await client.call_tool("tool_default_add", {"a": 1, "b": 2})
        await _bind(plane, "view", "ada")
        assert [tool.name for tool in (await client.list_tools()).tools] == ["tool_default_add"]
        refused = await client.call_tool("tool_default_add", {"a": 1, "b": 2})
        assert refused.is_error
        assert "cannot create resource" in str(refused.content)
        await _bind(plane, "runner", "ada")
        result = await client.call_tool("tool_default_add", {"a": 1, "b": 2})
        assert result.structured_content == {"total": 3}


async def test_a_web_page_is_refused_unless_its_origin_is_allowed(tmp_path: Path) -> None:
    async with running(tmp_path, mcp_allowed_origins=("https://chat.example.com",)) as plane:
        for origin, status in (("https://evil.example", 403), ("null", 403), ("https://chat.example.com", 200)):
            async with plane.http(Origin=origin, Accept="application/json, text/event-stream") as http:
                answer = await http.post(plane.url, json=_initialize())
                assert answer.status_code == status, origin


async def test_a_session_belongs_to_its_user_and_there_are_so_many_at_most(tmp_path: Path) -> None:
    async with running(tmp_path, mcp_sessions=2) as plane:
        _user(plane, "ada")
        accept = {"Accept": "application/json, text/event-stream"}
        async with plane.http(**accept) as admin, plane.http(TOKEN, **accept) as ada:
            opened = await admin.post(plane.url, json=_initialize())
            session = {"mcp-session-id": opened.headers["mcp-session-id"]}
            listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
            assert (await ada.post(plane.url, json=listing, headers=session)).status_code == 404
            assert (await admin.post(plane.url, json=listing, headers=session)).status_code == 200
            assert (await ada.post(plane.url, json=_initialize())).status_code == 200
            assert (await ada.post(plane.url, json=_initialize())).status_code == 503
            assert (await admin.delete(plane.url, headers=session)).status_code == 200
            assert (await admin.post(plane.url, json=listing, headers=session)).status_code == 404
            assert (await ada.post(plane.url, json=_initialize())).status_code == 200


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"{", {400}),
        (b"[]", {400}),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', {400, 404}),
        (b"[" * 100_000, {400}),
        (b" " * 3_200_000, {413}),
    ],
    ids=["cut", "list", "no-session", "nested", "large"],
)
async def test_bad_requests_are_refused_and_the_server_goes_on(plane: Plane, body: bytes, statuses: set[int]) -> None:
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with plane.http(**headers) as http:
        assert (await http.post(plane.url, content=body)).status_code in statuses
        assert (await http.post(plane.url, json=_initialize())).status_code == 200


def _initialize() -> dict[str, Any]:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def _user(plane: Plane, name: str) -> None:
    user = NamedUser(name, ("system:authenticated",), token_hash(TOKEN))
    write_users(plane.data, [*read_users(plane.data), user])


async def _bind(plane: Plane, role: str, user: str) -> None:
    await plane.kube.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{user}-{role}", "namespace": "default"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
    )


async def _until(plane: Plane, condition: Any) -> None:
    with anyio.fail_after(15):
        while not condition(await plane.runs()):
            await anyio.sleep(0.02)
