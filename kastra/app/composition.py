"""The wiring: the one place that knows every part of Kastra and puts them together.

    file -> store -> registry (schemas, admission) -> loopback client
                  -> journal -> executor pool (runners of agents, tools, networks)
    client + pool + what discovery found -> manager -> controllers

`compose` owns the store while it is open; `look` only reads. Nothing else in the project constructs these parts, except
tests of theirs. Read next: `kastra.app.embedded`, the API on top.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from kastra.api.meta import GROUP
from kastra.apiserver.authorization import service_account
from kastra.apiserver.bootstrap import APIServer, start
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.subresources import ConnectorRegistry, ConnectRequest
from kastra.bus import Bus
from kastra.client.interface import Client
from kastra.clock import Clock, SystemClock
from kastra.config import Settings, load_settings
from kastra.sql.driver import MEMORY
from kastra.store.encryption import PlainCodec, SecretCodec
from kastra.store.objects import ObjectStore, open_store

from .admission_plugins import add_hooks
from .approval_decisions import ApprovalDecisions
from .pauses import short_pauses

if TYPE_CHECKING:
    from kastra.agent.doubles import Doubles
    from kastra.agent.library import Library
    from kastra.model.catalog import Catalog
    from kastra.netguard import Guard, Policy
    from kastra.runtime.discovery import Discovered
    from kastra.runtime.manager import Manager
    from kastra.tool.mcp.connections import Connections

    from .execution import Execution
    from .threads import AppMemory
    from .validation import KindValidator
    from .webhooks import Intake

KEY_NAME = "secret.key"
_RUNS = f"runs.{GROUP}"
_THREADS = f"threads.{GROUP}"
_ADMIN = User("kastra-admin", ("system:masters",))
# Whatever people may do, controllers and Runs act as themselves.
_CONTROLLERS = service_account("kube-system", "controllers")
_RUNS_ACCOUNT = service_account("kube-system", "runs")
_LAST_LOOK = 2.0
"""Seconds that controllers are given to look at threads before they are stopped."""


@dataclass(slots=True)
class Composition:
    """The parts of a process that owns its store.

    Args:
        manager: None if controllers don't run here.
        execution: None if nothing executes here.
        validators: what kinds' schemas can't say, by (group, kind).
        intake: takes in events and webhooks; None if nothing executes here.
        memory: threads; None where the store is only read.
    """

    settings: Settings
    clock: Clock
    bus: Bus
    store: ObjectStore
    api: APIServer
    client: Client
    manager: "Manager | None" = None
    execution: "Execution | None" = None
    validators: "Mapping[tuple[str, str], KindValidator]" = field(default_factory=dict)
    intake: "Intake | None" = None
    memory: "AppMemory | None" = None


@asynccontextmanager
async def compose(
    settings: Settings,
    *,
    clock: Clock | None = None,
    reconcile: bool = True,
    execute: bool = True,
    path: str | Path | None = None,
    controllers: str = "all",
    intercept: "Callable[[Client], Client] | None" = None,
    doubles: "Doubles | None" = None,
    run_clock: Clock | None = None,
) -> AsyncIterator[Composition]:
    """Own the store and run everything; stops gracefully in the reverse order.

    Args:
        controllers: which ones run here: `all`, `builtin`, or `none`, which also executes nothing. Admission is the same.
        path: of the store instead of the settings' own; `:memory:` for none.
        intercept: puts something between controllers and the API, for tests.
        doubles: stand in for tools and models, for tests.
        run_clock: the time of Runs, where that is another clock than everything else's, for tests.

    Raises:
        Owned: another process has the store.
        DiscoveryError: a controller's module doesn't load.
    """
    from .definitions import outdated
    from .threads import AppMemory
    from .validation import Remembered

    clock = clock or SystemClock()
    path = path if path is not None else settings.store
    reconcile = reconcile and controllers != "none"
    bus = Bus(clock)
    connectors = ConnectorRegistry()
    discovered = discover_controllers(settings)
    validators: dict[tuple[str, str], KindValidator] = {
        kind: Remembered(validator) for kind, validator in discovered.validators.items()
    }
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        stack.enter_context(short_pauses())
        store = await _open(settings, path, clock, bus)
        stack.push_async_callback(store.aclose)
        memory = AppMemory(store, run_clock or clock, settings.vectors)
        stack.push_async_callback(memory.threads.aclose)
        stack.push_async_callback(memory.passages.aclose)
        # Before definitions are served, so that discovery shows what hangs below their objects.
        _connect_reads(store, bus if reconcile and execute else None, clock, connectors, memory)
        connectors.register(
            _THREADS,
            "clone",
            lambda request: memory.clone(request, LoopbackClient(parts.api.registry, user=request.user)),
            verb="create",
        )
        if reconcile and execute:

            def act(name: str, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
                from .run_actions import RunActions

                assert parts.execution is not None
                return RunActions(parts.execution.client, parts.execution.pool, clock).connect(name, request)

            for name in ("cancel", "suspend", "resume", "rerun", "signal"):
                connectors.register(_RUNS, name, partial(act, name), verb="create")
            for plural in ("agents", "networks"):
                connectors.register(
                    f"{plural}.{GROUP}", "generate", lambda request: _answer(parts, request), verb="create"
                )
        api = await start(
            store,
            clock,
            validators=validators,
            update_validators=discovered.update_validators,
            connectors=connectors,
            outbound=_outbound(settings, stack),
        )
        client = LoopbackClient(api.registry, user=_ADMIN)
        await api.definitions.ensure(await outdated(client))
        api.registry.admission.mutating.append(ApprovalDecisions(clock))
        add_hooks(api.registry.admission)
        parts = Composition(settings, clock, bus, store, api, client, validators=validators, memory=memory)
        if reconcile:
            chosen = discovered if controllers == "all" else discovered.builtin(True)
            manager = parts.manager = await _make_manager(
                parts, chosen, stack, execute=execute, intercept=intercept, doubles=doubles, run_clock=run_clock
            )
            async with anyio.create_task_group() as tasks:
                await tasks.start(manager.run)
                # What goes wrong in the caller's block must reach the caller as it is, not in a group.
                try:
                    yield parts
                except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                    failure = error
                finally:
                    # How many messages a thread has is told at most once a second, and then once more here.
                    if failure is None:
                        with anyio.move_on_after(_LAST_LOOK, shield=True):
                            await memory.threads.looked_at()
                    manager.stop()
        else:
            yield parts
        if failure is not None:
            raise failure


@asynccontextmanager
async def look(settings: Settings, *, path: str | Path | None = None) -> AsyncIterator[Composition]:
    """Read a store that another process may own; every write is refused. One that doesn't exist is an empty one."""
    clock = SystemClock()
    bus = Bus(clock)
    connectors = ConnectorRegistry()
    path = Path(path if path is not None else settings.store)
    exists = path.is_file()
    store = await open_store(
        path if exists else MEMORY,
        driver=settings.driver or None,
        clock=clock,
        bus=bus,
        read_only=exists,
        codec=SecretCodec(path.with_name(KEY_NAME)) if exists else PlainCodec(),
    )
    try:
        _connect_reads(store, None, clock, connectors, None)
        api = await start(store, clock, connectors=connectors, read_only=exists)
        client = LoopbackClient(api.registry, user=_ADMIN)
        if not exists:
            from .definitions import builtin_definitions

            await api.definitions.ensure(builtin_definitions())
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            if exists:
                tasks.start_soon(api.definitions.follow)
            # As in `compose`: what goes wrong in the caller's block must reach the caller as it is.
            try:
                yield Composition(settings, clock, bus, store, api, client)
            except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        await store.aclose()


