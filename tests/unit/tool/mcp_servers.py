"""Connections to MCP servers that run as programs, for the tests of these connections."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from kastra.clock import Clock, SystemClock
from kastra.netguard import Guard, Policy
from kastra.tool.interface import ToolContext
from kastra.tool.mcp.config import ServerConfig
from kastra.tool.mcp.connections import Connections
from kastra.tool.mcp.tool import McpTool, tool_of
from tests.support import warm

SERVERS = Path(__file__).resolve().parents[2] / "support" / "mcp"
CONTEXT = ToolContext(idempotency_key="run-1/step")


def ordinary(*arguments: str, **spec: Any) -> ServerConfig:
    """A server made with the official SDK."""
    return config(**{"command": [warm.python(), str(SERVERS / "ordinary.py")], "args": list(arguments), **spec})


def raw(behaviour: str, *arguments: str, **spec: Any) -> ServerConfig:
    """A server that misbehaves."""
    return config(**{"command": [sys.executable, str(SERVERS / "raw.py")], "args": [behaviour, *arguments], **spec})


def config(**spec: Any) -> ServerConfig:
    return ServerConfig.of("default", "files", {"transport": "stdio", **spec})


async def no_secrets(value_from: Mapping[str, Any], namespace: str) -> str:
    raise LookupError(f"{value_from} of {namespace} does not exist")


@asynccontextmanager
async def connections(
    secrets: Any = no_secrets, *, clock: Clock | None = None, folder: Path | None = None, policy: Policy | None = None
) -> AsyncIterator[Connections]:
    guard = Guard(policy or Policy(allow_private_hosts=("127.0.0.1",)))
    async with guard, Connections(guard, clock or SystemClock(), secrets, folder) as made:
        yield made


async def call(made: Connections, server: ServerConfig, tool: str, /, **arguments: Any) -> Any:
    """Look a tool up and call it."""
    return await (await tool_of(made, server, tool)).call(arguments, CONTEXT)


async def found(made: Connections, server: ServerConfig, tool: str) -> McpTool:
    return await tool_of(made, server, tool)


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait for something that another process does."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process exists and isn't one that nobody has waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
