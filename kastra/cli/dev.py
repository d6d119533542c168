"""`kastra dev`: work on a project. It is served, and what is saved is applied or loaded within a moment.

Serves like `kastra serve`, with the same data, certificate and kubeconfig, then applies all manifests and goes on with each
change until it is stopped. A file that is broken is shown with its place, and everything goes on as it was.

Read next: `kastra.app.development`, the loop, and `kastra.cli.dev_view`, what is shown of it.
"""

import logging
import os
import shutil
import sys
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import examples
from .serve import address, stop_at_signal
from .session import settings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kastra.app.composition import Composition
    from kastra.app.development import Development
    from kastra.app.serving import Address
    from kastra.config import Settings

    from .dev_view import DevView

_FOLDERS = ("crds", "manifests")


@click.command(
    epilog=examples(
        "kastra dev                          the folders crds and manifests",
        "kastra dev deploy agents.yaml       what is declared there",
        "kastra dev --listen 127.0.0.1:0     on any free port",
        "kastra dev --no-serve               without the Kubernetes API",
    )
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=address,
    help="Where to serve, over TLS (default: the setting listen, 127.0.0.1:6443).",
)
@click.option("--no-serve", is_flag=True, help="Serve nothing: apply, reconcile and execute only.")
@click.option("--plain", is_flag=True, help="A plain line per event, as when the output is no terminal.")
def dev(paths: tuple[str, ...], listen: "Address | None", no_serve: bool, plain: bool) -> int:
    """Work on a project: serve it, and apply and reload what is saved.

    PATH: files and folders with manifests, in the project (default: the project's folders crds and manifests).
    """
    import anyio

    from kastra.app.serving import Address
    from kastra.telemetry import configure_logging

    if no_serve and listen:
        raise click.UsageError("--no-serve and --listen exclude each other")
    settings = settings_of()
    sources = [Path(path) for path in paths] or [settings.project / name for name in _FOLDERS]
    project = settings.project.resolve()
    for source in sources:
        if not source.parent.resolve().joinpath(source.name).resolve().is_relative_to(project):
            raise click.UsageError(f"{source} lies outside the project {project}, which is what is watched")
        if paths and not source.exists():
            raise click.UsageError(f"{source}: no such file or folder")
    configure_logging(settings.log_level, json=False)
    # What it logs is what the view shows already: that a reconcile failed.
    logging.getLogger("kastra.runtime.controller").setLevel(logging.CRITICAL)
    where = None if no_serve else listen or Address.parse(settings.listen)
    body = partial(_dev, settings, where, sources, _view(plain))
    return anyio.run(body, backend="asyncio", backend_options={"use_uvloop": sys.platform != "win32"})


def _view(plain: bool) -> "DevView":
    from kastra.clock import SystemClock

    from .dev_view import DevView

    terminal = sys.stdout.isatty() and not plain and os.environ.get("TERM") != "dumb"
    clock = SystemClock()
    return DevView(
        _write,
        lambda: clock.now().astimezone(),
        terminal=terminal,
        color=terminal and not os.environ.get("NO_COLOR"),
        width=lambda: shutil.get_terminal_size().columns,
    )


def _write(text: str) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()


async def _dev(settings: "Settings", listen: "Address | None", sources: list[Path], view: "DevView") -> int:
    import anyio

    from kastra.app.code_problem import shown
    from kastra.app.development import Development

    stopped = anyio.Event()
    # The project's own controllers are the loop's to load: a broken one must not keep the rest from starting.
    without = replace(settings, controllers=(), serve_controllers="all")
    async with anyio.create_task_group() as tasks:
        opening = anyio.CancelScope()
        tasks.start_soon(stop_at_signal, opening, stopped)
        with opening:
            async with _opened(without, listen) as (parts, lines):
                opening.shield = True
                development = Development(parts, settings, sources)
                title = next((line.split()[1] for line in lines if line.startswith("serving ")), "not served")
                declared = ", ".join(shown(source.resolve()) for source in sources)
                view.header(title, [*lines, f"watching {settings.project}: manifests in {declared}"])
                async with anyio.create_task_group() as work:
                    work.start_soon(_show_outcomes, development, view)
                    work.start_soon(development.run, lambda done: view.round(done, development))
                    await stopped.wait()
                    work.cancel_scope.cancel()
                view.close()
        tasks.cancel_scope.cancel()
    return 0


def _opened(
    settings: "Settings", listen: "Address | None"
) -> "AbstractAsyncContextManager[tuple[Composition, list[str]]]":
    """The running parts, and what there is to say of them."""

    @asynccontextmanager
    async def served(where: "Address") -> "AsyncIterator[tuple[Composition, list[str]]]":
        from kastra.app.serving import serving

        async with serving(settings, where) as server:
            yield (
                server.parts,
                [f"serving {server.url} from {settings.store}; Ctrl-C stops", f"KUBECONFIG={server.kubeconfig}"],
            )

    @asynccontextmanager
    async def alone() -> "AsyncIterator[tuple[Composition, list[str]]]":
        from kastra.app.composition import compose

        async with compose(settings) as parts:
            yield parts, [f"controllers are running on {settings.store}; Ctrl-C stops"]

    return served(listen) if listen is not None else alone()


async def _show_outcomes(development: "Development", view: "DevView") -> None:
    from kastra.runtime.manager import RECONCILE_TOPIC

    while True:
        # Should the terminal be too slow for what happens, what was missed is left out: the next state says it all.
        async with development.kastra.bus.subscribe(RECONCILE_TOPIC) as outcomes:
            async for _, outcome in outcomes:
                view.outcome(outcome, development)
