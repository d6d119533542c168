"""How do changes become reconciles? Sources map them to requests, the queue orders these, workers call the reconciler.

    informer / bus -> predicate -> map to Requests -> Workqueue -> worker -> Reconciler.reconcile -> Result | exception

A worker survives whatever a reconciler raises: the failure is counted, logged, recorded as an Event on the object and
retried with backoff; a TerminalError is not retried; a Conflict is retried quietly, since it only means that the cache was
a moment behind, and so is the refusal to create in a Namespace that is being deleted. A reconcile that outlasts its
deadline is cancelled and counts as failed. Nothing here knows what a reconciler does, or executes a Run.

Source: controller-runtime's pkg/controller. Read next: `kastra.runtime.declarative`, or `controllers/` for users of it.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from kastra.api.errors import NAMESPACE_TERMINATING, Conflict, StatusError, has_cause
from kastra.api.object import Object
from kastra.bus import Bus, Subscription
from kastra.clock import Clock
from kastra.telemetry import Metrics, redact_text

from .cache import Cache
from .deadlines import Deadlines
from .haste import Haste
from .informer import Handler, Informer, State
from .predicates import Predicate, always, changed_besides_status
from .reconcile import Reconciler, Request, Result, Retry, TerminalError
from .recorder import Recorder
from .turns import Turns
from .workqueue import ShutDown, Workqueue

logger = logging.getLogger(__name__)

MapFunction = Callable[[Object], Iterable[Request]]
"""From an object of a watched kind to the objects that should be looked at because of it."""
EventMap = Callable[[Any], Iterable[Request]]
"""The same for an event of the bus."""
Poll = Callable[[], Awaitable[Iterable[Request]]]
"""Which objects should be looked at, found out by asking somebody."""

NOTHING_MORE = Result()

_GAUGES = {
    "kastra_workqueue_depth": "Requests that wait.",
    "kastra_workqueue_in_work": "Requests being reconciled.",
    "kastra_workqueue_adds": "Requests accepted so far.",
    "kastra_workqueue_retries": "Requests retried with backoff so far.",
}
_OWN_DOING = ("changed", "")
"""Triggers of passes that a controller can bring about itself: a change of the object, and being called again."""
_CHANGES = {(True, False): "added", (False, False): "changed", (False, True): "deleted"}


@runtime_checkable
class ReportsFailure(Protocol):
    """A reconciler that can show a failure on the object."""

    async def report_failure(self, request: Request, reason: str, message: str) -> None:
        """A reconcile of `request` failed (ReconcileError, TerminalError) or was cancelled (Timeout)."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a controller is given by its manager.

    Args:
        publish: receives the outcome of each reconcile.
        queue: makes a work queue.
        progressed: called when a bus source has caught up.
        turns: shared with all other controllers of the process.
    """

    cache: Cache
    clock: Clock
    bus: Bus
    recorder: Recorder
    metrics: Metrics
    publish: Callable[[Mapping[str, Any]], None]
    queue: Callable[[], Workqueue[Request]]
    progressed: Callable[[], None]
    turns: Turns


@dataclass(slots=True)
class _Source:
    topic: str
    map_function: EventMap
    subscription: Subscription | None = None


@dataclass(slots=True)
class _Pass:
    """One look at an object, and what came of it."""

    request: Request
    trigger: str = ""
    started: float = 0.0
    result: Result = NOTHING_MORE
    error: Exception | None = None


class Controller:
    """The reconciles of one kind. Made by `Manager.controller`; the methods that return the controller can be chained.

    Args:
        name: unique in its manager; appears in metrics, Events and outcomes.
        kind: whose objects are reconciled.
        reconciler: does it.
        services: from the manager.
        concurrency: how many objects are worked on at the same time; never the same one twice.
        deadline: seconds after which a reconcile is cancelled.
        predicate: which changes of the kind itself matter.
        retries: by type of exception, how to try again; the first that fits counts.
        every_replica: work even where another process leads.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        reconciler: Reconciler,
        services: Services,
        *,
        concurrency: int = 4,
        deadline: float = 30.0,
        predicate: Predicate = changed_besides_status,
        retries: Mapping[type[Exception], Retry] | None = None,
        every_replica: bool = False,
    ) -> None:
        if concurrency < 1 or deadline <= 0:
            raise ValueError(f"controller {name}: need concurrency >= 1 and deadline > 0")
        self.name = name
        self.kind = kind
        self.every_replica = every_replica
        self._retries = dict(retries or {})
        self._polls: list[tuple[float, Poll]] = []
        self._polling = 0
        self._haste = Haste(services.clock)
        self._reconciler = reconciler
        self._services = services
        self._clock = services.clock
        self._concurrency = concurrency
        self._queue = services.queue()
        self._triggers: dict[Request, str] = {}
        self._deadlines = Deadlines(services.clock, deadline)
        self._sources: list[_Source] = []
        self._informer = services.cache.informer(kind)
        self._handlers: list[tuple[Informer, Handler]] = []
        self._running = False
        self._workers = 0
        self._ended = anyio.Event()
        self._register_metrics(services.metrics)
        self._handle(self._informer, self._changed, predicate)

    # ---- sources

    def owns(self, kind: str, predicate: Predicate | None = None) -> Self:
        """Look at an object again when one of `kind` that it owns (by ownerReference) changes."""
        return self.watches(kind, self._owners, predicate)

    def watches(self, kind: str, map_function: MapFunction, predicate: Predicate | None = None) -> Self:
        """Look at the objects that `map_function` names when one of `kind` changes. It is called for the state before and
        the state after a change, and must not block. A `predicate` says which changes matter; None for all.
        """

        def handler(old: Object | None, new: Object | None) -> None:
            for obj in (new, old):
                if obj is not None:
                    for request in map_function(obj):
                        self._trigger(request, obj.kind, obj.name)

        self._handle(self._services.cache.informer(kind), handler, predicate or always)
        return self

    def source(self, topic: str, map_function: EventMap) -> Self:
        """Look at the objects that `map_function` names for each event of a bus topic, from the start of the controller on.
        Should events be lost because this reader was too slow, every object is looked at.
        """
        self._sources.append(_Source(topic, map_function))
        return self

    def poll(self, every: float, function: Poll) -> Self:
        """Ask `function` at the start and every so many seconds which objects to look at. What it raises is logged."""
        self._polls.append((every, function))
        return self

    def enqueue(self, request: Request, trigger: str = "asked") -> None:
        """Look at an object now; `trigger` says why, for people."""
        self._triggers.setdefault(request, trigger)
        self._queue.add(request)

    # ---- running

    @property
    def queue(self) -> Workqueue[Request]:
        """What waits to be reconciled."""
        return self._queue

    @property
    def idle(self) -> bool:
        """Nothing waits, nothing is in work or polled, and no event of a bus source waits to be mapped."""
        heard = all(s.subscription is None or not s.subscription.waiting for s in self._sources)
        return heard and self._queue.idle and not self._polling

    async def run(self) -> None:
        """Work until `shut_down`; then return when what is in work has ended."""
        self._running = True
        try:
            await self._run()
        finally:
            self._running = False
            self._ended.set()

    async def _run(self) -> None:
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(self._queue.run)
            helpers.start_soon(self._deadlines.watch)
            for source in self._sources:
                helpers.start_soon(self._listen, source)
            for every, function in self._polls:
                helpers.start_soon(self._poll, every, function)
            async with anyio.create_task_group() as workers:
                self._hire(workers)
            helpers.cancel_scope.cancel()

    def shut_down(self) -> None:
        """Start nothing more."""
        self._queue.shut_down()

    async def close(self) -> None:
        """Hear of no more changes, start nothing more, and return when what is in work has ended, or its deadline has."""
        for informer, handler in self._handlers:
            informer.remove_handler(handler)
        self._handlers.clear()
        self.shut_down()
        if self._running:
            await self._ended.wait()
        for name in _GAUGES:
            self._services.metrics.gauge(name, "", ("controller",)).remove(self.name)

    def _handle(self, informer: Informer, handler: Handler, predicate: Predicate) -> None:
        self._handlers.append((informer, handler))
        informer.add_handler(handler, predicate)

    def _hire(self, workers: TaskGroup) -> None:
        self._workers += 1
        workers.start_soon(self._work, workers, name=f"{self.name} worker {self._workers}")

    async def _work(self, workers: TaskGroup) -> None:
        while await self._serve(workers):
            # What a deadline cancelled is dealt with.
            await anyio.lowlevel.checkpoint()

    async def _serve(self, workers: TaskGroup) -> bool:
        """One pass after the other, until shutdown or until one outlasts its deadline; whether to go on."""
        current: _Pass | None = None
        try:
            # One scope for many passes: it is used up only when it cancels one.
            with anyio.CancelScope() as scope:
                while True:
                    try:
                        request = await self._queue.get()
                    except ShutDown:
                        return False
                    current = _Pass(request)
                    if self._workers < self._concurrency and not self._queue.wanted:
                        # Most controllers never have two objects in work, so another worker is begun when none waits.
                        self._hire(workers)
                    # A reconcile that finds everything in its cache never waits; others want their turn too.
                    await self._services.turns.take()
                    if self._triggers.get(request, "") not in _OWN_DOING or not self._too_often(request):
                        await self._attempt(current, scope)
                        if scope.cancel_called:
                            break
                        if current.error is None:
                            self._succeeded(current)
                        else:
                            await self._failed(current, current.error)
                    current = None
                    self._queue.done(request)
            assert current is not None
            if scope.cancelled_caught:
                current.error = TimeoutError(f"reconcile took longer than {self._deadlines.after:g} s")
            if current.error is None:
                self._succeeded(current)
            else:
                await self._failed(current, current.error)
            return True
        finally:
            if current is not None:
                self._queue.done(current.request)

    def _too_often(self, request: Request) -> bool:
        """Whether the controller keeps itself busy with an object; then it is looked at later."""
        wait = self._haste.count(request)
        if not wait:
            return False
        if self._haste.noticed(request):
            message = (
                f"the controller {self.name} looks at this object again and again, because it changes the object in every "
                f"pass or asks to be called at once; now only every {wait:g} s"
            )
            logger.warning(message, extra={"namespace": request.namespace, "object": request.name})
            obj = self._informer.lister.get(request.namespace, request.name)
            if obj is not None:
                self._services.recorder.event(obj, "Warning", "TooFrequent", message)
        self._queue.add_after(request, wait)
        return True

    async def _attempt(self, current: _Pass, scope: anyio.CancelScope) -> None:
        request = current.request
        current.trigger = self._triggers.pop(request, "") or ("retry" if self._queue.failures(request) else "requeue")
        current.started = self._clock.monotonic()
        self._deadlines.begin(request, current.started, scope)
        try:
            current.result = await self._reconciler.reconcile(request)
        except Exception as raised:  # noqa: BLE001 - no reconciler may stop its controller
            current.error = raised
        finally:
            self._deadlines.end(request)

    def _succeeded(self, current: _Pass) -> None:
        request, requeue_after = current.request, current.result.requeue_after
        self._queue.forget(request)
        if requeue_after is not None:
            self._queue.add_after(request, requeue_after)
        self._tell(current, "success" if requeue_after is None else "requeue", requeue_after)

    async def _failed(self, current: _Pass, error: Exception) -> None:
        outcome, delay = await self._retry(current.request, error)
        self._tell(current, outcome, delay, error)

    def _tell(self, current: _Pass, outcome: str, requeue_after: float | None, error: Exception | None = None) -> None:
        """Count what came of a pass, and tell whoever listens."""
        request = current.request
        duration = self._clock.monotonic() - current.started
        self._reconciles.inc(self.name, outcome)
        self._durations.observe(duration, self.name)
        event = {
            "controller": self.name,
            "kind": self.kind,
            "namespace": request.namespace,
            "name": request.name,
            "trigger": current.trigger,
            "outcome": outcome,
            "duration": duration,
            "requeueAfter": requeue_after,
        }
        if error is not None:
            event["message"] = _describe(error)
        self._services.publish(event)

    async def _retry(self, request: Request, error: Exception) -> tuple[str, float | None]:
        """Queue what failed, if trying again can help; the outcome and the delay in seconds."""
        if isinstance(error, Conflict):
            return "conflict", self._queue.add_rate_limited(request)
        if has_cause(error, NAMESPACE_TERMINATING):
            # What it wanted to create would go at once, and most likely the object itself is going.
            return "terminating", self._queue.add_rate_limited(request)
        retry = next((retry for kind, retry in self._retries.items() if isinstance(error, kind)), None)
        failures = self._queue.failures(request) + 1
        if retry is not None and retry.attempts is not None and failures >= retry.attempts:
            error = TerminalError(f"given up after {failures} attempts: {_describe(error)}")
        if isinstance(error, TerminalError):
            self._queue.forget(request)
            await self._report(request, error, "TerminalError", logging.WARNING)
            return "terminal", None
        reason = "Timeout" if isinstance(error, TimeoutError) else "ReconcileError"
        await self._report(request, error, reason, logging.ERROR)
        asked = error.retry_after if isinstance(error, StatusError) else 0.0
        base, most = (retry.base, retry.most) if retry is not None else (None, None)
        delay = self._queue.add_rate_limited(request, asked, base=base, most=most)
        return "timeout" if isinstance(error, TimeoutError) else "error", delay

    async def _report(self, request: Request, error: Exception, reason: str, level: int) -> None:
        self._errors.inc(self.name)
        # An error of the API explains itself; for anything else the place in the code matters.
        traceback = None if isinstance(error, StatusError | TerminalError | TimeoutError) else error
        logger.log(
            level,
            "reconcile failed: %s",
            error,
            exc_info=traceback,
            extra={"controller": self.name, "namespace": request.namespace, "object": request.name},
        )
        obj = self._informer.lister.get(request.namespace, request.name)
        if obj is not None:
            self._services.recorder.event(obj, "Warning", reason, _describe(error))
        if not isinstance(self._reconciler, ReportsFailure):
            return
        with anyio.CancelScope() as scope:
            self._deadlines.begin(request, self._clock.monotonic(), scope)
            try:
                await self._reconciler.report_failure(request, reason, _describe(error))
            except Exception as unreported:  # noqa: BLE001 - the failure itself is logged above
                logger.info("could not write the failure into the status of %s: %s", request.name, unreported)
            finally:
                self._deadlines.end(request)

    # ---- what the sources call

    def _changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is not None:
            request = Request(obj.namespace, obj.name)
            self._triggers.setdefault(request, _CHANGES[(old is None, new is None)])
            self._queue.add(request)

    def _owners(self, obj: Object) -> Iterable[Request]:
        requests = []
        for owner in obj.owner_references:
            group = owner.get("apiVersion", "").rpartition("/")[0]
            kind = f"{owner.get('kind')}.{group}" if group else str(owner.get("kind"))
            if self._services.cache.find(kind) is self._informer:
                # An owner is in the namespace of what it owns, or cluster-scoped.
                namespace = obj.namespace if self._services.cache.namespaced(self.kind) else ""
                requests.append(Request(namespace, owner.get("name", "")))
        return requests

    def _trigger(self, request: Request, kind: str, name: str) -> None:
        if request not in self._triggers:
            self._triggers[request] = f"{kind}/{name}"
        self._queue.add(request)

    async def _listen(self, source: _Source) -> None:
        while True:
            async with self._services.bus.subscribe(source.topic) as subscription:
                source.subscription = subscription
                while batch := await subscription.batch():
                    for _, event in batch:
                        self._map_event(source, event)
                    self._services.progressed()
            # Cut off, so events are lost: what they would have said is found by looking at everything.
            for obj in self._informer.lister.list():
                self.enqueue(Request(obj.namespace, obj.name), source.topic)
            await anyio.lowlevel.checkpoint()

    async def _poll(self, every: float, function: Poll) -> None:
        while True:
            # Without a kind there are no objects to look at.
            if self._informer.state is not State.ABSENT:
                self._polling += 1
                try:
                    with anyio.fail_after(self._deadlines.after):
                        for request in await function():
                            self.enqueue(request, "poll")
                except Exception:
                    # What is polled may be away for a while; the next time tells.
                    logger.exception("poll failed", extra={"controller": self.name})
                finally:
                    self._polling -= 1
                    self._services.progressed()
            await self._clock.sleep(every)

    def _map_event(self, source: _Source, event: Any) -> None:
        try:
            for request in source.map_function(event):
                self.enqueue(request, source.topic)
        except Exception:
            # One event that can't be read must not end the source.
            logger.exception("event of %s can't be mapped", source.topic, extra={"controller": self.name})

    def _register_metrics(self, metrics: Metrics) -> None:
        self._reconciles = metrics.counter(
            "kastra_controller_reconcile_total", "Reconciles by outcome.", ("controller", "outcome")
        )
        self._errors = metrics.counter(
            "kastra_controller_reconcile_errors_total", "Reconciles that failed.", ("controller",)
        )
        self._durations = metrics.histogram(
            "kastra_controller_reconcile_seconds", "Duration of reconciles.", ("controller",)
        )
        queue = self._queue
        numbers: tuple[Callable[[], float], ...] = (
            lambda: len(queue),
            lambda: queue.in_work,
            lambda: queue.adds,
            lambda: queue.retries,
        )
        for (name, text), number in zip(_GAUGES.items(), numbers, strict=True):
            metrics.gauge(name, text, ("controller",)).follow(number, self.name)


def _describe(error: Exception) -> str:
    text = str(error)
    named = text if isinstance(error, StatusError | TerminalError | TimeoutError) else f"{type(error).__name__}: {text}"
    return redact_text(named)[:1024]
