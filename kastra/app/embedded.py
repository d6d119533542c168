"""The Python API: Kastra inside an application, a notebook, or the command line.

    async with kastra.open("agents.db") as k:
        await k.apply("manifests")
        result = await k.run("workflow/recipe-suggestion", input={"ingredients": ["eggs"]})

One process owns a store at a time; `peek` reads it meanwhile. Everything goes through the same client that controllers use.
Read next: `kastra.app.composition`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from kastra.bus import Bus
from kastra.client.interface import Client
from kastra.clock import Clock
from kastra.config import Settings, load_settings
from kastra.sql.driver import MEMORY

from .composition import Composition, compose
from .operations import Operations
from .validation import KindValidator

if TYPE_CHECKING:
    from kastra.langgraph import KastraSaver

_PAUSE = 1.0
"""Seconds at most that controllers are given after each kind. Nothing depends on their being done."""


class Kastra(Operations):
    """An open store with its controllers and its executor. Made by `kastra.open`.

    Attributes:
        client: reads and writes objects; the Kubernetes API in process.
        settings: that it was opened with.
    """

    def __init__(self, parts: Composition) -> None:
        self._parts = parts
        # Observed by the manager, so that `settle` knows what has been written.
        self.client: Client = parts.manager.observed(parts.client) if parts.manager is not None else parts.client
        self.settings = parts.settings

    @property
    def bus(self) -> Bus:
        """Committed changes, run events and reconcile outcomes."""
        return self._parts.bus

    @property
    def recorded(self) -> "Mapping[Path, int]":
        """How many answers of models this process has written to cassettes, by file."""
        return {} if self._parts.execution is None else self._parts.execution.cassettes.kept()

    def _validators(self) -> Mapping[tuple[str, str], KindValidator]:
        return self._parts.validators

    async def _keep_up(self) -> None:
        """Let controllers look at what was sent: what refers to it finds it Ready and needs looking at once, not twice."""
        if self._parts.manager is not None:
            with anyio.move_on_after(_PAUSE):
                await self._parts.manager.settle(horizon=0)

    async def settle(self, timeout: float | None = None) -> bool:
        """Wait until controllers have nothing left to do; False if that took more than `timeout` seconds."""
        if self._parts.manager is None:
            return True
        with anyio.move_on_after(timeout):
            await self._parts.manager.settle()
            return True
        return False

    async def checkpointer(self, **options: Any) -> "KastraSaver":
        """A LangGraph checkpointer in this store's file, for as long as it is open; needs the extra `langgraph`.

        Args:
            options: `allow`, `key`, `serde` and `durability` of `kastra.langgraph.KastraSaver`.
        """
        from kastra.langgraph import KastraSaver

        return await KastraSaver.on(self._parts.store.writer, str(self.settings.store), **options)

    async def reconciles(self) -> AsyncIterator[Mapping[str, Any]]:
        """The reconcile loop, outcome by outcome, from now on."""
        from kastra.runtime.manager import RECONCILE_TOPIC

        async with self.bus.subscribe(RECONCILE_TOPIC) as outcomes:
            async for _, outcome in outcomes:
                yield outcome


@asynccontextmanager
async def open(  # noqa: A001 - kastra.open reads like the built-in it resembles
    path: str | Path | None = None,
    *,
    settings: Settings | None = None,
    reconcile: bool = True,
    execute: bool = True,
    clock: Clock | None = None,
) -> AsyncIterator[Kastra]:
    """Open a store as its owner, with controllers and executor running.

    Args:
        path: of the store file, made if there is none; `:memory:` for a store that is gone at the end; by default that of
            the settings.
        settings: by default those of the project around the working directory.
        reconcile: run the controllers.
        execute: execute Runs; without, they stay Pending.
        clock: the time; virtual in tests.

    Raises:
        Owned: another process has the store.
    """
    settings = settings or load_settings()
    if path is not None and str(path) != MEMORY:
        settings = replace(settings, data=Path(path).parent)
    async with compose(settings, clock=clock, reconcile=reconcile, execute=execute, path=path) as parts:
        yield Kastra(parts)
