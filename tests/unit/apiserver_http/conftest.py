"""The HTTP application in process: requests are ASGI scopes, on virtual time and a store in memory."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
import pytest

from kastra.apiserver.authentication import TokenAuthenticator, token_hash
from kastra.apiserver.bootstrap import APIServer, start
from kastra.apiserver.call import User
from kastra.apiserver.filters import Limits
from kastra.apiserver.http.server import Application
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.subresources import ConnectorRegistry
from kastra.bus import Bus
from kastra.store.objects import ObjectStore, open_store
from kastra.testing.clock import VirtualClock
from tests.contract.client import WIDGETS

TOKEN = "a-token-for-tests"
WIDGETS_PATH = "/apis/example.com/v1/namespaces/default/widgets"


def widget(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1, **spec}}


@dataclass
class Reply:
    """What came back: the status, headers, and the chunks of the body."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [orjson.loads(line) for line in self.body.splitlines()]


class Exchange:
    """One request under way."""

    def __init__(self, body: bytes) -> None:
        self.reply = Reply()
        self._body: list[bytes] = [body]
        self._gone = anyio.Event()
        self._news = anyio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.reply.status = message["status"]
            self.reply.headers = [(k.decode(), v.decode()) for k, v in message["headers"]]
        else:
            if message.get("body"):
                self.reply.chunks.append(message["body"])
            self.reply.complete = not message.get("more_body")
        news, self._news = self._news, anyio.Event()
        news.set()

    def disconnect(self) -> None:
        self._gone.set()

    async def until_started(self) -> None:
        while not self.reply.status:
            await self._news.wait()

    async def until_lines(self, count: int) -> list[Any]:
        """The first `count` events of a stream."""
        while self.reply.body.count(b"\n") < count:
            await self._news.wait()
        return self.reply.lines


@dataclass
class Server:
    """The application and what is behind it."""

    app: Application
    api: APIServer
    store: ObjectStore
    clock: VirtualClock

    @property
    def client(self) -> LoopbackClient:
        return LoopbackClient(self.api.registry)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *,
        content_type: str | None = "application/json",
        accept: str = "application/json",
        token: str | None = TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request, to its end."""
        exchange, scope = self._begin(method, path, body, content_type, accept, token, headers)
        await self.app(scope, exchange.receive, exchange.send)
        return exchange.reply

    @asynccontextmanager
    async def stream(self, path: str, *, accept: str = "application/json") -> AsyncIterator[Exchange]:
        """A watch; the client goes away at the end of the block."""
        exchange, scope = self._begin("GET", path, b"", None, accept, TOKEN, None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.app, scope, exchange.receive, exchange.send)
            with anyio.fail_after(5):
                yield exchange
            exchange.disconnect()

    def _begin(
        self,
        method: str,
        path: str,
        body: Any,
        content_type: str | None,
        accept: str,
        token: str | None,
        headers: Mapping[str, str] | None,
    ) -> tuple[Exchange, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"accept": accept, "host": "127.0.0.1", "user-agent": "tests/1", **(headers or {})}
        if raw and content_type is not None:
            sent["content-type"] = content_type
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in sent.items() if v],
        }
        return Exchange(raw), scope


@asynccontextmanager
async def serve(connectors: ConnectorRegistry | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server with one custom kind, Widget; `options` are the application's."""
    clock = VirtualClock()
    async with await open_store(":memory:", clock=clock, bus=Bus(clock)) as store:
        api = await start(store, clock, connectors=connectors)
        await api.definitions.ensure([WIDGETS])
        tokens = TokenAuthenticator([(token_hash("another"), User("jo")), (token_hash(TOKEN), User("admin"))])
        options.setdefault("limits", Limits())
        yield Server(Application(api.registry, options.pop("authenticator", tokens), **options), api, store, clock)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve() as running:
        yield running
