"""What is the result of a call, as a JSON value? The structured content where there is one, else the text.

What a model can't be shown as text (images, sound, binary resources) is named in its place, with its size. A result that says it
is an error is a failure of the tool, with its text, which the model is told. Source: MCP, tools, tool result. Read next:
`kastra.tool.mcp.connection`.
"""

from typing import TYPE_CHECKING, Any

import orjson

from kastra.tool.interface import ToolError
from kastra.tool.schema import JsonSchema

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

MAX_RESULT = 1024 * 1024
"""Bytes of a result as JSON: it is journaled, and a model reads it."""
MAX_ERROR = 4000
"""Characters of an error that are passed on."""


def value_of(result: "CallToolResult", tool: str, output: JsonSchema | None) -> Any:
    """The value of a result.

    Raises:
        ToolError: it is an error, is too large, or doesn't satisfy the schema that the server gave.
    """
    text = "\n".join(_text(block) for block in result.content)
    if result.is_error:
        raise ToolError(text[:MAX_ERROR] or f"{tool} failed and said nothing", retryable=False)
    value = text if result.structured_content is None else result.structured_content
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        # A number of more than 64 bits, for one.
        raise ToolError(f"{tool}: its result is no JSON value: {error}", type="output", retryable=False) from None
    if size > MAX_RESULT:
        raise ToolError(
            f"{tool}: its result has {size} bytes, and {MAX_RESULT} are the most", type="output", retryable=False
        )
    if output is not None and (problems := output.problems(result.structured_content)):
        raise ToolError(f"result of {tool}: {'; '.join(problems)}", type="output", retryable=False)
    return value


def _text(block: "ContentBlock") -> str:
    if block.type == "text":
        return block.text
    if block.type == "image" or block.type == "audio":
        return f"[{block.type}, {block.mime_type}, {len(block.data) * 3 // 4} bytes: not shown]"
    if block.type == "resource_link":
        return f"[resource {block.name}: {block.uri}]"
    resource = block.resource
    content = getattr(resource, "text", None)
    if isinstance(content, str):
        return content
    return f"[resource {resource.uri}, {resource.mime_type or 'binary'}: not shown]"
