"""How is a program called as a tool? Arguments as JSON on its standard input, the result on its standard output.

The command is a list and no shell reads it. The program starts in the project's folder, or in one below it, with a small
environment (PATH, HOME, LANG, TMPDIR, TZ, `KASTRA_IDEMPOTENCY_KEY` and what the manifest adds), never with the server's, which may
hold keys. Output that is JSON becomes a value, any other is text.

Read next: `kastra.tool.program`, which runs it, then `kastra.tool.declared`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from kastra.api.quantities import parse_quantity
from kastra.tool.interface import SecretReader, ToolContext, ToolError, ToolServices
from kastra.tool.program import ProgramLimits, environment_of, run_program

MAX_OUTPUT = 4 * 1024 * 1024
"""Bytes of standard output accepted, unless the manifest says otherwise."""


class ProcessTool:
    """Runs one command per call.

    Args:
        spec: `{command, folder?, env?, passEnv?, memory?, cpu?, maxOutput?}` as the view gives it.
        services: the folder and the secrets.

    Raises:
        ValueError: the command is none, or the folder lies outside the project; the message begins with its path.
    """

    def __init__(self, spec: Mapping[str, Any], services: ToolServices) -> None:
        command = spec["command"]
        if not command or not all(isinstance(part, str) and part and "\0" not in part for part in command):
            raise ValueError("spec.process.command: must be a list of texts, the program first")
        self._command = list(command)
        self._folder = folder_of(services.folder, spec.get("folder") or "")
        self._secrets: SecretReader = services.secrets
        self._variables: list[Mapping[str, Any]] = list(spec.get("env") or ())
        self._passed: list[str] = list(spec.get("passEnv") or ())
        memory, output = spec.get("memory"), spec.get("maxOutput")
        self._limits = ProgramLimits(
            memory=None if memory is None else int(parse_quantity(str(memory))),
            cpu=None if spec.get("cpu") is None else int(spec["cpu"]),
            output=MAX_OUTPUT if output is None else int(parse_quantity(str(output))),
        )

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """What the program printed: a JSON value, or text.

        Raises:
            ToolError: it can't be started, ended with another code than 0, or printed too much.
        """
        values = {}
        for variable in self._variables:
            values[variable["name"]] = await self._value(variable)
        values["KASTRA_IDEMPOTENCY_KEY"] = context.idempotency_key
        ended = await run_program(
            self._command,
            stdin=orjson.dumps(dict(arguments)),
            folder=self._folder,
            environment=environment_of(self._passed, values),
            limits=self._limits,
        )
        if ended.code:
            complaint = bytes(ended.errors).decode("utf-8", "replace").strip()
            raise ToolError(f"{self._command[0]} ended with {ended.how}{f': {complaint}' if complaint else ''}")
        return _value(bytes(ended.output))

    async def _value(self, variable: Mapping[str, Any]) -> str:
        source = variable.get("valueFrom")
        if source is None:
            return str(variable.get("value", ""))
        try:
            return await self._secrets(source)
        except LookupError as error:
            raise ToolError(str(error.args[0]) if error.args else "a secret is missing", type="authorization") from None


def folder_of(project: Path | None, folder: str) -> Path | None:
    """The folder in which a program starts.

    Raises:
        ValueError: it isn't there, or lies outside the project.
    """
    if not folder:
        return project
    if project is None:
        raise ValueError("spec.process.folder: this process has no project folder")
    root = project.resolve()
    found = (root / folder).resolve()
    if not found.is_relative_to(root):
        raise ValueError(f"spec.process.folder: {folder!r} lies outside the project folder")
    if not found.is_dir():
        raise ValueError(f"spec.process.folder: {folder!r} is no folder in {project}")
    return found


def _value(output: bytes) -> Any:
    text = output.decode("utf-8", "replace").strip()
    if not text:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return text
