"""How does one connection to an MCP server serve everybody in this process?

It is opened by whoever needs it first, and kept. A task of its own holds it, so that no caller's cancellation closes it: what is
cancelled is the caller's request, of which the server is told. When the server goes away, calls under way fail, and the next one
connects anew, after a pause that grows with every failure in a row. What the server offers is asked once and again after it said
that this has changed; a call is made only of a tool that is still what its caller knew.

Source: MCP, lifecycle and tools, by the official SDK. Read next: `kastra.tool.mcp.connections`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import anyio.abc
import anyio.to_thread

from kastra.clock import Clock
from kastra.netguard import Guard
from kastra.telemetry import without_secrets
from kastra.tool.interface import SecretReader, ToolContext, ToolError
from kastra.tool.timeout import within

from . import resources
from .config import STDIO, ServerConfig
from .errors import ServerUnavailable
from .listing import Listing, Offer, OfferedTool, offered_by
from .results import value_of
from .stdio import Ended
from .transport import opened, transport

if TYPE_CHECKING:
    from mcp.client.session import ClientSession
    from mcp.shared.exceptions import MCPError
    from mcp_types import RequestParamsMeta

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between attempts to connect: after the first failure, and at most."""
STABLE = 60.0
"""Seconds after which a connection counts as one that worked, so that its end begins a new row of failures."""
_REASONS = {"Refused": "AddressRefused", "TimedOut": "TimedOut", "SecretMissing": "SecretNotResolved"}


