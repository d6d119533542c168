"""MCPServer: a server of the Model Context Protocol, whose tools Agents and Tools can call.

How an MCPServer is read, and the controller that connects to it, lists its tools and says which of them may be called. The schema
is `crds/mcpservers.yaml`. The connection is the one that Runs call over; a server that says that its tools have changed is asked
anew at once, any other now and then. What is pinned and has changed stays quarantined until the pin is.

No tool is called here. Read next: `kastra.tool.mcp`, the connections.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from kastra.api.durations import parse_duration
from kastra.api.errors import Cause
from kastra.api.types import Reference
from kastra.clock import rfc3339
from kastra.config import Settings
from kastra.netguard import Policy
from kastra.netguard.preview import refusal
from kastra.runtime.cache import Cache
from kastra.runtime.declarative import Context, controller
from kastra.runtime.readiness import examine, listed, suspended
from kastra.runtime.reconcile import Request, Result
from kastra.runtime.value_sources import Values, examine_values
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import forbidden, required
from kastra.runtime.view_types import Duration, NamedValues, ValueFrom
from kastra.runtime.view_unions import either
from kastra.tool.mcp.config import STDIO, STREAMABLE_HTTP, ServerConfig
from kastra.tool.mcp.connections import NEWS, Connections
from kastra.tool.mcp.errors import ServerUnavailable
from kastra.tool.mcp.listing import Listing
from kastra.tool.timeout import within

POLL = 300.0
"""Seconds between two looks at a server that says nothing of itself."""
PATIENCE = 20.0
"""Seconds that a pass waits for a server, whatever its timeout."""
LOOK = 60.0
"""Seconds between two looks whether connections are still of use."""
RETRY = 5.0
"""Seconds until a server that wasn't reached is tried again, at least."""
SHOWN = 200
"""Characters of a description that the status shows."""


class Auth(Fields):
    """How requests are authenticated."""

    type: Literal["bearer", "basic", "header"]
    header: str | None = None
    username: str | None = None
    value_from: ValueFrom


class OAuth(Fields):
    """Authorisation by OAuth."""

    per_user: bool | None = None
    flow: str | None = None


class ToolFilter(Fields):
    """Which tools there are, by patterns."""

    allow: list[str] | None = None
    deny: list[str] | None = None


class MCPServerSpec(Fields):
    """The normal form of an MCPServer's spec."""

    transport: Literal["stdio", "sse", "streamableHttp"]
    command: list[str] | None = None
    args: list[str] | None = None
    env: NamedValues = Field(default_factory=list)
    cwd: str | None = None
    url: str | None = None
    headers_from: NamedValues = Field(default_factory=list)
    auth: Auth | None = None
    oauth: OAuth | None = None
    allow_private: bool | None = None
    tool_filter: ToolFilter | None = None
    resources: bool | None = None
    poll_interval: Duration | None = None
    timeout: Duration | None = None
    pin: Annotated[
        str | dict[str, str] | None, either("a schemaHash, or a map from names of tools to theirs, each a text")
    ] = None
    suspend: bool = False


class MCPServerView(View, kind="MCPServer"):
    """An MCPServer, read."""

    spec: MCPServerSpec

    def references(self) -> list[Reference]:
        """Everything this server refers to."""
        return self.sources()

    def sources(self) -> list[Reference]:
        """The Secrets and ConfigMaps whose values are sent to the server."""
        return [reference for path, value in self.values() for reference in value.sources(path)]

    def values(self) -> list[tuple[str, ValueFrom]]:
        """Every value that comes from elsewhere, with its path."""
        spec = self.spec
        used = [(f"spec.env[{index}].valueFrom", entry.value_from) for index, entry in enumerate(spec.env)]
        used += [(f"spec.headersFrom[{i}].valueFrom", entry.value_from) for i, entry in enumerate(spec.headers_from)]
        if spec.auth is not None:
            used.append(("spec.auth.valueFrom", spec.auth.value_from))
        return [(path, value) for path, value in used if value is not None]

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        return ["spec.oauth"] if self.spec.oauth is not None else []


_OF_PROGRAMS = ("command", "args", "env", "cwd")
_OF_URLS = ("url", "headers_from", "auth", "oauth", "allow_private")


def validate(view: MCPServerView) -> list[Cause]:
    """What is wrong with an MCPServer beyond what its schema says."""
    spec = view.spec
    strangers = _OF_URLS if spec.transport == STDIO else _OF_PROGRAMS
    found = []
    for name in strangers:
        if name in spec.model_fields_set:
            alias = type(spec).model_fields[name].alias or name
            found.append(forbidden(f"the transport is {spec.transport}", f"spec.{alias}"))
    if spec.auth is not None and spec.auth.type == "basic" and not spec.auth.username:
        found.append(required("spec.auth.username", "basic authentication needs a user name"))
    return found


