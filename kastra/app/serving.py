"""`kastra serve`: everything that `compose` puts together, with the Kubernetes API in front of it.

One process and one event loop: uvicorn accepts connections in the same loop in which controllers and Runs work. TLS always,
with a certificate authority of our own and a token; a second, plain listener without authentication only when it is asked
for, and only on loopback. The kubeconfig and the endpoint file are written when requests are taken, not before.

Stopping ends watches cleanly, lets running requests finish, then controllers, then the store. Read next:
`kastra.apiserver.http.server`.
"""

import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import uvicorn

from kastra.apiserver.authentication import Anybody, Authenticator, TokenAuthenticator, learning_from_reviews
from kastra.apiserver.client_certificates import CertificateAuthenticator
from kastra.apiserver.filters import Limits
from kastra.apiserver.http.server import Application
from kastra.apiserver.oidc import OIDCTokens
from kastra.apiserver.rbac_authorizer import RBACAuthorizer
from kastra.apiserver.rbac_defaults import ensure_default_roles
from kastra.apiserver.rbac_escalation import EscalationPolicy
from kastra.apiserver.registry import Registry
from kastra.apiserver.serviceaccount_tokens import ServiceAccountTokens
from kastra.clock import Clock
from kastra.config import ConfigError, Settings
from kastra.sql.owner import Endpoint, remove_endpoint, write_endpoint
from kastra.telemetry import register_secret

from .access import ADMIN, UserFile, administrator, write_kubeconfig
from .certificates import certificates, client_authorities, given_certificates, signing_key
from .composition import Composition, compose, outbound_policy
from .identity import openid
from .mcp.endpoint import MCPEndpoint
from .peers import PeerProtocol
from .slow_clients import PatientProtocol, notice_dead_peers

DEFAULT_LISTEN = Settings().listen
_KEEP_ALIVE = 120
_BACKLOG = 2048
_TICK = 0.02
_FLUSH = 0.5
"""Seconds for answers that are made to reach their clients, and for TLS to say goodbye."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 for any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`HOST:PORT`, with an IPv6 address in brackets. Raises ConfigError."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"{text!r} is no address: write HOST:PORT, such as {DEFAULT_LISTEN} or [::1]:6443")
        return cls(host, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server.

    Args:
        url: of the API, over TLS.
        insecure_url: of the plain listener; empty without one.
        kubeconfig: for kubectl.
        parts: what is served.
    """

    url: str
    insecure_url: str
    kubeconfig: Path
    parts: Composition


class _SecureProtocol(PatientProtocol, PeerProtocol):
    """A connection over TLS."""


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which is the command's, and with an event for when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way, then hang up: a client that keeps a connection for later would hold the server."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with anyio.move_on_after(self.config.timeout_graceful_shutdown):
            while self.server_state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody when they end
                await anyio.sleep(_TICK)
            with anyio.move_on_after(_FLUSH):
                while self.server_state.connections:  # noqa: ASYNC110 - likewise
                    await anyio.sleep(_TICK)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