@asynccontextmanager
async def peek(settings: Settings | None = None, *, path: str | Path | None = None) -> AsyncIterator[Client]:
    """Read a store, whoever owns it; follows its changes within a second. Writes are refused."""
    async with look(settings or load_settings(), path=path) as parts:
        yield parts.client


def discover_controllers(settings: Settings) -> "Discovered":
    """The built-in controllers, those of installed packages, and the project's. Raises DiscoveryError."""
    from kastra.runtime.discovery import discover

    builtin = Path(__file__).resolve().parent.parent / "controllers"
    folders = [(settings.project / folder).resolve() for folder in settings.controllers]
    # In a checkout of this project the default folder is the built-in package itself.
    return discover([folder for folder in folders if folder != builtin.resolve()])


async def _open(settings: Settings, path: str | Path, clock: Clock, bus: Bus) -> ObjectStore:
    codec = PlainCodec() if str(path) == MEMORY else SecretCodec(_data_folder(path) / KEY_NAME)
    return await open_store(
        path, driver=settings.driver or None, clock=clock, bus=bus, codec=codec, wait=settings.lock_timeout
    )


def _data_folder(path: str | Path) -> Path:
    folder = Path(path).resolve().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


async def _make_manager(
    parts: Composition,
    discovered: "Discovered",
    stack: AsyncExitStack,
    *,
    execute: bool,
    intercept: "Callable[[Client], Client] | None",
    doubles: "Doubles | None" = None,
    run_clock: Clock | None = None,
) -> "Manager":
    from kastra.memory.interface import ThreadDirectory
    from kastra.netguard import Policy
    from kastra.runtime.manager import Manager
    from kastra.runtime.reconcile import Request
    from kastra.tool.mcp.connections import Connections

    settings = parts.settings
    policy = outbound_policy(settings)
    client: Client = LoopbackClient(parts.api.registry, user=_CONTROLLERS)
    if intercept is not None:
        client = intercept(client)
    manager = Manager(client, parts.bus, parts.clock, grace=settings.grace)
    manager.register_service(Settings, settings)
    manager.register_service(Policy, policy)
    mcp = await _connections(parts, policy, stack)
    manager.register_service(Connections, mcp)
    memory = parts.memory
    assert memory is not None
    manager.register_service(type(memory.threads), memory.threads)
    manager.register_service(ThreadDirectory, memory.objects.directory(client))
    catalog = await _catalog(parts, policy, stack)
    manager.register_service(type(catalog), catalog)
    if execute:
        from kastra.engine.mailroom import Mailroom
        from kastra.engine.pool import Pool
        from kastra.engine.retention import Retention

        from .event_sinks import start_outbox
        from .execution import start_execution
        from .foundation import Foundation

        runs = manager.observed(LoopbackClient(parts.api.registry, user=_RUNS_ACCOUNT))
        base = Foundation(settings, parts.store, runs, parts.bus, run_clock or parts.clock, policy, manager.metrics)
        parts.execution = await start_execution(base, stack, mcp, doubles, memory, manager.closure)
        manager.register_service(Pool, parts.execution.pool)
        manager.register_service(Mailroom, parts.execution.pool.mailroom)
        retention = Retention(parts.store.writer, parts.store.query, parts.clock)
        manager.register_service(Retention, await stack.enter_async_context(retention))
        if (library := parts.execution.library) is not None:
            manager.register_service(type(library), library)
        outbox = await start_outbox(base, stack)
        manager.register_service(type(outbox), outbox)
    else:
        library = await _library(parts, policy, stack)
        manager.register_service(type(library), library)
    manager.use(discovered)
    memory.threads.news = lambda namespace, name: manager.enqueue("thread", Request(namespace, name), "message")
    if parts.execution is not None:
        from kastra.runtime.triggers.starting import Triggers

        from .webhooks import Intake

        mailroom, triggers = parts.execution.pool.mailroom, manager.service(Triggers)
        parts.intake = Intake(client, mailroom, triggers, manager.recorder, parts.clock)
    return manager


