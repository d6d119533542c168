"""What programs may use and see, how requests authenticate, what becomes of answers, and what annotations say."""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import orjson
import pytest

from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock
from kastra.tool.bodies import body_of
from kastra.tool.declared import DeclaredTool, declared
from kastra.tool.interface import ToolContext, ToolError, ToolServices
from kastra.tool.python import PythonTool
from tests.support.toolbox import Site, site

CONTEXT = ToolContext("run-1/charge", run="run-1")
SECRET = "canary-4711"


async def secrets(value_from: Mapping[str, Any]) -> str:
    if value_from == {"env": "MISSING"}:
        raise LookupError("the variable MISSING is not set")
    return SECRET


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[ToolServices]:
    async with Guard(Policy()) as guard:
        yield ToolServices(guard, VirtualClock(), secrets, tmp_path)


@pytest.fixture
async def endpoint() -> AsyncIterator[Site]:
    async with site() as found:
        yield found


async def made(spec: Mapping[str, Any], services: ToolServices) -> DeclaredTool:
    return declared("subject", spec, await body_of("subject", spec, services), services)


def program(source: str, **more: Any) -> dict[str, Any]:
    return {"process": {"command": [sys.executable, "-c", source], **more}}


# --- programs ----------------------------------------------------------------------------------------------------------


async def test_a_program_sees_only_the_variables_that_it_is_given(
    services: ToolServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for it")
    monkeypatch.setenv("REGION", "eu")
    spec = program(
        "import os, json; print(json.dumps(dict(os.environ)))",
        env=[{"name": "MODE", "value": "fast"}, {"name": "TOKEN", "valueFrom": {"env": "T"}}],
        passEnv=["REGION", "NOT_SET"],
    )
    body = await body_of("subject", spec, services)
    found = await body.call({}, CONTEXT)
    assert {name: found.get(name) for name in ("MODE", "TOKEN", "REGION", "KASTRA_IDEMPOTENCY_KEY")} == {
        "MODE": "fast",
        "TOKEN": SECRET,
        "REGION": "eu",
        "KASTRA_IDEMPOTENCY_KEY": "run-1/charge",
    }
    assert "OPENAI_API_KEY" not in found
    assert "NOT_SET" not in found


async def test_a_missing_secret_is_named_before_the_program_starts(services: ToolServices) -> None:
    spec = program("print(1)", env=[{"name": "TOKEN", "valueFrom": {"env": "MISSING"}}])
    with pytest.raises(ToolError, match="MISSING is not set"):
        await (await made(spec, services)).call({}, CONTEXT)


async def test_a_program_starts_in_a_folder_of_the_project_and_in_no_other(services: ToolServices) -> None:
    assert services.folder is not None
    (services.folder / "jobs").mkdir()
    tool = await made(program("import os; print(os.getcwd())", folder="jobs"), services)
    assert await tool.call({}, CONTEXT) == str(services.folder / "jobs")
    (services.folder / "link").symlink_to("/tmp")
    for folder, words in (("..", "outside"), ("/etc", "outside"), ("link", "outside"), ("none", "is no folder")):
        with pytest.raises(ValueError, match=words):
            await body_of("subject", program("print(1)", folder=folder), services)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS doesn't keep limits of address space")
async def test_a_program_that_takes_too_much_memory_fails(services: ToolServices) -> None:
    spec = program("x = b'x' * 900_000_000; print(len(x))", memory="512Mi")
    with pytest.raises(ToolError, match="MemoryError"):
        await (await made(spec, services)).call({}, CONTEXT)
    assert await (await made(program("print(len(b'x' * 1000))", memory="512Mi"), services)).call({}, CONTEXT) == 1000


async def test_a_program_that_takes_too_much_processor_time_is_ended(services: ToolServices) -> None:
    with anyio.fail_after(30):
        with pytest.raises(ToolError, match=r"signal (9|24)"):
            await (await made(program("while True: pass", cpu=1), services)).call({}, CONTEXT)


async def test_a_limited_program_that_is_not_there_is_final(services: ToolServices) -> None:
    spec = {"process": {"command": ["/no/such/program"], "memory": "512Mi"}}
    with pytest.raises(ToolError, match="can't be started") as caught:
        await (await made(spec, services)).call({}, CONTEXT)
    assert not caught.value.retryable


async def test_the_limit_of_output_is_the_manifests(services: ToolServices) -> None:
    with pytest.raises(ToolError, match="printed more than 1024 bytes"):
        await (await made(program("print('x' * 2000)", maxOutput="1Ki"), services)).call({}, CONTEXT)


async def test_what_a_program_leaves_running_does_not_hold_the_call_up_and_is_ended(services: ToolServices) -> None:
    source = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid)"
    )
    with anyio.fail_after(20):
        pid = await (await made(program(source), services)).call({}, CONTEXT)
        while _runs(pid):
            await anyio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


