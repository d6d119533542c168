"""How does a call go through an HTTP proxy, to whose address alone it is connected?

With the pool of `httpcore2`, which is imported at the first of such calls. Its connect call is the one that checks addresses, as
that of direct calls is. Read next: `kastra.netguard.guard`, the caller.
"""

import asyncio
import contextlib
import logging
import math
import ssl
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import anyio

from kastra.netguard.answer import StreamedAnswer
from kastra.netguard.connections import AddressesOf, reason
from kastra.netguard.errors import BadAnswer, ConnectionFailed, Refused, TimedOut
from kastra.netguard.policy import Target

if TYPE_CHECKING:
    import httpcore2


def proxied(
    proxy: Target, addresses_of: AddressesOf, secure: ssl.SSLContext | None, secure_proxy: ssl.SSLContext | None
) -> "httpcore2.AsyncConnectionPool":
    """Connections through a proxy.

    Args:
        proxy: to go through.
        addresses_of: says where connections may lead.
        secure: TLS with servers; None without.
        secure_proxy: TLS with the proxy; None without.
    """
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
    if secure_proxy is not None:
        options["proxy_ssl_context"] = secure_proxy
    return httpcore2.AsyncHTTPProxy(proxy.origin, **options)


async def call_through(
    pool: "httpcore2.AsyncConnectionPool",
    method: str,
    target: Target,
    headers: Sequence[tuple[str, str]],
    content: bytes,
    *,
    connect_timeout: float,
    timeout: float,
    until: float,
    most: int,
) -> StreamedAnswer:
    """Make a call; see `kastra.netguard.connections` for the times. Raises OutboundError."""
    import httpcore2

    url = httpcore2.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    waits = {"connect": connect_timeout, "pool": timeout, "read": timeout, "write": timeout}
    with _mapped(target, until):
        call = pool.stream(
            method.encode(),
            url,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
            content=content,
            extensions={"timeout": waits},
        )
        response = await call.__aenter__()
    received: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        received[name] = f"{received[name]}, {value}" if name in received else value
    return StreamedAnswer(target, response.status, received, _Proxied(target, call, response.aiter_stream()), most)


class _Proxied:
    """The body of an answer that comes through a proxy."""

    def __init__(self, target: Target, call: AbstractAsyncContextManager[Any], pieces: Any) -> None:
        self._target = target
        self._call = call
        self._pieces: AsyncGenerator[bytes, None] = pieces

    async def read(self, until: float) -> bytes:
        with _mapped(self._target, until):
            async for piece in self._pieces:
                if piece:
                    return piece
        return b""

    async def aclose(self) -> None:
        try:
            await self._pieces.aclose()
        finally:
            await self._call.__aexit__(None, None, None)


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
def _mapped(target: Target, until: float) -> Iterator[None]:
    """Until then, and with our errors for those of the library."""
    import httpcore2

    left = None if until == math.inf else max(0.0, until - asyncio.get_running_loop().time())
    try:
        with anyio.fail_after(left):
            yield
    except (httpcore2.TimeoutException, TimeoutError):
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
