"""Python functions, processes and HTTP endpoints as tools: what they are given, what comes back, what is refused."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from pydantic import BaseModel

from kastra.clock import SystemClock
from kastra.model import testing as fake
from kastra.netguard import Guard, Policy
from kastra.tool.bodies import body_of
from kastra.tool.declared import DeclaredTool, declared
from kastra.tool.interface import ToolContext, ToolError, ToolServices
from kastra.tool.python import PythonTool

CONTEXT = ToolContext("run-1/charge", attempt=2, run="run-1")
SECRET = "canary-4711"


async def secrets(value_from: Mapping[str, Any]) -> str:
    if value_from == {"env": "MISSING"}:
        raise LookupError("the variable MISSING is not set")
    return SECRET


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[ToolServices]:
    async with Guard(Policy()) as guard:
        yield ToolServices(guard, SystemClock(), secrets, tmp_path)


async def made(spec: Mapping[str, Any], services: ToolServices) -> DeclaredTool:
    return declared("subject", spec, await body_of("subject", spec, services), services)


# --- Python ------------------------------------------------------------------------------------------------------------


class Item(BaseModel):
    name: str
    price: float = 1.0


@dataclass
class Receipt:
    total: float
    key: str


def add(a: int, b: int = 2, *, mode: Literal["plain", "loud"] = "plain") -> str:
    """Adds two numbers.

    And more that nobody needs to know.
    """
    return f"{a + b}{'!' if mode == 'loud' else ''}"


async def charge(items: list[Item], context: ToolContext) -> Receipt:
    return Receipt(sum(item.price for item in items), f"{context.idempotency_key}#{context.attempt}@{context.run}")


def fails(kind: str) -> Any:
    if kind == "final":
        raise ToolError("out of stock", retryable=False)
    if kind == "odd":
        return {1, 2}
    if kind == "object":
        return object()
    raise KeyError("x")


def positional(a: int, /) -> int:
    return a


def test_a_signature_becomes_a_schema_and_a_description() -> None:
    signature = PythonTool(add, "add").signature
    assert signature.description == "Adds two numbers."
    assert signature.schema["required"] == ["a"]
    assert signature.schema["additionalProperties"] is False
    properties = signature.schema["properties"]
    assert (properties["a"]["type"], properties["b"]["default"], properties["mode"]["enum"]) == (
        "integer",
        2,
        ["plain", "loud"],
    )


async def test_sync_and_async_functions_are_called_with_what_their_annotations_say() -> None:
    assert await PythonTool(add, "add").call({"a": 1, "mode": "loud"}, CONTEXT) == "3!"
    got = await PythonTool(charge, "charge").call({"items": [{"name": "tea", "price": 3}, {"name": "cup"}]}, CONTEXT)
    assert got == {"total": 4.0, "key": "run-1/charge#2@run-1"}


def test_the_context_is_hidden_from_the_schema() -> None:
    schema = PythonTool(charge, "charge").signature.schema
    assert list(schema["properties"]) == ["items"]
    assert "Item" in schema["$defs"]


@pytest.mark.parametrize(
    ("function", "arguments", "message", "retryable"),
    [
        (add, {"a": "x"}, "a: Input should be a valid integer", False),
        (add, {"a": 1, "z": 1}, "takes no argument 'z'", False),
        (add, {}, "a: required", False),
        (charge, {"items": [{"price": 1}]}, r"items\[0\].name", False),
        (fails, {"kind": "final"}, "out of stock", False),
        (fails, {"kind": "key"}, "raised KeyError", True),
        (fails, {"kind": "object"}, "no JSON value", False),
    ],
)
async def test_what_a_function_cannot_do_is_an_error_for_the_model(
    function: Any, arguments: dict[str, Any], message: str, retryable: bool
) -> None:
    with pytest.raises(ToolError, match=message) as caught:
        await PythonTool(function, "tool").call(arguments, CONTEXT)
    assert caught.value.retryable is retryable


def test_parameters_that_cannot_be_named_are_refused() -> None:
    with pytest.raises(ValueError, match="the parameter a can't be given by name"):
        PythonTool(positional, "positional")


async def test_an_entry_point_is_found_in_the_projects_folder(services: ToolServices) -> None:
    assert services.folder is not None
    (services.folder / "kastra_test_shop.py").write_text(
        "class Shop:\n    @staticmethod\n    def find(q: str) -> dict:\n        return {'q': q}\n"
    )
    try:
        tool = await made({"python": {"entrypoint": "kastra_test_shop:Shop.find"}}, services)
        assert await tool.call({"q": "tea"}, CONTEXT) == {"q": "tea"}
    finally:
        sys.path.remove(str(services.folder))
        sys.modules.pop("kastra_test_shop", None)


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ({"entrypoint": "kastra_no_such:f"}, "no module 'kastra_no_such'"),
        ({"entrypoint": "json:nope"}, "has no function 'nope'"),
        ({"entrypoint": "json"}, "is not package.module:function"),
        ({"inline": "def f(:"}, "spec.python.inline: SyntaxError"),
        ({"inline": "x = 1"}, "exactly one function, not 0"),
        ({"inline": "def f(): ...\ndef g(): ..."}, "exactly one function, not 2"),
        ({"inline": "1 / 0"}, "ZeroDivisionError"),
    ],
)
async def test_code_that_cannot_be_loaded_is_refused_with_the_reason(
    python: dict[str, str], message: str, services: ToolServices
) -> None:
    with pytest.raises(ValueError, match=message):
        await body_of("subject", {"python": python}, services)
    if str(services.folder) in sys.path:
        sys.path.remove(str(services.folder))


async def test_inline_source_defines_a_tool(services: ToolServices) -> None:
    source = (
        "import math\ndef _half(x): return x / 2\ndef area(r: float) -> float:\n    return round(math.pi * r * r, 2)\n"
    )
    assert await (await made({"python": {"inline": source}}, services)).call({"r": 1}, CONTEXT) == 3.14


# --- processes ---------------------------------------------------------------------------------------------------------


def program(source: str) -> dict[str, Any]:
    return {"process": {"command": [sys.executable, "-c", source]}}


async def test_a_program_reads_arguments_and_the_key_and_prints_its_result(services: ToolServices) -> None:
    source = "import sys, os, json; a = json.load(sys.stdin); print(json.dumps([a, os.environ['KASTRA_IDEMPOTENCY_KEY'], os.getcwd()]))"
    got = await (await made(program(source), services)).call({"q": [1]}, CONTEXT)
    assert got == [{"q": [1]}, "run-1/charge", str(services.folder)]


async def test_a_program_does_not_inherit_the_servers_environment(
    services: ToolServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    got = await (await made(program("import os, json; print(json.dumps(dict(os.environ)))"), services)).call(
        {}, CONTEXT
    )
    assert SECRET not in json.dumps(got)


@pytest.mark.parametrize(
    ("source", "result"), [("print('hi there')", "hi there"), ("pass", None), ("print('[1]')", [1])]
)
async def test_output_that_is_no_json_is_text(source: str, result: Any, services: ToolServices) -> None:
    assert await (await made(program(source), services)).call({"big": "x" * 200_000}, CONTEXT) == result


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys; print('boom', file=sys.stderr); sys.exit(3)", "exit code 3: boom"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "signal 15"),
        ("print('x' * 5_000_000)", "printed more than"),
    ],
)
async def test_a_program_that_fails_says_how(source: str, message: str, services: ToolServices) -> None:
    with pytest.raises(ToolError, match=message):
        await (await made(program(source), services)).call({}, CONTEXT)


async def test_a_program_that_is_not_there_is_final(services: ToolServices) -> None:
    with pytest.raises(ToolError, match="can't be started") as caught:
        await (await made({"process": {"command": ["/no/such/program"]}}, services)).call({}, CONTEXT)
    assert not caught.value.retryable


async def test_a_deadline_kills_the_program_and_its_children(services: ToolServices) -> None:
    assert services.folder is not None
    pids = services.folder / "pids"
    source = (
        "import subprocess, sys, os, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pids)!r} + '~', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(pids)!r} + '~', {str(pids)!r})\n"
        "time.sleep(60)"
    )
    tool = await made(program(source), services)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tool.call, {}, CONTEXT)
        while not pids.exists():
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    # The signal has been sent; the kernel needs a moment to act on it for those that nobody here waits for.
    with anyio.fail_after(10):
        for pid in map(int, pids.read_text().split()):
            while _runs(pid):
                await anyio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


async def test_a_timeout_is_an_error_of_its_type(services: ToolServices) -> None:
    spec = {**program("import time; time.sleep(60)"), "timeout": "50ms"}
    with pytest.raises(ToolError, match=r"took longer than 0\.05s") as caught:
        await (await made(spec, services)).call({}, CONTEXT)
    assert caught.value.type == "timeout"


# --- HTTP --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def endpoint() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as server:
        yield server


def http(server: fake.FakeProvider, path: str = "/x", **fields: Any) -> dict[str, Any]:
    return {"http": {"url": server.url + path, "allowPrivate": True, **fields}}


async def test_url_headers_and_body_are_templates_over_the_arguments(
    endpoint: fake.FakeProvider, services: ToolServices
) -> None:
    endpoint.answer(fake.raw(b'{"ok": true}'))
    spec = http(
        endpoint,
        "/orders/${{ input.id }}?q=${{ {'a': {'b': input.q}}.a.b }}",
        headers=[{"name": "X-Topic", "value": "t-${{ input.q }}"}, {"name": "X-Key", "valueFrom": {"env": "K"}}],
        body={"n": "${{ input.n }}", "text": "n is ${{ input.n }}"},
        auth={"type": "bearer", "valueFrom": {"env": "T"}},
    )
    assert await (await made(spec, services)).call({"id": "a/../b?x#y", "q": "1&admin=1", "n": 7}, CONTEXT) == {
        "ok": True
    }
    (request,) = endpoint.requests
    assert request.path == "/v1/orders/a%2F..%2Fb%3Fx%23y?q=1%26admin%3D1"
    assert request.json == {"n": 7, "text": "n is 7"}
    assert request.headers["idempotency-key"] == "run-1/charge"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert (request.headers["x-key"], request.headers["x-topic"]) == (SECRET, "t-1&admin=1")


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"type": "basic", "username": "u", "valueFrom": {"env": "T"}}, "authorization", "Basic dTpjYW5hcnktNDcxMQ=="),
        ({"type": "header", "header": "X-Api-Key", "valueFrom": {"env": "T"}}, "x-api-key", SECRET),
    ],
)
async def test_credentials_go_where_the_manifest_says(
    auth: dict[str, Any], header: str, value: str, endpoint: fake.FakeProvider, services: ToolServices
) -> None:
    endpoint.answer(fake.raw(b"{}"))
    await (await made(http(endpoint, auth=auth), services)).call({}, CONTEXT)
    assert endpoint.requests[0].headers[header] == value


async def test_an_answer_that_is_no_json_is_text(endpoint: fake.FakeProvider, services: ToolServices) -> None:
    endpoint.answer(
        fake.Scripted(200, b"plain", {"Content-Type": "text/plain"}), fake.raw(b"{broken"), fake.Scripted(204)
    )
    tool = await made(http(endpoint), services)
    assert await tool.call({}, CONTEXT) == "plain"
    with pytest.raises(ToolError, match="says it is JSON"):
        await tool.call({}, CONTEXT)
    assert await tool.call({}, CONTEXT) is None


@pytest.mark.parametrize(
    ("code", "type_", "retryable"),
    [
        (400, "tool", False),
        (401, "authorization", False),
        (404, "tool", False),
        (429, "rate_limit", True),
        (503, "tool", True),
    ],
)
async def test_refusals_are_typed_and_never_quote_a_secret(
    code: int, type_: str, retryable: bool, endpoint: fake.FakeProvider, services: ToolServices
) -> None:
    endpoint.answer(fake.status(code, message=f"you sent {SECRET}", retry_after=3))
    spec = http(endpoint, auth={"type": "bearer", "valueFrom": {"env": "T"}})
    with pytest.raises(ToolError, match=f"HTTP {code}") as caught:
        await (await made(spec, services)).call({}, CONTEXT)
    assert (caught.value.type, caught.value.retryable) == (type_, retryable)
    assert SECRET not in str(caught.value)


async def test_an_argument_cannot_choose_a_private_host(services: ToolServices, endpoint: fake.FakeProvider) -> None:
    tool = await made({"http": {"url": "${{ input.url }}"}}, services)
    with pytest.raises(ToolError, match="loopback addresses are not called") as caught:
        await tool.call({"url": endpoint.url}, CONTEXT)
    assert caught.value.type == "authorization"
    assert endpoint.connections == 0


async def test_a_missing_secret_is_named_and_nothing_is_sent(
    endpoint: fake.FakeProvider, services: ToolServices
) -> None:
    spec = http(endpoint, auth={"type": "bearer", "valueFrom": {"env": "MISSING"}})
    with pytest.raises(ToolError, match="MISSING is not set"):
        await (await made(spec, services)).call({}, CONTEXT)
    assert endpoint.connections == 0


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"url": "http://x/${{ input. }}"}, "spec.http.url"),
        ({"url": "http://x/${{ input.a"}, "spec.http.url"),
        ({"url": "http://x/", "headers": [{"name": "a", "value": "${{ nope }}"}]}, r"spec.http.headers\[0\].value"),
        ({"url": "http://x/", "body": {"a": ["${{ 1 + }}"]}}, r"spec.http.body.a\[0\]"),
    ],
)
async def test_templates_that_do_not_compile_are_refused_with_their_path(
    body: dict[str, Any], path: str, services: ToolServices
) -> None:
    with pytest.raises(ValueError, match=path):
        await body_of("subject", {"http": body}, services)


async def test_a_body_that_cannot_be_called_is_refused(services: ToolServices) -> None:
    for spec, message in (({"mcp": {}}, "spec.mcp"), ({}, "has none of"), ({"process": {"command": []}}, "command")):
        with pytest.raises(ValueError, match=message):
            await body_of("subject", spec, services)
