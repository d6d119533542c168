"""What does an MCP client get to see? The exported objects as tools, and the results of calling them, by the official SDK.

One server object speaks both revisions and serves all clients; which client of the Kubernetes API stands behind a request is for
whoever carries the request to say. Read next: `kastra.app.mcp.endpoint`.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import orjson
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ElicitResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    ServerCapabilities,
    TextContent,
    Tool,
    ToolAnnotations,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from kastra.api.errors import StatusError
from kastra.api.object import Object
from kastra.app.running import RunResult, has_ended
from kastra.client.interface import Client
from kastra.telemetry import without_secrets
from kastra.tool.schema import JsonSchema
from kastra.version import __version__

from .asking import asked, decide, question, taken_up, waited_for
from .calls import begin, follow, give_up
from .exports import Export, Namespaces, export, exports

PAGE = 200
"""Tools on one page of the list."""
MAX_SUBSCRIPTIONS = 1000
MAX_RESULT = 4 * 1024 * 1024
"""Bytes of a result."""
_LONGEST_NOTICE = 1.0
INSTRUCTIONS = (
    "Tools named agent_..., network_..., workflow_... and tool_... are objects of a Kastra control plane. A call is a Run: "
    "it is durable, and cancelling the call cancels it."
)

Context = ServerRequestContext[Any, Any]
Caller = Callable[[Context], tuple[Client, Namespaces]]
"""Who stands behind a request: their client, and the namespaces to look into if they may not list all."""


class _Server(Server[Any]):
    """Tells older clients that its tools change."""

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> ServerCapabilities:
        options = NotificationOptions(tools_changed=True)
        return super().get_capabilities(
            options, experimental_capabilities, extensions, protocol_version=protocol_version
        )


class Protocol:
    """The protocol's side of Kastra.

    Args:
        caller: who stands behind a request.
        sessions: of older clients that are told of changes, at most.
        stopping: whether this process is going away.
    """

    def __init__(self, caller: Caller, *, sessions: int = 1000, stopping: Callable[[], bool] = lambda: False) -> None:
        # At INFO it tells of every session and request, which the audit log does already.
        logging.getLogger("mcp.server").setLevel(logging.WARNING)
        self._caller = caller
        self._stopping = stopping
        self._most = sessions
        self._bus = InMemorySubscriptionBus()
        self._known: OrderedDict[str, Any] = OrderedDict()
        self.server = _Server(
            "kastra",
            version=__version__,
            title="Kastra",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=ListenHandler(self._bus, max_subscriptions=MAX_SUBSCRIPTIONS),
        )
        self.server.middleware.append(self._remember)

    async def tell_changed(self) -> None:
        """The tools are others than before: let everybody know who wants to."""
        await self._bus.publish(ToolsListChanged())
        async with anyio.create_task_group() as tasks:
            for session in list(self._known.values()):
                tasks.start_soon(self._notice, session)

    def forget(self, session: str) -> None:
        """A session has ended."""
        self._known.pop(session, None)

    async def _notice(self, session: Any) -> None:
        # One who doesn't read must not keep the others from hearing of it.
        with anyio.move_on_after(_LONGEST_NOTICE):
            await session.send_notification(ToolListChangedNotification())

    async def _remember(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method == "notifications/initialized":
            headers = getattr(ctx.request, "headers", None)
            self._known[headers.get("mcp-session-id", "") if headers is not None else ""] = ctx.session
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return await call_next(ctx)

    async def _list(self, ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        client, namespaces = self._caller(ctx)
        found = await exports(client, namespaces)
        cursor = params.cursor if params is not None else None
        if cursor is not None:
            found = [one for one in found if one.tool > cursor]
        page, rest = found[:PAGE], found[PAGE:]
        return ListToolsResult(tools=[_tool(one) for one in page], next_cursor=page[-1].tool if rest else None)

    async def _call(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        client, namespaces = self._caller(ctx)
        found = await export(client, namespaces, params.name)
        if found is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:200]}")
        arguments: Mapping[str, Any] = params.arguments or {}
        try:
            problems = JsonSchema(found.schema, "inputSchema").problems(arguments)
        except ValueError as error:
            return _failed(str(error))
        if problems:
            return _failed(f"arguments of {params.name}: {'; '.join(problems)}")

        try:
            result = await self._perform(ctx, params, client, found, arguments)
        except StatusError as error:
            return _failed(error.message)
        except ValueError as error:
            raise MCPError(INVALID_PARAMS, str(error)) from None
        if isinstance(result, InputRequiredResult):
            return result
        if result.phase != "Succeeded":
            error_ = result.error or {}
            title = error_.get("title") or f"the Run {result.name} ended as {result.phase}"
            return _failed(f"{error_['type']}: {title}" if error_.get("type") else str(title))
        return _succeeded(result.output, found)

    async def _perform(
        self, ctx: Context, params: CallToolRequestParams, client: Client, found: Export, arguments: Mapping[str, Any]
    ) -> RunResult | InputRequiredResult:
        """The Run of a call, to its end; or the question that it waits for, if the client can ask somebody."""
        answered: set[str] = set()
        if params.request_state is not None:
            run, answered = await taken_up(client, found, params.request_state)
            for name, given in (params.input_responses or {}).items():
                if isinstance(given, ElicitResult):
                    await decide(client, name, run.namespace, given)
                answered.add(name)
        else:
            run = await begin(client, found, arguments)
        told = 0

        async def tell(count: int, line: str) -> None:
            nonlocal told
            told += 1
            await ctx.session.report_progress(told, None, line)

        capabilities = ctx.session.client_capabilities
        asks = capabilities is not None and capabilities.elicitation is not None

        def rests(now: Object) -> bool:
            return has_ended(now) or (asks and bool(waited_for(now, answered)))

        while True:
            await follow(client, run, tell, self._stopping, rests)
            now = await client.get(run.ref)
            if has_ended(now):
                return RunResult.of(now)
            name = waited_for(now, answered)
            if not name:
                continue
            answered.add(name)
            form = await question(client, name, run.namespace)
            if form is None:
                continue
            if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
                return asked(run, name, form, answered)
            try:
                given = await ctx.session.elicit_form(form.message, form.requested_schema, ctx.request_id)
            except anyio.get_cancelled_exc_class():
                await give_up(client, run, self._stopping)
                raise
            await decide(client, name, run.namespace, given)


def _tool(found: Export) -> Tool:
    return Tool(
        name=found.tool,
        title=f"{found.kind} {found.name}",
        description=found.description,
        input_schema=dict(found.schema),
        output_schema=None if found.output is None else dict(found.output),
        annotations=ToolAnnotations.model_validate(found.hints) if found.hints else None,
    )


def _succeeded(value: Any, found: Export) -> CallToolResult:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if len(text) > MAX_RESULT:
        return _failed(f"the result has {len(text)} characters, and {MAX_RESULT} are the most")
    structured = value if isinstance(value, Mapping) else None
    if found.output is not None and structured is None:
        return _failed("the result is no object, which its schema says it is")
    content = [TextContent(text=text)]
    if structured is None:
        return CallToolResult(content=[*content])
    return CallToolResult(content=[*content], structured_content=structured)


def _failed(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=str(without_secrets(message))[:4000])], is_error=True)
