"""What one connection is answered is the same however it is written: at once, or head and body by themselves."""

import contextlib

import pytest

from .listening import AUTH, Listening, call, listening

_GET = b"GET /api HTTP/1.1\r\n%b\r\n"
_LAST = b"GET /api HTTP/1.1\r\n%bConnection: close\r\n\r\n"


def answers(place: Listening, *requests: bytes) -> bytes:
    """All that comes for requests in a row, of which the last one ends the connection."""
    received = b""
    with place.connect() as connection:
        connection.sendall(b"".join(request % AUTH for request in requests))
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
    return received


def parsed(received: bytes) -> tuple[bytes, dict[bytes, bytes], bytes, bytes]:
    """Status line, headers and body of the first answer, and what follows it."""
    head, _, rest = received.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    length = int(headers[b"content-length"])
    return status, headers, rest[:length], rest[length:]


@pytest.mark.parametrize("count", [1, 3])
async def test_every_answer_has_the_same_head_and_body(count: int) -> None:
    async with listening() as place:
        rest = await call(lambda: answers(place, *[_GET] * count, _LAST))
    found = []
    while rest:
        status, headers, body, rest = parsed(rest)
        assert status == b"HTTP/1.1 200 OK"
        names = tuple(name for name in headers if name != b"connection")
        assert {b"date", b"content-type", b"cache-control", b"audit-id", b"content-length"} <= {*names}
        found.append((headers.get(b"connection"), names, headers[b"content-type"], headers[b"cache-control"], body))
    assert [answer[0] for answer in found] == [None] * count + [b"close"]
    assert len({answer[1:] for answer in found}) == 1


async def test_an_answer_to_head_has_no_body() -> None:
    async with listening() as place:
        received = await call(lambda: answers(place, b"HEAD /api HTTP/1.1\r\n%b\r\n", _LAST))
    first, _, rest = received.partition(b"\r\n\r\n")
    assert b"content-length: " in first
    assert parsed(rest)[0] == b"HTTP/1.1 200 OK"


async def test_who_waits_to_be_told_to_go_on_is_told_so_before_the_answer() -> None:
    async with listening() as place:
        head = b"POST /api/v1/namespaces HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
        received = await call(lambda: answers(place, head, _LAST))
    went_on, _, rest = received.partition(b"\r\n\r\n")
    assert went_on == b"HTTP/1.1 100 Continue"
    assert parsed(rest)[0].split()[1] in {b"201", b"400", b"403", b"404", b"422"}
    assert parsed(parsed(rest)[3])[0] == b"HTTP/1.1 200 OK"
