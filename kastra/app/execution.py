"""The execution half, wired: runners of agents, tools and networks, the pool that executes Runs, and direct answers.

Imported only by processes that execute, since it brings in everything that models and tools need. Read next:
`kastra.engine.pool`, `kastra.agent.runners`.
"""

import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from kastra.agent.assembly import Assembly
from kastra.agent.runners import generate, runners
from kastra.agent.services import AgentServices
from kastra.api.errors import BadRequest
from kastra.api.object import Object
from kastra.api.types import Closure
from kastra.apiserver.subresources import ConnectRequest
from kastra.bus import Bus
from kastra.client.interface import Client
from kastra.clock import Clock
from kastra.config import Settings
from kastra.engine.children import ChildRunRunner
from kastra.engine.direct import DirectContext
from kastra.engine.execution import Services
from kastra.engine.journal import Append
from kastra.engine.pool import Pool
from kastra.engine.step import StepError
from kastra.netguard import Guard, Policy
from kastra.sql.interface import Statement
from kastra.store.objects import ObjectStore
from kastra.tool.schema import JsonSchema

from .children import ClientChildren
from .secrets import ClientSecrets
from .state import StoredState

Closer = Callable[[Object], Awaitable[Closure]]
"""Builds the closure of an object."""


class Execution:
    """What executes in this process: `pool` for Runs, `answers` for direct calls."""

    def __init__(
        self, settings: Settings, store: ObjectStore, client: Client, guard: Guard, bus: Bus, clock: Clock
    ) -> None:
        children = ClientChildren(client)
        services = AgentServices(
            guard,
            clock,
            ClientSecrets(client, settings.project),
            folder=settings.project,
            state=StoredState(store.query, clock),
            children={kind: ChildRunRunner(children, kind) for kind in ("Workflow", "Network")},
        )
        self.pool = Pool(
            store.writer,
            store.query,
            bus,
            Services(clock, runners(services), _problems, children),
            holder=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            concurrency=settings.concurrent_runs,
            grace=settings.grace,
        )
        self._assembly = Assembly(services)
        self._store = store
        self.client = client
        """With which Runs act."""

    async def answer(self, request: ConnectRequest, close: Closer) -> AsyncIterator[Mapping[str, Any]]:
        """For the subresource `generate` of Agents and Networks: one record, an answer without a Run.

        Args:
            request: with the body `{input}` or `{messages}`, and maybe `modelSettings`.
            close: builds the closure of the object.

        Raises:
            BadRequest: the body is wrong, or there is no answer.
        """
        body = request.body or {}
        if "input" not in body and "messages" not in body:
            raise BadRequest("the body needs input or messages")
        value = body["input"] if "input" in body else {"messages": body["messages"]}
        closure = await close(request.object)
        context = DirectContext(commit=self._commit)
        try:
            yield await generate(self._assembly, closure, value, context, body.get("modelSettings"))
        except StepError as error:
            raise BadRequest(f"{error.type}: {error.message}") from error

    async def _commit(self, statements: Sequence[Statement]) -> None:
        await self._store.submit((Append("power", statements),))


async def start_execution(
    settings: Settings,
    store: ObjectStore,
    client: Client,
    bus: Bus,
    clock: Clock,
    policy: Policy,
    stack: AsyncExitStack,
) -> Execution:
    """Start executing; `stack` stops it gracefully."""
    guard = await stack.enter_async_context(Guard(policy))
    execution = Execution(settings, store, client, guard, bus, clock)
    await stack.enter_async_context(execution.pool)
    return execution


def _problems(schema: Mapping[str, Any], value: Any) -> list[str]:
    return JsonSchema(schema).problems(value)
