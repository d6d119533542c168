"""An MCP server over streamable HTTP, made with the official SDK: through the guard, with the headers that the spec gives."""

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from kastra.netguard import Policy
from kastra.tool.interface import ToolContext, ToolError
from kastra.tool.mcp.config import ServerConfig
from kastra.tool.mcp.errors import ServerUnavailable
from kastra.tool.mcp.tool import tool_of

from .mcp_servers import call, connections, until


class Served:
    """A server and what it saw."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: list[dict[str, str]] = []
        self.cancelled = 0
        self.answer: Callable[[dict[str, Any], Any], Any] | None = None

    def config(self, **spec: Any) -> ServerConfig:
        full = {"transport": "streamableHttp", "url": f"{self.url}/mcp", "allowPrivate": True, **spec}
        return ServerConfig.of("default", "remote", full)


@asynccontextmanager
async def serving(*, legacy: bool = False, port: int = 0) -> AsyncIterator[Served]:
    """An SDK server on a socket; `legacy` answers as one that knows no revision after 2025-11-25."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    served = Served(f"http://127.0.0.1:{bound.getsockname()[1]}")
    server = MCPServer("remote", version="2.0")

    @server.tool(structured_output=False)
    def greet(name: str) -> str:
        """Say hello."""
        return f"Hello, {name}"

    @server.tool(structured_output=False)
    async def slow(ctx: Context) -> str:
        """Tell of progress and wait."""
        await ctx.report_progress(1, 2, "half")
        try:
            await anyio.sleep(30)
        except anyio.get_cancelled_exc_class():
            served.cancelled += 1
            raise
        return "done"

    @server.tool(structured_output=False)
    def big(size: int) -> str:
        """A long text."""
        return "x" * size

    @server.tool(structured_output=False)
    async def change(ctx: Context) -> str:
        """Add a tool, and say so."""

        def more() -> str:
            return "more"

        server.add_tool(more, description="More.", structured_output=False)
        await ctx.session.send_notification(types.ToolListChangedNotification())
        await ctx.notify_tools_changed()
        return "changed"

    inner = server.streamable_http_app()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            served.headers.append(headers)
            if served.answer is not None:
                await served.answer(scope, send)
                return
            if legacy and headers.get("mcp-protocol-version", "").startswith("2026"):
                await send(
                    {"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"text/plain")]}
                )
                await send({"type": "http.response.body", "body": b"Bad Request: unsupported protocol version"})
                return
        await inner(scope, receive, send)

    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1, ws="none")
    running = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.serve, [bound])
        await until(lambda: running.started)
        try:
            yield served
        finally:
            running.should_exit = running.force_exit = True
    bound.close()


@pytest.fixture(params=["2026-07-28", "2025-11-25"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(legacy=request.param == "2025-11-25") as made:
        made.revision = request.param  # type: ignore[attr-defined] # for the first test
        yield made


async def test_tools_are_called_in_both_revisions(served: Served) -> None:
    async with connections() as made:
        server = served.config()
        assert await call(made, server, "greet", name="Ada") == "Hello, Ada"
        listing = await made.of(server).listing(server)
        assert (listing.server, listing.protocol) == ("remote 2.0", served.revision)  # type: ignore[attr-defined]


async def test_progress_arrives_and_a_cancelled_call_is_cancelled_there(served: Served) -> None:
    told: list[Mapping[str, Any]] = []
    async with connections() as made:
        tool = await tool_of(made, served.config(), "slow")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tool.call, {}, ToolContext("k", emit=told.append))
            await until(lambda: told)
            tasks.cancel_scope.cancel()
        await until(lambda: served.cancelled == 1)
        assert await call(made, served.config(), "greet", name="Ada") == "Hello, Ada"


async def test_a_change_of_the_tools_is_heard_of(served: Served) -> None:
    async with connections() as made:
        server = served.config()
        await call(made, server, "greet", name="Ada")
        # The stream on which this comes is opened beside the first calls.
        await until(lambda: any(len(made.take_changed()) for _ in [0]) or True)
        await call(made, server, "change")
        await until(lambda: made.take_changed() == {("default", "remote")})
        assert await call(made, server, "more") == "more"


async def test_headers_come_from_secrets_and_are_read_anew_for_each_request(served: Served) -> None:
    values = {"token": "first"}

    async def secrets(value_from: Mapping[str, Any], namespace: str) -> str:
        return f"{namespace}-{values[value_from['secretKeyRef']['key']]}"

    source = {"secretKeyRef": {"name": "s", "key": "token"}}
    spec = {
        "auth": {"type": "bearer", "valueFrom": source},
        "headersFrom": [{"name": "X-Team", "value": "blue"}, {"name": "X-Key", "valueFrom": source}],
    }
    async with connections(secrets) as made:
        server = served.config(**spec)
        await call(made, server, "greet", name="Ada")
        assert {entry["authorization"] for entry in served.headers} == {"Bearer default-first"}
        assert {(entry["x-team"], entry["x-key"]) for entry in served.headers} == {("blue", "default-first")}
        values["token"] = "second"
        served.headers.clear()
        await call(made, server, "greet", name="Ada")
        assert served.headers[-1]["authorization"] == "Bearer default-second"


async def test_a_missing_secret_is_named_and_nothing_is_sent() -> None:
    async with serving() as served, connections() as made:
        server = served.config(auth={"type": "bearer", "valueFrom": {"env": "NO_SUCH_VARIABLE"}})
        with pytest.raises(ServerUnavailable, match="NO_SUCH_VARIABLE") as failure:
            await call(made, server, "greet", name="Ada")
        assert failure.value.reason == "SecretNotResolved"
        assert served.headers == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/mcp",
        "http://127.0.0.1:1/mcp",
        "http://[::ffff:127.0.0.1]/mcp",
        "http://2130706433/mcp",
        "http://user@10.0.0.1/mcp",
        "file:///etc/passwd",
        "gopher://10.0.0.1/",
    ],
)
async def test_an_address_that_may_not_be_called_is_not(url: str) -> None:
    async with connections(policy=Policy()) as made:
        server = ServerConfig.of("default", "remote", {"transport": "streamableHttp", "url": url})
        with pytest.raises(ServerUnavailable) as failure:
            await call(made, server, "greet", name="Ada")
        assert failure.value.reason == "AddressRefused"
        assert not failure.value.retryable