@asynccontextmanager
async def serving(
    settings: Settings, listen: Address, insecure: Address | None = None, *, limits: Limits | None = None
) -> AsyncIterator[Serving]:
    """Own the store, run everything and serve it, until the block ends.

    Args:
        insecure: also serve plain HTTP there, without authentication.

    Raises:
        ConfigError: the plain listener isn't on loopback, or the certificate that was given can't be used.
        OSError: an address is in use.
        Owned: another process has the store.
    """
    if insecure is not None and not insecure.loopback:
        raise ConfigError(
            f"--insecure-http {insecure.host}: has no authentication, so it must be on loopback (127.0.0.1)"
        )
    with ExitStack() as sockets:
        secure_socket = sockets.enter_context(_bind(listen, "--listen"))
        insecure_socket = sockets.enter_context(_bind(insecure, "--insecure-http")) if insecure is not None else None
        composed = compose(settings, controllers=settings.serve_controllers)
        async with (
            composed as parts,
            openid(settings, outbound_policy(settings), parts.clock) as provider,
            mcp_endpoint(settings, parts.api.registry, parts.clock) as mcp,
        ):
            given = settings.tls_cert or settings.tls_key
            files = (
                given_certificates(settings.data, settings.tls_cert, settings.tls_key)
                if given
                else certificates(settings.data, listen.host, parts.clock)
            )
            token = administrator(settings.data)
            register_secret(token)
            registry = parts.api.registry
            authenticator = await _guard(registry, settings.data, parts.clock, provider)
            metrics = parts.manager.metrics if parts.manager is not None else None
            limits = limits or Limits(watches_per_user=settings.watches_per_user)
            mounts = {"mcp": mcp.serve}
            inlets = parts.intake.inlets if parts.intake is not None else None
            applications = [
                Application(registry, authenticator, limits=limits, metrics=metrics, inlets=inlets, mounts=mounts)
            ]
            tls = {
                "ssl_certfile": files.certificate,
                "ssl_keyfile": files.key,
                "ssl_ca_certs": client_authorities(settings.data, settings.client_ca, parts.clock),
                # Whoever shows no certificate is asked for a token; one of somebody unknown ends the connection.
                "ssl_cert_reqs": ssl.CERT_OPTIONAL,
                "http": _SecureProtocol,
            }
            servers = [(_server(applications[0], settings, **tls), secure_socket)]
            if insecure_socket is not None:
                open_to_all = Application(
                    registry,
                    Anybody(ADMIN),
                    limits=limits,
                    metrics=metrics,
                    inlets=inlets,
                    local=True,
                    mounts=mounts,
                )
                applications.append(open_to_all)
                servers.append((_server(open_to_all, settings), insecure_socket))
            url = _url("https", listen, secure_socket)
            async with anyio.create_task_group() as tasks:
                for server, bound in servers:
                    tasks.start_soon(server.serve, [bound])
                    await server.up.wait()
                try:
                    kubeconfig = write_kubeconfig(settings.data, url, files.authority, token)
                    write_endpoint(settings.store, Endpoint(url, os.getpid(), token, str(files.authority)))
                    plain = _url("http", insecure, insecure_socket) if insecure and insecure_socket else ""
                    yield Serving(url, plain, kubeconfig, parts)
                finally:
                    remove_endpoint(settings.store)
                    mcp.stop()
                    for application in applications:
                        application.stop()
                    for server, _ in servers:
                        server.should_exit = True


def mcp_endpoint(settings: Settings, registry: Registry, clock: Clock) -> MCPEndpoint:
    """What serves MCP clients at `/mcp`."""
    return MCPEndpoint(registry, ADMIN, clock, origins=settings.mcp_allowed_origins, sessions=settings.mcp_sessions)


async def _guard(registry: Registry, data: Path, clock: Clock, provider: OIDCTokens | None) -> Authenticator:
    """Let a registry know users and what they may do; returns what recognises them."""
    accounts = ServiceAccountTokens(signing_key(data), registry.storage, clock)
    others = (provider,) if provider is not None else ()
    tokens = TokenAuthenticator((), UserFile(data, clock), accounts, *others)
    registry.token_issuer, registry.token_reader = accounts, tokens
    registry.admission.policies.append(learning_from_reviews(tokens))
    authorizer = RBACAuthorizer(registry.storage)
    await ensure_default_roles(registry)
    registry.authorizer = authorizer
    registry.admission.policies.append(EscalationPolicy(authorizer))
    return CertificateAuthenticator(tokens, clock)


def _server(application: Application, settings: Settings, **tls: Any) -> _Server:
    config = uvicorn.Config(
        application,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        **{"http": PatientProtocol, **tls},
    )
    return _Server(config)


@contextmanager
def _bind(address: Address, option: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        notice_dead_peers(bound)
        try:
            bound.bind((address.host, address.port))
        except OSError as error:
            raise OSError(
                error.errno,
                f"can't listen on {address.host}:{address.port}: {error.strerror}; choose another with {option}",
            ) from None
        yield bound
    finally:
        bound.close()


def _url(scheme: str, address: Address, bound: socket.socket) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    port: int = bound.getsockname()[1]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
