"""Calling built-in tools as agents do, in a project folder of the test's own, and a web server that tells what it was asked."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from kastra.clock import Clock, SystemClock
from kastra.netguard import Guard, Policy
from kastra.tool.bodies import body_of
from kastra.tool.declared import declared
from kastra.tool.interface import ToolContext, ToolError, ToolServices
from kastra.tool.toolkit.catalogue import builtins


class Toolbox:
    """The toolkit in a project folder.

    Args:
        project: the folder.
        guard: for the web.
        clock: of the tools.
    """

    def __init__(self, project: Path, guard: Guard, clock: Clock | None = None) -> None:
        self.project = project
        self.services = ToolServices(guard, clock or SystemClock(), _no_secrets, project, (project / ".kastra",))

    @property
    def folder(self) -> Path:
        """Where file tools work unless a setting says otherwise."""
        found = self.project / "workspace"
        found.mkdir(exist_ok=True)
        return found

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        """The result of a tool, called with `settings`."""
        spec = builtins()[name].spec({"name": name, **settings})
        tool = declared(name, spec, await body_of(name, spec, self.services), self.services)
        return await tool.call(arguments or {}, ToolContext("run-1/step", run="run-1"))

    async def refused(self, name: str, arguments: Mapping[str, Any] | None = None, **settings: Any) -> ToolError:
        """Why a tool wouldn't."""
        with pytest.raises(ToolError) as caught:
            await self.call(name, arguments, **settings)
        return caught.value


async def _no_secrets(value_from: Mapping[str, Any]) -> str:
    raise LookupError("there are none")


@asynccontextmanager
async def toolbox(
    project: Path,
    clock: Clock | None = None,
    policy: Policy | None = None,
    resolver: Callable[[str, int], Any] | None = None,
) -> AsyncIterator[Toolbox]:
    """A toolbox whose guard is closed at the end."""
    project.mkdir(parents=True, exist_ok=True)
    made = Guard(policy or Policy()) if resolver is None else Guard(policy or Policy(), resolver=resolver)
    async with made as guard:
        yield Toolbox(project, guard, clock)


class Site:
    """A web server on loopback. Answers what is put into `pages` by path: a body, or `(status, headers, body)`."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        """One connection, one request."""
        self.connections += 1
        async with stream:
            data = b""
            try:
                while b"\r\n\r\n" not in data:
                    data += await stream.receive()
                head, _, body = data.partition(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    ),
                    0,
                )
                while len(body) < length:
                    body += await stream.receive()
                self.requests.append(head + b"\r\n\r\n" + body)
                path = head.split(b" ")[1].decode().partition("?")[0]
                page = self.pages.get(path, (404, {}, b"not here"))
                status, headers, answer = (
                    page if isinstance(page, tuple) else (200, {"Content-Type": "text/html"}, page)
                )
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                if head.startswith(b"HEAD"):
                    lines += f"Content-Length: {len(answer)}\r\n"
                    answer = b""
                else:
                    lines += f"Content-Length: {len(answer)}\r\n"
                await stream.send(f"HTTP/1.1 {status} X\r\nConnection: close\r\n{lines}\r\n".encode() + answer)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A running site."""
    found = Site()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    found.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, found.serve)
        yield found
        tasks.cancel_scope.cancel()
    await listener.aclose()


def listed(found: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """One field of every entry."""
    return [entry[key] for entry in found]
