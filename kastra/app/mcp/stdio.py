"""Kastra as an MCP server on standard input and output, for a client that starts it as a program.

Read next: `kastra.cli.mcp`, the command.
"""

from collections.abc import Sequence
from typing import Any

import anyio

from kastra.client.interface import Client
from kastra.clock import SystemClock

from .changes import follow_changes


async def serve_stdio(client: Client, namespace: str) -> None:
    """Serve one MCP client until it closes its end.

    Args:
        client: with which everything is done.
        namespace: looked into if the client may not list all namespaces.
    """
    from mcp.server.stdio import stdio_server

    from .protocol import Protocol

    async def namespaces() -> Sequence[str]:
        return [namespace]

    def caller(ctx: Any) -> tuple[Client, Any]:
        return client, namespaces

    protocol = Protocol(caller)
    async with stdio_server() as (incoming, outgoing), anyio.create_task_group() as tasks:
        tasks.start_soon(follow_changes, client, namespaces, SystemClock(), protocol.tell_changed)
        await protocol.server.run(incoming, outgoing, protocol.server.create_initialization_options())
        tasks.cancel_scope.cancel()