async def _catalog(parts: Composition, policy: "Policy", stack: AsyncExitStack) -> "Catalog":
    """Asks providers for their models, for the controller of ModelProviders."""
    from kastra.model.catalog import Catalog
    from kastra.netguard import Guard

    from .secrets import ClientSecrets

    guard = await stack.enter_async_context(Guard(policy))
    client = LoopbackClient(parts.api.registry, user=_RUNS_ACCOUNT)
    return Catalog(guard, parts.clock, ClientSecrets(client, parts.settings.project).read)


async def _library(parts: Composition, policy: "Policy", stack: AsyncExitStack) -> "Library":
    """Reads KnowledgeBases where nothing is executed, so that they are Ready when they have been applied."""
    from kastra.agent.library import Library
    from kastra.agent.services import AgentServices
    from kastra.config import DATA_FOLDER
    from kastra.netguard import Guard

    from .secrets import ClientSecrets
    from .tool_knowledge import config_maps

    assert parts.memory is not None
    client, settings = LoopbackClient(parts.api.registry, user=_RUNS_ACCOUNT), parts.settings
    services = AgentServices(
        await stack.enter_async_context(Guard(policy)),
        parts.clock,
        ClientSecrets(client, settings.project),
        folder=settings.project,
        private=(settings.data.absolute(), settings.project / DATA_FOLDER),
    )
    return Library(services, parts.memory.passages, config_maps(client), once=True)


