"""`kastra serve`: the control plane as a server that kubectl and other Kubernetes clients work with.

Owns the store, runs controllers and Runs, and serves the API over TLS, on this machine only unless told otherwise. SIGTERM
and Ctrl-C stop it gracefully. Read next: `kastra.app.serving`.
"""

import signal
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from .options import examples
from .session import settings_of

if TYPE_CHECKING:
    import anyio

    from kastra.app.serving import Address
    from kastra.config import Settings


def address(context: click.Context, parameter: click.Parameter, value: str | None) -> "Address | None":
    """An option's value as an address."""
    from kastra.app.serving import Address
    from kastra.config import ConfigError

    try:
        return Address.parse(value) if value else None
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    epilog=examples(
        "kastra serve                                     on 127.0.0.1:6443",
        "kastra serve --listen 127.0.0.1:0                on any free port",
        "kastra serve --insecure-http 127.0.0.1:8080      also plain HTTP, without authentication",
    )
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=address,
    help="Where to serve, over TLS (default: the setting listen, 127.0.0.1:6443).",
)
@click.option("--tls-cert", metavar="FILE", help="The server's own certificate (PEM); by default one is made.")
@click.option("--tls-key", metavar="FILE", help="The key of that certificate.")
@click.option(
    "--insecure-http",
    metavar="HOST:PORT",
    callback=address,
    help="Also serve plain HTTP without authentication, on loopback only.",
)
@click.option(
    "--controllers",
    type=click.Choice(["all", "builtin", "none"]),
    help="Which controllers run here (default: the setting serve_controllers, all); others by 'kastra controllers'.",
)
def serve(
    listen: "Address | None",
    tls_cert: str | None,
    tls_key: str | None,
    insecure_http: "Address | None",
    controllers: str | None,
) -> int:
    """Serve the Kubernetes API, and run controllers and Runs."""
    import anyio

    from kastra.app.serving import Address
    from kastra.telemetry import configure_logging

    settings = settings_of()
    settings = replace(settings, tls_cert=tls_cert or settings.tls_cert, tls_key=tls_key or settings.tls_key)
    settings = replace(settings, serve_controllers=controllers or settings.serve_controllers)
    listen = listen or Address.parse(settings.listen)
    configure_logging(settings.log_level, json=not sys.stderr.isatty())
    body = partial(_serve, settings, listen, insecure_http)
    return anyio.run(body, backend="asyncio", backend_options={"use_uvloop": sys.platform != "win32"})


async def _serve(settings: "Settings", listen: "Address", insecure: "Address | None") -> int:
    import anyio

    from kastra.app.serving import serving

    stopped = anyio.Event()
    async with anyio.create_task_group() as tasks:
        opening = anyio.CancelScope()
        tasks.start_soon(stop_at_signal, opening, stopped)
        with opening:
            async with serving(settings, listen, insecure) as server:
                opening.shield = True
                click.echo(f"serving {server.url} from {settings.store}; Ctrl-C stops")
                if server.insecure_url:
                    click.echo(f"serving {server.insecure_url} without authentication, to this machine")
                click.echo(f"\n  export KUBECONFIG={server.kubeconfig}\n  kubectl get agents\n")
                await stopped.wait()
        tasks.cancel_scope.cancel()
    return 0


async def stop_at_signal(opening: "anyio.CancelScope", stopped: "anyio.Event") -> None:
    """Stop at the first signal; a second one acts as if there were nobody listening."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break
    if not opening.shield:
        opening.cancel()
    stopped.set()
