"""How is a program spoken to as an MCP server? One JSON-RPC message per line, on its standard input and output.

The command is a list and no shell reads it. The program starts in its folder with a small environment and what `env` gives it,
never with the server's, which may hold keys. Messages are bounded; lines that are no messages are counted and passed over,
up to a number. Of standard error, the end is kept. Whatever happens, the whole process group is gone afterwards.

The SDK has such a transport too, without these bounds. Source: MCP, transports, stdio; lifecycle, shutdown. Read next:
`kastra.tool.mcp.connection`.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from kastra.telemetry import redact_text

from .errors import ServerUnavailable

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of one message."""
MAX_GARBAGE = 1000
"""Lines that are no messages, until the connection is given up."""
MAX_COMPLAINT = 2000
"""Bytes of standard error kept, from its end."""
GRACE = 2.0
"""Seconds that the program gets to end after its input was closed, and again after SIGTERM."""
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
_TICK = 0.01


@dataclass(slots=True)
class Ended:
    """How a transport ended: `event` is set once it has, `why` says what went wrong, `complaint` is the end of stderr."""

    event: anyio.Event = field(default_factory=anyio.Event)
    why: str = ""
    complaint: bytearray = field(default_factory=bytearray)
    garbage: int = 0

    def told(self) -> str:
        """What to say of it."""
        said = " ".join(bytes(self.complaint).decode("utf-8", "replace").split())[-500:]
        return redact_text(f"{self.why or 'the connection was closed'}{f'; it said: {said}' if said else ''}")


@contextlib.asynccontextmanager
async def program(
    command: Sequence[str], environment: Mapping[str, str], folder: Path | None, ended: Ended
) -> AsyncIterator[
    "tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]"
]:
    """Start a program and speak with it.

    Raises:
        ServerUnavailable: it can't be started.
    """
    from mcp.shared.message import SessionMessage

    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        process = await anyio.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**inherited, **environment},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no command"
        raise ServerUnavailable("ProgramNotFound", f"{command[0]} can't be started: {why}") from None
    received, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, to_send = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, process, received, ended)
        tasks.start_soon(_write, process, to_send)
        tasks.start_soon(_read_errors, process, ended)
        try:
            yield incoming, outgoing
        finally:
            with anyio.CancelScope(shield=True):
                for stream in (incoming, outgoing, received, to_send):
                    stream.close()
                await _end(process)
            tasks.cancel_scope.cancel()


async def _read(
    process: anyio.abc.Process, received: "MemoryObjectSendStream[SessionMessage | Exception]", ended: Ended
) -> None:
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    assert process.stdout is not None
    buffer = bytearray()
    searched = 0
    try:
        with received:
            async for chunk in process.stdout:
                buffer += chunk
                while (end := buffer.find(b"\n", searched)) >= 0:
                    line = bytes(buffer[:end])
                    del buffer[: end + 1]
                    searched = 0
                    if not line.strip():
                        continue
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        ended.garbage += 1
                        if ended.garbage > MAX_GARBAGE:
                            ended.why = f"it printed more than {MAX_GARBAGE} lines that are no JSON-RPC messages"
                            return
                        continue
                    await received.send(SessionMessage(message))
                searched = len(buffer)
                if len(buffer) > MAX_MESSAGE:
                    ended.why = f"it sent a message of more than {MAX_MESSAGE} bytes"
                    return
            ended.why = "the program ended"
            with anyio.move_on_after(GRACE):
                code = await process.wait()
                ended.why = f"the program ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        ended.why = ended.why or "its output can't be read any more"
    finally:
        ended.event.set()


async def _write(process: anyio.abc.Process, to_send: "MemoryObjectReceiveStream[SessionMessage]") -> None:
    assert process.stdin is not None
    try:
        with to_send:
            async for message in to_send:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await process.stdin.send(text.encode() + b"\n")
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        # It doesn't read any more. Whether it lives is told by its output.
        return


async def _read_errors(process: anyio.abc.Process, ended: Ended) -> None:
    assert process.stderr is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        async for chunk in process.stderr:
            ended.complaint += chunk
            del ended.complaint[:-MAX_COMPLAINT]


async def _end(process: anyio.abc.Process) -> None:
    """Close the input, and then end what is left of the program and of its own children."""
    assert process.stdin is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        await process.stdin.aclose()
    if not await _ended(process):
        _signal(process, signal.SIGTERM)
        await _ended(process)
    _signal(process, signal.SIGKILL)
    await _ended(process)
    with anyio.move_on_after(GRACE):
        await process.aclose()


async def _ended(process: anyio.abc.Process) -> bool:
    """Wait for the end of the program itself: `wait` would also wait for children that hold its output."""
    with anyio.move_on_after(GRACE):
        while process.returncode is None:  # noqa: ASYNC110 - see above
            await anyio.sleep(_TICK)
        return True
    return False


def _signal(process: anyio.abc.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
