"""Bytes on a connection that aren't quite HTTP get an answer below 500 or none, and the next client is served.

As `test_fuzzed_requests`, one layer down: over a socket, so through the parser and what bounds connections.
"""

import os
import socket
from collections.abc import Iterator

import anyio.from_thread
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.unit.apiserver_http.conftest import WIDGETS_PATH

from .listening import AUTH, Listening, answer, get, listening
from .mutations import garbled

VOLUME = int(os.environ.get("KASTRA_FUZZ_EXAMPLES", "0"))
pytestmark = pytest.mark.timeout(3600 if VOLUME else 60)
BODY = b'{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"}}'
LAST = b"Connection: close\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\n" % (WIDGETS_PATH.encode(), AUTH)
REQUESTS = (
    b"GET %b?limit=1 HTTP/1.1\r\n%b%b" % (WIDGETS_PATH.encode(), AUTH, LAST),
    b"%bContent-Length: %d\r\n%b%b" % (POST, len(BODY), LAST, BODY),
    b"%bTransfer-Encoding: chunked\r\n%b%x\r\n%b\r\n0\r\n\r\n" % (POST, LAST, len(BODY), BODY),
    b"%bExpect: 100-continue\r\nContent-Length: %d\r\n%b%b" % (POST, len(BODY), LAST, BODY),
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /version HTTP/1.0\r\n\r\n",
    b"GET /api HTTP/1.1\r\n%bConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    % AUTH,
)


@pytest.fixture(scope="module")
def place() -> Iterator[Listening]:
    with anyio.from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(listening()) as found:
        yield found


@settings(
    max_examples=VOLUME // 10 or 60,
    derandomize=not VOLUME,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)
@given(request=st.sampled_from(REQUESTS).flatmap(garbled), cut=st.integers(0, 200))
def test_no_bytes_break_the_server(place: Listening, request: bytes, cut: int) -> None:
    with place.connect() as connection:
        try:
            # In two parts, so that the parser has to stop in between.
            connection.sendall(request[:cut])
            connection.sendall(request[cut:])
            connection.shutdown(socket.SHUT_WR)
            code, body = answer(connection)
        except OSError:
            code, body = 0, b""
    assert code < 500, (request, body)
    assert get(place, "/version")[0] == 200
