"""Kastra as the client that the MCP conformance suite looks at: `python conformance_client.py URL` lists and calls its tools."""

import os
import sys

import anyio

from kastra.clock import SystemClock
from kastra.netguard import Guard, Policy
from kastra.tool.interface import ToolContext, ToolError
from kastra.tool.mcp.config import ServerConfig
from kastra.tool.mcp.connections import Connections
from kastra.tool.mcp.tool import tools_of

ARGUMENTS = {"add_numbers": {"a": 5, "b": 3}}


async def no_secrets(value_from: object, namespace: str) -> str:
    raise LookupError("there are none")


async def main(url: str) -> None:
    spec = {"transport": "streamableHttp", "url": url, "allowPrivate": True}
    config = ServerConfig.of("default", os.environ.get("MCP_CONFORMANCE_SCENARIO", "conformance"), spec)
    guard = Guard(Policy(allow_private_hosts=("127.0.0.1", "localhost", "::1")))
    async with guard, Connections(guard, SystemClock(), no_secrets) as connections:
        for tool in await tools_of(connections, config, None):
            try:
                print(await tool.call(ARGUMENTS.get(tool.signature.name, {}), ToolContext("conformance")))
            except ToolError as error:
                print(f"{tool.signature.name}: {error.message}", file=sys.stderr)


if __name__ == "__main__":
    anyio.run(main, sys.argv[-1])