@controller(
    MCPServerView,
    watches=("Secret", "ConfigMap"),
    sources={NEWS: lambda server: [Request(*server)]},
    concurrency=16,
)
async def reconcile(server: MCPServerView, ctx: Context) -> Result:
    """Connect, list the tools, and say which of them may be called."""
    spec, connections = server.spec, ctx.service(Connections)
    namespace, name = ctx.object.namespace, ctx.object.name
    found = await examine(server, ctx)
    sources = [(path, value.plain()) for path, value in server.values()]
    values = examine_values(sources, found.resolution, ctx.service(Settings).project, ctx.object.uid)
    problem = found.message if found.reason else listed(values.missing)
    _report_secret(ctx, values, problem, connections)
    if spec.suspend:
        connections.drop(namespace, name)
        return suspended(ctx)
    if problem:
        return ctx.not_ready(found.reason or "SecretNotResolved", problem)
    if spec.transport not in (STDIO, STREAMABLE_HTTP):
        return ctx.not_ready("UnsupportedFeatures", f"spec.transport: {spec.transport} isn't spoken by this version")
    if spec.url is not None:
        refused = refusal(spec.url, ctx.service(Policy), allow_private=bool(spec.allow_private))
        if refused is not None:
            return ctx.not_ready("AddressRefused", f"spec.url: {refused}")
    config = ServerConfig.of(namespace, name, spec.plain())
    connections.keep(config)
    connection = connections.of(config)
    try:
        listing = await within(ctx.clock, PATIENCE, lambda: connection.listing(config, fresh=True))
    except TimeoutError:
        return _unreached(ctx, "TimedOut", f"no list of tools within {PATIENCE:g}s", RETRY)
    except ServerUnavailable as error:
        return _unreached(ctx, error.reason, error.message, max(connection.pause, RETRY))
    ctx.condition("Connected", True, "Connected", f"{listing.server or 'a server'}, protocol {listing.protocol}")
    _report_tools(ctx, listing, pinned=spec.pin is not None)
    if listing.tools and len(listing.quarantined) == len(listing.tools):
        result = ctx.not_ready("SchemaDrift", f"all {len(listing.tools)} tools are quarantined, see spec.pin")
    else:
        result = ctx.ready(f"{len(listing.tools) - len(listing.quarantined)} tools", "Connected")
    every = POLL if spec.poll_interval is None else max(1.0, parse_duration(spec.poll_interval))
    return Result(requeue_after=every if result.requeue_after is None else min(every, result.requeue_after))


@reconcile.poll(every=LOOK)
async def forsaken(connections: Connections | None, cache: Cache) -> Iterable[Request]:
    """Connections of objects that are gone are closed; of nobody is anything to be looked at."""
    if connections is None:
        return ()
    lister = cache.lister("MCPServer.mastra.ai")
    for namespace, name in connections.servers():
        if lister.get(namespace, name) is None:
            connections.drop(namespace, name)
    return ()


def _unreached(ctx: Context, reason: str, message: str, again: float) -> Result:
    """What the server offered before stays shown: it is what is missing now."""
    ctx.condition("Connected", False, reason, message)
    return ctx.not_ready(reason, message, requeue_after=again)


def _report_tools(ctx: Context, listing: Listing, *, pinned: bool) -> None:
    tools = []
    for tool in sorted(listing.tools.values(), key=lambda tool: tool.name):
        entry: dict[str, Any] = {"name": tool.name, "description": tool.description[:SHOWN], "schemaHash": tool.hash}
        why = listing.quarantined.get(tool.name)
        tools.append(
            {**entry, "state": "Callable"} if why is None else {**entry, "state": "Quarantined", "reason": why}
        )
    before = ctx.object.status.get("schemaHash")
    status = ctx.status
    status.discovered_tools, status.tool_count = tools, len(tools) - len(listing.quarantined)
    status.quarantined_count = len(listing.quarantined)
    status.schema_hash, status.server, status.protocol_version = listing.hash, listing.server, listing.protocol
    if before != listing.hash:
        status.last_discovery_time = rfc3339(ctx.clock.now())
    drift = list(listing.quarantined)
    told = f"quarantined: {listed(f'{name} ({listing.quarantined[name]})' for name in drift)}"
    if drift:
        ctx.condition("SchemaDrift", True, "SchemaDrift", told)
    elif pinned or ctx.object.condition("SchemaDrift") is not None:
        ctx.condition(
            "SchemaDrift", False, "Accepted", "every tool is as it was accepted" if pinned else "spec.pin is not set"
        )
    if listing.unusable or ctx.object.condition("Degraded") is not None:
        reason = "UnusableTools" if listing.unusable else "Resolved"
        ctx.condition("Degraded", bool(listing.unusable), reason, listed(listing.unusable))
    if before and before != listing.hash:
        if drift:
            ctx.event("SchemaDrift", told[:1000], "Warning")
        else:
            ctx.event("ToolsChanged", "the server offers other tools than before, or has changed some")


def _report_secret(ctx: Context, values: Values, problem: str, connections: Connections) -> None:
    """The digest by which a changed value is seen. Headers are read anew for each request; a program has to start again."""
    before = ctx.status.secret_hash
    ctx.status.secret_hash = None if problem else values.digest or None
    if problem:
        ctx.condition("SecretResolved", False, "NotFound", problem)
        return
    message = "every value is there" if values.digest else "no value comes from elsewhere"
    ctx.condition("SecretResolved", True, "Resolved", message)
    if before and values.digest and before != values.digest:
        connections.drop(ctx.object.namespace, ctx.object.name)
        ctx.event("SecretChanged", "a value that calls are made with has changed; calls from now on use the new one")
