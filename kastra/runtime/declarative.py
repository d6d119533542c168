"""A controller as a function: `@controller(View, owns=[...])` on `async def reconcile(view, ctx) -> Result`.

The decorator only describes: it returns a `ControllerSpec`, which does nothing until discovery hands it to a manager. The
runtime then reads the object into its view, calls the function, prunes children and writes the status; it adds the
finalizer before the first call if there is one to run, and calls that until it succeeds or its time is up.

    @controller(AgentView, owns=["Tool"], watches=["Model"])
    async def reconcile(agent: AgentView, ctx: Context) -> Result: ...

    @reconcile.finalizer(timeout=30)
    async def close(agent: AgentView, ctx: Context) -> None: ...

    @reconcile.timer(every=60)
    async def probe(agent: AgentView, ctx: Context) -> None: ...

    @reconcile.poll(every=30)
    async def changed_outside(client: Client) -> list[Request]: ...

Functions are given what their parameters ask for (`kastra.runtime.injection`). A class with a method `reconcile`, and perhaps
`finalize`, can stand for the function; it is made once, when the controller is added.

Source: kopf's handlers over controller-runtime's reconcilers. Read next: `kastra.runtime.context`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio

from kastra.api.errors import Conflict, NotFound
from kastra.api.object import Object
from kastra.client.interface import WriteOptions
from kastra.clock import Clock

from .context import Applied, Context, Host
from .controller import MapFunction
from .injection import bind, provide
from .predicates import Predicate, changed_besides_status
from .reconcile import Request, Result, Retry, TerminalError
from .views import TypedView

__all__ = ["Context", "ControllerSpec", "DeclarativeReconciler", "controller"]

V = TypeVar("V", bound=TypedView)
Reconcile = Callable[..., Awaitable[Result | None]]
Finalize = Callable[..., Awaitable[None]]
Poll = Callable[..., Awaitable[Iterable[Request]]]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Timed:
    """A function that is called every so many seconds."""

    every: float
    function: Callable[..., Awaitable[Any]]

    def __post_init__(self) -> None:
        if self.every <= 0:
            raise ValueError(f"{self.function.__qualname__}: every must be more than 0 seconds")


@dataclass(slots=True)
class ControllerSpec(Generic[V]):
    """A controller, described. `Manager.add` brings it to life.

    Args:
        view: reads the objects; names the kind.
        reconcile: called for each pass; or a class with a method of that name.
        name: of the controller; the kind in lower case unless given.
        owns: kinds of children that `ctx.apply` accepts; a change of a child leads to a pass over its owner.
        watches: kinds whose changes matter too: either those that the view's `references()` lead to, by name, or kinds with
            a function from the changed object to requests.
        sources: bus topics with a function from an event to requests.
        predicate: which changes of the kind itself lead to a pass; by default all but those of the status.
        concurrency: objects in work at the same time.
        deadline: seconds that a pass may take.
        finalize: called before an object goes away.
        finalize_timeout: seconds after which the object goes away even though `finalize` has not succeeded.
        timers: called for each object, at the end of a pass, when so much time has gone by; they bring about a pass.
        polls: ask somebody outside which objects to look at.
        retries: by type of exception, how to try again; others by the usual backoff.
        every_replica: work even where another process leads.
    """

    view: type[V]
    reconcile: "Reconcile | type[Any]"
    name: str
    owns: Sequence[str] = ()
    watches: Sequence[str] | Mapping[str, MapFunction] = ()
    sources: Mapping[str, Callable[[Any], Iterable[Request]]] = field(default_factory=dict)
    predicate: Predicate = changed_besides_status
    concurrency: int = 4
    deadline: float = 30.0
    finalize: Finalize | None = None
    finalize_timeout: float = 30.0
    timers: list[Timed] = field(default_factory=list)
    polls: list[Timed] = field(default_factory=list)
    retries: Mapping[type[Exception], Retry] = field(default_factory=dict)
    every_replica: bool = False

    def __post_init__(self) -> None:
        if self.finalize is None and isinstance(self.reconcile, type):
            self.finalize = getattr(self.reconcile, "finalize", None)

    @property
    def kind(self) -> str:
        """The kind with its group: `Agent.mastra.ai`."""
        return f"{self.view.api_kind}.{self.view.api_group}"

    @property
    def finalizer_name(self) -> str:
        """What stands in metadata.finalizers: `mastra.ai/agent-finalizer`."""
        return f"{self.view.api_group}/{self.name}-finalizer"

    def finalizer(self, *, timeout: float = 30.0) -> Callable[[F], F]:
        """Decorate `async def close(view, ctx)`: it runs when deletion was asked for, and again with backoff if it fails.

        Args:
            timeout: seconds after its first attempt in this process at which the object is let go, with a Warning Event.
        """

        def register(function: F) -> F:
            self.finalize, self.finalize_timeout = function, timeout
            return function

        return register

    def timer(self, *, every: float) -> Callable[[F], F]:
        """Decorate `async def probe(view, ctx)`: it runs for each object every so many seconds, in a pass of its own or at the
        end of another, and may set the status as the main function does.
        """

        def register(function: F) -> F:
            self.timers.append(Timed(every, function))
            return function

        return register

    def poll(self, *, every: float) -> Callable[[F], F]:
        """Decorate `async def changed(client) -> Iterable[Request]`: it runs every so many seconds, once for all objects, and
        says which of them to look at. For what can't be watched: a database, somebody's API.
        """

        def register(function: F) -> F:
            self.polls.append(Timed(every, function))
            return function

        return register


def controller(
    view: type[V],
    *,
    owns: Sequence[str] = (),
    watches: Sequence[str] | Mapping[str, MapFunction] = (),
    sources: Mapping[str, Callable[[Any], Iterable[Request]]] | None = None,
    predicate: Predicate = changed_besides_status,
    name: str = "",
    concurrency: int = 4,
    deadline: float = 30.0,
    retries: Mapping[type[Exception], Retry] | None = None,
    every_replica: bool = False,
) -> Callable[[Reconcile | type[Any]], ControllerSpec[V]]:
    """Describe a controller by the function that makes one pass over one object, or by a class with such a method
    `reconcile`. See `ControllerSpec` for the arguments.
    """

    def describe(function: Reconcile | type[Any]) -> ControllerSpec[V]:
        return ControllerSpec(
            view=view,
            reconcile=function,
            name=name or view.api_kind.lower(),
            owns=tuple(owns),
            watches=watches,
            sources=dict(sources or {}),
            predicate=predicate,
            concurrency=concurrency,
            deadline=deadline,
            retries=dict(retries or {}),
            every_replica=every_replica,
        )

    return describe


class DeclarativeReconciler(Generic[V]):
    """Makes the passes of a ControllerSpec.

    Args:
        spec: what to do.
        host: the manager.
    """

    def __init__(self, spec: ControllerSpec[V], host: Host) -> None:
        self._spec = spec
        self._host = host
        self._lister = host.cache.lister(spec.kind)
        self._reconcile, self._finalizer = self._functions()
        self._timers = [
            (timed.every, bind(timed.function, host, name=spec.name, view=spec.view)) for timed in spec.timers
        ]
        self._timed: dict[str, list[float]] = {}
        self._manager_name = f"kastra-{spec.name}"
        self._applied: dict[Request, tuple[str, Applied]] = {}
        self._passes: dict[Request, Context] = {}
        self._finalizing: dict[str, float] = {}

    def _functions(self) -> tuple[Callable[[V, Context], Awaitable[Result | None]], Finalize | None]:
        spec, host = self._spec, self._host
        reconcile, finalize = spec.reconcile, spec.finalize
        if isinstance(reconcile, type):
            made = provide(reconcile, host, name=spec.name)()
            reconcile = made.reconcile
            if finalize is getattr(type(made), "finalize", None) and finalize is not None:
                finalize = made.finalize
        bound = None if finalize is None else bind(finalize, host, name=spec.name, view=spec.view)
        return bind(reconcile, host, name=spec.name, view=spec.view), bound

    async def reconcile(self, request: Request) -> Result:
        """One pass."""
        obj = self._lister.get(request.namespace, request.name)
        if obj is None:
            self._applied.pop(request, None)
            self._forget_timers(request)
            return Result()
        if obj.deleting:
            return await self._finalize(obj, request)
        if self._finalizer is not None and self._spec.finalizer_name not in obj.finalizers:
            obj = await self._set_finalizers(obj, [*obj.finalizers, self._spec.finalizer_name])
        ctx = self._passes[request] = self._context(obj, request)
        try:
            view = self._spec.view.of(obj)
        except ValueError as error:
            await self._reject(ctx, error)
        else:
            result = await self._reconcile(view, ctx) or Result()
            if self._timers:
                result = await self._run_timers(view, ctx, result)
            await ctx.finish()
            del self._passes[request]
            return result
        del self._passes[request]
        return Result()

    async def _run_timers(self, view: V, ctx: Context, result: Result) -> Result:
        """Call the timers that are due; the pass is to come again when the next one is."""
        now = self._host.clock.monotonic()
        # By uid, so that an object that was made anew starts anew.
        last = self._timed.setdefault(ctx.object.uid, [float("-inf")] * len(self._timers))
        for index, (every, function) in enumerate(self._timers):
            if now - last[index] >= every:
                await function(view, ctx)
                last[index] = now
        due = min(every - (now - last[index]) for index, (every, _) in enumerate(self._timers))
        asked = result.requeue_after
        return Result(due if asked is None else min(asked, due))

    def _forget_timers(self, request: Request) -> None:
        if self._timed:
            present = {obj.uid for obj in self._lister.list()}
            self._timed = {uid: last for uid, last in self._timed.items() if uid in present}

    async def report_failure(self, request: Request, reason: str, message: str) -> None:
        """A pass over the object failed or ran out of time: say so in its Ready condition, with what the pass had set."""
        ctx = self._passes.pop(request, None)
        if ctx is not None:
            ctx.condition("Ready", False, reason, message)
            await ctx.write_status()

    async def _reject(self, ctx: Context, error: ValueError) -> None:
        # Admission refuses such objects; this one is older than the rule, or came by another way.
        message = "; ".join(explain(error))
        ctx.condition("Accepted", False, "InvalidSpec", message)
        ctx.condition("Ready", False, "InvalidSpec", message)
        await ctx.write_status()

    async def _finalize(self, obj: Object, request: Request) -> Result:
        spec = self._spec
        if spec.finalizer_name not in obj.finalizers:
            return Result()
        if self._finalizer is not None:
            started = self._finalizing.setdefault(obj.uid, self._host.clock.monotonic())
            left = started + spec.finalize_timeout - self._host.clock.monotonic()
            problem = await self._try_finalize(self._finalizer, obj, request, left)
            if problem is not None:
                self._host.recorder.event(
                    obj,
                    "Warning",
                    "FinalizerTimeout",
                    f"clean-up did not succeed within {spec.finalize_timeout:g} s and was given up: {problem}",
                )
        await self._set_finalizers(obj, [name for name in obj.finalizers if name != spec.finalizer_name])
        self._finalizing.pop(obj.uid, None)
        self._applied.pop(request, None)
        return Result()

    async def _try_finalize(self, function: Finalize, obj: Object, request: Request, left: float) -> str | None:
        """Run the clean-up for at most `left` seconds. Returns why it is to be given up; None when it succeeded.

        Raises:
            Exception: it failed and there is time for another attempt.
        """
        try:
            view = self._spec.view.of(obj)
            done = await within(self._host.clock, left, lambda: function(view, self._context(obj, request)))
        except TerminalError as error:
            return str(error)
        except Exception as error:
            if self._host.clock.monotonic() < self._finalizing[obj.uid] + self._spec.finalize_timeout:
                raise
            return f"{type(error).__name__}: {error}"
        return None if done else "it was still running"

    async def _set_finalizers(self, obj: Object, finalizers: Sequence[str]) -> Object:
        body = {"metadata": {"resourceVersion": obj.resource_version, "finalizers": list(finalizers)}}
        try:
            return await self._host.client.patch(obj.ref, body, options=WriteOptions(field_manager=self._manager_name))
        except NotFound as error:
            # Gone since the cache was read; the deletion will come by and find nothing to do.
            raise Conflict(f"{obj.kind} {obj.name} is gone") from error

    def _context(self, obj: Object, request: Request) -> Context:
        uid, applied = self._applied.get(request, ("", {}))
        if uid != obj.uid:
            applied = {}
            if self._spec.owns:
                self._applied[request] = (obj.uid, applied)
        owned = [self._host.cache.key(kind) for kind in self._spec.owns]
        return Context(self._host, obj, self._manager_name, owned, applied)


async def within(clock: Clock, seconds: float, function: Callable[[], Awaitable[None]]) -> bool:
    """Await `function()` for at most `seconds` of `clock`; False if it had to be cancelled."""
    finished = False
    failure: Exception | None = None

    async def expire(scope: anyio.CancelScope) -> None:
        await clock.sleep(seconds)
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(expire, scope)
            try:
                await function()
                finished = True
            except Exception as error:  # noqa: BLE001 - carried out of the task group, which would wrap it
                failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return finished


def explain(error: ValueError) -> list[str]:
    """What is wrong with an object that its view refused, a sentence per field, without its values."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return [str(error)]
    from .view_errors import causes

    return [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes(error)]
