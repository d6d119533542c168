"""Tool: something an agent or a workflow can call, with exactly one body that says how.

How a Tool is read, and the controller that finds out whether it could be called. The schema is `crds/tools.yaml`; that
exactly one body is given is checked here, since two of them accept several shapes, which a schema can't look into. Nothing
is called here.

Read next: `kastra.tool.check`, which looks at the body.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, StrictStr, model_validator

from kastra.agent.check import called_schema
from kastra.api.errors import Cause
from kastra.api.quantities import parse_quantity
from kastra.api.types import Reference
from kastra.config import Settings
from kastra.netguard import Policy
from kastra.runtime.declarative import Context, controller
from kastra.runtime.manager import Manager
from kastra.runtime.namespaces import look_again_when_namespaces_change
from kastra.runtime.readiness import EARLY, Dependencies, examine, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.value_sources import examine_values
from kastra.runtime.view import Fields, View
from kastra.runtime.view_builtin import BuiltinUse
from kastra.runtime.view_checks import schema_findings, template_findings
from kastra.runtime.view_errors import forbidden, invalid, required
from kastra.runtime.view_errors import unsupported as not_supported
from kastra.runtime.view_steps import Approvers
from kastra.runtime.view_types import Closed, Duration, NamedValues, Ref, Retry, ValueFrom
from kastra.runtime.view_unions import either
from kastra.tool.check import Unusable, check_body, schema_hash
from kastra.tool.declared import ANYTHING
from kastra.tool.isolated import LEAST_MEMORY, PROCESS
from kastra.tool.toolkit.catalogue import builtins, problem

BODIES = ("python", "http", "mcp", "process", "builtin", "agent", "workflow")
"""The kinds of tool, by the field that holds the body."""
LOOK_AGAIN = 30.0
"""Seconds until a tool whose code or program is missing is looked at again, since no event tells when that appears."""


class Annotations(Fields):
    """What callers may assume."""

    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None


class PythonBody(Fields):
    """A Python function: importable, written in the manifest, or offered by an installed package."""

    entrypoint: str | None = None
    inline: str | None = None
    plugin: str | None = None


class HttpAuth(Fields):
    """How a request is authenticated."""

    type: Literal["bearer", "basic", "header", "query", "oauth2"]
    header: str | None = None
    username: str | None = None
    parameter: str | None = None
    token_url: str | None = Field(default=None, alias="tokenURL")
    client_id: str | None = Field(default=None, alias="clientID")
    scope: str | None = None
    value_from: ValueFrom


class HttpBody(Fields):
    """An HTTP request; `${{ }}` in url, headers and body inserts arguments."""

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None
    headers: NamedValues = Field(default_factory=list)
    body: Any = None
    auth: HttpAuth | None = None
    output: Any = None
    max_bytes: int | None = None
    allow_private: bool | None = None


class McpBody(Fields):
    """A tool of an MCP server."""

    server_ref: Ref
    tool: str


class ProcessBody(Fields):
    """A program that reads its arguments as JSON and writes its result."""

    command: list[str]
    folder: str | None = None
    env: NamedValues = Field(default_factory=list)
    pass_env: list[str] | None = None
    memory: Annotated[str | int | None, either("bytes, as a number or with a unit (256Mi)")] = None
    cpu: int | None = None
    max_output: Annotated[str | int | None, either("bytes, as a number or with a unit (1Mi)")] = None


class RateLimit(Fields):
    """Calls per time."""

    window: Duration
    max_requests: int


class ToolRefHolder(Fields):
    """Another tool that has a part in this one's calls."""

    tool_ref: Ref


class Approval(Fields):
    """On what terms people are asked about a call."""

    approvers: Approvers | None = None
    timeout: Duration | None = None
    on_timeout: Literal["approve", "reject", "fail"] | None = None


