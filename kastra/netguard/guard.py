"""How is an outbound HTTP call made so that nothing but the address that was checked is ever connected to?

The check sits in the connect call of the connection pool: the host is resolved there once, every address is judged, and
the connection goes to one of exactly these. So neither a second look-up (DNS rebinding) nor a redirect can lead elsewhere.
Redirects are followed by hand, each as a new call; answers are bounded in bytes, before and after decompression, and in
time. Never reads proxy variables and never keeps cookies.

Calls through a proxy use the pool of `httpcore2`, the transport of `httpx2`, which is imported at the first of them. Read next:
`kastra.netguard.connections`; `kastra.model.openai`, a caller.
"""

import contextlib
import ipaddress
import logging
import socket
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin

import anyio
import orjson

from kastra.netguard.connections import AddressesOf, Connections, reason
from kastra.netguard.errors import BadAnswer, ConnectionFailed, Refused, TimedOut
from kastra.netguard.policy import Address, Policy, Target
from kastra.version import __version__

if TYPE_CHECKING:
    import ssl

    import httpcore2

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""From host and port to addresses, in the order in which they are to be tried. Raises OSError."""

_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
_CROSS_ORIGIN_HEADERS = frozenset({"accept", "accept-language", "user-agent", "content-type"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call. Sizes in bytes (each of: as received, as decompressed), times in seconds.

    Args:
        timeout: for the whole call, redirects included.
        connect_timeout: for one connection.
        max_bytes: of the body.
        max_redirects: followed; 0 returns a redirect as the answer.
    """

    timeout: float = 30.0
    connect_timeout: float = 10.0
    max_bytes: int = 10 * 1024 * 1024
    max_redirects: int = 5


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Header names are lower-case; repeated ones are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it isn't JSON, or not in UTF-8.
        """
        return orjson.loads(self.body)

    def text(self) -> str:
        """The body as UTF-8 text; undecodable bytes are replaced."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer whose body is still arriving. `chunks` yields decompressed bytes and raises as `Guard.request` does."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of `host` as the operating system resolves it.

    Raises:
        OSError: there are none.
    """
    infos = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in infos))


class Guard:
    """Makes HTTP calls under a policy, with pooled connections. Belongs to one event loop; close it with `aclose`.

    Args:
        policy: which hosts and addresses may be called.
        resolver: how names become addresses.
    """

    def __init__(self, policy: Policy, *, resolver: Resolver = resolve) -> None:
        self._policy = policy
        self._resolver = resolver
        self._pools: dict[tuple[bool, bool, str, str], Connections | httpcore2.AsyncConnectionPool] = {}

    @property
    def policy(self) -> Policy:
        """The policy that this guard applies."""
        return self._policy

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close idle connections; the guard can still be used afterwards."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        allow_private: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        authorities: str = "",
        proxy: str = "",
    ) -> Answer:
        """Call `url` and return the whole answer, whatever its status.

        Args:
            method: such as `GET`.
            url: absolute, http or https.
            headers: by name; Host, Content-Length and the like are not the caller's to set.
            content: the body.
            allow_private: open loopback and private ranges to this call, if the policy honours that.
            limits: bounds of the call.
            authorities: certificates (PEM) of those who may vouch for the server, instead of the system's.
            proxy: URL of an HTTP proxy to go through. Its address is judged like any other; the server's name is judged too,
                but it is the proxy that resolves it, so the policy's ranges hold for names only as far as the proxy does.

        Raises:
            Refused: the policy forbids the URL, its address, or a redirect's.
            ConnectionFailed: no connection, or it broke.
            TimedOut: a limit of time was reached.
            BadAnswer: the answer is too large or malformed.
        """
        try:
            with anyio.fail_after(limits.timeout):
                async with self.stream(
                    method,
                    url,
                    headers=headers,
                    content=content,
                    allow_private=allow_private,
                    limits=limits,
                    authorities=authorities,
                    proxy=proxy,
                ) as answer:
                    body = b"".join([chunk async for chunk in answer.chunks])
                    return Answer(answer.status, answer.headers, body)
        except TimeoutError:
            raise TimedOut(f"{Target.parse(url).origin}: no complete answer within {limits.timeout:g}s") from None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        allow_private: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        authorities: str = "",
        proxy: str = "",
    ) -> AsyncIterator[StreamedAnswer]:
        """As `request`, with the body as it arrives. `limits.timeout` bounds each read, not the whole."""
        target = Target.parse(url)
        fields = _headers(headers or {})
        for redirects in range(limits.max_redirects + 1):
            async with self._send(method, target, fields, content, allow_private, limits, authorities, proxy) as answer:
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or location is None or limits.max_redirects == 0:
                    yield answer
                    return
                following = Target.parse(urljoin(target.url, location))
                if redirects == limits.max_redirects:
                    break
                if target.scheme == "https" and following.scheme == "http":
                    raise Refused(f"{target.origin}: redirected from https to http")
                if answer.status == 303 or (answer.status in (301, 302) and method.upper() == "POST"):
                    method, content = "GET", b""
                    fields.pop("content-type", None)
                if following.origin != target.origin:
                    fields = {name: value for name, value in fields.items() if name in _CROSS_ORIGIN_HEADERS}
                target = following
        raise BadAnswer(f"{target.origin}: more than {limits.max_redirects} redirects")

    @contextlib.asynccontextmanager
    async def _send(
        self,
        method: str,
        target: Target,
        fields: Mapping[str, str],
        content: bytes,
        allow_private: bool,
        limits: Limits,
        authorities: str,
        proxy: str,
    ) -> AsyncIterator[StreamedAnswer]:
        if not _is_token(method):
            raise BadAnswer(f"{target.origin}: the request is no valid HTTP")
        headers = [("Host", target.origin.partition("//")[2]), ("Accept-Encoding", "gzip, deflate"), *fields.items()]
        if content or method.upper() in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", str(len(content))))
        pool = self._pool(target, allow_private, authorities, proxy)
        if isinstance(pool, Connections):
            async with pool.stream(
                method.upper(),
                target,
                headers,
                content,
                connect_timeout=min(limits.connect_timeout, limits.timeout),
                timeout=limits.timeout,
            ) as connection:
                coding, body = connection.headers.get("content-encoding", ""), connection.body(limits.timeout)
                chunks = _bounded(target, coding, body, limits)
                try:
                    yield StreamedAnswer(connection.status, connection.headers, chunks)
                finally:
                    await chunks.aclose()
                    await body.aclose()
            return
        async with _through_proxy(pool, method.upper(), target, headers, content, limits) as answer:
            yield answer

    def _pool(
        self, target: Target, allow_private: bool, authorities: str, proxy: str
    ) -> "Connections | httpcore2.AsyncConnectionPool":
        # Kept apart by what their connections were allowed to reach: a kept-alive one isn't checked again.
        secure = target.scheme == "https"
        if proxy:
            self._policy.check_name(target.host)
            if addresses := _literal(target.host):
                self._policy.check(target.host, addresses, allow_private=allow_private)
        key = (secure, allow_private and self._policy.honour_allow_private, authorities if secure else "", proxy)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._new_pool(target, allow_private, authorities, proxy)
        return pool

    def _new_pool(
        self, target: Target, allow_private: bool, authorities: str, proxy: str
    ) -> "Connections | httpcore2.AsyncConnectionPool":
        async def addresses_of(host: str, port: int) -> Sequence[Address]:
            return await _checked(self._policy, self._resolver, host, port, allow_private)

        secure = _tls(target, authorities) if target.scheme == "https" else None
        if not proxy:
            if secure is not None:
                secure.set_alpn_protocols(["http/1.1"])
            return Connections(addresses_of, secure)

        import httpcore2

        # At DEBUG it logs headers, in which there are keys.
        logging.getLogger("httpcore2").setLevel(logging.WARNING)
        options: dict[str, Any] = {
            "ssl_context": secure,
            "max_connections": 200,
            "max_keepalive_connections": 50,
            "keepalive_expiry": 30.0,
            "network_backend": _checked_backend(addresses_of),
        }
        through = Target.parse(proxy)
        if through.scheme == "https":
            options["proxy_ssl_context"] = _tls(through, "")
        return httpcore2.AsyncHTTPProxy(through.origin, **options)


async def _checked(policy: Policy, resolver: Resolver, host: str, port: int, allow_private: bool) -> Sequence[Address]:
    """The addresses of a host, each of which may be called. Raises Refused, and LookupError if there are none."""
    addresses = _literal(host)
    if not addresses:
        policy.check_name(host)  # before it is resolved: a look-up already tells somebody something
        try:
            addresses = tuple(ipaddress.ip_address(text) for text in await resolver(host, port))
        except (OSError, UnicodeError) as error:
            if isinstance(error, TimeoutError):
                raise
            addresses = ()
        if not addresses:
            raise LookupError(f"the host {host} has no address")
    policy.check(host, addresses, allow_private=allow_private)
    return addresses


@contextlib.asynccontextmanager
async def _through_proxy(
    pool: "httpcore2.AsyncConnectionPool",
    method: str,
    target: Target,
    headers: Sequence[tuple[str, str]],
    content: bytes,
    limits: Limits,
) -> AsyncIterator[StreamedAnswer]:
    import httpcore2

    url = httpcore2.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    waits = {"pool": limits.timeout, "read": limits.timeout, "write": limits.timeout}
    with _mapped(target):
        async with pool.stream(
            method.encode(),
            url,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
            content=content,
            extensions={"timeout": {"connect": min(limits.connect_timeout, limits.timeout), **waits}},
        ) as response:
            received: dict[str, str] = {}
            for raw_name, raw_value in response.headers:
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
                received[name] = f"{received[name]}, {value}" if name in received else value
            chunks = _bounded(target, received.get("content-encoding", ""), response.aiter_stream(), limits)
            try:
                yield StreamedAnswer(response.status, received, chunks)
            finally:
                await chunks.aclose()


def _tls(target: Target, authorities: str) -> "ssl.SSLContext":
    import ssl

    import httpcore2

    if not authorities:
        return httpcore2.default_ssl_context()
    try:
        return ssl.create_default_context(cadata=authorities)
    except ssl.SSLError:
        raise Refused(f"{target.origin}: the certificates given to check it by can't be read as PEM") from None


def _literal(host: str) -> tuple[Address, ...]:
    try:
        return (ipaddress.ip_address(host),)
    except ValueError:
        return ()


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in text)


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    fields = {"user-agent": f"kastra/{__version__}", "accept": "*/*"}
    for name, value in headers.items():
        lower = name.lower()
        if lower in _OWN_HEADERS:
            raise Refused(f"header {name}: it is set by the connection and can't be given")
        if not _is_token(name):
            raise Refused("header: its name has characters that HTTP doesn't allow")
        if any((ord(c) < 32 and c != "\t") or ord(c) == 127 or ord(c) > 255 for c in value):
            raise Refused(f"header {name}: its value has characters that HTTP doesn't allow")
        fields[lower] = value.strip()
    return fields


def _checked_backend(addresses_of: AddressesOf) -> "httpcore2.AsyncNetworkBackend":
    import httpcore2

    class CheckedBackend(httpcore2.AsyncNetworkBackend):
        """Connects to checked addresses only."""

        def __init__(self) -> None:
            self._plain: Any = httpcore2.AnyIOBackend()

        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore2.AsyncNetworkStream:
            try:
                with anyio.fail_after(timeout):
                    addresses = await addresses_of(host, port)
            except TimeoutError:
                raise httpcore2.ConnectTimeout(f"{host} was not resolved in time") from None
            except LookupError as error:
                raise httpcore2.ConnectError(str(error.args[0])) from None
            for index, address in enumerate(addresses):
                try:
                    # Each address gets its part of the time, so that a silent first one leaves some for the others.
                    share = None if timeout is None else timeout / (len(addresses) - index)
                    stream: httpcore2.AsyncNetworkStream = await self._plain.connect_tcp(
                        str(address), port, share, local_address, socket_options
                    )
                    return stream
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                    if index == len(addresses) - 1:
                        raise
            raise AssertionError("unreachable: there is at least one address")

        async def connect_unix_socket(
            self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
        ) -> httpcore2.AsyncNetworkStream:
            raise Refused("unix sockets are not called")

        async def sleep(self, seconds: float) -> None:
            await anyio.sleep(seconds)

    return CheckedBackend()


@contextlib.contextmanager
def _mapped(target: Target) -> Iterator[None]:
    import httpcore2

    try:
        yield
    except httpcore2.TimeoutException:
        raise TimedOut(f"{target.origin}: no answer in time") from None
    except (httpcore2.ConnectError, httpcore2.NetworkError) as error:
        what = "no connection" if isinstance(error, httpcore2.ConnectError) else "the connection broke"
        raise ConnectionFailed(f"{target.origin}: {what}{reason(error)}") from None
    except httpcore2.RemoteProtocolError as error:
        # A connection closed before the answer was complete is reported as a protocol error, too.
        raise ConnectionFailed(f"{target.origin}: the answer broke off or isn't HTTP{reason(error)}") from None
    except httpcore2.ProtocolError:
        # Without its text, which quotes the header that it is about.
        raise BadAnswer(f"{target.origin}: the request is no valid HTTP") from None


async def _bounded(
    target: Target, encoding: str, chunks: AsyncIterator[bytes], limits: Limits
) -> AsyncGenerator[bytes, None]:
    coding = encoding.strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise BadAnswer(f"{target.origin}: content encoding {coding[:40]!r} is not supported")
    inflate = zlib.decompressobj(wbits=47) if coding not in ("", "identity") else None
    received = produced = 0
    with _mapped(target):
        async for chunk in chunks:
            received += len(chunk)
            if received > limits.max_bytes:
                raise BadAnswer(f"{target.origin}: the answer is larger than {limits.max_bytes} bytes")
            part = chunk
            if inflate is not None:
                try:
                    part = inflate.decompress(chunk, limits.max_bytes - produced + 1)
                except zlib.error:
                    raise BadAnswer(f"{target.origin}: the answer's {coding} encoding is broken") from None
            produced += len(part)
            if produced > limits.max_bytes:
                raise BadAnswer(
                    f"{target.origin}: the answer is larger than {limits.max_bytes} bytes once decompressed"
                )
            if part:
                yield part
    if inflate is not None and received and not inflate.eof:
        raise BadAnswer(f"{target.origin}: the answer's {coding} encoding ends too early")
