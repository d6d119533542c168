"""`/mcp` of `kastra serve`: streamable HTTP for whoever the API server has recognised.

Requests come here after authentication, limits and RBAC on the path. A session belongs to the user who opened it; there are at
most so many, and those that nobody uses end. Requests of web pages are refused unless their origin is allowed, as the protocol
demands against DNS rebinding. Nothing is imported and nothing watched before the first request.

Source: MCP, transports, streamable HTTP, security. Read next: `kastra.app.mcp.protocol`.
"""

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from kastra.apiserver.call import User
from kastra.apiserver.http.message import MAX_BODY, Receive, Scope, Send
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.registry import Registry
from kastra.background import Background
from kastra.clock import Clock

from .changes import follow_changes

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from .protocol import Protocol

IDLE = 1800.0
"""Seconds after which a session that nobody uses ends."""
_MOST_NAMESPACES = 200
_USER = "kastra.user"

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class MCPEndpoint(Background):
    """Serves MCP clients. An async context manager.

    Args:
        registry: of this process.
        admin: sees everything; finds out what there is, never what somebody may see of it.
        origins: of web pages that may call.
        sessions: at the same time, at most.
    """

    def __init__(
        self, registry: Registry, admin: User, clock: Clock, *, origins: Sequence[str] = (), sessions: int = 1000
    ) -> None:
        super().__init__()
        self._registry = registry
        self._admin = LoopbackClient(registry, user=admin)
        self._clock = clock
        self._origins = frozenset(origins)
        self._sessions = sessions
        self._opening = anyio.Lock()
        self._open: tuple[StreamableHTTPSessionManager, Protocol] | None = None
        self._stopping = False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await super().__aexit__(kind, error, trace)

    def stop(self) -> None:
        """From now on, who is cut off hasn't given up: their Runs go on."""
        self._stopping = True

    def serve(self, user: User) -> Application:
        """What answers a request of `user`."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            origin = dict(scope["headers"]).get(b"origin")
            if origin is not None and origin.decode("latin-1") not in self._origins:
                await _refuse(send, 403, "requests of web pages are not served; see the setting mcp_allowed_origins")
                return
            if self._stopping:
                await _refuse(send, 503, "the server is going away")
                return
            manager, protocol = await self._opened()
            from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
            from mcp.server.auth.provider import AccessToken

            # By this the SDK knows to whom a session belongs.
            token = AccessToken(token="", client_id=user.name, scopes=[], subject=user.name)
            await manager.handle_request({**scope, "user": AuthenticatedUser(token), _USER: user}, receive, send)
            if scope["method"] == "DELETE":
                protocol.forget(dict(scope["headers"]).get(b"mcp-session-id", b"").decode("latin-1"))

        return application

    async def _opened(self) -> "tuple[StreamableHTTPSessionManager, Protocol]":
        async with self._opening:
            if self._open is None:
                await self._tasks.start(self._run)
            assert self._open is not None
            return self._open

    async def _run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from .protocol import Protocol

        protocol = Protocol(self._caller, sessions=self._sessions, stopping=lambda: self._stopping)
        manager = StreamableHTTPSessionManager(
            protocol.server,
            session_idle_timeout=IDLE,
            max_request_body_size=MAX_BODY,
            max_sessions=self._sessions,
        )
        async with manager.run(), anyio.create_task_group() as tasks:
            tasks.start_soon(follow_changes, self._admin, self._namespaces, self._clock, protocol.tell_changed)
            self._open = (manager, protocol)
            task_status.started()
            await anyio.sleep_forever()

    def _caller(self, ctx: Any) -> tuple[LoopbackClient, Callable[[], Awaitable[Sequence[str]]]]:
        user: User = ctx.request.scope[_USER]
        return LoopbackClient(self._registry, user=user), self._namespaces

    async def _namespaces(self) -> Sequence[str]:
        found = await self._admin.list("namespaces", limit=_MOST_NAMESPACES)
        return [obj.name for obj in found.items]


async def _refuse(send: Send, status: int, message: str) -> None:
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": message}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