class Isolation(Closed):
    """Where a Python body runs: in a process of its own for each call. Also written as its type alone."""

    type: StrictStr
    memory: StrictStr | StrictInt | None = None
    cpu: StrictInt | None = Field(default=None, ge=1)
    pass_env: list[StrictStr] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_type(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data


class ToolSpec(Fields):
    """The normal form of a Tool's spec."""

    description: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    annotations: Annotations = Field(default_factory=Annotations)
    python: PythonBody | None = None
    http: HttpBody | None = None
    mcp: McpBody | None = None
    process: ProcessBody | None = None
    builtin: BuiltinUse | None = None
    agent: Ref | None = None
    workflow: Ref | None = None
    timeout: Duration | None = None
    retry: Retry | None = None
    concurrency: int | None = None
    rate_limit: RateLimit | None = None
    require_approval: bool = False
    approval: Approval | None = None
    isolation: Isolation | None = None
    delivery: Literal["AtLeastOnce", "AtMostOnce"] | None = None
    on_in_doubt: Literal["suspend", "fail", "retry", "probe"] | None = None
    probe: ToolRefHolder | None = None
    compensate: ToolRefHolder | None = None
    suspend: bool = False

    @model_validator(mode="before")
    @classmethod
    def _take_over_what_the_toolkit_says(cls, data: Any) -> Any:
        use = data.get("builtin") if isinstance(data, Mapping) else None
        name = use.get("name") if isinstance(use, Mapping) else use
        tool = builtins().get(name) if isinstance(name, str) else None
        if tool is None:
            return data
        given = data.get("annotations")
        annotations = {**tool.effect.annotations(), **(given if isinstance(given, Mapping) else {})}
        return {"timeout": f"{tool.timeout:g}s", **data, "annotations": annotations}

    @property
    def body(self) -> str:
        """Which body it has: one of `BODIES`; empty when none or several are given."""
        given = [name for name in BODIES if getattr(self, name) is not None]
        return given[0] if len(given) == 1 else ""


class ToolView(View, kind="Tool"):
    """A Tool, read."""

    spec: ToolSpec = Field(default_factory=ToolSpec)

    def references(self) -> list[Reference]:
        """Everything this tool refers to."""
        spec = self.spec
        found = []
        if spec.agent is not None:
            found.append(spec.agent.to("Agent", "spec.agent"))
        if spec.workflow is not None:
            found.append(spec.workflow.to("Workflow", "spec.workflow"))
        if spec.mcp is not None:
            found.append(spec.mcp.server_ref.to("MCPServer", "spec.mcp.serverRef"))
        if spec.probe is not None:
            found.append(spec.probe.tool_ref.to("Tool", "spec.probe.toolRef"))
        if spec.compensate is not None:
            found.append(spec.compensate.tool_ref.to("Tool", "spec.compensate.toolRef"))
        return [*found, *self.sources()]

    def sources(self) -> list[Reference]:
        """The Secrets and ConfigMaps whose values this tool uses."""
        return [reference for path, value in self.values() for reference in value.sources(path)]

    def values(self) -> list[tuple[str, ValueFrom]]:
        """Every value that comes from elsewhere, with its path."""
        http, process = self.spec.http, self.spec.process
        used: list[tuple[str, ValueFrom | None]] = []
        if http is not None:
            used += [(f"spec.http.headers[{index}].valueFrom", h.value_from) for index, h in enumerate(http.headers)]
            if http.auth is not None:
                used.append(("spec.http.auth.valueFrom", http.auth.value_from))
        if process is not None:
            used += [(f"spec.process.env[{index}].valueFrom", v.value_from) for index, v in enumerate(process.env)]
        return [(path, value) for path, value in used if value is not None]

    def unsupported(self) -> list[str]:
        """Every field has an effect."""
        return []


def validate(view: ToolView) -> list[Cause]:
    """What is wrong with a Tool beyond what its schema says."""
    spec = view.spec
    found: list[Cause] = []
    given = [name for name in BODIES if getattr(spec, name) is not None]
    if not given:
        found.append(required("spec", f"exactly one of {', '.join(BODIES)}"))
    found += [forbidden(f"exactly one body; {given[0]} is already given", f"spec.{name}") for name in given[1:]]
    if spec.http is not None:
        found += template_findings(spec.http.url, "spec.http.url", ("input",))
        found += template_findings(spec.http.body, "spec.http.body", ("input",))
        for index, header in enumerate(spec.http.headers):
            found += template_findings(header.value, f"spec.http.headers[{index}].value", ("input",))
        found += template_findings(spec.http.output, "spec.http.output", ("input", "response"))
        if spec.http.auth is not None:
            found += _auth_findings(spec.http.auth)
    if spec.process is not None:
        found += _process_findings(spec.process)
    if spec.builtin is not None:
        field, message = problem(spec.builtin.name, spec.builtin.settings, group=False)
        if message:
            found.append(invalid(spec.builtin.plain().get(field), message, f"spec.builtin.{field}"))
    if spec.isolation is not None:
        found += _isolation_findings(spec.isolation, spec.python is not None)
    if spec.on_in_doubt == "probe" and spec.probe is None:
        found.append(required("spec.probe", "onInDoubt: probe needs a tool that finds out"))
    for schema, path in ((spec.input_schema, "spec.inputSchema"), (spec.output_schema, "spec.outputSchema")):
        if schema is not None:
            found += schema_findings(schema, path)
    return found


def _isolation_findings(isolation: Isolation, python: bool) -> list[Cause]:
    if isolation.type != PROCESS:
        return [not_supported(isolation.type, (PROCESS,), "spec.isolation")]
    if not python:
        return [forbidden("goes with python; other bodies run no code in the server", "spec.isolation")]
    memory = isolation.memory
    try:
        if memory is not None and not LEAST_MEMORY <= parse_quantity(str(memory)) <= 1 << 50:
            raise ValueError("must be at least 128Mi, which an interpreter needs, and at most 1Pi")
    except ValueError as error:
        return [invalid(memory, str(error), "spec.isolation.memory")]
    return []


def _auth_findings(auth: HttpAuth) -> list[Cause]:
    needed = {
        "basic": {"username": "basic authentication needs a user name"},
        "query": {"parameter": "a key in the query needs the name of its parameter"},
        "oauth2": {
            "tokenURL": "OAuth 2 needs the address of tokens",
            "clientID": "OAuth 2 needs the name of the client",
        },
    }
    given = auth.plain()
    return [
        required(f"spec.http.auth.{field}", why)
        for field, why in needed.get(auth.type, {}).items()
        if not given.get(field)
    ]


def _process_findings(process: ProcessBody) -> list[Cause]:
    found = []
    given = process.plain()
    for field in ("memory", "maxOutput"):
        try:
            if field in given and not 0 < parse_quantity(str(given[field])) <= 1 << 50:
                raise ValueError("must be more than 0 and at most 1Pi")
        except ValueError as error:
            found.append(invalid(given[field], str(error), f"spec.process.{field}"))
    return found


@controller(ToolView, watches=("Agent", "Workflow", "Tool", "Secret", "ConfigMap", "MCPServer"), concurrency=16)
async def reconcile(tool: ToolView, ctx: Context) -> Result:
    """Find out whether the tool could be called, and with what arguments."""
    spec, settings = tool.spec, ctx.service(Settings)
    ctx.status.type = spec.body
    found = await examine(tool, ctx)
    if found.early:
        return ctx.look_later(EARLY)
    values = examine_values(
        [(path, value.plain()) for path, value in tool.values()], found.resolution, settings.project, tool.metadata.uid
    )
    ctx.status.secret_hash = values.digest or None
    if spec.suspend:
        return suspended(ctx)
    if found.reason:
        return ctx.not_ready(found.reason, found.message)
    if values.missing:
        return ctx.not_ready("ValueNotFound", listed(values.missing))
    if spec.mcp is not None:
        return _of_server(spec, spec.mcp.tool, found, ctx)
    plain = spec.plain()
    try:
        own = await check_body(tool.metadata.name, plain, settings.project, ctx.service(Policy))
    except Unusable as problem:
        return ctx.not_ready(problem.reason, problem.message, requeue_after=LOOK_AGAIN)
    schema = spec.input_schema or own or _called(ctx, found)
    ctx.status.schema_hash = schema_hash(schema)
    ctx.status.input_schema = None if spec.input_schema is not None or own is None else own
    return ctx.ready(f"its {spec.body} body can be called", "Resolved")


def _of_server(spec: ToolSpec, name: str, found: Dependencies, ctx: Context) -> Result:
    """Whether the MCPServer offers the tool that this one stands for, and may call it."""
    server = found.resolution.resolved["spec.mcp.serverRef"]
    what = f"MCPServer {server.namespace}/{server.name}"
    tool = next((tool for tool in server.status.get("discoveredTools") or () if tool["name"] == name), None)
    if tool is None:
        return ctx.not_ready("ToolNotFound", f"spec.mcp.tool: {what} has no tool {name!r}")
    if tool.get("state") == "Quarantined":
        return ctx.not_ready("Quarantined", f"spec.mcp.tool: {what}: {name}: {tool.get('reason')}")
    ctx.status.schema_hash = schema_hash(spec.input_schema) if spec.input_schema is not None else tool["schemaHash"]
    ctx.status.input_schema = None
    return ctx.ready(f"{what} offers it", "Resolved")


def _called(ctx: Context, found: Dependencies) -> Mapping[str, Any]:
    """The schema of the Agent or Workflow that the tool stands for; anything for other bodies."""
    for path in ("spec.agent", "spec.workflow"):
        target = found.resolution.resolved.get(path)
        if target is not None:
            view: Any = ctx.view(target.kind).of(target)
            return called_schema(target.kind, view.spec.plain())
    return ANYTHING


def setup(manager: Manager) -> None:
    """Namespaces decide which references across them are allowed."""
    look_again_when_namespaces_change(manager, "tool", "Tool")
