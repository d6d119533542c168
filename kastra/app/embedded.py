"""The Python API: Kastra inside an application, a notebook, or the command line.

    async with kastra.open("agents.db") as k:
        await k.apply("manifests")
        result = await k.run("workflow/recipe-suggestion", input={"ingredients": ["eggs"]})

One process owns a store at a time; `peek` reads it meanwhile. Everything goes through the same client that controllers use.
Read next: `kastra.app.composition`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from kastra.api.meta import DEFAULT_NAMESPACE
from kastra.bus import Bus
from kastra.client.interface import Client, Watch
from kastra.clock import Clock
from kastra.config import Settings, load_settings
from kastra.manifest.loader import Loaded, load
from kastra.sql.driver import MEMORY

from .applying import ApplyOptions, ApplyReport
from .applying import apply as apply_manifests
from .applyset import ApplySet
from .composition import Composition, compose
from .running import EventListener, RunFailed, RunResult, create_run, follow_run
from .validation import Validator

_PAUSE = 1.0
"""Seconds at most that controllers are given after each kind. Nothing depends on their being done."""


class Kastra:
    """An open store with its controllers and its executor. Made by `kastra.open`.

    Attributes:
        client: reads and writes objects; the Kubernetes API in process.
        settings: that it was opened with.
    """

    def __init__(self, parts: Composition) -> None:
        self._parts = parts
        # Through the manager's client, so that `settle` knows what has been written.
        self.client: Client = parts.manager.client if parts.manager is not None else parts.client
        self.settings = parts.settings

    @property
    def bus(self) -> Bus:
        """Committed changes, run events and reconcile outcomes."""
        return self._parts.bus

    def validator(self) -> Validator:
        """Checks manifests against this store's kinds."""
        return Validator(self.client.scheme, self._parts.validators)

    async def apply(
        self,
        *sources: str | Path | Loaded,
        prune: str | None = None,
        options: ApplyOptions | None = None,
        **fields: Any,
    ) -> ApplyReport:
        """Make manifests the desired state.

        Args:
            sources: files, folders, globs, or what `kastra.manifest.loader.load` returned.
            prune: name of the apply-set whose members that are no longer named are deleted; None to delete nothing.
            options: how; `fields` replace single ones (`namespace="x"`, `dry_run="server"`, `run=True`).

        Returns:
            What became of each object, and all problems with their places. Look at `report.ok`.
        """
        options = replace(options or ApplyOptions(), **fields)
        loaded = Loaded()
        for source in sources:
            # Reading megabytes of YAML takes seconds; what else goes on in this process goes on meanwhile.
            part = source if isinstance(source, Loaded) else await anyio.to_thread.run_sync(load, [source])
            loaded.manifests += part.manifests
            loaded.problems += part.problems
            loaded.files += part.files
        if prune is None:
            return await apply_manifests(self.client, loaded, self.validator(), options, self._keep_up)
        members = ApplySet(self.client, prune, options.namespace)
        options = replace(options, labels={**options.labels, **members.labels})
        changes = options.dry_run == "none"
        if changes and not loaded.errors:
            await members.begin(manifest.ref for manifest in loaded.manifests)
        report = await apply_manifests(self.client, loaded, self.validator(), options, self._keep_up)
        if report.ok and options.dry_run != "client":
            report.applied += await members.finish(report.applied, dry_run=not changes)
        return report

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

    async def run(
        self,
        target: str,
        input: Any = None,  # noqa: A002 - the word users expect
        *,
        namespace: str = DEFAULT_NAMESPACE,
        name: str = "",
        spec: Mapping[str, Any] | None = None,
        on_event: EventListener | None = None,
    ) -> RunResult:
        """Run a target to its end.

        Args:
            target: `KIND/NAME`, such as `workflow/recipe-suggestion` or `agent/helper`.
            input: JSON-like.
            name: of the Run; generated by default.
            spec: further fields of the Run (`timeout`, `durability`, ...).
            on_event: called with each event of the Run, such as `{"type": "step.completed", "key": "find", ...}`.

        Raises:
            RunFailed: it didn't succeed; the exception carries the result.
            NotFound: there is no such target.
        """
        run = await create_run(self.client, target, input, namespace=namespace, name=name, spec=spec)
        result = await follow_run(self.client, run, on_event)
        if result.phase != "Succeeded":
            raise RunFailed(result)
        return result

    def watch(self, kind: str, namespace: str | None = None, **selectors: Any) -> AbstractAsyncContextManager[Watch]:
        """Changes of a kind: `async with k.watch("agents") as events: async for event in events: ...`."""
        return self.client.watch(kind, namespace, **selectors)

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
