"""A project's own controllers in a process of their own, against `kastra serve` or any Kubernetes API server.

    files -> discovery -> Manager over the HTTP client -> informers -> reconciles; one of several processes leads

The same files run inside `kastra serve`. Here there is no store, no executor and no event bus of Runs: a service that only the
server's process has is refused by its name. A server that is away is waited for, and so is a kind that it doesn't have. What
this process may not do is said as the rule that is missing. Losing the Lease ends all work, and the process stands for election
again. Never runs the built-in controllers.

Source: controller-runtime's manager, a Kubernetes operator's process. Read next: `kastra.runtime.manager`, `kastra.app.permissions`.
"""

import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskStatus

from kastra.api.errors import Forbidden, StatusError, Unauthorized
from kastra.api.meta import ObjectRef
from kastra.bus import Bus
from kastra.client.http import HttpClient
from kastra.client.kubeconfig import Cluster, KubeconfigError
from kastra.client.transport import Unreachable, Untrusted
from kastra.clock import Clock, SystemClock
from kastra.config import Settings
from kastra.netguard import Policy
from kastra.runtime.declarative import ControllerSpec
from kastra.runtime.discovery import FOLDER_PACKAGE, Discovered
from kastra.runtime.informer import Informer, State
from kastra.runtime.injection import InjectionError
from kastra.runtime.leader import Election, LeadershipLost
from kastra.runtime.manager import Manager
from kastra.telemetry import Metrics

from .clusters import builtin_resources
from .composition import discover_controllers, outbound_policy
from .permissions import LEASES, Rule, missing, roles, rules_of

LEASE = "kastra-controllers"
_LOOK = 1.0
"""Seconds between two looks at what is wrong."""
_POKE = 5.0
"""Seconds after which what was refused or absent is tried again, whatever its own pause."""
_PERMISSIONS = 5.0
"""Seconds between two questions about permissions while some are missing."""
_AWAY = (0.5, 15.0)
"""First and longest pause while the server can't be reached."""
_HOLDER = 2.0
"""Seconds after which a process that doesn't lead says who does."""

Say = Callable[[str], None]


class ControllersError(ValueError):
    """The project's controllers can't be run; the message says which file, and why."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the process runs.

    Args:
        folders: whose controllers run; empty for the project's and those of installed packages.
        controllers: names of those that run; empty for all.
        namespace: objects of which are looked at; empty for all.
        elect: take part in a leader election.
        lease: name of the Lease.
        lease_namespace: where it is; empty for `namespace`, or that of the context.
    """

    folders: Sequence[Path] = ()
    controllers: Sequence[str] = ()
    namespace: str = ""
    elect: bool = True
    lease: str = LEASE
    lease_namespace: str = ""


def own_controllers(settings: Settings, options: Options) -> Discovered:
    """What is to run.

    Raises:
        DiscoveryError: a file doesn't load.
        ControllersError: there is nothing to run.
    """
    if options.folders:
        settings = replace(settings, controllers=tuple(str(folder.resolve()) for folder in options.folders))
    found = discover_controllers(settings).builtin(False)
    if options.folders:
        found = replace(
            found,
            controllers=[spec for spec in found.controllers if _in_folder(spec.reconcile)],
            setups=[setup for setup in found.setups if _in_folder(setup)],
        )
    if not found.controllers and not found.setups:
        where = ", ".join(map(str, options.folders or [settings.project / name for name in settings.controllers]))
        raise ControllersError(f"{where}: there are no controllers; name the folder that has their files")
    return found


def _in_folder(function: Callable[..., Any]) -> bool:
    return str(getattr(function, "__module__", "")).startswith(FOLDER_PACKAGE)


