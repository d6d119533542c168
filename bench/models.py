"""What streaming costs: CPU of a chunk, from the socket to the caller, and what Kastra adds to the first token.

The provider is a process of its own. A chunk's CPU is that of this process over a stream of some thousand chunks, through limits,
fallback chain and price as an agent's call goes. The first token is timed beside a bare socket that sends the same request and
waits for the same bytes, turn by turn; the difference of their lower quartiles is what Kastra adds.
"""

import socket
import statistics
import subprocess
import sys
import time
from contextlib import aclosing
from urllib.parse import urlsplit

import anyio
import orjson

from kastra.clock import SystemClock
from kastra.model.chain import ModelEntry, answers
from kastra.model.interface import Credentials, ModelConfig, ModelRequest, ModelServices, TextDelta
from kastra.model.limits import Limiter, RateLimits
from kastra.model.providers import create
from kastra.netguard import Guard, Policy

from . import Row

NAME = "models"

CHUNKS = 5000
ROUNDS = 5
FIRST = 200


def run() -> list[Row]:
    """The figures."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench._provider"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as provider:
        assert provider.stdin is not None
        assert provider.stdout is not None
        try:
            return anyio.run(_measured, provider.stdout.readline().strip())
        finally:
            provider.stdin.close()


async def _measured(url: str) -> list[Row]:
    rows = []
    async with Guard(Policy()) as guard:
        for type_ in ("openai", "anthropic"):
            entry = _entry(type_, url, guard)
            await _stream(entry, 100)
            found = []
            for _ in range(ROUNDS):
                before = time.process_time()
                await _stream(entry, CHUNKS)
                found.append((time.process_time() - before) / CHUNKS * 1e6)
            rows.append(Row(f"{type_}: CPU per streamed chunk", min(found), "us", 40, at_most=True))
        rows.append(await _first_token(_entry("openai", url, guard), url))
    return rows


def _entry(type_: str, url: str, guard: Guard) -> ModelEntry:
    async def credentials() -> Credentials:
        return Credentials("key")

    clock = SystemClock()
    config = ModelConfig(type_, "m", url, allow_private=True, credentials=credentials)
    limiters = [Limiter("m", RateLimits(), clock), Limiter("p", RateLimits(max_concurrent=10), clock)]
    return ModelEntry("m", create(config, ModelServices(guard, clock)), price={"in": 1, "out": 2}, limiters=limiters)


async def _stream(entry: ModelEntry, count: int, *, first: bool = False) -> float:
    """Seconds until the first token, or until the end."""
    request = ModelRequest([{"role": "user", "content": str(count)}])
    began = time.perf_counter()
    async with aclosing(answers([entry], request, SystemClock(), "")) as chunks:
        taken = 0.0
        async for chunk in chunks:
            if first and not taken and isinstance(chunk, TextDelta):
                taken = time.perf_counter() - began
    return taken or time.perf_counter() - began


async def _first_token(entry: ModelEntry, url: str) -> Row:
    address = urlsplit(url)
    bare, ours = [], []
    with socket.create_connection((address.hostname, address.port)) as connection:
        for _ in range(FIRST):
            bare.append(_bare(connection))
            ours.append(await _stream(entry, 3, first=True))
    # The quietest quarter of each: others on the machine can only add to it.
    plain, whole = (statistics.quantiles(found, n=4)[0] * 1000 for found in (bare, ours))
    return Row(
        "added to the first token",
        whole - plain,
        "ms",
        2,
        at_most=True,
        note=f"{whole:.2f} beside {plain:.2f} of a bare socket",
    )


def _bare(connection: socket.socket) -> float:
    message = {"role": "user", "content": "3"}
    body = orjson.dumps({"model": "m", "messages": [message], "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.perf_counter()
    connection.sendall(head.encode() + body)
    received = b""
    while b"token" not in received:
        received += connection.recv(65536)
    taken = time.perf_counter() - began
    while not received.endswith(b"0\r\n\r\n"):
        received += connection.recv(65536)
    return taken
