"""Could a Tool be called, and with what arguments? Asked when it is applied, so that no Run has to find out.

Imports Python entry points and compiles inline sources (in a worker thread, since that runs somebody's code), looks for
programs, judges addresses by name. Calls nothing and connects to nothing. What an entry point's signature says is
remembered as long as its module is, by Python itself: see `kastra.tool.code_version`.

Read next: `kastra.tool.bodies`, which makes what is called.
"""

import importlib
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson

from kastra.netguard import Policy
from kastra.netguard.preview import refusal
from kastra.tool.code_version import code_version
from kastra.tool.isolated import described
from kastra.tool.python import compile_inline, load_entrypoint, load_plugin, signature_of
from kastra.tool.schema import JsonSchema
from kastra.tool.toolkit.body import checked_builtin

_KEPT = 4096
_sound: set[tuple[str, str]] = set()
"""Schemas that were found to be sound: checking one takes as long as reconciling the rest of its object."""

_schemas: OrderedDict[tuple[str, str, int], Mapping[str, Any]] = OrderedDict()


class Unusable(Exception):
    """A tool can't be called as it stands.

    Args:
        reason: PascalCase, for a condition.
        message: what is wrong, beginning with the field's path.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


async def check_body(name: str, spec: Mapping[str, Any], folder: Path, policy: Policy) -> Mapping[str, Any] | None:
    """Whether the body of the Tool `name` can be called.

    Args:
        name: of the Tool.
        spec: in normal form.
        folder: of the project.
        policy: for outbound calls.

    Returns:
        The schema of the arguments, as far as the body itself tells; else None.

    Raises:
        Unusable: it can't be imported or found, or may not be called.
    """
    for field in ("inputSchema", "outputSchema"):
        check_schema(spec.get(field), f"spec.{field}")
    if (python := spec.get("python")) is not None:
        if spec.get("isolation") is not None:
            return await _check_isolated(name, python, spec["isolation"], folder)
        return await check_function(name, python, folder)
    if (builtin := spec.get("builtin")) is not None:
        return check_builtin(builtin, folder)
    if (process := spec.get("process")) is not None:
        _check_program(process["command"], folder)
    if (http := spec.get("http")) is not None:
        _check_url(http["url"], policy, allow_private=bool(http.get("allowPrivate")))
    return None


def check_builtin(use: Mapping[str, Any], folder: Path, path: str = "spec.builtin") -> Mapping[str, Any]:
    """The schema of the arguments of a built-in tool.

    Args:
        use: `{name}` and settings.
        folder: of the project.
        path: of the field that names it.

    Raises:
        Unusable: there is no such tool, or it can't work with these settings.
    """
    try:
        schema = checked_builtin(use, folder)
    except ValueError as error:
        raise Unusable("InvalidBuiltin", str(error).replace("spec.builtin", path, 1)) from None
    for index, program in enumerate(use.get("programs") or ()):
        if shutil.which(program) is None:
            raise Unusable("ProgramNotFound", f"{path}.programs[{index}]: there is no {program!r} in PATH")
    return schema


def check_schema(schema: Mapping[str, Any] | None, path: str) -> None:
    """Whether values can be checked by a schema; None is none. Raises Unusable."""
    if schema is None:
        return
    known = (path, sha256(orjson.dumps(schema)).hexdigest())
    if known in _sound:
        return
    try:
        JsonSchema(schema, path)
    except ValueError as error:
        raise Unusable("InvalidSchema", str(error)) from None
    if len(_sound) >= _KEPT:
        _sound.clear()
    _sound.add(known)


async def check_function(
    name: str, body: Mapping[str, Any], folder: Path, path: str = "spec.python"
) -> Mapping[str, Any]:
    """The schema of the arguments of a Python function.

    Args:
        name: of what it belongs to, for messages.
        body: `{entrypoint}`, `{inline}` or `{plugin}`.
        folder: where modules are also looked for.
        path: of the field that holds the body.

    Raises:
        Unusable: it can't be imported or compiled, or can't be called by name.
    """
    source = body.get("inline")
    entrypoint, offered = body.get("entrypoint") or "", body.get("plugin") or ""

    key = (source, "") if source else (offered, "plugin") if offered else (entrypoint, str(folder))

    def read() -> Mapping[str, Any]:
        if source:
            return signature_of(compile_inline(source, name), "spec.python.inline").schema
        if offered:
            return signature_of(load_plugin(offered), f"spec.python.plugin: {offered}").schema
        return signature_of(load_entrypoint(entrypoint, folder), f"spec.python.entrypoint: {entrypoint}").schema

    try:
        return await _remembered(key, read)
    except ValueError as error:
        if not source:
            # Python remembers what a folder held; the next attempt looks again.
            importlib.invalidate_caches()
        message = str(error).replace("spec.python", path, 1)
        raise Unusable("NotCompilable" if source else "NotImportable", message) from None


async def _check_isolated(
    name: str, body: Mapping[str, Any], isolation: Mapping[str, Any], folder: Path
) -> Mapping[str, Any]:
    """As `check_function`, without any of its code coming into this process."""
    try:
        return (await described(name, body, isolation, folder)).schema
    except ValueError as error:
        raise Unusable("NotCompilable" if body.get("inline") else "NotImportable", str(error)) from None


async def _remembered(named: tuple[str, str], read: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    key = (*named, code_version())
    known = _schemas.get(key)
    if known is None:
        # What failed isn't remembered: a module may be put in its place, and is found at the next attempt.
        known = _schemas[key] = await anyio.to_thread.run_sync(read)
        if len(_schemas) > _KEPT:
            _schemas.popitem(last=False)
    else:
        _schemas.move_to_end(key)
    return known


def _check_program(command: list[str], folder: Path) -> None:
    program = command[0]
    # A name without a slash is looked up in PATH; any other is taken from where the process starts.
    found = shutil.which(program if "/" not in program else str(folder / program))
    if found is None:
        where = "in PATH" if "/" not in program else f"as an executable file in {folder}"
        raise Unusable("ProgramNotFound", f"spec.process.command[0]: there is no {program!r} {where}")


def _check_url(url: str, policy: Policy, *, allow_private: bool) -> None:
    fixed, expression, _ = url.partition("${{")
    after_scheme = fixed.partition("://")[2]
    if expression and not any(mark in after_scheme for mark in "/?#"):
        # The host itself is known only when the tool is called.
        return
    why = refusal(fixed, policy, allow_private=allow_private)
    if why is not None:
        raise Unusable("AddressRefused", f"spec.http.url: {why}")


def schema_hash(schema: Mapping[str, Any]) -> str:
    """A short hash of a schema, for status: equal for equal schemas, whatever the order of their keys."""
    return sha256(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