async def _connections(parts: Composition, policy: "Policy", stack: AsyncExitStack) -> "Connections":
    """To MCP servers, for the controller that looks at them and for Runs; none is open yet."""
    from kastra.netguard import Guard
    from kastra.tool.mcp.connections import NEWS, Connections

    from .secrets import ClientSecrets

    guard = await stack.enter_async_context(Guard(policy))
    secrets = ClientSecrets(LoopbackClient(parts.api.registry, user=_RUNS_ACCOUNT), parts.settings.project)
    numbers = count(1)

    def tell(namespace: str, name: str) -> None:
        parts.bus.publish(NEWS, [(next(numbers), (namespace, name))])

    return await stack.enter_async_context(Connections(guard, parts.clock, secrets.read, parts.settings.project, tell))


def _outbound(settings: Settings, stack: AsyncExitStack) -> "Callable[[], Guard]":
    """What webhooks are called through; most servers never call one."""

    @cache
    def guard() -> "Guard":
        from kastra.netguard import Guard

        made = Guard(outbound_policy(settings))
        stack.push_async_callback(made.aclose)
        return made

    return guard


def outbound_policy(settings: Settings) -> "Policy":
    """What outbound calls may reach."""
    from kastra.netguard import Policy

    policy = Policy.from_environment(os.environ)
    return replace(policy, allow_private_hosts=settings.allow_private_hosts or policy.allow_private_hosts)


def _answer(parts: Composition, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
    assert parts.execution is not None
    assert parts.manager is not None
    client = LoopbackClient(parts.api.registry, user=request.user)
    return parts.execution.answer(request, parts.manager.closure, client)


def _connect_reads(
    store: ObjectStore, bus: Bus | None, clock: Clock, connectors: ConnectorRegistry, memory: "AppMemory | None"
) -> None:
    def remembered(name: str, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        from .threads import AppMemory

        return (memory or AppMemory(store, clock)).connect(name, request)

    connectors.register(_THREADS, "messages", partial(remembered, "messages"))
    connectors.register(_THREADS, "search", partial(remembered, "search"), verb="create")

    def connect(name: str, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        # Imported when somebody asks: most looks at a store ask for none of these.
        from kastra.engine.history import History

        from .run_reads import RunReads
        from .streams import RunEvents

        history = History(store.query)
        return RunReads(history, RunEvents(history, bus, clock)).connect(name, request)

    for name in ("events", "steps", "history", "log", "definition"):
        connectors.register(_RUNS, name, partial(connect, name), text=name == "log")