# --- requests ----------------------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}


def http(endpoint: Site, path: str, **fields: Any) -> dict[str, Any]:
    return {"http": {"url": endpoint.url + path, "allowPrivate": True, **fields}}


async def test_the_result_is_what_the_manifest_makes_of_the_answer(endpoint: Site, services: ToolServices) -> None:
    endpoint.pages["/x"] = (200, {**JSON, "X-Total": "7"}, b'{"items": [{"name": "tea"}, {"name": "cup"}]}')
    output = {
        "names": "${{ response.body.items.map(i, i.name) }}",
        "total": "${{ int(response.headers['x-total']) }}",
        "asked": "${{ input.q }}",
    }
    tool = await made(http(endpoint, "/x", output=output), services)
    assert await tool.call({"q": "t"}, CONTEXT) == {"names": ["tea", "cup"], "total": 7, "asked": "t"}
    wrong = await made(http(endpoint, "/x", output="${{ response.body.nothing }}"), services)
    with pytest.raises(ToolError, match="nothing") as caught:
        await wrong.call({}, CONTEXT)
    assert caught.value.type == "output"


async def test_an_answer_beyond_the_limit_is_refused(endpoint: Site, services: ToolServices) -> None:
    endpoint.pages["/x"] = b"x" * 10_000
    with pytest.raises(ToolError, match=r"1,?000"):
        await (await made(http(endpoint, "/x", maxBytes=1_000), services)).call({}, CONTEXT)


async def test_a_key_in_the_query_is_encoded_and_never_shown(endpoint: Site, services: ToolServices) -> None:
    endpoint.pages["/x"] = (400, {"Content-Type": "text/plain"}, f"bad key {SECRET}".encode())
    auth = {"type": "query", "parameter": "api key", "valueFrom": {"env": "K"}}
    with pytest.raises(ToolError, match="HTTP 400") as caught:
        await (await made(http(endpoint, "/x?a=1", auth=auth), services)).call({}, CONTEXT)
    assert endpoint.requests[0].startswith(f"GET /x?a=1&api%20key={SECRET} ".encode())
    assert SECRET not in str(caught.value)


def oauth(endpoint: Site) -> dict[str, Any]:
    return {
        "type": "oauth2",
        "tokenURL": f"{endpoint.url}/token",
        "clientID": "kastra",
        "scope": "read write",
        "valueFrom": {"env": "S"},
    }


def token(name: str, seconds: int = 600) -> tuple[int, dict[str, str], bytes]:
    return 200, JSON, orjson.dumps({"access_token": name, "token_type": "Bearer", "expires_in": seconds})


