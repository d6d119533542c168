"""How is a server reached, and which revision of the protocol is spoken with it?

The newest revision is asked for by its own question; a server that doesn't know that is one of an older revision, and gets the
handshake. Source: MCP, transports; 2026-07-28, server/discover. Read next: `kastra.tool.mcp.stdio` and `http`.
"""

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kastra.netguard import Guard
from kastra.tool.interface import SecretReader

from .config import STDIO, STREAMABLE_HTTP, ServerConfig
from .errors import ServerUnavailable
from .stdio import Ended, program

if TYPE_CHECKING:
    from mcp.client.session import ClientSession, MessageHandlerFnT


async def transport(
    stack: AsyncExitStack,
    config: ServerConfig,
    guard: Guard,
    secrets: SecretReader,
    folder: Path | None,
    ended: Ended,
) -> Any:
    """What a session reads from and writes to, until `stack` is closed.

    Args:
        ended: told when a program ends; an HTTP server has no end of its own.

    Raises:
        ServerUnavailable: a program can't be started, a value is missing, or the transport isn't spoken.
    """
    spec = config.spec
    if spec["transport"] == STDIO:
        environment = {}
        try:
            for entry in spec.get("env") or ():
                source = entry.get("valueFrom")
                environment[entry["name"]] = entry["value"] if source is None else await secrets(source)
        except LookupError as error:
            why = str(error.args[0]) if error.args else "a value is missing"
            raise ServerUnavailable("SecretNotResolved", f"{config.title}: spec.env: {why}") from None
        if spec.get("cwd"):
            folder = (folder or Path.cwd()) / spec["cwd"]
        return await stack.enter_async_context(program(config.command, environment, folder, ended))
    if spec["transport"] != STREAMABLE_HTTP:
        raise ServerUnavailable(
            "UnsupportedFeatures",
            f"{config.title}: the transport {spec['transport']} isn't spoken",
            retryable=False,
        )
    # At INFO it logs URLs, in which there may be keys.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    from .http import MAX_ANSWER, GuardedTransport

    transport = GuardedTransport(guard, spec, secrets, config.timeout)
    http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, timeout=None))
    return await stack.enter_async_context(
        streamable_http_client(spec["url"], http_client=http, max_sse_event_size=MAX_ANSWER)
    )


async def opened(stack: AsyncExitStack, streams: Any, heard: "MessageHandlerFnT") -> "ClientSession":
    """A session over the streams of a transport, agreed on a revision.

    Args:
        heard: called with what the server sends unasked.

    Raises:
        MCPError: the server refuses, or isn't reached.
    """
    # What goes wrong is told to callers and in conditions; the SDK's log would repeat it, with what servers sent.
    logging.getLogger("mcp.client").setLevel(logging.CRITICAL)
    logging.getLogger("mcp.shared").setLevel(logging.CRITICAL)
    from mcp.client.session import ClientSession
    from mcp_types import Implementation

    from kastra.version import __version__

    class Session(ClientSession):
        """Leaves it to us whether a result satisfies its schema: patterns of a stranger run on RE2 only."""

        async def validate_tool_result(self, name: str, result: Any) -> None:
            return

    incoming, outgoing = streams
    client = Implementation(name="kastra", version=__version__)
    session = Session(incoming, outgoing, message_handler=heard, client_info=client)
    await stack.enter_async_context(session)
    await _negotiate(session)
    return session


async def _negotiate(session: "ClientSession") -> None:
    """Agree on a revision: the newest by its own question, and any older one by the handshake."""
    from mcp.shared.exceptions import MCPError
    from mcp_types import DiscoverResult
    from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
    from pydantic import ValidationError

    try:
        found = DiscoverResult.model_validate(await session.send_discover(LATEST_MODERN_VERSION))
    except MCPError as error:
        if isinstance(error.data, Mapping) and "kastra" in error.data:
            # Nobody answered; a second question would only take more time.
            raise
        await session.initialize()
        return
    except ValidationError:
        await session.initialize()
        return
    if any(version in MODERN_PROTOCOL_VERSIONS for version in found.supported_versions):
        session.adopt(found)
    else:
        await session.initialize()
