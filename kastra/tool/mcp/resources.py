"""How does a model read what a server holds? By two tools beside the server's own: one lists its resources, one reads one of them.

    list_resources {cursor?}   {resources: [{uri, name, ...}], templates?: [{uriTemplate, name, ...}], nextCursor?}
    read_resource {uri}        its text; what isn't text is named with its size

They are there where the server announces resources and `spec.resources` asks for them. Filter and pin hold for them as for any
tool. A page of the server is a page here; templates come with the first. What may be read is for the server to say: nothing is
fetched by Kastra itself. Source: MCP, resources. Read next: `kastra.tool.mcp.listing`, `kastra.tool.mcp.connection`.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from kastra.tool.interface import ToolError

from .results import MAX_RESULT

if TYPE_CHECKING:
    from mcp.client.session import ClientSession

LIST, READ = "list_resources", "read_resource"
MAX_LISTED = 500
"""Resources of a page that a model is shown, and templates."""
MAX_ABOUT = 300
"""Characters of a name, title or description."""
MAX_URI = 4000
"""Characters of the address of a resource."""

TOOLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    LIST: (
        "Lists what read_resource can read. Pass nextCursor, if given, as cursor for more. A uriTemplate has {parts} to fill in.",
        {
            "type": "object",
            "properties": {
                "cursor": {"type": "string", "description": "nextCursor of the page before.", "minLength": 1}
            },
            "additionalProperties": False,
        },
    ),
    READ: (
        "Reads a resource.",
        {
            "type": "object",
            "properties": {
                "uri": {
                    "type": "string",
                    "description": "As list_resources gives it.",
                    "minLength": 1,
                    "maxLength": MAX_URI,
                }
            },
            "required": ["uri"],
            "additionalProperties": False,
        },
    ),
}
"""Description and schema of the arguments, by name."""


async def answer(session: "ClientSession", tool: str, arguments: Mapping[str, Any]) -> Any:
    """What one of the two tools gives.

    Raises:
        ToolError: what the server gives can't be used.
        MCPError: it refuses.
    """
    from pydantic import ValidationError

    try:
        value = await (_listed(session, arguments.get("cursor")) if tool == LIST else _read(session, arguments["uri"]))
    except ValidationError as error:
        count = error.error_count()
        raise ToolError(f"{tool}: the server's answer is none ({count} errors)", retryable=False) from None
    if (size := len(orjson.dumps(value))) > MAX_RESULT:
        why = f"{tool}: its result has {size} bytes, and {MAX_RESULT} are the most"
        raise ToolError(why, type="output", retryable=False)
    return value


async def _listed(session: "ClientSession", cursor: str | None) -> dict[str, Any]:
    from mcp_types import PaginatedRequestParams

    page = await session.list_resources(params=None if cursor is None else PaginatedRequestParams(cursor=cursor))
    found: dict[str, Any] = {"resources": [_told(each, uri=each.uri) for each in page.resources[:MAX_LISTED]]}
    if len(page.resources) > MAX_LISTED:
        found["omitted"] = len(page.resources) - MAX_LISTED
    if cursor is None and (templates := await _templates(session)):
        found["templates"] = templates
    if page.next_cursor:
        found["nextCursor"] = page.next_cursor
    return found


async def _templates(session: "ClientSession") -> list[dict[str, Any]]:
    from mcp.shared.exceptions import MCPError
    from mcp_types import METHOD_NOT_FOUND

    try:
        page = await session.list_resource_templates()
    except MCPError as error:
        # Templates are for a server to have or not.
        if error.code == METHOD_NOT_FOUND:
            return []
        raise
    return [_told(each, uriTemplate=each.uri_template) for each in page.resource_templates[:MAX_LISTED]]


def _told(each: Any, **address: str) -> dict[str, Any]:
    about = {"name": each.name, "title": each.title, "description": each.description, "mimeType": each.mime_type}
    found: dict[str, Any] = {key: value[:MAX_URI] for key, value in address.items()}
    found |= {key: value[:MAX_ABOUT] for key, value in about.items() if value}
    if isinstance(size := getattr(each, "size", None), int) and 0 <= size < 1 << 53:
        found["size"] = size
    return found


async def _read(session: "ClientSession", uri: str) -> str:
    from mcp_types import ReadResourceResult

    result = await session.read_resource(uri, allow_input_required=True)
    if not isinstance(result, ReadResourceResult):
        raise ToolError(f"{READ} asks for input from a person, which it can't get here", retryable=False)
    return "\n".join(_texts(result.contents))


def _texts(contents: Iterable[Any]) -> Iterable[str]:
    for each in contents:
        text = getattr(each, "text", None)
        if isinstance(text, str):
            yield text
        else:
            size = len(each.blob.rstrip("=")) * 3 // 4
            yield f"[resource {each.uri}, {each.mime_type or 'binary'}, {size} bytes: not shown]"
