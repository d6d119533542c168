"""`kastra mcp`: Kastra as an MCP server on standard input and output, for clients that start their servers as programs.

Standard output belongs to the protocol; everything for people goes to standard error. Where a server serves the store, or is named
by the flags, requests go there; else this process owns the store and executes. Read next: `kastra.app.mcp.stdio`.
"""

from typing import TYPE_CHECKING

import click

from .options import examples, namespace_option
from .session import owning

if TYPE_CHECKING:
    from kastra.app.operations import Operations


@click.command(
    epilog=examples(
        "kastra label agent helper mastra.ai/export=mcp",
        "kastra mcp                      as the command of an MCP client",
        "kastra --context team mcp       the same, for a server elsewhere",
    )
)
@namespace_option
def mcp(namespace: str) -> int:
    """Serve what has the label mastra.ai/export=mcp to an MCP client, on standard input and output."""
    return owning(lambda operations: _serve(operations, namespace), execute=True)


async def _serve(operations: "Operations", namespace: str) -> int:
    from kastra.app.mcp.stdio import serve_stdio

    await serve_stdio(operations.client, namespace)
    return 0
