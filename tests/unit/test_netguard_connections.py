"""Calls go over kept connections, and over one that is in doubt never."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.abc
import pytest
import uvloop

from kastra.netguard import BadAnswer, ConnectionFailed, Guard, Limits, Policy, TimedOut

Handle = Callable[[anyio.abc.SocketStream, bytes], Awaitable[None]]


class Server:
    """Reads requests whole and lets `handle` answer each, as bytes."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""
        self.handle: Handle = self.ok
        self.closed = anyio.Event()

    async def ok(self, stream: anyio.abc.SocketStream, request: bytes) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def says(self, *pieces: bytes, close: bool = False) -> None:
        async def handle(stream: anyio.abc.SocketStream, request: bytes) -> None:
            for piece in pieces:
                await stream.send(piece)
            if close:
                await stream.aclose()

        self.handle = handle

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        try:
            async with stream:
                while True:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += await stream.receive()
                    head = request.partition(b"\r\n\r\n")[0].lower()
                    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                    while len(request) < len(head) + 4 + length and self.handle == self.ok:
                        request += await stream.receive()
                    self.requests.append(request)
                    await self.handle(stream, request)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self.closed.set()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    made.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, made.serve)
        yield made
        tasks.cancel_scope.cancel()


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    async with Guard(Policy()) as made:
        yield made


async def ask(guard: Guard, server: Server, method: str = "GET", content: bytes = b"") -> bytes:
    return (await guard.request(method, server.url, allow_private=True, content=content)).body


async def test_calls_one_after_the_other_share_a_connection(server: Server, guard: Guard) -> None:
    assert [await ask(guard, server) for _ in range(5)] == [b"ok"] * 5
    assert server.connections == 1


async def test_calls_at_once_have_a_connection_each_and_their_own_answers(server: Server, guard: Guard) -> None:
    async def echo(stream: anyio.abc.SocketStream, request: bytes) -> None:
        number = request.partition(b"X-Number: ")[2] or request.partition(b"x-number: ")[2]
        body = number.split(b"\r\n")[0]
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    server.handle = echo
    got: dict[int, bytes] = {}

    async def one(number: int) -> None:
        for _ in range(3):
            headers = {"x-number": str(number)}
            got[number] = (await guard.request("GET", server.url, headers=headers, allow_private=True)).body

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(one, number)
    assert got == {number: str(number).encode() for number in range(20)}
    assert server.connections <= 20


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(server: Server, guard: Guard) -> None:
    server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", close=True)
    for number in range(1, 4):
        assert await ask(guard, server) == b"ok"
        await anyio.wait_all_tasks_blocked()
        assert server.connections == number


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokH",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["a second answer", "the beginning of one", "told to close", "an old server"],
)
async def test_what_nobody_asked_for_is_not_the_answer_to_the_next_call(
    answer: bytes, server: Server, guard: Guard
) -> None:
    server.says(answer)
    assert await ask(guard, server) == b"ok"
    assert await ask(guard, server) == b"ok"
    assert server.connections == 2


async def test_an_answer_that_is_not_wanted_to_its_end_costs_its_connection(server: Server, guard: Guard) -> None:
    server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
    async with guard.stream("GET", server.url, allow_private=True) as answer:
        async for chunk in answer.chunks:
            assert chunk == b"begun"
            break
    with anyio.fail_after(30):
        await server.closed.wait()
    server.handle = server.ok
    assert await ask(guard, server) == b"ok"
    assert server.connections == 2


async def test_a_call_that_is_cancelled_hangs_up(server: Server, guard: Guard) -> None:
    asked = anyio.Event()

    async def silence(stream: anyio.abc.SocketStream, request: bytes) -> None:
        asked.set()

    server.handle = silence
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, guard, server)
        await asked.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        await server.closed.wait()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil it ends", b"until it ends"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nTrailer: z\r\n\r\n", b"ok"),
    ],
    ids=["be patient", "nothing", "no length", "chunks and trailers"],
)
async def test_answers_end_where_http_says_so(answer: bytes, body: bytes, server: Server, guard: Guard) -> None:
    server.says(answer, close=True)
    assert await ask(guard, server) == body


