"""From a verb's settings to objects: reading a store beside whoever owns it, owning it, or talking to a server.

Verbs are synchronous commands around an async body. With `--context`, `--kubeconfig` or `--server` both kinds of verbs talk to
that server. Without, `reading` looks into the project's store and never waits for a writer; `owning` sends its requests to the
process that owns the store if that one serves, and else waits until the store is free (saying for whom) and runs the
controllers meanwhile. Ctrl-C and SIGTERM cancel the body and let everything that is open
close in order: exit codes 130 and 143. Everything heavy is imported here only when a store is opened.

Read next: `kastra.app.embedded`, which opens a store, and `kastra.app.clusters`, which finds a server.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kastra.api.meta import DEFAULT_NAMESPACE
from kastra.config import Settings, load_settings

if TYPE_CHECKING:
    import anyio

    from kastra.app import Kastra
    from kastra.app.clusters import Target
    from kastra.app.operations import Operations
    from kastra.app.validation import Validator
    from kastra.client.http import HttpClient
    from kastra.client.interface import Client

T = TypeVar("T")

REMOTE_FLAGS = ("kubeconfig", "context", "server")
"""The command line's options that name a server; all others are settings."""

TERMINATED = 143
"""Exit code after SIGTERM: 128 and the signal's number, as shells count."""

_PATIENCE = 1.0
"""Seconds after which a command says what it is waiting for."""


def settings_of(context: click.Context | None = None) -> Settings:
    """The settings that hold for this invocation. Raises ConfigError."""
    context = context or click.get_current_context()
    flags = {name: value for name, value in context.find_root().params.items() if name not in REMOTE_FLAGS}
    return load_settings(**flags)


def remote_flags(context: click.Context | None = None) -> dict[str, str]:
    """Which of `--kubeconfig`, `--context` and `--server` are given, on the command line or in the environment."""
    context = context or click.get_current_context()
    params = context.find_root().params
    return {name: params[name] for name in REMOTE_FLAGS if params.get(name)}


def target_of(context: click.Context | None = None) -> "Target | None":
    """The server that the flags name; None for the project's store."""
    flags = remote_flags(context)
    if not flags:
        return None
    from kastra.app.clusters import Target

    return Target(**flags)


def default_namespace() -> str:
    """The namespace of the context that the flags name, else `default`. Raises UsageError."""
    context = click.get_current_context(silent=True)
    flags = remote_flags(context) if context is not None and not context.resilient_parsing else {}
    if not flags:
        return DEFAULT_NAMESPACE
    from kastra.app.clusters import Target
    from kastra.client.kubeconfig import KubeconfigError

    try:
        return Target(**flags).cluster().namespace
    except KubeconfigError as error:
        raise click.UsageError(str(error)) from None


def reading(body: "Callable[[Client], Awaitable[T]]", *, schemas: bool = False) -> T:
    """Run `body` with a client that need only read: of the server that the flags name, or of the store, whoever owns it.

    Args:
        schemas: the body uses the schemas of kinds.
    """
    target = target_of()
    if target is not None:
        cluster = target.cluster()

        async def connected(stop: "_Stop") -> T:
            from kastra.app.clusters import client_of

            async with client_of(cluster, schemas=schemas, on_warning=_warn) as client:
                result = await stop.guard(body(client))
            return result()

        return _run(connected)
    settings = settings_of()

    async def opened(stop: "_Stop") -> T:
        from kastra.app import peek

        async with peek(settings) as client:
            result = await stop.guard(body(client))
        return result()

    return _run(opened)


def asking(body: "Callable[[HttpClient], Awaitable[T]]") -> T:
    """Run `body` with a client of the server that the flags name, which knows no kinds yet."""
    target = target_of()
    assert target is not None
    cluster = target.cluster()

    async def connected(stop: "_Stop") -> T:
        from kastra.client.http import HttpClient

        client = HttpClient(cluster)
        try:
            result = await stop.guard(body(client))
        finally:
            client.close()
        return result()

    return _run(connected)


def owning(body: "Callable[[Operations], Awaitable[T]]", *, execute: bool = False) -> T:
    """Run `body` where it may write: on the server that the flags name, through the process that owns the store and serves
    it, or as the owner, with the controllers running.

    Args:
        execute: an owner also executes Runs, which may cost money. A server does so in any case.

    Raises:
        Owned: another process keeps the store and doesn't serve it; the message names it.
    """
    from kastra.app.clusters import serving_owner

    settings, target = settings_of(), target_of()
    cluster = target.cluster() if target is not None else serving_owner(settings.store)
    if cluster is not None:

        async def connected(stop: "_Stop") -> T:
            from kastra.app.remote import connect

            async with connect(cluster=cluster, settings=settings, on_warning=_warn) as remote:
                result = await stop.guard(body(remote))
            return result()

        return _run(connected)
    return owning_here(body, execute=execute)