class Connection:
    """The connection to one server.

    Args:
        config: how it is reached, and which tools may be called.
        tasks: lives as long as the process works; holds the connection's task.
        guard: for HTTP.
        clock: for deadlines and pauses.
        secrets: reads values that the spec refers to.
        folder: the project's, in which programs start.
        changed: called when what `state` says may have changed.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        tasks: anyio.abc.TaskGroup,
        guard: Guard,
        clock: Clock,
        secrets: SecretReader,
        folder: Path | None,
        changed: Callable[[], None],
    ) -> None:
        self.config = config
        self._tasks = tasks
        self._guard = guard
        self._clock = clock
        self._secrets = secrets
        self._folder = folder
        self._changed = changed
        self._opening = anyio.Lock()
        self._live: _Live | None = None
        self._pending: _Live | None = None
        self._failures = 0
        self._next = float("-inf")
        self._problem: ServerUnavailable | None = None
        self._closed = self._retired = False
        self._calls = 0

    @property
    def problem(self) -> ServerUnavailable | None:
        """Why the last attempt failed, or the last connection ended; None while there is one, or none was tried."""
        return None if self._live is not None else self._problem

    @property
    def pause(self) -> float:
        """Seconds until the next attempt to connect may be made; 0 if it may be made now."""
        return max(0.0, self._next - self._clock.monotonic())

    async def listing(self, config: ServerConfig, *, fresh: bool = False) -> Listing:
        """What the server offers.

        Args:
            config: whose filter and pin count.
            fresh: ask it again, whether or not it said that something has changed.

        Raises:
            ServerUnavailable: it can't be asked.
        """
        return await self._in_time("", lambda: self._listing(config, fresh))

    async def call(
        self, config: ServerConfig, tool: str, known: str, arguments: Mapping[str, Any], context: ToolContext
    ) -> Any:
        """The result of one call.

        Args:
            config: whose filter and pin count.
            tool: its name on the server.
            known: hash of the tool as the caller knows it.
            arguments: checked by the caller.
            context: its key is sent along as `_meta.idempotencyKey`; progress goes to its `emit`.

        Raises:
            ToolError: the tool failed, isn't there any more, or has become another; `ServerUnavailable` if there is no connection.
        """
        self._calls += 1
        try:
            return await self._in_time(tool, lambda: self._call(config, tool, known, arguments, context))
        finally:
            self._calls -= 1
            if self._retired and not self._calls:
                self._tasks.start_soon(self.aclose)

    def retire(self) -> None:
        """End the connection when the calls under way have ended; nobody is to begin another."""
        self._retired = True
        if not self._calls:
            self._tasks.start_soon(self.aclose)

    async def aclose(self) -> None:
        """End the connection, and open no other."""
        self._closed = True
        await self.disconnect()

    async def disconnect(self) -> None:
        """End the connection, if there is one; the next use opens another, at once."""
        live, self._live = self._live or self._pending, None
        self._failures, self._next, self._problem = 0, float("-inf"), None
        if live is not None:
            live.wanted = False
            live.scope.cancel()
            await live.gone.wait()

    async def _in_time(self, tool: str, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives, for a tool, or for all of them if there is no name."""
        from mcp.shared.exceptions import MCPError

        timeout = self.config.timeout
        try:
            return await within(self._clock, timeout, call)
        except TimeoutError:
            raise ServerUnavailable(
                "TimedOut",
                f"{self.config.title}: {tool or 'its list of tools'}: no answer within {timeout:g}s",
                type="timeout",
            ) from None
        except MCPError as error:
            raise (self._told(error, tool) if tool else self._unavailable(error, None)) from None

    # --- connecting --------------------------------------------------------------------------------------------------

    async def _session(self) -> "_Live":
        async with self._opening:
            if self._live is not None:
                return self._live
            if self._closed:
                raise ServerUnavailable("Closed", f"{self.config.title} is not used any more")
            if (pause := self.pause) > 0:
                why = self._problem.message if self._problem is not None else "the last attempt to connect failed"
                reason = self._problem.reason if self._problem is not None else "ConnectionFailed"
                raise ServerUnavailable(reason, f"{why}; the next attempt is in {pause:.0f}s", retry_after=pause)
            live = self._pending
            if live is None:
                live = self._pending = _Live(self._clock.monotonic())
                # Not by the caller: who asks first may go away, and the connection is everybody's.
                self._tasks.start_soon(self._hold, live)
            await live.ready.wait()
            if live.failed is not None:
                raise live.failed
            return live

    async def _hold(self, live: "_Live") -> None:
        """Connect, and stay connected until somebody ends it."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._expire, live)
                with live.scope:
                    await self._connected(live)
                tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - whatever a server brings about, it concerns its callers only
            found = self._unavailable(_first(error), live)
            live.reason, live.why, live.retryable = found.reason, found.message, found.retryable
        finally:
            self._lost(live)
            live.gone.set()

    async def _expire(self, live: "_Live") -> None:
        await self._clock.sleep(self.config.timeout)
        if live.session is None:
            live.reason = "TimedOut"
            live.why = f"{self.config.title}: no answer to the handshake within {self.config.timeout:g}s"
            live.scope.cancel()

    def _lost(self, live: "_Live") -> None:
        """A connection has ended, or there was none to be had."""
        if live.lost.is_set():
            return
        live.lost.set()
        if self._live is live:
            self._live = None
        if self._pending is live:
            self._pending = None
        if live.wanted:
            worked = live.session is not None
            now = self._clock.monotonic()
            self._failures = 1 if worked and now - live.began >= STABLE else self._failures + 1
            pause = min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
            # A connection that worked and then ended is opened anew at once, the first time.
            self._next = now + (0.0 if worked and self._failures == 1 else pause)
            why = live.why or f"{self.config.title}: {live.ended.told()}"
            self._problem = ServerUnavailable(live.reason or "ConnectionFailed", why, retryable=live.retryable)
            if not worked:
                live.failed = self._problem
        live.ready.set()
        self._changed()

    async def _connected(self, live: "_Live") -> None:
        async def heard(message: Any) -> None:
            if getattr(message, "method", "") == "notifications/tools/list_changed":
                self._note_change(live)

        async with AsyncExitStack() as stack:
            streams = await transport(stack, self.config, self._guard, self._secrets, self._folder, live.ended)
            session = await opened(stack, streams, heard)
            live.session = session
            self._live, self._pending = live, None
            self._problem = None
            live.ready.set()
            self._changed()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, session, live)
                await live.ended.event.wait()
                # Before anything is cleaned up, so that the next call doesn't meet what has ended.
                self._lost(live)
                tasks.cancel_scope.cancel()

    async def _listen(self, session: "ClientSession", live: "_Live") -> None:
        """Hear of changes where the protocol has a stream for it; older revisions send them unasked."""
        from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost, listen
        from mcp.shared.exceptions import MCPError

        capabilities = session.server_capabilities
        if capabilities is None or capabilities.tools is None or not capabilities.tools.list_changed:
            return
        while True:
            try:
                async with listen(session, tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._note_change(live)
                return
            except SubscriptionLost:
                # What was missed in between is asked for, by polling too.
                self._note_change(live)
                await self._clock.sleep(FIRST_PAUSE)
            except (ListenNotSupportedError, MCPError):
                return

    def _note_change(self, live: "_Live") -> None:
        live.forget()
        self._changed()

    # --- asking ------------------------------------------------------------------------------------------------------

    async def _listing(self, config: ServerConfig, fresh: bool) -> Listing:
        from mcp.shared.exceptions import MCPError

        live = await self._session()
        if fresh:
            live.forget()
        try:
            return await self._offers(live, config)
        except MCPError as error:
            if not _forgotten(error):
                raise
            await self.disconnect()
            return await self._offers(await self._session(), config)

    async def _offers(self, live: "_Live", config: ServerConfig) -> Listing:
        async with live.asking:
            offer = live.offer
            if offer is None:
                changes = live.changes
                offer = await offered_by(live.of, self.config.title)
                # One that changes all the time is taken as it was; it is asked again the next time.
                live.offer = offer if live.changes == changes else None
            key = config.choice
            found = live.listings.get(key)
            if found is None:
                # Schemas of strangers are compiled in there, which takes as long as they are large.
                found = await anyio.to_thread.run_sync(Listing.of, offer, config)
                if live.offer is offer:
                    live.listings[key] = found
            return found

    async def _call(
        self, config: ServerConfig, tool: str, known: str, arguments: Mapping[str, Any], context: ToolContext
    ) -> Any:
        from mcp.shared.exceptions import MCPError
        from mcp_types import CONNECTION_CLOSED, HEADER_MISMATCH

        again = True
        while True:
            live = await self._session()
            try:
                offered = self._callable(await self._offers(live, config), tool, known)
                return await self._ask(live.of, offered, arguments, context)
            except MCPError as error:
                # In both cases the server has done nothing.
                if again and _forgotten(error):
                    await self.disconnect()
                elif again and error.code == HEADER_MISMATCH:
                    live.forget()
                else:
                    if error.code == CONNECTION_CLOSED and self.config.spec["transport"] == STDIO:
                        # What ended the program is known a moment later.
                        await live.lost.wait()
                    raise
            again = False

    def _callable(self, listing: Listing, tool: str, known: str) -> OfferedTool:
        offered = listing.tools.get(tool)
        if offered is None:
            raise ToolError(f"{self.config.title} has no tool {tool!r} any more; it was not called", retryable=False)
        if tool in listing.quarantined:
            why = listing.quarantined[tool]
            raise ToolError(f"{tool} is quarantined: {why}; it was not called", type="authorization", retryable=False)
        if offered.hash != known:
            raise ToolError(
                f"{tool} has changed on the server since this began; it was not called",
                type="authorization",
                retryable=False,
            )
        return offered

    async def _ask(
        self, session: "ClientSession", tool: OfferedTool, arguments: Mapping[str, Any], context: ToolContext
    ) -> Any:
        from mcp_types import CallToolResult
        from pydantic import ValidationError

        if tool.ours:
            return await resources.answer(session, tool.name, arguments)

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            told = {"type": "progress", "tool": tool.name, "progress": progress, "total": total}
            context.emit(without_secrets({**told, "message": (message or "")[:500]}))

        try:
            result = await session.call_tool(
                tool.name,
                dict(arguments),
                progress_callback=tell,
                meta=cast("RequestParamsMeta", {"idempotencyKey": context.idempotency_key}),
                allow_input_required=True,
            )
        except ValidationError as error:
            raise ToolError(
                f"{tool.name}: the server's answer is no tool result ({error.error_count()} errors)", retryable=False
            ) from None
        if not isinstance(result, CallToolResult):
            raise ToolError(f"{tool.name} asks for input from a person, which it can't get here", retryable=False)
        return value_of(result, tool.name, tool.output)

    # --- failing -----------------------------------------------------------------------------------------------------

    def _told(self, error: "MCPError", tool: str) -> ToolError:
        """A refusal by the server, or by the way to it, as a caller is told."""
        from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS

        if error.code == CONNECTION_CLOSED:
            why = self._problem.message if self._problem is not None else f"{self.config.title}: {error.message[:500]}"
            return ServerUnavailable("ConnectionFailed", f"{why}; whether {tool} had an effect is not known")
        found = self._unavailable(error, None)
        if found.reason != "BadAnswer":
            return found
        message = f"{tool}: {without_secrets(error.message[:500])}"
        return ToolError(message, type="validation" if error.code == INVALID_PARAMS else "tool", retryable=False)

    def _unavailable(self, error: BaseException, live: "_Live | None") -> ServerUnavailable:
        from mcp.shared.exceptions import MCPError
        from mcp_types import CONNECTION_CLOSED

        title = self.config.title
        if isinstance(error, ServerUnavailable):
            return error
        if isinstance(error, MCPError):
            tag = error.data.get("kastra") if isinstance(error.data, Mapping) else None
            if tag is not None:
                refused = tag == "Refused"
                return ServerUnavailable(
                    _REASONS.get(str(tag), "ConnectionFailed"),
                    f"{title}: {error.message[:500]}",
                    type="authorization" if refused else "timeout" if tag == "TimedOut" else "tool",
                    retryable=not refused,
                )
            if error.code == CONNECTION_CLOSED and live is not None:
                return ServerUnavailable("ConnectionFailed", f"{title}: {live.ended.told()}")
            return ServerUnavailable("BadAnswer", f"{title}: it refused: {without_secrets(error.message[:500])}")
        return ServerUnavailable(
            "ConnectionFailed", f"{title}: {type(error).__name__}: {without_secrets(str(error)[:300])}"
        )


class _Live:
    """A connection from the attempt to open it to its end."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.session: ClientSession | None = None
        self.scope = anyio.CancelScope()
        self.ready = anyio.Event()
        self.lost = anyio.Event()
        self.gone = anyio.Event()
        self.asking = anyio.Lock()
        self.ended = Ended()
        self.failed: ServerUnavailable | None = None
        self.wanted = True
        self.reason = ""
        self.why = ""
        self.retryable = True
        self.changes = 0
        self.offer: Offer | None = None
        self.listings: dict[str, Listing] = {}

    @property
    def of(self) -> "ClientSession":
        """The session, once there is one."""
        assert self.session is not None
        return self.session

    def forget(self) -> None:
        """What is known of the server's tools holds no longer."""
        self.changes += 1
        self.offer = None
        self.listings = {}


def _forgotten(error: "MCPError") -> bool:
    """Whether the server doesn't know our session any more: it was restarted, or has let it go."""
    return isinstance(error.data, Mapping) and error.data.get("kastra") == "Forgotten"


def _first(error: BaseException) -> BaseException:
    """The first leaf of nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
