"""Runs the controllers of a process: one cache, one recorder, many controllers, one way to start and to stop.

    start   informers list and watch; when all have synced (and the Lease is held, if there is an election) workers begin
    stop    nothing new is begun, what is in work ends (or is cancelled after a grace period), Events are written, the
            Lease is released, informers end

It builds nothing of its own: `kastra.app` registers services and hands over what discovery found. `settle` answers when
there is nothing left to do, which is what one-shot `kastra apply` and tests wait for.

Source: controller-runtime's pkg/manager. Read next: `kastra.runtime.controller`.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

from kastra.api.object import Object
from kastra.api.types import Closure
from kastra.bus import Bus
from kastra.client.interface import Client
from kastra.clock import Clock
from kastra.telemetry import Metrics

from .cache import Cache
from .closure import Readings, closure
from .controller import Controller, Services
from .declarative import ControllerSpec, DeclarativeReconciler
from .discovery import Discovered
from .injection import provide
from .leader import Election, LeaderElector, LeadershipLost
from .predicates import Predicate, changed_besides_status, referred_changed
from .reconcile import Reconciler, Request, Retry
from .recorder import Recorder
from .references import INDEX, Resolver, reference_index, references_unchanged, referrers
from .strays import EVERY, file_of, strays
from .token_bucket import TokenBucket
from .turns import CROWD, Turns
from .views import TypedView, Views
from .workqueue import Workqueue
from .writer import ObservedClient

logger = logging.getLogger(__name__)

RECONCILE_TOPIC = "reconcile"
"""The bus topic of outcomes: {controller, kind, namespace, name, trigger, outcome, duration, requeueAfter, message?}."""

Service = TypeVar("Service")


class Manager:
    """The controllers of a process.

    Args:
        client: any implementation of the protocol.
        bus: receives outcomes, and is a source for controllers.
        clock: the time, for everything that waits.
        metrics: where figures are kept.
        views: all kinds' views; `use` adds to them.
        namespace: restricts namespaced kinds to one; None for all.
        election: take part in a leader election before acting.
        grace: seconds that work in progress is given when stopping.
        retry_rate: retries per second over all controllers, after a burst of `retry_burst`.
    """

    def __init__(
        self,
        client: Client,
        bus: Bus,
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        views: Views | None = None,
        namespace: str | None = None,
        election: Election | None = None,
        grace: float = 10.0,
        retry_rate: float = 50.0,
        retry_burst: int = 500,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._views = views or Views()
        self._grace = grace
        self._cache = Cache(client, clock, namespace=namespace, on_progress=self._progressed)
        self._client: Client = ObservedClient(client, self._cache)
        # Events aren't observed: no controller acts on them, and nobody should wait for their informer.
        self._recorder = Recorder(client, clock, "kastra", self._metrics, on_idle=self._progressed)
        self._resolver = Resolver(self._client, self._cache)
        self._live_resolver = Resolver(client)
        self._readings = Readings()
        self._elector = LeaderElector(client, clock, election) if election is not None else None
        self._retries = TokenBucket(retry_rate, retry_burst, clock)
        self._controllers: dict[str, Controller] = {}
        self._turns = Turns()
        self._files: dict[str, str] = {}
        self._services: dict[type[Any], Any] = {}
        self._workers: TaskGroup | None = None
        self._replicas: TaskGroup | None = None
        self._stop = anyio.Event()
        self._lost: LeadershipLost | None = None
        self._progress = anyio.Event()
        self._settlers = 0
        self._sequence = count(1)

    # ---- what controllers are given

    @property
    def client(self) -> Client:
        """The client to write with: `settle` waits for what passes through it."""
        return self._client

    def observed(self, client: Client) -> Client:
        """A client of somebody else, such that `settle` waits for what passes through it too."""
        return ObservedClient(client, self._cache)

    @property
    def bus(self) -> Bus:
        """Events of the process; outcomes of reconciles are on `RECONCILE_TOPIC`."""
        return self._bus

    @property
    def clock(self) -> Clock:
        """The time."""
        return self._clock

    @property
    def cache(self) -> Cache:
        """The informers."""
        return self._cache

    @property
    def views(self) -> Views:
        """All kinds' views."""
        return self._views

    @property
    def recorder(self) -> Recorder:
        """For Events."""
        return self._recorder

    @property
    def resolver(self) -> Resolver:
        """Resolves references over the caches."""
        return self._resolver

    @property
    def metrics(self) -> Metrics:
        """The figures."""
        return self._metrics

    def view(self, kind: str) -> type[TypedView]:
        """The class that reads a kind. Raises KeyError."""
        return self._views[kind]

    def register_service(self, type_: type[Service], service: Service) -> None:
        """Make `service` available under `type_`, before controllers are set up."""
        self._services[type_] = service

    def service(self, type_: type[Service]) -> Service:
        """What was registered for a type.

        Raises:
            LookupError: nothing was.
        """
        try:
            return self._services[type_]  # type: ignore[no-any-return] # keyed by its type
        except KeyError:
            raise LookupError(f"no service {type_.__module__}.{type_.__qualname__} is registered") from None

    async def closure(self, obj: Object) -> Closure:
        """Everything `obj` needs in order to run, read from the server and not from caches.

        Raises:
            UnresolvedReferences: something that must be there isn't.
        """
        return await closure(obj, self._views, self._live_resolver, self._readings)

    # ---- controllers

    def controller(
        self,
        kind: str,
        reconciler: Reconciler,
        *,
        name: str = "",
        concurrency: int = 4,
        deadline: float = 30.0,
        predicate: Predicate = changed_besides_status,
        retries: Mapping[type[Exception], Retry] | None = None,
        every_replica: bool = False,
    ) -> Controller:
        """A controller for a kind, to be completed with `.owns(...)`, `.watches(...)`, `.source(...)`.

        Raises:
            ValueError: there is a controller of that name.
        """
        name = name or kind.partition(".")[0].lower()
        if name in self._controllers:
            raise ValueError(f"there is a controller named {name!r}; give this one another name")
        services = Services(
            cache=self._cache,
            clock=self._clock,
            bus=self._bus,
            recorder=self._recorder,
            metrics=self._metrics,
            publish=self._publish,
            queue=self._make_queue,
            progressed=self._progressed,
            turns=self._turns,
        )
        made = self._controllers[name] = Controller(
            name,
            kind,
            reconciler,
            services,
            concurrency=concurrency,
            deadline=deadline,
            predicate=predicate,
            retries=retries,
            every_replica=every_replica,
        )
        workers = self._replicas if every_replica else self._workers
        if workers is not None:
            workers.start_soon(made.run, name=f"controller {name}")
        return made

    def add(self, spec: ControllerSpec[Any]) -> Controller:
        """Bring a described controller to life. Raises InjectionError if it asks for what there isn't."""
        known = self._views.of_kind(spec.view)
        if known is None:
            self._views.add(spec.view)
        elif spec.view is not known and known in spec.view.__mro__:
            # A generated view, to which the controller's own class adds what it refers to, say.
            self._views.replace(spec.view)
        made = self.controller(
            spec.kind,
            DeclarativeReconciler(spec, self),
            name=spec.name,
            concurrency=spec.concurrency,
            deadline=spec.deadline,
            predicate=spec.predicate,
            retries=spec.retries,
            every_replica=spec.every_replica,
        )
        self._files[file_of(spec.reconcile)] = spec.name
        for timed in spec.polls:
            made.poll(timed.every, provide(timed.function, self, name=spec.name))
        for kind in spec.owns:
            made.owns(kind)
        if isinstance(spec.watches, Mapping):
            for kind, map_function in spec.watches.items():
                made.watches(kind, map_function)
        else:
            for kind in spec.watches:
                made.watches(kind, self.referring(spec.kind, kind), referred_changed)
        for topic, event_map in spec.sources.items():
            made.source(topic, event_map)
        return made

    @property
    def controllers(self) -> Sequence[str]:
        """The names of all controllers, in the order in which they were added."""
        return tuple(self._controllers)

    def crowded(self, name: str) -> bool:
        """Whether so much waits for that controller, if there is one, that what only shows what goes on should wait."""
        return name in self._controllers and len(self._controllers[name].queue) >= CROWD

    async def remove(self, name: str) -> None:
        """Take a controller away, and return when what it has in work has ended. Objects stay as they are.

        Raises:
            KeyError: there is no controller of that name.
        """
        await self._controllers[name].close()
        del self._controllers[name]
        self._progressed()

    async def replace(self, spec: ControllerSpec[Any]) -> Controller:
        """Bring a described controller to life in the place of the one of that name, if there is one.

        Nothing that waited is lost: the new one looks at every object of its kind.
        """
        if spec.name in self._controllers:
            await self.remove(spec.name)
        self._views.replace(spec.view)
        indexer = self._cache.informer(spec.kind).indexer
        if indexer.has_index(INDEX):
            # What the objects refer to is for the new view to say, to whoever asks.
            indexer.replace_index(INDEX, reference_index(spec.view, self._client.scheme), references_unchanged)
        return self.add(spec)

    def use(self, discovered: Discovered) -> None:
        """Take over what discovery found: views first, since controllers ask for them."""
        for view in discovered.views:
            self._views.add(view)
        for setup in discovered.setups:
            setup(self)
        for spec in discovered.controllers:
            try:
                self.add(spec)
            except Exception as error:
                if not discovered.can_do_without(spec, error):
                    raise

    def referring(self, kind: str, target_kind: str) -> Callable[[Object], Iterable[Request]]:
        """A map function for `watches`: from an object of `target_kind` to the objects of `kind` that refer to it.

        Raises:
            KeyError: no view reads `kind`.
        """
        indexer = self._cache.informer(kind).indexer
        if not indexer.has_index(INDEX):
            indexer.add_index(INDEX, reference_index(self._views[kind], self._client.scheme), references_unchanged)
        find = referrers(self._cache, kind, target_kind)
        return lambda obj: [Request(referrer.namespace, referrer.name) for referrer in find(obj)]

    def enqueue(self, controller: str, request: Request, trigger: str = "asked") -> None:
        """Have a controller look at an object now.

        Raises:
            KeyError: there is no controller of that name.
        """
        self._controllers[controller].enqueue(request, trigger)

    # ---- life

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is called; `task_status` is told when controllers have begun to work.

        Raises:
            LeadershipLost: another process may be leading now.
        """
        async with anyio.create_task_group() as base:
            self._cache.start(base)
            base.start_soon(self._recorder.run, name="recorder")
            base.start_soon(self._look_for_strays, name="strays")
            await self._unless_stopped(self._cache.wait_synced)
            async with anyio.create_task_group() as replicas:
                self._replicas = replicas
                self._start(replicas, every_replica=True)
                if self._elector is not None:
                    await self._unless_stopped(self._elector.acquire)
                if not self._stop.is_set():
                    await self._work(base, task_status)
                else:
                    task_status.started()
                self._replicas = None
                self._shut_down()
                base.start_soon(self._expire, replicas.cancel_scope)
            await self._drain_recorder()
            if self._elector is not None:
                await self._elector.release()
            base.cancel_scope.cancel()
        if self._lost is not None:
            raise self._lost

    async def _work(self, base: TaskGroup, task_status: TaskStatus[None]) -> None:
        async with anyio.create_task_group() as workers:
            self._workers = workers
            if self._elector is not None:
                base.start_soon(self._lead, self._elector, workers.cancel_scope, name="leader election")
            self._start(workers, every_replica=False)
            task_status.started()
            await self._stop.wait()
            self._workers = None
            self._shut_down()
            base.start_soon(self._expire, workers.cancel_scope)

    def _start(self, workers: TaskGroup, *, every_replica: bool) -> None:
        for name, controller in self._controllers.items():
            if controller.every_replica is every_replica:
                workers.start_soon(controller.run, name=f"controller {name}")

    def _shut_down(self) -> None:
        for controller in self._controllers.values():
            controller.shut_down()

    def stop(self) -> None:
        """Ask `run` to end gracefully."""
        self._stop.set()

    async def _unless_stopped(self, function: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as tasks:

            async def give_up() -> None:
                await self._stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(give_up)
            await function()
            tasks.cancel_scope.cancel()

    async def _lead(self, elector: LeaderElector, workers: anyio.CancelScope) -> None:
        try:
            await elector.hold()
        except LeadershipLost as error:
            # Somebody else may be acting already, so what is in work isn't given time to end.
            self._lost = error
            self._stop.set()
            workers.cancel()

    async def _look_for_strays(self) -> None:
        told: set[str] = set()
        while True:
            await self._clock.sleep(EVERY)
            found = strays(self._files)
            for name in found.keys() - told:
                logger.warning(found[name], extra={"controller": name})
            told = set(found)

    async def _expire(self, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(self._grace)
        scope.cancel()

    async def _drain_recorder(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._expire, tasks.cancel_scope)
            await self._until(lambda: self._recorder.idle)
            tasks.cancel_scope.cancel()

    # ---- is there anything left to do?

    async def settle(self, *, horizon: float = 1.0, written: Iterable[Object] = ()) -> None:
        """Return once nothing is left to reconcile: caches have seen every write that passed through `client`, nothing waits
        or is in work, Events are written. Objects that ask to be looked at again later don't count; retries after a
        failure count if they are due within `horizon` seconds.

        Args:
            horizon: seconds; 0 to count no retry that isn't due.
            written: objects that were written by other ways and must have been seen too.
        """
        for obj in written:
            self._cache.observe_write(obj)
        await self._until(lambda: self._settled(horizon))

    def next_due(self) -> float | None:
        """Seconds until the next delayed request of any controller; None without one. For tests in virtual time."""
        dues = [due for c in self._controllers.values() if (due := c.queue.next_due()) is not None]
        return min(dues, default=None)

    def next_retry(self) -> float | None:
        """Seconds until the next retry after a failure; None when nothing failed. For tests in virtual time."""
        dues = [due for c in self._controllers.values() if (due := c.queue.next_retry()) is not None]
        return min(dues, default=None)

    def unsettled(self) -> list[str]:
        """What `settle` would wait for now, in words; empty when nothing is left to do."""
        found = [] if self._cache.caught_up() else ["caches have not seen every write"]
        found += [] if self._recorder.idle else ["Events are being written"]
        for name, controller in self._controllers.items():
            queue = controller.queue
            if not controller.idle:
                found.append(f"controller {name}: {len(queue)} waiting, {queue.in_work} in work")
            elif (retry := queue.next_retry()) is not None:
                found.append(f"controller {name}: a retry is due in {retry:.3g} s")
        return found

    def health(self) -> dict[str, str]:
        """What keeps this manager from being ready, by part; empty when it is."""
        problems = {f"informer {i.kind}": "not synced" for i in self._cache.informers() if not i.has_synced}
        if self._workers is None:
            problems["controllers"] = "stopping" if self._stop.is_set() else "not started"
        return problems

    def _settled(self, horizon: float) -> bool:
        if not self._cache.caught_up() or not self._recorder.idle:
            return False
        for controller in self._controllers.values():
            if not controller.idle:
                return False
            retry = controller.queue.next_retry()
            if retry is not None and retry <= horizon:
                return False
        return True

    async def _until(self, condition: Callable[[], bool]) -> None:
        self._settlers += 1
        try:
            while not condition():
                await self._progress.wait()
        finally:
            self._settlers -= 1

    def _progressed(self) -> None:
        if self._settlers:
            self._progress.set()
            self._progress = anyio.Event()

    def _make_queue(self) -> Workqueue[Request]:
        return Workqueue(self._clock, retry_bucket=self._retries, on_idle=self._progressed)

    def _publish(self, event: Mapping[str, Any]) -> None:
        self._bus.publish(RECONCILE_TOPIC, [(next(self._sequence), event)])
