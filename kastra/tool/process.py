"""How is a program called as a tool? Arguments as JSON on its standard input, the result on its standard output.

The command is a list and no shell reads it. The program starts in the project's folder with a small environment (PATH,
HOME, LANG, TMPDIR and `KASTRA_IDEMPOTENCY_KEY`), never with the server's, which may hold keys. Output that is JSON becomes a
value, any other is text. When the call is cancelled or its deadline passes, the whole process group is killed.

Read next: `kastra.tool.declared`.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import orjson

from kastra.tool.interface import ToolContext, ToolError

MAX_OUTPUT = 4 * 1024 * 1024
"""Bytes of standard output accepted."""
MAX_COMPLAINT = 2000
"""Bytes of standard error shown, from its end."""
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


class ProcessTool:
    """Runs one command per call.

    Args:
        command: the program and its arguments.
        folder: where it starts; None for the server's own.
    """

    def __init__(self, command: Sequence[str], folder: Path | None = None) -> None:
        if not command or not all(isinstance(part, str) and part and "\0" not in part for part in command):
            raise ValueError("spec.process.command: must be a list of texts, the program first")
        self._command = list(command)
        self._folder = folder

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """What the program printed: a JSON value, or text.

        Raises:
            ToolError: it can't be started, ended with another code than 0, or printed too much.
        """
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment["KASTRA_IDEMPOTENCY_KEY"] = context.idempotency_key
        try:
            process = await anyio.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"{self._command[0]} can't be started: {error.strerror}", retryable=False) from None
        outcome = _Outcome()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_feed, process, orjson.dumps(dict(arguments)))
                tasks.start_soon(outcome.read_errors, process)
                await outcome.read_output(process)
                if outcome.too_much:
                    tasks.cancel_scope.cancel()
            if not outcome.too_much:
                await process.wait()
        finally:
            await _end(process)
        if outcome.too_much:
            raise ToolError(f"{self._command[0]} printed more than {MAX_OUTPUT} bytes", retryable=False)
        if process.returncode:
            complaint = bytes(outcome.complaint).decode("utf-8", "replace").strip()
            how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
            raise ToolError(f"{self._command[0]} ended with {how}{f': {complaint}' if complaint else ''}")
        return _value(bytes(outcome.output))


class _Outcome:
    """What a process printed so far."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.complaint = bytearray()
        self.too_much = False

    async def read_output(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        async for chunk in process.stdout:
            self.output += chunk
            if len(self.output) > MAX_OUTPUT:
                self.too_much = True
                return

    async def read_errors(self, process: anyio.abc.Process) -> None:
        assert process.stderr is not None
        async for chunk in process.stderr:
            self.complaint += chunk
            del self.complaint[:-MAX_COMPLAINT]


async def _feed(process: anyio.abc.Process, data: bytes) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.send(data)
        await process.stdin.aclose()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        # A program need not read its input.
        return


async def _end(process: anyio.abc.Process) -> None:
    """Leave nothing running: the program's own children are in its group."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await process.aclose()


def _value(output: bytes) -> Any:
    text = output.decode("utf-8", "replace").strip()
    if not text:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return text
