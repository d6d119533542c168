"""HTTP/1.1 to one server: requests over kept connections, and answers that stream.

Runs in the event loop of the caller, so that giving up a watch closes its socket and nothing else, and takes next to nothing
to import: a command that lists objects mustn't pay for a general HTTP library. Answers are parsed by llhttp. A request that a
kept connection has lost is sent once more only if it reads; nothing that writes is ever sent twice, except after 429, which
says that nothing was done.

Source: RFC 9112; client-go's retries. Read next: `kastra.client.http`.
"""

import asyncio
import socket
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httptools

from kastra.clock import Clock, SystemClock

from .credentials import Credentials
from .kubeconfig import Cluster, KubeconfigError

CONNECT_TIMEOUT = 15.0
ANSWER_TIMEOUT = 120.0
"""Seconds without a byte after which an answer that isn't a stream is given up."""
LARGEST_ANSWER = 512 * 1024 * 1024
LARGEST_LINE = 32 * 1024 * 1024
_LARGEST_HEAD = 256 * 1024
_CHUNK = 64 * 1024
_IDLE = 30.0
"""Seconds for which a connection is kept; servers hang up later than that."""
_KEPT = 8
_TRIES = 5


class Unreachable(ConnectionError):
    """The server can't be reached, isn't the one that is trusted, or hung up; the message says which and where."""


class Untrusted(Unreachable):
    """The server shows a certificate that isn't trusted: trying again won't help."""


@dataclass(slots=True)
class Answer:
    """What came back: `body` is whole, or empty where it streams."""

    status: int
    headers: dict[str, str]
    warnings: list[str]
    body: bytes = b""