async def test_an_answer_to_head_has_no_body_whatever_it_says(server: Server, guard: Guard) -> None:
    server.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    assert await ask(guard, server, "HEAD") == b""


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", ConnectionFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", ConnectionFailed),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ConnectionFailed),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ConnectionFailed),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, BadAnswer),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000, BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: y\r\n" * 30_000, BadAnswer),
    ],
    ids=["half", "two lengths", "no size", "another protocol", "a long field", "many fields", "many trailers"],
)
async def test_what_is_no_answer_is_an_error(
    answer: bytes, error: type[Exception], server: Server, guard: Guard
) -> None:
    server.says(answer, close=True)
    with pytest.raises(error):
        await ask(guard, server)


async def test_a_server_that_has_heard_enough_is_believed(server: Server, guard: Guard) -> None:
    server.says(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    answer = await guard.request("POST", server.url, allow_private=True, content=b"x" * 8_000_000)
    assert (answer.status, answer.body) == (413, b"no")


async def test_a_long_request_arrives_whole(server: Server, guard: Guard) -> None:
    assert await ask(guard, server, "POST", b"x" * 3_000_000) == b"ok"
    assert len(server.requests[0].partition(b"\r\n\r\n")[2]) == 3_000_000


async def test_an_answer_that_nobody_reads_stops_arriving(server: Server, guard: Guard) -> None:
    sent = 0

    async def flood(stream: anyio.abc.SocketStream, request: bytes) -> None:
        nonlocal sent
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")
        while True:
            await stream.send(b"x" * 100_000)
            sent += 100_000

    server.handle = flood
    limits = Limits(max_bytes=500_000_000)
    async with guard.stream("GET", server.url, allow_private=True, limits=limits) as answer:
        before = -1
        while before != sent or not sent:
            before = sent
            await anyio.sleep(0.05)
        assert 0 < sent < 100_000_000
        read = 0
        async for chunk in answer.chunks:
            read += len(chunk)
            if read > sent // 2 + 1_000_000:
                break
        assert read > 1_000_000


async def test_what_has_arrived_is_read_in_one_and_what_has_not_only_until_the_moment_that_is_named(
    server: Server, guard: Guard
) -> None:
    now = asyncio.get_running_loop().time
    server.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n")
    answer = await guard.open("GET", server.url, allow_private=True)
    body = b""
    while len(body) < 4:
        body += await answer.read(now() + 30)
    assert body == b"abcd"
    with pytest.raises(TimedOut, match="no answer in time"):
        await answer.read(now() + 0.01)
    await answer.aclose()
    assert await answer.read() == b""
    await answer.aclose()
    await server.closed.wait()


async def test_a_head_that_does_not_come_until_the_moment_that_is_named_costs_the_connection(
    server: Server, guard: Guard
) -> None:
    server.says(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(TimedOut, match="no answer in time"):
        await guard.open("GET", server.url, allow_private=True, until=asyncio.get_running_loop().time() + 0.05)
    server.handle = server.ok
    assert await ask(guard, server) == b"ok"


async def test_a_method_that_is_none_is_not_sent(server: Server, guard: Guard) -> None:
    with pytest.raises(BadAnswer, match="no valid HTTP"):
        await ask(guard, server, "GET / HTTP/1.1\r\nX:")
    assert server.connections == 0


def test_it_is_the_same_over_the_loop_of_the_server() -> None:
    """`kastra serve` runs on uvloop, whose transports are of another class."""

    async def main() -> None:
        made = Server()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        made.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/"
        async with listener, Guard(Policy()) as guard, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, made.serve)
            assert [await ask(guard, made, "POST", b"x" * size) for size in (1, 1_000_000, 2)] == [b"ok"] * 3
            assert made.connections == 1
            tasks.cancel_scope.cancel()

    uvloop.run(main())
