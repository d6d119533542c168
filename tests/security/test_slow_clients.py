"""Clients that send slowly, read slowly, or are gone without a word lose their connection, and nobody else notices.

Over real sockets, with the application and connection that `kastra serve` uses and time-outs that a test can wait for.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from kastra.apiserver.filters import Limits
from kastra.app.serving import Address, serving
from kastra.app.slow_clients import MAX_HEAD, MAX_SENT, notice_dead_peers
from kastra.config import Settings
from tests.unit.apiserver_http.conftest import TOKEN, WIDGETS_PATH, widget

from .listening import AUTH, ENOUGH, Listening, answer, call, get, is_status, listening, until


@pytest.fixture
async def place() -> AsyncIterator[Listening]:
    async with listening() as found:
        yield found


def dripping(place: Listening, start: bytes, drop: bytes) -> tuple[int, bytes, float]:
    """Send `drop` again and again until the server has had enough: its answer, and the seconds it took."""
    begun = time.monotonic()
    with place.connect() as connection:
        connection.settimeout(0.05)
        connection.sendall(start)
        while time.monotonic() - begun < ENOUGH:
            try:
                early = connection.recv(65536, socket.MSG_PEEK)
            except TimeoutError:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(drop)
                continue
            except ConnectionError:
                return 0, b"", time.monotonic() - begun
            connection.settimeout(ENOUGH)
            return *(answer(connection) if early else (0, b"")), time.monotonic() - begun
    raise AssertionError("the server is still listening")


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        pytest.param(b"GET /api HTTP/1.1\r\nX-A", b"a", id="a header that never ends"),
        pytest.param(b"GET /api HTTP/1.1\r\n", b"X-A: b\r\n", id="headers that never end"),
        pytest.param(b"GET /ap", b"i", id="a path that never ends"),
        pytest.param(b"G", b"", id="half a request line"),
    ],
)
async def test_a_head_that_trickles_is_408_in_the_end(place: Listening, start: bytes, drop: bytes) -> None:
    code, body, seconds = await call(lambda: dripping(place, start, drop))
    assert is_status(code, body, 408)
    assert seconds < 3
    await until(lambda: place.connections == 0)


@pytest.mark.parametrize("drop", [b"", b"\r\n"], ids=["nothing at all", "blank lines"])
async def test_a_connection_without_a_request_is_closed(place: Listening, drop: bytes) -> None:
    code, _, seconds = await call(lambda: dripping(place, b"", drop))
    assert code in (0, 408)
    assert seconds < 3


async def test_blank_lines_after_a_request_do_not_keep_a_connection(place: Listening) -> None:
    start = b"GET /livez HTTP/1.1\r\n%b\r\n" % AUTH

    def endless() -> float:
        begun = time.monotonic()
        with place.connect() as connection:
            connection.sendall(start)
            while time.monotonic() - begun < ENOUGH:
                connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        return time.monotonic() - begun
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"\r\n")
        raise AssertionError("the server is still listening")

    assert await call(endless) < 4


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5000\r\n", b"Transfer-Encoding: chunked\r\n"], ids=["length", "chunks"]
)
async def test_a_body_that_trickles_is_408_in_the_end_and_nothing_is_stored(place: Listening, framing: bytes) -> None:
    start = b"POST %b HTTP/1.1\r\n%b%b\r\n" % (WIDGETS_PATH.encode(), AUTH, framing)
    drop = b"1\r\n \r\n" if framing.startswith(b"T") else b" "
    code, body, seconds = await call(lambda: dripping(place, start, drop))
    assert is_status(code, body, 408)
    assert seconds < 3
    assert orjson.loads((await call(lambda: get(place, WIDGETS_PATH)))[1])["items"] == []


async def test_the_body_of_a_request_that_is_answered_already_does_not_keep_a_connection(place: Listening) -> None:
    start = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" % WIDGETS_PATH.encode()
    begun = time.monotonic()

    def refused() -> tuple[int, bytes]:
        with place.connect() as connection:
            connection.sendall(start)
            return answer(connection)

    code, body = await call(refused)
    assert code == 401
    assert b"Unauthorized" in body
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "head",
    [b"GET /" + b"a" * (MAX_HEAD * 3), b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * (MAX_HEAD // 2)],
    ids=["path", "headers"],
)
async def test_a_head_that_is_too_large_is_431(place: Listening, head: bytes) -> None:
    code, body, _ = await call(lambda: dripping(place, head, b"a"))
    assert code in (0, 431)  # 0 where the rest of what was sent made the system reset the connection
    assert not body or is_status(code, body, 431)
    assert (await call(lambda: get(place)))[0] == 200


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET \xff\xfe HTTP/1.1\r\n\r\n",
                 b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                 b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", b"\x00" * 100],
    ids=["TLS", "version", "HTTP/2", "path", "length", "two lengths", "chunk", "asterisk", "CONNECT", "no host", "header", "zeros"],
)  # fmt: skip
async def test_what_is_not_http_gets_a_status_and_is_hung_up_on(place: Listening, request_: bytes) -> None:
    code, body, _ = await call(lambda: dripping(place, request_, b""))
    assert is_status(code, body, code)
    assert 400 <= code < 500
    assert (await call(lambda: get(place)))[0] == 200


@pytest.mark.parametrize(
    "trailer", [b"X-A: " + b"a" * 60_000, b"X-A: b\r\n" * 8_000], ids=["one trailer", "many trailers"]
)
async def test_trailers_without_end_are_hung_up_on(place: Listening, trailer: bytes) -> None:
    start = b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" % (WIDGETS_PATH.encode(), AUTH)

    def endless() -> int:
        sent = 0
        with place.connect() as connection:
            connection.sendall(start)
            with contextlib.suppress(ConnectionError):
                while sent < 4 * MAX_SENT:
                    connection.sendall(trailer)
                    sent += len(trailer)
        return sent

    assert await call(endless) < 2 * MAX_SENT
    assert (await call(lambda: get(place)))[0] == 200


async def test_a_client_that_does_not_read_its_watch_is_hung_up_on(place: Listening) -> None:
    with place.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET %b?watch=1 HTTP/1.1\r\n%b\r\n" % (WIDGETS_PATH.encode(), AUTH))
        assert await call(lambda: connection.recv(12)) == b"HTTP/1.1 200"
        for number in range(60):
            await place.server.client.create(widget(f"w{number}", labels={"a": "x" * 200_000}))
        begun = time.monotonic()
        await until(lambda: place.connections == 0)
        assert time.monotonic() - begun < 4
    assert (await call(lambda: get(place)))[0] == 200


async def test_a_client_that_reads_slowly_gets_everything(place: Listening) -> None:
    for number in range(30):
        await place.server.client.create(widget(f"w{number}", labels={"a": "x" * 200_000}))

    def slowly() -> int:
        with place.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.sendall(b"GET %b HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (WIDGETS_PATH.encode(), AUTH))
            size = 0
            while chunk := connection.recv(400_000):
                size += len(chunk)
                time.sleep(0.02)
            return size

    assert await call(slowly) > 30 * 200_000


def test_connections_find_out_by_themselves_that_their_client_is_gone() -> None:
    with socket.socket() as listener:
        notice_dead_peers(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


async def test_slow_clients_keep_nobody_else_waiting(place: Listening) -> None:
    slow = [place.connect() for _ in range(150)]
    try:
        for number, connection in enumerate(slow):
            half = (
                b"GET /api HTTP/1.1\r\nX"
                if number % 2
                else b"POST %b HTTP/1.1\r\n%bContent-Length: 9\r\n\r\n" % (WIDGETS_PATH.encode(), AUTH)
            )
            connection.sendall(half)
        begun = time.monotonic()
        for _ in range(10):
            assert (await call(lambda: get(place)))[0] == 200
        assert time.monotonic() - begun < 2
        await until(lambda: place.connections == 0)
    finally:
        for connection in slow:
            connection.close()


async def test_requests_in_a_row_behind_a_watch_end_with_their_client(place: Listening) -> None:
    with place.connect() as connection:
        watch = b"GET %b?watch=1 HTTP/1.1\r\n%b\r\n" % (WIDGETS_PATH.encode(), AUTH)
        connection.sendall(watch * 3)
        assert await call(lambda: connection.recv(12)) == b"HTTP/1.1 200"
        await until(lambda: len(place.uvicorn.server_state.tasks) == 1)
    await until(lambda: not place.uvicorn.server_state.tasks)


async def test_one_user_has_a_limit_of_watches_and_others_have_theirs() -> None:
    async with listening(limits=Limits(watches_per_user=3)) as place:
        watch = b"GET %b?watch=1 HTTP/1.1\r\n%b\r\n"
        mine = [place.connect() for _ in range(3)]
        for connection in mine:
            connection.sendall(watch % (WIDGETS_PATH.encode(), AUTH))
            assert await call(lambda connection=connection: connection.recv(12)) == b"HTTP/1.1 200"
        code, body = await call(lambda: get(place, f"{WIDGETS_PATH}?watch=1"))
        assert is_status(code, body, 429)
        assert orjson.loads(body)["details"]["retryAfterSeconds"] == 10
        assert (await call(lambda: get(place)))[0] == 200
        with place.connect() as other:
            other.sendall(watch % (WIDGETS_PATH.encode(), AUTH.replace(TOKEN.encode(), b"another")))
            assert await call(lambda: other.recv(12)) == b"HTTP/1.1 200"
        mine.pop().close()
        await until(lambda: len(place.uvicorn.server_state.tasks) == 2)
        with place.connect() as again:
            again.sendall(watch % (WIDGETS_PATH.encode(), AUTH))
            assert await call(lambda: again.recv(12)) == b"HTTP/1.1 200"
        for connection in mine:
            connection.close()


async def test_the_server_that_kastra_serve_starts_is_as_patient_and_no_more(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, controllers=(), data=tmp_path / "data")
    async with serving(settings, Address("127.0.0.1", 0), Address("127.0.0.1", 0)) as running:

        def too_large(url: str) -> tuple[int, bytes]:
            raw = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=ENOUGH)
            context = ssl._create_unverified_context()
            with context.wrap_socket(raw) if url.startswith("https") else raw as connection:
                connection.settimeout(ENOUGH)
                for _ in range(MAX_HEAD // 4000 + 100):
                    try:
                        connection.sendall(b"X-A: b\r\n" * 500 if _ else b"GET / HTTP/1.1\r\n")
                    except (ConnectionError, ssl.SSLError):
                        break
                return answer(connection)

        for url in (running.url, running.insecure_url):
            code, body = await call(lambda url=url: too_large(url))
            assert code in (0, 431), body