def owning_here(body: "Callable[[Kastra], Awaitable[T]]", *, execute: bool = False) -> T:
    """Run `body` as the owner of the project's store, with the controllers running; as `owning`, but never elsewhere."""
    settings = settings_of()

    async def opened(stop: "_Stop") -> T:
        from kastra.app import open as open_kastra
        from kastra.sql.owner import holder_of
        from kastra.telemetry import configure_logging

        configure_logging(settings.log_level, json=False)

        def waiting() -> str:
            holder = holder_of(settings.store)
            if holder is None or holder.pid == os.getpid():
                return ""
            return f"waiting for {settings.store}, in use by {holder.command} (pid {holder.pid})"

        with announced(waiting) as opening:
            async with open_kastra(settings=settings, execute=execute) as kastra:
                opening.cancel()
                result = await stop.guard(body(kastra))
        return result()

    return _run(opened)


def validator_for(client: "Client", settings: Settings) -> "Validator":
    """What checks manifests without owning a store: the client's kinds, and what controllers' modules say of theirs.

    Raises:
        DiscoveryError: a controller's module doesn't load.
    """
    from kastra.app.composition import discover_controllers
    from kastra.app.validation import Validator

    return Validator(client.scheme, discover_controllers(settings).validators)


@contextmanager
def announced(text: str | Callable[[], str]) -> "Iterator[_Announcement]":
    """Say on standard error what is being waited for, if that takes more than a second."""
    announcement = _Announcement(text)
    try:
        yield announcement
    finally:
        announcement.cancel()


def _warn(text: str) -> None:
    say(f"Warning: {text}")


def say(text: str) -> None:
    """A line for the person at the terminal, on standard error."""
    click.echo(text, err=True)


class _Announcement:
    """A line that is printed unless cancelled within `_PATIENCE`."""

    def __init__(self, text: str | Callable[[], str]) -> None:
        import asyncio

        self._text = text
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._print)

    def cancel(self) -> None:
        """What was waited for has come."""
        self._timer.cancel()

    def _print(self) -> None:
        text = self._text if isinstance(self._text, str) else self._text()
        if text:
            say(text)


class _Stop:
    """Turns signals into the cancellation of the body, so that what surrounds it can close."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._scope: anyio.CancelScope | None = None
        self.received: signal.Signals | None = None

    def listen(self) -> None:
        """Take over the signals; a second one of a kind acts as if there were nobody listening."""
        for number in (signal.SIGINT, signal.SIGTERM):
            # There are no signals in threads other than the main one, nor everywhere on Windows.
            with suppress(NotImplementedError, ValueError, RuntimeError):
                self._loop.add_signal_handler(number, self._receive, number)

    def close(self) -> None:
        """Give the signals back."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, ValueError, RuntimeError):
                self._loop.remove_signal_handler(number)

    async def guard(self, body: Awaitable[T]) -> Callable[[], T]:
        """Run the body; it alone is cancelled by a signal.

        Returns:
            A function that gives the body's result or raises what it raised, to be called when everything is closed: on
            its way out through task groups an error would be wrapped in groups of errors.
        """
        import anyio

        try:
            with anyio.CancelScope() as self._scope:
                value = await body
                return lambda: value
        except Exception as error:  # noqa: BLE001 - raised by the caller, see above
            return _raising(error)
        return _raising(self.ending())

    def ending(self) -> BaseException:
        """What ends the command the way the signal says."""
        return click.exceptions.Exit(TERMINATED) if self.received is signal.SIGTERM else KeyboardInterrupt()

    def _receive(self, number: signal.Signals) -> None:
        self.received = number
        self._loop.remove_signal_handler(number)
        if self._scope is not None:
            self._scope.cancel()
        elif self._task is not None:
            self._task.cancel()


def _raising(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> Any:
        raise error

    return raise_it


def _run(opened: Callable[[_Stop], Coroutine[Any, Any, T]]) -> T:
    import anyio

    stop: _Stop | None = None

    async def main() -> T:
        nonlocal stop
        stop = _Stop()
        stop.listen()
        try:
            return await opened(stop)
        finally:
            stop.close()

    try:
        return anyio.run(main, backend="asyncio")
    except BaseException as error:
        # While the store was being opened the whole task was cancelled: nothing is open, and nothing but the signal to tell.
        if stop is not None and stop.received is not None and type(error).__name__ == "CancelledError":
            raise stop.ending() from None
        raise
