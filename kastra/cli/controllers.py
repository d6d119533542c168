"""`kastra controllers`: run the project's own controllers as a process of their own, against a server.

Never runs the built-in ones. SIGTERM and Ctrl-C stop it gracefully: what is in work ends, the Lease is given up. Read next:
`kastra.app.controller_process`.
"""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import examples
from .session import remote_flags, settings_of

if TYPE_CHECKING:
    from kastra.app.controller_process import ControllerProcess
    from kastra.app.serving import Address
    from kastra.client.kubeconfig import Cluster


@click.command(
    epilog=examples(
        "kastra controllers                                 the project's, on the server that owns its store",
        "kastra controllers --kubeconfig prod.kubeconfig    on another server",
        "kastra controllers ops --namespace team-a --controller glossary",
        "kastra controllers --role > role.yaml              what it must be allowed to do",
    )
)
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--kubeconfig", metavar="FILE", help="The server of this kubeconfig.")
@click.option("--context", "context_", metavar="NAME", help="The server of this kubeconfig context.")
@click.option("-s", "--server", metavar="URL", help="The server at this address.")
@click.option("-n", "--namespace", default="", metavar="NAME", help="Only objects of this namespace (default: of all).")
@click.option(
    "--controller", "names", multiple=True, metavar="NAME", help="Only the controller of this name; repeatable."
)
@click.option("--leader-elect/--no-leader-elect", default=True, help="Of several processes one works (default: yes).")
@click.option("--lease", default="kastra-controllers", metavar="NAME", show_default=True, help="Lease of the election.")
@click.option(
    "--lease-namespace", default="", metavar="NAME", help="Where the Lease is (default: --namespace, or the context's)."
)
@click.option(
    "--metrics", metavar="HOST:PORT", help="Serve /metrics, /livez and /readyz there, without authentication."
)
@click.option("--role", is_flag=True, help="Print the RBAC roles that are needed, and end.")
def controllers(folders: tuple[Path, ...], **options: Any) -> int:
    """Run the project's own controllers against a server.

    FOLDER: where the controllers' files are (default: the project's folders, and installed packages).
    """
    import anyio

    from kastra.app.controller_process import ControllerProcess, Options
    from kastra.telemetry import configure_logging

    settings = settings_of()
    configure_logging(settings.log_level, json=not sys.stderr.isatty())
    address = _address(options["metrics"]) if options["metrics"] else None
    process = ControllerProcess(
        _cluster(options),
        settings,
        Options(
            folders,
            options["names"],
            options["namespace"],
            options["leader_elect"],
            options["lease"],
            options["lease_namespace"],
        ),
        lambda text: click.echo(text),
    )
    if options["role"]:
        return _print(anyio.run(process.roles, backend="asyncio"))
    return anyio.run(_run, process, address, backend="asyncio")


def _cluster(options: dict[str, Any]) -> "Cluster":
    """The server that the flags name, else the one that owns the project's store, else that of the pod."""
    from kastra.app.clusters import Target, serving_owner
    from kastra.client.kubeconfig import in_cluster

    given = {"kubeconfig": options["kubeconfig"], "context": options["context_"], "server": options["server"]}
    flags = {**remote_flags(), **{name: value for name, value in given.items() if value}}
    if flags:
        return Target(**flags).cluster()
    found = serving_owner(settings_of().store) or in_cluster()
    if found is None:
        raise click.UsageError(
            "no server: none serves the project's store, and this is no pod. Name one with --kubeconfig, --context or "
            "--server, or start 'kastra serve --controllers=builtin'"
        )
    return found


def _address(text: str) -> "Address":
    from kastra.app.serving import Address
    from kastra.config import ConfigError

    try:
        return Address.parse(text)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--metrics") from None


def _print(roles: list[dict[str, Any]]) -> int:
    from kastra.manifest.encode import to_yaml_documents

    click.echo(to_yaml_documents(roles), nl=False)
    return 0


async def _run(process: "ControllerProcess", address: "Address | None") -> int:
    import anyio

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_listen, process)
        try:
            await _serve(process, address)
        except Exception as error:  # noqa: BLE001 - raised below, outside the task group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    click.echo("stopped")
    return 0


async def _serve(process: "ControllerProcess", address: "Address | None") -> None:
    if address is None:
        await process.run()
        return
    from kastra.app.probes import probes

    failure: Exception | None = None
    async with probes(address.host, address.port, process.metrics, process.problems) as port:
        click.echo(f"metrics on http://{address.host}:{port}/metrics")
        try:
            await process.run()
        except Exception as error:  # noqa: BLE001 - likewise
            failure = error
    if failure is not None:
        raise failure


async def _listen(process: "ControllerProcess") -> None:
    """Stop at the first signal; a second one acts as if there were nobody listening."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break
    process.stop()
