"""How is a program run so that it ends, and leaves nothing behind?

The command is a list and no shell reads it. The program gets the environment it is given and nothing of the server's, leads a
process group of its own, and may be limited in memory and processor time. When it ends, is cancelled or prints too much, whatever
is left of its group is killed; a program that moves itself into another session escapes that.

Limits are set in the child before it becomes the program: by a few lines of Python that call setrlimit and exec, since code that
runs between fork and exec in this process, which has threads, could deadlock.

Source: setrlimit(2), killpg(3). Read next: `kastra.tool.process`.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc

from kastra.tool.interface import ToolError

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
"""Variables that every program gets from the server's environment."""
MAX_COMPLAINT = 2000
"""Bytes of standard error kept when it is for an error message only."""
_NOT_STARTED = 126
_LAUNCH = """\
import os, resource, sys
memory, seconds, *command = sys.argv[1:]
for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, "0")):
    if limit:
        hard = resource.getrlimit(kind)[1]
        wanted = int(limit) if hard == resource.RLIM_INFINITY else min(int(limit), hard)
        resource.setrlimit(kind, (wanted, wanted))
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.stderr.write(f"{command[0]} can't be started: {error.strerror}")
    sys.exit(126)
"""


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What a program may use.

    Args:
        memory: bytes of address space; None for no limit. Not kept by macOS.
        cpu: seconds of processor time; None for no limit.
        output: bytes of standard output kept.
        errors: bytes of standard error kept, from its end.
        keep: whether a program that prints more is read to its end, the rest being dropped, instead of being killed.
    """

    memory: int | None = None
    cpu: int | None = None
    output: int = 4 * 1024 * 1024
    errors: int = MAX_COMPLAINT
    keep: bool = False


@dataclass(slots=True)
class Ended:
    """How a program ended.

    Args:
        code: its exit code; negative for the signal that ended it.
        output: what it printed, as far as kept.
        errors: what it said on standard error, as far as kept.
        printed: bytes of standard output in all, as far as read.
        complained: bytes of standard error in all.
    """

    code: int = 0
    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    printed: int = 0
    complained: int = 0

    @property
    def how(self) -> str:
        """For people: `exit code 1`, `signal 9`."""
        return f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


def environment_of(names: Sequence[str] = (), values: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program.

    Args:
        names: further variables that are passed on from the server's environment.
        values: variables of its own.
    """
    passed = {name: os.environ[name] for name in (*INHERITED, *names) if name in os.environ}
    return {**passed, **(values or {})}


async def run_program(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    folder: Path | str | None = None,
    environment: Mapping[str, str] | None = None,
    limits: ProgramLimits = ProgramLimits(),
) -> Ended:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        stdin: written to its standard input, which is then closed.
        folder: where it starts.
        environment: all of it.
        limits: what it may use.

    Raises:
        ToolError: it can't be started, or printed too much.
    """
    given = dict(environment if environment is not None else environment_of())
    actual = list(command)
    limited = limits.memory is not None or limits.cpu is not None
    if limited:
        # -I and -S: nothing of the folder or of the environment is imported by the launcher.
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(limits.memory or ""), str(limits.cpu or "")]
        actual = [*launcher, *actual]
    try:
        process = await anyio.open_process(
            actual,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=given,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ToolError(f"{command[0]} can't be started: {why}", retryable=False) from None
    ended = Ended()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_feed, process, stdin)
            tasks.start_soon(_reap, process)
            tasks.start_soon(_read_errors, process, ended, limits.errors)
            await _read_output(process, ended, limits)
            if ended.printed > limits.output and not limits.keep:
                tasks.cancel_scope.cancel()
    finally:
        await _end(process)
    if ended.printed > limits.output and not limits.keep:
        raise ToolError(f"{command[0]} printed more than {limits.output} bytes", retryable=False)
    ended.code = process.returncode or 0
    if limited and ended.code == _NOT_STARTED and b"can't be started" in ended.errors:
        raise ToolError(ended.errors.decode("utf-8", "replace"), retryable=False)
    return ended


async def _read_output(process: anyio.abc.Process, ended: Ended, limits: ProgramLimits) -> None:
    assert process.stdout is not None
    async for chunk in process.stdout:
        ended.printed += len(chunk)
        ended.output += chunk[: max(0, limits.output - len(ended.output))]
        if ended.printed > limits.output and not limits.keep:
            return


async def _read_errors(process: anyio.abc.Process, ended: Ended, limit: int) -> None:
    assert process.stderr is not None
    async for chunk in process.stderr:
        ended.complained += len(chunk)
        ended.errors += chunk
        del ended.errors[:-limit]


async def _feed(process: anyio.abc.Process, data: bytes) -> None:
    assert process.stdin is not None
    try:
        if data:
            await process.stdin.send(data)
        await process.stdin.aclose()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        # A program need not read its input.
        return


async def _reap(process: anyio.abc.Process) -> None:
    """Wait for the program, then end what it left running, which may hold its output open."""
    await process.wait()
    _kill(process)


async def _end(process: anyio.abc.Process) -> None:
    """Leave nothing running: the program's own children are in its group."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            _kill(process)
            await process.wait()
        await process.aclose()


def _kill(process: anyio.abc.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
