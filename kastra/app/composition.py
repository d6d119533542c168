"""The wiring: the one place that knows every part of Kastra and puts them together.

    file -> store -> registry (schemas, admission) -> loopback client
                  -> journal -> executor pool (runners of agents, tools, networks)
    client + pool + what discovery found -> manager -> controllers

`compose` owns the store while it is open; `look` only reads. Nothing else in the project constructs these parts, except
tests of theirs. Read next: `kastra.app.embedded`, the API on top.
"""

import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from kastra.apiserver.bootstrap import APIServer, start
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.subresources import ConnectorRegistry
from kastra.bus import Bus
from kastra.client.interface import Client
from kastra.clock import Clock, SystemClock
from kastra.config import Settings
from kastra.sql.driver import MEMORY
from kastra.store.encryption import PlainCodec, SecretCodec
from kastra.store.objects import ObjectStore, open_store

from .definitions import builtin_definitions, outdated
from .validation import KindValidator

if TYPE_CHECKING:
    from kastra.engine.pool import Pool
    from kastra.netguard import Policy
    from kastra.runtime.discovery import Discovered
    from kastra.runtime.manager import Manager

KEY_NAME = "secret.key"
_ADMIN = User("kastra-admin", ("system:masters",))


@dataclass(slots=True)
class Composition:
    """The parts of a process that owns its store.

    Args:
        manager: None if controllers don't run here.
        pool: None if nothing executes here.
        validators: what kinds' schemas can't say, by (group, kind).
    """

    settings: Settings
    clock: Clock
    bus: Bus
    store: ObjectStore
    api: APIServer
    client: Client
    manager: "Manager | None" = None
    pool: "Pool | None" = None
    validators: Mapping[tuple[str, str], KindValidator] = field(default_factory=dict)


@asynccontextmanager
async def compose(
    settings: Settings,
    *,
    clock: Clock | None = None,
    reconcile: bool = True,
    execute: bool = True,
    path: str | Path | None = None,
) -> AsyncIterator[Composition]:
    """Own the store and run everything; stops gracefully in the reverse order.

    Args:
        path: of the store instead of the settings' own; `:memory:` for none.

    Raises:
        Owned: another process has the store.
        DiscoveryError: a controller's module doesn't load.
    """
    clock = clock or SystemClock()
    path = path if path is not None else settings.store
    bus = Bus(clock)
    connectors = ConnectorRegistry()
    discovered = _discover(settings)
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        store = await _open(settings, path, clock, bus)
        stack.push_async_callback(store.aclose)
        api = await start(
            store,
            clock,
            validators=discovered.validators,
            update_validators=discovered.update_validators,
            connectors=connectors,
        )
        client = LoopbackClient(api.registry, user=_ADMIN)
        await api.definitions.ensure(await outdated(client))
        parts = Composition(settings, clock, bus, store, api, client, validators=discovered.validators)
        if reconcile:
            await _start_execution(parts, connectors, stack, execute=execute)
            manager = parts.manager = _make_manager(parts, discovered)
            async with anyio.create_task_group() as tasks:
                await tasks.start(manager.run)
                # What goes wrong in the caller's block must reach the caller as it is, not in a group.
                try:
                    yield parts
                except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                    failure = error
                finally:
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
        api = await start(store, clock, connectors=connectors, read_only=exists)
        client = LoopbackClient(api.registry, user=_ADMIN)
        if not exists:
            await api.definitions.ensure(builtin_definitions())
        _connect_events(store, None, clock, connectors)
        yield Composition(settings, clock, bus, store, api, client)
    finally:
        await store.aclose()


def _discover(settings: Settings) -> "Discovered":
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


def _make_manager(parts: Composition, discovered: "Discovered") -> "Manager":
    from kastra.engine.pool import Pool
    from kastra.netguard import Policy
    from kastra.runtime.manager import Manager

    manager = Manager(parts.client, parts.bus, parts.clock, grace=parts.settings.grace)
    manager.register_service(Settings, parts.settings)
    manager.register_service(Policy, _policy(parts.settings))
    if parts.pool is not None:
        manager.register_service(Pool, parts.pool)
    manager.use(discovered)
    return manager


async def _start_execution(
    parts: Composition, connectors: ConnectorRegistry, stack: AsyncExitStack, *, execute: bool
) -> None:
    """The executor pool with its runners, and the streams that show what it does."""
    _connect_events(parts.store, parts.bus if execute else None, parts.clock, connectors)
    if not execute:
        return
    from kastra.agent.runners import runners
    from kastra.agent.services import AgentServices
    from kastra.engine.children import ChildRunRunner
    from kastra.engine.execution import Services
    from kastra.engine.pool import Pool
    from kastra.netguard import Guard

    from .children import ClientChildren
    from .secrets import ClientSecrets
    from .state import StoredState

    settings = parts.settings
    guard = await stack.enter_async_context(Guard(_policy(settings)))
    children = ClientChildren(parts.client)
    services = AgentServices(
        guard,
        parts.clock,
        ClientSecrets(parts.client, settings.project),
        folder=settings.project,
        state=StoredState(parts.store.query, parts.clock),
        children={kind: ChildRunRunner(children, kind) for kind in ("Workflow", "Network")},
    )
    parts.pool = await stack.enter_async_context(
        Pool(
            parts.store.writer,
            parts.store.query,
            parts.bus,
            Services(
                parts.clock,
                runners(services),
                _validate_json,
                children,
            ),
            holder=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            concurrency=settings.concurrent_runs,
            grace=settings.grace,
        )
    )


def _policy(settings: Settings) -> "Policy":
    """What outbound calls may reach."""
    from kastra.netguard import Policy

    policy = Policy.from_environment(os.environ)
    return replace(policy, allow_private_hosts=settings.allow_private_hosts or policy.allow_private_hosts)


def _connect_events(store: ObjectStore, bus: Bus | None, clock: Clock, connectors: ConnectorRegistry) -> None:
    from kastra.engine.history import History

    from .streams import RunEvents

    connectors.register("runs.mastra.ai", "events", RunEvents(History(store.query), bus, clock).connect)


def _validate_json(schema: Mapping[str, Any], value: Any) -> list[str]:
    from kastra.tool.schema import JsonSchema

    return JsonSchema(schema).problems(value)