class _Parser:
    """Callbacks of llhttp: one answer, whose body parts queue up in `parts`."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.warnings: list[str] = []
        self.parts: deque[bytes] = deque()
        self.begun = self.complete = False
        self._head = 0
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value)
        if self._head > _LARGEST_HEAD:
            raise ValueError("its headers are too large")
        key = name.decode("latin-1").lower()
        if key == "warning":
            self.warnings.append(value.decode("utf-8", "replace"))
        self.headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.begun = True

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        # An interim answer (100 Continue) is followed by the real one.
        if self.parser.get_status_code() >= 200:
            self.complete = True
        else:
            self.begun = False


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used = False
        self.since = 0.0

    def close(self) -> None:
        # Without waiting for TLS to say goodbye: nothing more is wanted of the server.
        with suppress(Exception):
            self.writer.transport.abort()


class Transport:
    """Requests to the server of `cluster`.

    Args:
        user_agent: how this client names itself.
    """

    def __init__(self, cluster: Cluster, *, user_agent: str = "kastra", clock: Clock | None = None) -> None:
        self.cluster = cluster
        self._clock = clock or SystemClock()
        self._credentials = Credentials(cluster, self._clock)
        parts = urlsplit(cluster.server)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._secure = parts.scheme == "https"
        self._prefix = parts.path
        self._fixed = f"Host: {parts.netloc}\r\nUser-Agent: {user_agent}\r\n"
        self._context: ssl.SSLContext | None = None
        self._certificate: bytes | None = None
        self._kept: list[_Connection] = []

    def close(self) -> None:
        """Hang up."""
        while self._kept:
            self._kept.pop().close()

    async def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and take its whole answer, whatever its status.

        Raises:
            Unreachable: there is no (whole) answer.
            KubeconfigError: there are no credentials to send.
        """
        attempt = 0
        while True:
            attempt += 1
            async with self.stream(method, target, body, headers, whole=True) as (answer, parts):
                chunks, size = [], 0
                async for part in parts:
                    size += len(part)
                    if size > LARGEST_ANSWER:
                        raise Unreachable(f"{self.cluster.server}: the answer exceeds {LARGEST_ANSWER >> 20} MiB")
                    chunks.append(part)
                answer.body = b"".join(chunks)
            again = answer.status == 429 or (answer.status == 503 and method == "GET")
            delay = answer.headers.get("retry-after", "")
            if not again or not delay.isdecimal() or attempt == _TRIES:
                return answer
            await self._clock.sleep(min(float(delay), 10.0))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        whole: bool = False,
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """Send a request; its answer, and the parts of its body as they come.

        Args:
            whole: a part must come within `ANSWER_TIMEOUT`, since the answer doesn't wait for anything to happen.
        """
        connection, parser = await self._begin(method, target, body, headers)
        patience = ANSWER_TIMEOUT if whole else None
        try:
            answer = Answer(parser.parser.get_status_code(), parser.headers, parser.warnings)
            yield answer, self._parts(connection, parser, patience)
        except BaseException:
            connection.close()
            raise
        if parser.complete and not parser.parts and parser.parser.should_keep_alive() and len(self._kept) < _KEPT:
            connection.used, connection.since = True, self._clock.monotonic()
            self._kept.append(connection)
        else:
            connection.close()

    async def _begin(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> tuple[_Connection, _Parser]:
        while True:
            authorization = await self._credentials.header()
            connection = await self._connection()
            parser = _Parser()
            try:
                self._send(connection, method, target, body, headers, authorization)
                while not parser.begun:
                    await self._feed(connection, parser, ANSWER_TIMEOUT)
            except Unreachable:
                connection.close()
                if connection.used and method == "GET" and not parser.headers:
                    continue  # It was closed while nobody looked.
                raise
            except BaseException:
                connection.close()
                raise
            if parser.parser.get_status_code() == 401 and self._credentials.refused():
                fresh = await self._credentials.header()
                if fresh != authorization:
                    connection.close()
                    continue
            return connection, parser

    def _send(
        self,
        connection: _Connection,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        authorization: str,
    ) -> None:
        lines = [f"{method} {self._prefix}{target} HTTP/1.1\r\n", self._fixed]
        lines += [f"{name}: {value}\r\n" for name, value in (headers or {}).items()]
        if authorization:
            lines.append(f"Authorization: {authorization}\r\n")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}\r\n")
        head = "".join(lines)
        if head.count("\n") != len(lines) + 1 or any(character in head for character in "\0"):
            raise KubeconfigError("a token, header or name holds a line break")
        connection.writer.write(head.encode("latin-1") + b"\r\n" + (body or b""))

    async def _parts(self, connection: _Connection, parser: _Parser, patience: float | None) -> AsyncIterator[bytes]:
        while True:
            while parser.parts:
                yield parser.parts.popleft()
            if parser.complete:
                return
            await self._feed(connection, parser, patience)

    async def _feed(self, connection: _Connection, parser: _Parser, patience: float | None) -> None:
        try:
            with anyio.fail_after(patience):
                await connection.writer.drain()
                data = await connection.reader.read(_CHUNK)
            if not data:
                raise Unreachable(f"{self.cluster.server} hung up in the middle of an answer")
            parser.parser.feed_data(data)
        except TimeoutError:
            raise Unreachable(f"{self.cluster.server} has not answered for {ANSWER_TIMEOUT:g}s") from None
        except httptools.HttpParserError as error:
            raise Unreachable(f"{self.cluster.server} answers something that isn't HTTP: {error}") from None
        except Unreachable:
            raise
        except OSError as error:
            raise Unreachable(f"{self.cluster.server} hung up: {error.strerror or error}") from None

    async def _connection(self) -> _Connection:
        renewed = self._credentials.certificate is not self._certificate
        while self._kept:
            connection = self._kept.pop()
            fresh = self._clock.monotonic() - connection.since < _IDLE
            if fresh and not renewed and not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.close()
        server = self.cluster.server
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                reader, writer = await asyncio.open_connection(
                    self._host,
                    self._port,
                    limit=_CHUNK,
                    ssl=self._tls() if self._secure else None,
                    server_hostname=(self.cluster.server_name or self._host) if self._secure else None,
                )
        except TimeoutError:
            raise Unreachable(f"can't reach {server}: no connection after {CONNECT_TIMEOUT:g}s") from None
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(
                f"{server} is not trusted: its certificate is refused ({error.verify_message}); "
                "is certificate-authority in the kubeconfig that server's?"
            ) from None
        except ssl.SSLError as error:
            raise Unreachable(f"can't reach {server} over TLS: {error.reason or error}") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise Unreachable(f"can't reach {server}: {why}; is it running, and is the address right?") from None
        _keep_alive(writer)
        return _Connection(reader, writer)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None or self._credentials.certificate is not self._certificate:
            self._certificate = self._credentials.certificate
            self._context = _tls_context(self.cluster, self._credentials)
        return self._context


def _tls_context(cluster: Cluster, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cluster.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif cluster.authority is not None:
        try:
            context.load_verify_locations(cadata=cluster.authority.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise KubeconfigError(f"certificate-authority of {cluster.server} holds no certificate: {error}") from None
    else:
        context.load_default_certs()
    if credentials.certificate is not None and credentials.key is not None:
        import tempfile

        # The ssl module takes these from files only; the key is in one for a moment, that nobody else can read.
        with tempfile.TemporaryDirectory(prefix="kastra-tls-") as folder:
            certificate, key = Path(folder) / "tls.crt", Path(folder) / "tls.key"
            certificate.write_bytes(credentials.certificate)
            key.touch(mode=0o600)
            key.write_bytes(credentials.key)
            try:
                context.load_cert_chain(certificate, key, password="")
            except (ssl.SSLError, OSError) as error:
                raise KubeconfigError(f"client-certificate and client-key can't be used: {error}") from None
    return context


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Let the kernel notice a server that is gone without a word, which a quiet watch never would."""
    bound = writer.get_extra_info("socket")
    if bound is None:
        return
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


async def lines_of(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a streamed body. Raises Unreachable for one that never ends."""
    rest = b""
    async for part in parts:
        rest += part
        if b"\n" in part:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line:
                    yield line
        elif len(rest) > LARGEST_LINE:
            raise Unreachable(f"a line of the stream exceeds {LARGEST_LINE >> 20} MiB")
    if rest:
        yield rest