async def test_a_redirect_to_another_address_is_not_followed() -> None:
    async def away(scope: Any, send: Any) -> None:
        headers = [(b"location", b"http://169.254.169.254/latest")]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with serving() as served, connections() as made:
        served.answer = away
        with pytest.raises(ToolError, match="not followed"):
            await call(made, served.config(), "greet", name="Ada")


async def test_nobody_at_the_address_is_told_at_once_and_the_next_call_finds_who_comes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with connections() as made:
        spec = {"transport": "streamableHttp", "url": f"http://127.0.0.1:{port}/mcp", "allowPrivate": True}
        server = ServerConfig.of("default", "remote", spec)
        with pytest.raises(ServerUnavailable, match="no connection") as failure:
            await call(made, server, "greet", name="Ada")
        assert failure.value.reason == "ConnectionFailed"
        await made.of(server).disconnect()
        async with serving(port=port):
            assert await call(made, server, "greet", name="Ada") == "Hello, Ada"
            await made.of(server).disconnect()


async def test_a_server_that_was_restarted_and_forgot_the_session_gets_a_new_one() -> None:
    async with connections() as made:
        async with serving(legacy=True) as first:
            port = int(first.url.rpartition(":")[2])
            server = first.config()
            assert await call(made, server, "greet", name="Ada") == "Hello, Ada"
        async with serving(legacy=True, port=port):
            assert await call(made, server, "greet", name="Ada") == "Hello, Ada"
            await made.of(server).disconnect()


@pytest.mark.parametrize("size", [2_000_000, 10_000_000])
async def test_an_answer_that_is_too_large_fails_its_call_only(size: int) -> None:
    async with serving() as served, connections() as made:
        with pytest.raises(ToolError, match="bytes"):
            await call(made, served.config(), "big", size=size)
        assert await call(made, served.config(), "greet", name="Ada") == "Hello, Ada"


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, b"text/html", b"<html>Sign in</html>"),
        (200, b"application/json", b"{not json"),
        (500, b"text/plain", b"oops"),
        (401, b"application/json", b'{"error": "unauthorized"}'),
    ],
    ids=["html", "garbage", "500", "401"],
)
async def test_what_is_no_mcp_is_an_error_that_says_so(status: int, kind: bytes, body: bytes) -> None:
    async def nonsense(scope: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})

    async with serving() as served, connections() as made:
        served.answer = nonsense
        with pytest.raises(ServerUnavailable) as failure:
            await made.of(served.config()).listing(served.config())
        assert failure.value.reason in ("BadAnswer", "ConnectionFailed")


async def test_a_server_that_never_answers_is_given_up(served: Served) -> None:
    async def silence(scope: Any, send: Any) -> None:
        await anyio.sleep(60)

    async with connections() as made:
        served.answer = silence
        with pytest.raises(ServerUnavailable) as failure:
            await call(made, served.config(timeout="500ms"), "greet", name="Ada")
        assert failure.value.reason == "TimedOut"
        served.answer = None