class ControllerProcess:
    """The process, until `stop`.

    Args:
        cluster: the server, and as whom.
        settings: of the project.
        options: what to run.
        say: receives lines for people: what is waited for, what is missing, who leads.
    """

    def __init__(
        self, cluster: Cluster, settings: Settings, options: Options, say: Say, *, clock: Clock | None = None
    ) -> None:
        self.metrics = Metrics()
        self._cluster = cluster
        self._settings = settings
        self._options = options
        self._say = say
        self._clock = clock or SystemClock()
        self._found = own_controllers(settings, options)
        # Kept for the life of the process, which can take its own Lease again at once.
        self._identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._stop = anyio.Event()
        self._manager: Manager | None = None
        self._lease_namespace = options.lease_namespace or options.namespace or cluster.namespace

    def stop(self) -> None:
        """Ask `run` to end gracefully."""
        self._stop.set()

    def problems(self) -> dict[str, str]:
        """What keeps the process from being ready, by part; one that waits to lead is ready."""
        if self._manager is None:
            return {"server": "not reached yet"}
        return {part: why for part, why in self._manager.health().items() if part != "controllers"}

    async def run(self) -> None:
        """Run until `stop` is called.

        Raises:
            ControllersError: a controller can't be set up in this process, or there is none of a name that was given.
            Untrusted: the server shows a certificate that isn't trusted.
            Unauthorized: it doesn't know the credentials.
            KubeconfigError: there are no credentials to be had.
        """
        async with self._connected() as client:
            if client is None:
                return
            self._say(f"connected to {self._cluster.server}")
            while not self._stop.is_set():
                manager = self._manager = await self._manage(client)
                await self._once(manager, client)

    async def roles(self) -> list[dict[str, Any]]:
        """The RBAC roles that the process needs; asks the server for its kinds only."""
        client = HttpClient(self._cluster, known=builtin_resources, clock=self._clock)
        try:
            await client.refresh()
            specs = self._chosen(self._found).controllers
            for spec in specs:
                client.scheme.find(spec.kind)
            election = self._lease_namespace if self._options.elect else ""
            return roles(rules_of(specs, client.scheme), LEASE, self._options.namespace, election)
        finally:
            client.close()

    # ---- the server

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[HttpClient | None]:
        """A client that knows the server's kinds; None if the process was stopped first."""
        client = HttpClient(self._cluster, known=builtin_resources, clock=self._clock)
        try:
            pause, told = _AWAY[0], ""
            while not self._stop.is_set():
                try:
                    await client.refresh()
                except Untrusted:
                    raise
                except (Unauthorized, Forbidden):
                    raise
                except (Unreachable, StatusError) as error:
                    if str(error) != told:
                        told = str(error)
                        self._say(f"{told}; trying again")
                    await self._pause(pause)
                    pause = min(pause * 2, _AWAY[1])
                else:
                    break
            yield None if self._stop.is_set() else client
        finally:
            client.close()

    async def _pause(self, seconds: float) -> None:
        async with anyio.create_task_group() as tasks:

            async def until_stopped() -> None:
                await self._stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_stopped)
            await self._clock.sleep(seconds)
            tasks.cancel_scope.cancel()

    # ---- the manager

    async def _manage(self, client: HttpClient) -> Manager:
        election = None
        if self._options.elect:
            election = Election(self._identity, self._options.lease, self._lease_namespace)
        manager = Manager(
            client,
            Bus(self._clock),
            self._clock,
            metrics=self.metrics,
            namespace=self._options.namespace or None,
            election=election,
            grace=self._settings.grace,
        )
        manager.register_service(Settings, self._settings)
        manager.register_service(Policy, outbound_policy(self._settings))
        try:
            manager.use(self._chosen(self._found))
        except LookupError as error:
            reason = error.args[0] if error.args else error
            raise ControllersError(
                f"{_place(error)}: {reason}: only the process of 'kastra serve' has it; here there are "
                f"{Settings.__module__}.{Settings.__qualname__} and {Policy.__module__}.{Policy.__qualname__}"
            ) from error
        except InjectionError as error:
            raise ControllersError(str(error)) from error
        except Exception as error:
            raise ControllersError(f"{_place(error)}: {type(error).__name__}: {error}") from error
        await self._narrow(manager)
        for spec in self._found.controllers:
            if spec.sources and spec.name in manager.controllers:
                topics = ", ".join(spec.sources)
                self._say(f"controller {spec.name}: its source {topics} is heard inside 'kastra serve' only")
        return manager

    def _chosen(self, found: Discovered) -> Discovered:
        wanted = self._options.controllers
        if not wanted:
            return found
        return replace(found, controllers=[spec for spec in found.controllers if spec.name in wanted])

    async def _narrow(self, manager: Manager) -> None:
        """Take away what `setup` functions added and nobody asked for; only they know the names of their controllers."""
        wanted = self._options.controllers
        if not wanted:
            return
        names = sorted({*manager.controllers, *(spec.name for spec in self._found.controllers)})
        for name in wanted:
            if name not in names:
                raise ControllersError(f"--controller {name}: there is none of that name; there are {', '.join(names)}")
        for name in manager.controllers:
            if name not in wanted:
                await manager.remove(name)

    async def _once(self, manager: Manager, client: HttpClient) -> None:
        """From standing for election to the end of the work."""
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:

            async def stop_when_asked() -> None:
                await self._stop.wait()
                manager.stop()

            async def work(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
                nonlocal failure
                try:
                    await manager.run(task_status=task_status)
                except LeadershipLost as error:
                    self._say(f"{error}; standing for election again")
                except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                    failure = error
                tasks.cancel_scope.cancel()
                with suppress(RuntimeError):  # It had begun before it ended.
                    task_status.started()

            tasks.start_soon(stop_when_asked)
            tasks.start_soon(self._report, manager, client)
            with anyio.CancelScope() as waiting:
                if self._options.elect:
                    tasks.start_soon(self._name_holder, client, waiting)
                await tasks.start(work)
                waiting.cancel()
            if not self._stop.is_set() and failure is None:
                self._say(f"running {', '.join(manager.controllers)}")
        if failure is not None:
            raise failure

    async def _name_holder(self, client: HttpClient, waiting: anyio.CancelScope) -> None:
        """Say who leads, and who does after them, for as long as it isn't this process."""
        told = ""
        place = f"{self._lease_namespace}/{self._options.lease}"
        await self._clock.sleep(_HOLDER)
        while not waiting.cancel_called:
            try:
                lease = await client.get(
                    ObjectRef("leases.coordination.k8s.io", self._options.lease, self._lease_namespace)
                )
                holder = str(lease.spec.get("holderIdentity") or "")
            except (StatusError, OSError, KubeconfigError):
                holder = ""  # Nobody stood yet, or it may not be seen; what isn't allowed is said elsewhere.
            if holder not in ("", told, self._identity) and not waiting.cancel_called:
                told = holder
                self._say(f"waiting to lead: Lease {place} is held by {holder}")
            await self._clock.sleep(_HOLDER)

    # ---- what is wrong, for people

    async def _report(self, manager: Manager, client: HttpClient) -> None:
        told: dict[str, str] = {}
        permissions = _Permissions(client, self._rules(), self._options.namespace, self._say)
        started = poked = self._clock.monotonic()
        while True:
            await self._clock.sleep(_LOOK)
            now = self._clock.monotonic()
            await permissions.look(now)
            problems = dict(_problems(manager.cache.informers()))
            for kind, problem in problems.items():
                if told.get(kind) != problem and now - started >= _LOOK:
                    self._say(f"{kind}: {problem}")
            for kind in told.keys() - problems.keys():
                self._say(f"{kind}: all is well")
            told = problems
            if now - poked >= _POKE:
                poked = now
                for informer in manager.cache.informers():
                    if informer.kind in problems:
                        informer.poke()

    def _rules(self) -> "Callable[[HttpClient], list[tuple[Rule, str]]]":
        """What this process needs, each with its namespace."""
        specs: Sequence[ControllerSpec[Any]] = self._chosen(self._found).controllers

        def rules(client: HttpClient) -> list[tuple[Rule, str]]:
            found = [(rule, self._options.namespace) for rule in rules_of(specs, client.scheme)]
            return [*found, (LEASES, self._lease_namespace)] if self._options.elect else found

        return rules


@dataclass(slots=True)
class _Permissions:
    """Asks whether everything is allowed, and says what isn't; again when kinds come, and while something is missing."""

    client: HttpClient
    rules: "Callable[[HttpClient], list[tuple[Rule, str]]]"
    namespace: str
    say: Say
    lacking: list[str] = field(default_factory=list)
    _generation: int = -1
    _asked: float = 0.0

    async def look(self, now: float) -> None:
        due = self._generation != self.client.scheme.generation or (self.lacking and now - self._asked >= _PERMISSIONS)
        if not due:
            return
        found = []
        generation = self.client.scheme.generation
        try:
            for rule, namespace in self.rules(self.client):
                where = f" in namespace {namespace}" if namespace and rule.namespaced else ""
                found += [f"{lacking}{where}" for lacking in await missing(self.client, [rule], namespace)]
        except (StatusError, OSError, KubeconfigError):
            return  # Whoever may not even ask, or can't, hears of it from what they try.
        self._generation, self._asked = generation, now
        if found != self.lacking:
            for text in found:
                self.say(f"not allowed; a role needs the rule {text}")
            if not found:
                self.say("everything that was not allowed is now")
        self.lacking = found


def _problems(informers: Iterable[Informer]) -> Iterator[tuple[str, str]]:
    for informer in informers:
        if informer.problem is not None:
            why = informer.problem.message if isinstance(informer.problem, StatusError) else str(informer.problem)
            wait = "waiting for the permission" if isinstance(informer.problem, Forbidden) else "trying again"
            yield informer.kind, f"{why}; {wait}"
        elif informer.state is State.ABSENT:
            yield informer.kind, "the server doesn't have this kind; waiting for its CustomResourceDefinition"


def _place(error: BaseException) -> str:
    """file:line of the deepest frame that isn't Kastra's own."""
    own = str(Path(sys.modules["kastra"].__file__ or "").parent)
    place, trace = "controllers", error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if not filename.startswith((own, "<frozen")):
            place = f"{filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
