"""Which tools of an MCP server does an agent, or a Tool, have? What the server offers when it is first needed, held by hash.

A Run goes on with the tools that it began with: one that changes meanwhile is not called any more, see `kastra.tool.mcp`.
Quarantined tools are left out, so that no model reads what nobody has accepted. Read next: `kastra.agent.assembly`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kastra.api.types import ClosureObject
from kastra.engine.step import StepError
from kastra.tool.interface import ToolError
from kastra.tool.mcp.config import ServerConfig
from kastra.tool.mcp.connections import Connections
from kastra.tool.mcp.tool import McpTool, shown_name, tool_of, tools_of

from .models import refuse
from .services import AgentServices


async def server_tool(services: AgentServices, server: ClosureObject, name: str) -> McpTool:
    """The tool of a server that a Tool stands for.

    Raises:
        StepError: it can't be called.
    """
    connections, config = _reached(services, server)
    try:
        return await tool_of(connections, config, name)
    except ToolError as error:
        raise _failed(error) from None


async def offered(
    services: AgentServices, server: ClosureObject, binding: Mapping[str, Any]
) -> Sequence[tuple[str, McpTool]]:
    """The tools of a server that an agent has by one of its bindings, with their names for the model.

    Raises:
        StepError: the server isn't reached, or has no tool of a name.
    """
    connections, config = _reached(services, server)
    try:
        tools = await tools_of(connections, config, binding["mcp"].get("tools"))
    except ToolError as error:
        raise _failed(error) from None
    return [(shown_name(binding, tool.signature.name), tool) for tool in tools]


def reported(
    binding: Mapping[str, Any], server: str, status: Mapping[str, Any]
) -> tuple[list[dict[str, str]], list[str]]:
    """What the status of an agent shows of a binding to a server, and what of it can't be called.

    Args:
        server: what to call it.
        status: of the MCPServer.
    """
    known = {tool["name"]: tool for tool in status.get("discoveredTools") or ()}
    entries, problems = [], []
    for name in binding["mcp"].get("tools") or sorted(known):
        tool = known.get(name)
        if tool is None:
            problems.append(f"{server} has no tool {name!r}")
        elif tool.get("state") == "Quarantined":
            problems.append(f"{server}: {name} is quarantined")
        else:
            resolved = f"{server}/{name}"
            entries.append({"name": shown_name(binding, name), "resolved": resolved, "schemaHash": tool["schemaHash"]})
    return entries, problems


def _reached(services: AgentServices, server: ClosureObject) -> tuple[Connections, ServerConfig]:
    try:
        config = ServerConfig.of(server["namespace"], server["name"], server["spec"])
    except ValueError as error:
        raise refuse(f"MCPServer {server['namespace']}/{server['name']}: spec.timeout: {error}") from None
    if services.mcp is None:
        raise refuse(f"{config.title} can't be called here: this process has no connections to MCP servers")
    if server["spec"].get("suspend"):
        raise refuse(f"{config.title} is suspended")
    return services.mcp, config


def _failed(error: ToolError) -> StepError:
    return StepError(error.type, error.message, retryable=error.retryable, retry_after=error.retry_after)
