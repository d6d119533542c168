"""How is a Python function called apart from the server? Each call in a process of its own, which ends with it.

The function's module is never imported by the server, not even to read its signature. Its process sees a small environment and
what the manifest passes on, may be limited in memory and processor time, and is killed with all it started when the call ends or
its time does; so a function that blocks, crashes the interpreter or exhausts memory fails its call and nothing else. A process
takes some tenths of a second to start. What runs in it may still reach files and the network, with the rights of the server.

Read next: `kastra.tool.isolated_child`, the other side, and `kastra.tool.program`, which runs it.
"""

import os
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kastra.api.quantities import parse_quantity
from kastra.tool.code_version import code_version
from kastra.tool.interface import ToolContext, ToolError
from kastra.tool.program import ProgramLimits, environment_of, run_program
from kastra.tool.python import MAX_RESULT

PROCESS = "process"
"""The one way in which a tool can be isolated."""
LEAST_MEMORY = 128 * 1024 * 1024
"""Bytes of address space without which an interpreter doesn't start."""
_KEPT = 1024
_OVERHEAD = 64 * 1024
_COMMAND = (sys.executable, "-I", "-m", "kastra.tool.isolated_child")

_described: OrderedDict[bytes, "OwnSignature"] = OrderedDict()


@dataclass(frozen=True, slots=True)
class OwnSignature:
    """What a function says of itself."""

    schema: Mapping[str, Any]
    description: str


class IsolatedTool:
    """Calls one function in processes of its own.

    Args:
        name: of the Tool.
        body: `{entrypoint}`, `{inline}` or `{plugin}`.
        isolation: `{type: process, memory?, cpu?, passEnv?}`.
        folder: the project's.
        signature: of the function.
    """

    def __init__(
        self,
        name: str,
        body: Mapping[str, Any],
        isolation: Mapping[str, Any],
        folder: Path | None,
        signature: OwnSignature,
    ) -> None:
        self._name = name
        self._body = body
        self._isolation = isolation
        self._folder = folder
        self.signature = signature

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """What the function returned, as JSON.

        Raises:
            ToolError: it raised, returned what isn't JSON, or its process ended before it did.
        """
        told = {
            "idempotency_key": context.idempotency_key,
            "attempt": context.attempt,
            "run": context.run,
            "run_name": context.run_name,
            "run_namespace": context.run_namespace,
            "thread": context.thread,
        }
        outcome = await _asked(
            self._name,
            self._body,
            self._isolation,
            self._folder,
            {"arguments": dict(arguments), "context": told},
            {"KASTRA_IDEMPOTENCY_KEY": context.idempotency_key},
        )
        if "result" in outcome:
            return outcome["result"]
        if "unusable" in outcome:
            raise ToolError(outcome["unusable"], retryable=False)
        error = outcome["error"]
        raise ToolError(
            str(error["message"]),
            type=str(error["type"]),
            retryable=bool(error["retryable"]),
            retry_after=error["retryAfter"],
            details=error["details"],
        )


async def described(
    name: str, body: Mapping[str, Any], isolation: Mapping[str, Any], folder: Path | None
) -> OwnSignature:
    """What a function says of itself, asked in a process of its own; remembered as long as its code is.

    Raises:
        ValueError: it can't be imported or compiled, or called by name; the message begins with the field's path.
    """
    key = orjson.dumps(
        [body, isolation, str(folder), code_version(), _stamp(body, folder)], option=orjson.OPT_SORT_KEYS
    )
    known = _described.get(key)
    if known is not None:
        _described.move_to_end(key)
        return known
    try:
        outcome = await _asked(name, body, isolation, folder, {}, {})
    except ToolError as error:
        raise ValueError(f"spec.python: {error.message}") from None
    if "unusable" in outcome:
        raise ValueError(str(outcome["unusable"]))
    found = _described[key] = OwnSignature(**outcome["signature"])
    if len(_described) > _KEPT:
        _described.popitem(last=False)
    return found


def _stamp(body: Mapping[str, Any], folder: Path | None) -> list[int]:
    """When the file of an entry point in the project was changed last: every call runs what is there then."""
    module = str(body.get("entrypoint") or "").partition(":")[0].replace(".", "/")
    if not module or folder is None:
        return []
    for path in (folder / f"{module}.py", folder / module / "__init__.py"):
        try:
            return [path.stat().st_mtime_ns]
        except OSError:
            continue
    return []


async def _asked(
    name: str,
    body: Mapping[str, Any],
    isolation: Mapping[str, Any],
    folder: Path | None,
    request: Mapping[str, Any],
    variables: Mapping[str, str],
) -> Mapping[str, Any]:
    memory = isolation.get("memory")
    limits = ProgramLimits(
        memory=None if memory is None else int(parse_quantity(str(memory))),
        cpu=None if isolation.get("cpu") is None else int(isolation["cpu"]),
        output=MAX_RESULT + _OVERHEAD,
    )
    place = None if folder is None else str(folder)
    # An empty entry is where the server was started, which is nowhere in particular for this process.
    path = [os.fspath(entry) for entry in sys.path if entry]
    ended = await run_program(
        _COMMAND,
        stdin=orjson.dumps({**request, "name": name, "body": body, "folder": place, "path": path}),
        folder=folder,
        environment=environment_of(isolation.get("passEnv") or (), variables),
        limits=limits,
    )
    if ended.code or not ended.output:
        last = bytes(ended.errors).decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
        why = f": {last[0][:500]}" if last[0] else ""
        raise ToolError(f"the process of {name} ended with {ended.how} before the function did{why}")
    try:
        outcome: Mapping[str, Any] = orjson.loads(bytes(ended.output))
    except orjson.JSONDecodeError:
        raise ToolError(f"the process of {name} ended in the middle of its answer") from None
    return outcome
