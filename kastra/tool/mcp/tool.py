"""How is a tool of an MCP server a tool like any other? Its name and hash are held, so that what is called is what was found.

Read next: `kastra.tool.declared`, which checks arguments; `kastra.tool.mcp.connection`, which calls.
"""

import re
from collections.abc import Mapping
from typing import Any

from kastra.tool.interface import ToolContext, ToolError

from .config import ServerConfig
from .connections import Connections
from .listing import Listing, OfferedTool

LONGEST_NAME = 64
"""Characters of a tool's name that all model providers take."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class McpTool:
    """Calls one tool of a server.

    Args:
        connections: of the process.
        config: of the server.
        signature: what the server says of the tool: its description and the schema of its arguments.
    """

    def __init__(self, connections: Connections, config: ServerConfig, signature: OfferedTool) -> None:
        self._connections = connections
        self._config = config
        self.signature = signature

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """The result. Raises ToolError."""
        connection = self._connections.of(self._config)
        known = self.signature
        return await connection.call(self._config, known.name, known.hash, arguments, context)


async def tool_of(connections: Connections, config: ServerConfig, name: str) -> McpTool:
    """One tool of a server, by its name there.

    Raises:
        ToolError: the server isn't reached, has no such tool, or the tool is quarantined.
    """
    listing = await connections.of(config).listing(config)
    return McpTool(connections, config, _chosen(listing, config, name))


async def tools_of(connections: Connections, config: ServerConfig, names: list[str] | None) -> list[McpTool]:
    """The tools of a server that may be called: those named, or all. Those that are quarantined are left out.

    Raises:
        ToolError: the server isn't reached, or has none of a name.
    """
    listing = await connections.of(config).listing(config)
    if names is None:
        names = [name for name in listing.tools if name not in listing.quarantined]
    else:
        names = [name for name in names if name not in listing.quarantined]
    return [McpTool(connections, config, _chosen(listing, config, name)) for name in names]


def _chosen(listing: Listing, config: ServerConfig, name: str) -> OfferedTool:
    found = listing.tools.get(name)
    if found is None:
        there = ", ".join(sorted(listing.tools)[:20]) or "none"
        raise ToolError(f"{config.title} has no tool {name!r} that may be called; it has: {there}", retryable=False)
    if name in listing.quarantined:
        message = f"{config.title}: {name} is quarantined: {listing.quarantined[name]}"
        raise ToolError(message, type="authorization", retryable=False)
    return found


def shown_name(binding: Mapping[str, Any], tool: str) -> str:
    """What a model calls a tool that it has by a binding `{name, as?, mcp{server, tools?}}`.

    `as` alone if exactly one tool is named; else the binding's name and the tool's, in characters that all providers take.
    """
    if binding.get("as") and len(binding["mcp"].get("tools") or ()) == 1:
        return str(binding["as"])
    return _UNSAFE.sub("_", f"{binding.get('as') or binding['name']}_{tool}")[:LONGEST_NAME]
