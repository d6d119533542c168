"""What does a server offer? Its tools with their schemas, bounded, each with a hash by which a change is seen.

The hash is over everything that a model is told of a tool and everything that is checked: a changed description can talk a model into
something as well as a changed schema. What can't be used (a name or a schema that makes no sense) is left out and counted.

Read next: `kastra.tool.mcp.connection`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from kastra.tool.schema import JsonSchema

from .config import ServerConfig
from .errors import ServerUnavailable
from .resources import TOOLS

if TYPE_CHECKING:
    from mcp.client.session import ClientSession

MAX_TOOLS = 500
MAX_PAGES = 100
MAX_NAME = 128
MAX_SCHEMA = 64 * 1024
"""Bytes of one schema as JSON."""
MAX_DESCRIPTION = 8000
"""Characters of a description that a model is shown."""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool of a server.

    Args:
        schema: of the arguments.
        output: of the structured result; None for any.
        hash: over name, description and schemas.
        ours: it isn't the server's, but one of `kastra.tool.mcp.resources`.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    output: JsonSchema | None
    hash: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server offers at one time.

    Args:
        tools: those that the filter lets through, by name.
        hash: of these together.
        unusable: why tools that the filter lets through were left out.
        quarantined: why tools may not be called, by name.
        server: name and version that it gives itself.
        protocol: revision that is spoken.
    """

    tools: Mapping[str, OfferedTool]
    hash: str
    unusable: Sequence[str] = ()
    server: str = ""
    protocol: str = ""
    quarantined: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, offer: "Offer", config: ServerConfig) -> "Listing":
        """What a config's filter lets through of an offer, and what its pin holds back."""
        tools: dict[str, OfferedTool] = {}
        unusable: list[str] = []
        for found in offer.tools:
            name = str(found.name)
            if not config.offers(name):
                continue
            try:
                if name in tools:
                    raise ValueError("it is there twice")
                tools[name] = _tool(found)
            except (ValueError, TypeError, RecursionError) as error:
                # TypeError: a number that JSON in this house doesn't hold.
                unusable.append(f"{name[:MAX_NAME]!r}: {error}")
        if config.resources:
            _add_resources(tools, unusable, offer, config)
        hashes = {name: tool.hash for name, tool in tools.items()}
        whole = _hash(sorted(hashes.items()))
        return cls(tools, whole, unusable, offer.server, offer.protocol, config.drift(hashes, whole))


@dataclass(frozen=True, slots=True)
class Offer:
    """All tools of a server as the SDK has read them, what it calls itself, the revision that is spoken, and whether it says that
    it has resources.
    """

    tools: Sequence[Any]
    server: str
    protocol: str
    resources: bool = False


async def offered_by(session: "ClientSession", title: str) -> Offer:
    """Ask a server for all its tools.

    Raises:
        ServerUnavailable: it offers too many, or its pages don't end.
        MCPError: it refuses.
    """
    from mcp_types import PaginatedRequestParams
    from pydantic import ValidationError

    capabilities = session.server_capabilities
    resources = capabilities is not None and capabilities.resources is not None
    offered: list[Any] = []
    if capabilities is not None and capabilities.tools is None and resources:
        # It has no list of tools that could be asked for.
        return _offer(session, offered, resources)
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        try:
            page = await session.list_tools(params=None if cursor is None else PaginatedRequestParams(cursor=cursor))
        except ValidationError as error:
            why = f"{title}: its list of tools isn't one ({error.error_count()} errors)"
            raise ServerUnavailable("BadAnswer", why) from None
        offered += page.tools
        if len(offered) > MAX_TOOLS:
            raise ServerUnavailable("BadAnswer", f"{title} offers more than {MAX_TOOLS} tools")
        cursor = page.next_cursor
        if cursor is None:
            return _offer(session, offered, resources)
    raise ServerUnavailable("BadAnswer", f"{title}: its list of tools has more than {MAX_PAGES} pages")


def _offer(session: "ClientSession", tools: Sequence[Any], resources: bool) -> Offer:
    info = session.server_info
    server = f"{info.name} {info.version}".strip() if info else ""
    return Offer(tools, server[:200], session.protocol_version or "", resources)


def _add_resources(tools: dict[str, OfferedTool], unusable: list[str], offer: Offer, config: ServerConfig) -> None:
    """The tools by which resources are listed and read, as far as the filter lets them through."""
    if not offer.resources:
        unusable.append("spec.resources: the server announces no resources")
        return
    for name, (description, schema) in TOOLS.items():
        if name in tools:
            unusable.append(
                f"{name!r}: the server has a tool of this name, which stands instead of the one for resources"
            )
        elif config.offers(name):
            tools[name] = OfferedTool(name, description, schema, None, _hash([name, description, schema]), ours=True)


def _tool(found: Any) -> OfferedTool:
    name: str = found.name
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"a name has 1 to {MAX_NAME} printable characters")
    described: str = found.description or found.title or ""
    for schema in (found.input_schema, found.output_schema):
        if schema is not None and len(orjson.dumps(schema)) > MAX_SCHEMA:
            raise ValueError(f"its schema has more than {MAX_SCHEMA} bytes")
    if found.input_schema.get("type", "object") != "object":
        raise ValueError("its arguments are no object")
    # Compiled to find out now: a model is never told of a tool whose arguments can't be checked.
    JsonSchema(found.input_schema, "inputSchema")
    output = None if found.output_schema is None else JsonSchema(found.output_schema, "outputSchema")
    told = [name, described, found.input_schema, found.output_schema]
    return OfferedTool(name, described[:MAX_DESCRIPTION] or name, found.input_schema, output, _hash(told))


def _hash(value: Any) -> str:
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
