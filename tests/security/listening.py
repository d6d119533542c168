"""The API over a real socket, with the connection that `kastra serve` uses and time-outs that a test can wait for."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import orjson
import uvicorn

from kastra.app.slow_clients import PatientProtocol, notice_dead_peers
from tests.unit.apiserver_http.conftest import TOKEN, Server, serve

AUTH = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
ENOUGH = 8.0


class HastyProtocol(PatientProtocol):
    header_seconds = body_seconds = read_seconds = 0.4


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


@dataclass
class Listening:
    """A server on a port."""

    server: Server
    port: int
    uvicorn: uvicorn.Server

    def connect(self) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.port), timeout=ENOUGH)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    @property
    def connections(self) -> int:
        return len(self.uvicorn.server_state.connections)


@asynccontextmanager
async def listening(**options) -> AsyncIterator[Listening]:
    with socket.socket() as bound:
        notice_dead_peers(bound)
        bound.bind(("127.0.0.1", 0))
        async with serve(**options) as server:
            config = uvicorn.Config(
                server.app,
                http=HastyProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=1,
            )
            running = _Quiet(config)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(running.serve, [bound])
                await until(lambda: running.started)
                yield Listening(server, bound.getsockname()[1], running)
                server.app.stop()
                running.should_exit = running.force_exit = True


async def until(fulfilled: Callable[[], bool]) -> None:
    with anyio.fail_after(ENOUGH):
        while not fulfilled():
            await anyio.sleep(0.01)


async def call(function: Callable[[], Any]) -> Any:
    """Something that blocks, beside the server."""
    with anyio.fail_after(ENOUGH * 2):
        return await anyio.to_thread.run_sync(function)


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status code and body of what comes until the server hangs up; (0, b"") if that is nothing."""
    received = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := connection.recv(65536):
            received += chunk
    if not received:
        return 0, b""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def get(place: Listening, path: str = "/api") -> tuple[int, bytes]:
    """One ordinary request."""
    with place.connect() as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (path.encode(), AUTH))
        return answer(connection)


def is_status(code: int, body: bytes, expected: int) -> bool:
    status = orjson.loads(body)
    return code == expected and (status["kind"], status["status"], status["code"]) == ("Status", "Failure", expected)
