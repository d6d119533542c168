"""A control plane for one test: the real API server, controllers and executor over a store in memory, in virtual time.

    async with ControlPlane() as env:
        await env.apply("manifests")
        await env.settle()
        agent = await env.get("Agent", "helper")

Nothing is faked but time: what a test applies passes the same schemas, admission and controllers as in production, those
of the project's own `controllers/` folder included. The clock stands still except in `settle` (up to retries that are due),
`advance` and `run`, so the result never depends on the speed of the machine.

Read next: `kastra.app.composition`, which is opened here.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio

from kastra.api.meta import DEFAULT_NAMESPACE, ObjectRef
from kastra.api.object import Object
from kastra.app.applying import ApplyReport
from kastra.app.composition import Composition, compose
from kastra.app.embedded import Kastra
from kastra.app.running import RunFailed, RunResult, create_run, follow_run, has_ended
from kastra.client.interface import Client
from kastra.config import Settings, load_settings
from kastra.manifest.loader import Loaded, load
from kastra.manifest.problem import render
from kastra.runtime.manager import Manager
from kastra.runtime.view import View
from kastra.sql.driver import MEMORY

from .clock import VirtualClock
from .doubles import TestDoubles
from .faults import Faults, FaultyClient
from .rehearsal import Delivery, Outcome, Rehearsal
from .stillness import Stillness

V = TypeVar("V", bound=View)
_TICK = 0.02


class ApplyFailed(AssertionError):
    """Manifests were refused; the message shows each problem with its place."""


class ControlPlane:
    """Everything that `kastra.open` starts, for one test. An async context manager.

    Args:
        project: the folder with the project's settings, controllers and tools; relative paths given to `apply` start there.
            By default the project around the working directory.
        settings: instead of the project's own.
        execute: execute Runs; without, they stay Pending.
        strict: refuse to call tools and models that would reach out of the process.

    Attributes:
        clock: the time; starts on 1 January 2026.
        doubles: answers for tools and scripts for models.
        faults: makes calls of controllers fail.
    """

    def __init__(
        self,
        project: str | Path | None = None,
        *,
        settings: Settings | None = None,
        execute: bool = True,
        strict: bool = False,
    ) -> None:
        self.settings = settings or load_settings(Path(project) if project is not None else None)
        self.clock = VirtualClock()
        self.faults = Faults()
        self.doubles = TestDoubles(self.clock, strict=strict)
        self._execute = execute
        self._stack = AsyncExitStack()
        self._parts: Composition | None = None

    async def __aenter__(self) -> Self:
        plane = compose(
            self.settings,
            clock=self.clock.background(),
            run_clock=self.clock.steady(),
            execute=self._execute,
            path=MEMORY,
            intercept=lambda client: FaultyClient(client, self.faults),
            doubles=self.doubles,
        )
        self._parts = await self._stack.enter_async_context(plane)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    @property
    def client(self) -> Client:
        """The Kubernetes API of this control plane. What is written with it is waited for by `settle`, and never fails."""
        return self._kastra().client

    @property
    def manager(self) -> Manager:
        """The controllers. Raises RuntimeError outside of `async with`."""
        manager = self._parts.manager if self._parts is not None else None
        if manager is None:
            raise RuntimeError("the control plane isn't running; use it as `async with ControlPlane() as env:`")
        return manager

    # ---- objects

    async def apply(self, *sources: str | Path | Mapping[str, Any], namespace: str = DEFAULT_NAMESPACE) -> ApplyReport:
        """Make manifests the desired state, as `kastra apply` does: all of them or, if one is invalid, none.

        Args:
            sources: files, folders and globs; YAML text (anything with a line break); or objects.
            namespace: for manifests that name none.

        Raises:
            ApplyFailed: something was refused.
        """
        loaded = load([self._path(source) for source in sources if _is_path(source)])
        for source in sources:
            if not _is_path(source):
                _add(loaded, load(["-"], stdin=BytesIO(_text(source).encode())))
        report = await self._kastra().apply(loaded, namespace=namespace)
        if not report.ok:
            raise ApplyFailed("\n".join(render(problem) for problem in report.problems))
        return report

    @overload
    async def get(self, kind: type[V], name: str, namespace: str = ...) -> V: ...

    @overload
    async def get(self, kind: str, name: str, namespace: str = ...) -> Object: ...

    async def get(self, kind: type[V] | str, name: str, namespace: str = DEFAULT_NAMESPACE) -> V | Object:
        """One object as it is stored now: read by a view if `kind` is one, else raw. Raises NotFound."""
        if isinstance(kind, str):
            return await self.client.get(ObjectRef(kind, name, self._namespace_for(kind, namespace)))
        full = f"{kind.api_kind}.{kind.api_group}"
        return kind.of(await self.client.get(ObjectRef(full, name, self._namespace_for(full, namespace))))

    async def owned_by(self, owner: View | Object) -> list[Object]:
        """The objects with an ownerReference to `owner`, of all kinds, by kind, namespace and name."""
        uid = owner.metadata.uid if isinstance(owner, View) else owner.uid
        found: dict[str, Object] = {}
        for resource in self.client.scheme:
            for obj in (await self.client.list(resource.group_resource)).items:
                if any(reference.get("uid") == uid for reference in obj.owner_references):
                    found[obj.uid] = obj
        return sorted(found.values(), key=lambda obj: (obj.kind, obj.namespace, obj.name))

    # ---- time

    async def settle(self, *, horizon: float = 1.0, timeout: float = 10.0) -> None:
        """Return when nothing is left to reconcile. Retries after a failure that are due within `horizon` seconds are waited
        for by letting that time pass; objects that ask to be looked at again later are not.

        Args:
            horizon: virtual seconds.
            timeout: real seconds after which to give up; a reconcile that waits for virtual time needs `advance` instead.

        Raises:
            TimeoutError: it did not settle; the message says what is still going on.
        """
        with anyio.move_on_after(timeout):
            while True:
                await self.manager.settle(horizon=0.0)
                due = self.manager.next_retry()
                if due is None or due > horizon:
                    return
                await self.clock.advance(due)
        raise TimeoutError(f"not settled after {timeout:g} s: {'; '.join(self.manager.unsettled())}")

    async def advance(self, seconds: float) -> None:
        """Let time pass, then settle. Time stands still while anything is at work: whoever is due on the way is woken at its
        moment and comes to rest before time goes on. What is still at work after a second of real time is taken to wait for
        time itself. Raises ValueError if `seconds` is negative.
        """
        self._kastra()
        assert self._parts is not None
        await Stillness(self._parts, self.clock, self.doubles).pass_time(seconds)
        await self.settle()

    # ---- Runs

    async def run(self, target: str, input: Any = None, *, namespace: str = DEFAULT_NAMESPACE) -> RunResult:  # noqa: A002 - the word users expect
        """Run a target (`workflow/x`, `agent/x`) to its end.

        Raises:
            RunFailed: it didn't succeed; the exception carries the result.
            NotFound: there is no such target.
            RuntimeError: nothing is executed here.
        """
        self._must_execute()
        result = await self.result(await self.start(target, input, namespace=namespace))
        if result.phase != "Succeeded":
            raise RunFailed(result)
        return result

    async def rehearse(
        self,
        target: str,
        input: Any = None,  # noqa: A002 - as above
        *,
        namespace: str = DEFAULT_NAMESPACE,
        deliver: Iterable[Delivery] = (),
        crash_after: Iterable[str] = (),
        **spec: Any,
    ) -> Outcome:
        """Run a target in virtual time, to its end or to where nothing would happen any more.

        Args:
            deliver: what comes from outside, each at its moment.
            crash_after: stepKeys after whose completion the process crashes, and recovers.
            spec: further fields of the Run (`timeout="1h"`).

        Raises:
            NotFound: there is no such target.
            Undelivered: something from outside was refused.
            RuntimeError: nothing is executed here.
        """
        self._must_execute()
        assert self._parts is not None
        rehearsal = Rehearsal(self._parts, self.clock, self.doubles)
        return await rehearsal.run(
            target, input, namespace=namespace, spec=spec, deliver=deliver, crash_after=crash_after
        )

    async def start(self, target: str, input: Any = None, *, namespace: str = DEFAULT_NAMESPACE) -> Object:  # noqa: A002 - as above
        """Create the Run of a target and return it; it executes meanwhile. For Runs that sleep: `advance` wakes them."""
        return await create_run(self.client, target, input, namespace=namespace)

    async def result(self, run: Object) -> RunResult:
        """How a Run ends. Time passes at its real pace until then, because tools work in real time.

        Raises:
            NotFound: the Run was deleted.
            RuntimeError: it has not ended, and nothing is executed here.
        """
        if not has_ended(await self.client.get(run.ref)):
            self._must_execute()
        ended: RunResult | Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass_time)
            try:
                ended = await follow_run(self.client, run)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the task group, which would wrap it
                ended = error
            tasks.cancel_scope.cancel()
        if isinstance(ended, Exception):
            raise ended
        assert ended is not None
        return ended

    async def _pass_time(self) -> None:
        while True:
            await anyio.sleep(_TICK)
            await self.clock.advance(_TICK)

    def _must_execute(self) -> None:
        self._kastra()
        if not self._execute:
            raise RuntimeError(
                "ControlPlane(execute=False) leaves Runs Pending, so this one would be waited for in vain; leave execute=False "
                "out, or look at the Run with get()"
            )

    def _kastra(self) -> Kastra:
        if self._parts is None:
            raise RuntimeError("the control plane isn't running; use it as `async with ControlPlane() as env:`")
        return Kastra(self._parts)

    def _namespace_for(self, kind: str, namespace: str) -> str:
        return namespace if self.client.scheme.find(kind).namespaced else ""

    def _path(self, source: Any) -> str:
        return str(self.settings.project / str(source))


def _is_path(source: str | Path | Mapping[str, Any]) -> bool:
    return isinstance(source, Path) or (isinstance(source, str) and "\n" not in source)


def _text(source: Any) -> str:
    return source if isinstance(source, str) else json.dumps(source)


def _add(loaded: Loaded, more: Loaded) -> None:
    loaded.manifests += more.manifests
    loaded.problems += more.problems
    loaded.files += more.files
