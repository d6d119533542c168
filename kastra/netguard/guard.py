"""How is an outbound HTTP call made so that nothing but the address that was checked is ever connected to?

The check sits in the connect call of the connection pool: the host is resolved there once, every address is judged, and
the connection goes to one of exactly these. So neither a second look-up (DNS rebinding) nor a redirect can lead elsewhere.
Redirects are followed by hand, each as a new call; answers are bounded in bytes, before and after decompression, and in
time. Never reads proxy variables and never keeps cookies.

Read next: `kastra.netguard.connections`, and `kastra.netguard.proxy` for calls through one; `kastra.model.openai`, a caller.
"""

import asyncio
import contextlib
import ipaddress
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin

import anyio

from kastra.netguard.answer import Answer, StreamedAnswer
from kastra.netguard.connections import Connection, Connections, over
from kastra.netguard.errors import BadAnswer, Refused, TimedOut
from kastra.netguard.fields import CROSS_ORIGIN, checked, is_token
from kastra.netguard.policy import Address, Policy, Target
from kastra.netguard.proxy import call_through, proxied

if TYPE_CHECKING:
    import ssl

    import httpcore2

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""From host and port to addresses, in the order in which they are to be tried. Raises OSError."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WITH_CONTENT = ("POST", "PUT", "PATCH")


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
        until = asyncio.get_running_loop().time() + limits.timeout
        try:
            answer = await self.open(
                method,
                url,
                headers=headers,
                content=content,
                allow_private=allow_private,
                limits=limits,
                authorities=authorities,
                proxy=proxy,
                until=until,
            )
            try:
                pieces: list[bytes] = []
                while piece := await answer.read(until):
                    pieces.append(piece)
            finally:
                await answer.aclose()
        except TimedOut:
            if not over(until):
                raise
            raise TimedOut(f"{Target.parse(url).origin}: no complete answer within {limits.timeout:g}s") from None
        return Answer(answer.status, answer.headers, b"".join(pieces))

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
        answer = await self.open(
            method,
            url,
            headers=headers,
            content=content,
            allow_private=allow_private,
            limits=limits,
            authorities=authorities,
            proxy=proxy,
        )
        try:
            yield answer
        finally:
            await answer.aclose()

    async def open(
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
        until: float = math.inf,
    ) -> StreamedAnswer:
        """As `stream`, for callers that close the answer themselves.

        Args:
            until: time of the loop at which the head of the answer must have come.
        """
        target = Target.parse(url)
        fields = checked(headers or {})
        for redirects in range(limits.max_redirects + 1):
            answer = await self._send(method, target, fields, content, allow_private, limits, authorities, proxy, until)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None or limits.max_redirects == 0:
                return answer
            await answer.aclose()
            following = Target.parse(urljoin(target.url, location))
            if redirects == limits.max_redirects:
                break
            if target.scheme == "https" and following.scheme == "http":
                raise Refused(f"{target.origin}: redirected from https to http")
            if answer.status == 303 or (answer.status in (301, 302) and method.upper() == "POST"):
                method, content = "GET", b""
                fields.pop("content-type", None)
            if following.origin != target.origin:
                fields = {name: value for name, value in fields.items() if name in CROSS_ORIGIN}
            target = following
        raise BadAnswer(f"{target.origin}: more than {limits.max_redirects} redirects")

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
        until: float,
    ) -> StreamedAnswer:
        if not is_token(method):
            raise BadAnswer(f"{target.origin}: the request is no valid HTTP")
        method, timeout = method.upper(), limits.timeout
        headers = [("Host", target.authority), ("Accept-Encoding", "gzip, deflate"), *fields.items()]
        if content or method in _WITH_CONTENT:
            headers.append(("Content-Length", str(len(content))))
        pool = self._pool(target, allow_private, authorities, proxy)
        connect_timeout = min(limits.connect_timeout, timeout)
        if not isinstance(pool, Connections):
            return await call_through(
                pool,
                method,
                target,
                headers,
                content,
                connect_timeout=connect_timeout,
                timeout=timeout,
                until=until,
                most=limits.max_bytes,
            )
        connection = await pool.call(
            method, target, headers, content, connect_timeout=connect_timeout, timeout=timeout, until=until
        )
        source = _Direct(pool, target, connection, timeout)
        return StreamedAnswer(target, connection.status, connection.headers, source, limits.max_bytes)

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

        through = Target.parse(proxy)
        return proxied(through, addresses_of, secure, _tls(through, "") if through.scheme == "https" else None)


class _Direct:
    """The body of an answer that comes over a connection of ours."""

    __slots__ = ("_connection", "_pool", "_target", "_timeout")

    def __init__(self, pool: Connections, target: Target, connection: Connection, timeout: float) -> None:
        self._pool = pool
        self._target = target
        self._connection = connection
        self._timeout = timeout

    def read(self, until: float) -> Awaitable[bytes]:
        return self._connection.read(self._timeout, until)

    async def aclose(self) -> None:
        self._pool.done(self._target, self._connection)


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