async def test_a_token_is_asked_for_once_and_again_before_it_expires(endpoint: Site, services: ToolServices) -> None:
    endpoint.pages |= {"/token": token("token-one-4711"), "/x": (200, JSON, b"1")}
    tool = await made(http(endpoint, "/x", auth=oauth(endpoint)), services)
    for _ in range(2):
        assert await tool.call({}, CONTEXT) == 1
    asked, first, second = endpoint.requests
    assert asked.startswith(b"POST /token ")
    assert asked.endswith(b"grant_type=client_credentials&scope=read+write")
    assert b"Basic a2FzdHJhOmNhbmFyeS00NzEx" in asked
    assert b"Bearer token-one-4711" in first
    assert b"Bearer token-one-4711" in second
    endpoint.pages["/token"] = token("token-two-4711")
    assert isinstance(services.clock, VirtualClock)
    await services.clock.advance(571)
    await tool.call({}, CONTEXT)
    assert b"Bearer token-two-4711" in endpoint.requests[-1]


async def test_a_token_that_is_refused_is_forgotten_so_that_a_retry_gets_another(
    endpoint: Site, services: ToolServices
) -> None:
    endpoint.pages |= {"/token": token("token-old-4711"), "/x": (401, {}, b"token-old-4711 has been revoked")}
    tool = await made(http(endpoint, "/x", auth=oauth(endpoint)), services)
    with pytest.raises(ToolError, match="HTTP 401") as caught:
        await tool.call({}, CONTEXT)
    assert caught.value.retryable
    assert "token-old-4711" not in str(caught.value)
    endpoint.pages |= {"/token": token("token-new-4711"), "/x": (200, JSON, b"1")}
    assert await tool.call({}, CONTEXT) == 1


@pytest.mark.parametrize(
    ("page", "retryable"),
    [
        ((401, JSON, orjson.dumps({"error": f"wrong secret {SECRET}"})), False),
        ((200, JSON, b"[]"), False),
        ((200, JSON, b'{"access_token": 5}'), False),
        ((503, {}, b""), True),
    ],
)
async def test_no_token_is_an_error_that_shows_no_secret(
    page: Any, retryable: bool, endpoint: Site, services: ToolServices
) -> None:
    endpoint.pages["/token"] = page
    with pytest.raises(ToolError, match="the token endpoint answered HTTP") as caught:
        await (await made(http(endpoint, "/x", auth=oauth(endpoint)), services)).call({}, CONTEXT)
    assert (caught.value.type, caught.value.retryable) == ("authorization", retryable)
    assert SECRET not in str(caught.value)
    assert len(endpoint.requests) == 1


async def test_a_token_endpoint_in_the_network_is_refused_like_any_address(
    endpoint: Site, services: ToolServices
) -> None:
    spec = {"http": {"url": "https://api.example.com/", "auth": oauth(endpoint)}}
    with pytest.raises(ToolError, match="loopback"):
        await (await made(spec, services)).call({}, CONTEXT)
    assert endpoint.connections == 0


# --- annotations -------------------------------------------------------------------------------------------------------


@dataclass
class Order:
    item: str
    count: int = 1


async def place(
    order: Annotated[Order, "What to order."],
    speed: Annotated[Literal["slow", "fast"], "How soon."] = "slow",
    note: Annotated[str | None, "For the kitchen."] = None,
    context: ToolContext = CONTEXT,
) -> dict[str, Any]:
    return {"item": order.item, "count": order.count, "speed": speed, "note": note, "key": context.idempotency_key}


async def test_annotations_describe_arguments_and_dataclasses_arrive_as_such() -> None:
    tool = PythonTool(place, "place")
    properties = tool.signature.schema["properties"]
    assert {name: node["description"] for name, node in properties.items()} == {
        "order": "What to order.",
        "speed": "How soon.",
        "note": "For the kitchen.",
    }
    assert properties["speed"]["enum"] == ["slow", "fast"]
    assert tool.signature.schema["required"] == ["order"]
    assert await tool.call({"order": {"item": "tea"}, "note": None}, ToolContext("k")) == {
        "item": "tea",
        "count": 1,
        "speed": "slow",
        "note": None,
        "key": "k",
    }
