"""What runs in the process of its own that an isolated Python tool has: one request on standard input, one outcome, the end.

    {describe}     `{signature: {schema, description}}` of the function
    {arguments}    `{result}` of calling it, or `{error: {message, type, retryable, retryAfter, details}}`

What the tool's code prints goes to standard error, so that nothing it says is taken for an outcome. Run as
`python -I -m kastra.tool.isolated_child`; never imported. Read next: `kastra.tool.isolated`, the other side.
"""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import orjson

from kastra.tool.interface import ToolContext, ToolError
from kastra.tool.python import PythonTool, compile_inline, load_entrypoint, load_plugin


def main() -> None:
    """Read the request, write the outcome."""
    outcome = os.dup(1)
    os.dup2(2, 1)
    request = orjson.loads(sys.stdin.buffer.read())
    # What can be imported in the server can be imported here, in the same order, but nothing of where the process starts.
    sys.path += [place for place in request["path"] if place not in sys.path]
    try:
        data = orjson.dumps(_answer(request))
    except orjson.JSONEncodeError as error:
        data = orjson.dumps({"unusable": f"{request['name']} returned what is no JSON value: {error}"})
    sys.stdout.flush()
    while data:
        data = data[os.write(outcome, data) :]


def _answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        tool = PythonTool(_function(request["body"], request["name"], request["folder"]), request["name"])
    except ValueError as error:
        return {"unusable": str(error)}
    if "arguments" not in request:
        return {"signature": {"schema": tool.signature.schema, "description": tool.signature.description}}
    context = ToolContext(**request["context"])
    try:
        return {"result": anyio.run(partial(tool.call, request["arguments"], context))}
    except ToolError as error:
        fields = {"message": error.message, "type": error.type, "retryable": error.retryable}
        return {"error": {**fields, "retryAfter": error.retry_after, "details": _plain(error.details)}}


def _function(body: Mapping[str, Any], name: str, folder: str | None) -> Callable[..., Any]:
    """The function of a body. Raises ValueError."""
    if body.get("inline"):
        return compile_inline(body["inline"], name)
    if body.get("plugin"):
        return load_plugin(body["plugin"])
    return load_entrypoint(body["entrypoint"], None if folder is None else Path(folder))


def _plain(details: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        orjson.dumps(details)
    except orjson.JSONEncodeError:
        return {}
    return details


if __name__ == "__main__":
    main()
