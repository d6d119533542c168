"""`/metrics`, `/livez` and `/readyz` of a process that serves nothing else, over plain HTTP, without authentication.

`/metrics` is Prometheus' text format. `/readyz` is 200 when nothing is waited for, else 503 with a line for each thing;
`/healthz` is another name of `/livez`. Read next: `kastra.app.controller_process`.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import uvicorn

from kastra.telemetry import CONTENT_TYPE, Metrics

_AT_ONCE = 32
"""Connections; more are answered with 503."""
_TEXT = "text/plain; charset=utf-8"
_Send = Callable[[MutableMapping[str, Any]], Any]


class _Server(uvicorn.Server):
    """Without signal handling, which is the command's."""

    up: anyio.Event

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: Any = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
        self.up.set()


@asynccontextmanager
async def probes(
    host: str, port: int, metrics: Metrics, problems: Callable[[], Mapping[str, str]]
) -> AsyncIterator[int]:
    """Serve them until the block ends; gives the port, which matters where 0 was asked for.

    Args:
        problems: what keeps the process from being ready, by part.

    Raises:
        OSError: the address is in use.
    """

    async def application(scope: Any, _receive: Any, send: _Send) -> None:
        status, kind, body = _answer(scope["method"], scope["path"], metrics, problems)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    server.up = anyio.Event()
    bound = _bound(config, host, port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [bound])
        await server.up.wait()
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True


def _bound(config: uvicorn.Config, host: str, port: int) -> Any:
    import socket

    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(
            error.errno, f"can't listen on {host}:{port}: {error.strerror}; choose another with --metrics"
        ) from None
    return bound


def _answer(
    method: str, path: str, metrics: Metrics, problems: Callable[[], Mapping[str, str]]
) -> tuple[int, str, bytes]:
    if method not in ("GET", "HEAD"):
        return 405, _TEXT, b"only GET\n"
    if path == "/metrics":
        return 200, CONTENT_TYPE, metrics.render()
    if path in ("/healthz", "/livez"):
        return 200, _TEXT, b"ok\n"
    if path == "/readyz":
        found = problems()
        lines = "".join(f"{part}: {why}\n" for part, why in found.items())
        return (503, _TEXT, lines.encode()) if found else (200, _TEXT, b"ok\n")
    return 404, _TEXT, b"there are /metrics, /livez and /readyz\n"
