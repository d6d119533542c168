"""From a verb's settings to an open store: reading beside whoever owns it, or owning it.

Verbs are synchronous commands around an async body. `reading` never waits for a writer; `owning` waits until the store is
free (saying for whom) and runs the controllers meanwhile. Ctrl-C and SIGTERM cancel the body and let everything that is open
close in order: exit codes 130 and 143. Everything heavy is imported here only when a store is opened.

Read next: `kastra.app.embedded`, which opens it.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kastra.config import Settings, load_settings

if TYPE_CHECKING:
    import anyio

    from kastra.app import Kastra
    from kastra.app.validation import Validator
    from kastra.client.interface import Client

T = TypeVar("T")

TERMINATED = 143
"""Exit code after SIGTERM: 128 and the signal's number, as shells count."""

_PATIENCE = 1.0
"""Seconds after which a command says what it is waiting for."""


def settings_of(context: click.Context | None = None) -> Settings:
    """The settings that hold for this invocation. Raises ConfigError."""
    context = context or click.get_current_context()
    return load_settings(**context.find_root().params)


def reading(body: "Callable[[Client], Awaitable[T]]") -> T:
    """Run `body` with a client that only reads, whoever owns the store."""
    settings = settings_of()

    async def opened(stop: "_Stop") -> T:
        from kastra.app import peek

        async with peek(settings) as client:
            result = await stop.guard(body(client))
        return result()

    return _run(opened)


def owning(body: "Callable[[Kastra], Awaitable[T]]", *, execute: bool = False) -> T:
    """Run `body` as the owner of the store, with the controllers running.

    Args:
        execute: also execute Runs, which may cost money.

    Raises:
        Owned: another process keeps the store; the message names it.
    """
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
