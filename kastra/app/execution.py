"""The execution half, wired: runners of agents, tools and networks, the pool that executes Runs, and direct answers.

Imported only by processes that execute, since it brings in everything that models and tools need. Read next:
`kastra.engine.pool`, `kastra.agent.runners`.
"""

import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from kastra.agent.assembly import Assembly
from kastra.agent.doubles import Doubles
from kastra.agent.library import Library
from kastra.agent.request import options_of
from kastra.agent.runners import generate, runners
from kastra.agent.scorers.scoring import scores_in
from kastra.agent.services import AgentServices
from kastra.agent.titles import Titles
from kastra.api.errors import BadRequest
from kastra.apiserver.subresources import ConnectRequest
from kastra.client.interface import Client
from kastra.config import DATA_FOLDER
from kastra.engine.children import ChildRunRunner
from kastra.engine.direct import DirectContext
from kastra.engine.execution import Services
from kastra.engine.journal import Append
from kastra.engine.pool import RENEW_EVERY, Pool
from kastra.engine.step import StepError
from kastra.model.cassette import Cassettes
from kastra.netguard import Guard
from kastra.sql.interface import Statement
from kastra.tool.mcp.connections import Connections
from kastra.tool.schema import JsonSchema

from .children import ClientChildren
from .closures import SameClosures
from .foundation import Foundation
from .secrets import ClientSecrets
from .state import StoredState
from .threads import AppMemory, thread_for
from .titles import ThreadTitles
from .tool_callers import asked_by
from .tool_knowledge import Closer, config_maps
from .tool_platform import platform_of

_NEVER = 1e9


class Execution:
    """What executes in this process: `pool` for Runs, `answers` for direct calls."""

    def __init__(
        self,
        base: Foundation,
        guard: Guard,
        mcp: Connections | None = None,
        doubles: Doubles | None = None,
        memory: AppMemory | None = None,
        close: Closer | None = None,
    ) -> None:
        settings, store, client, clock = base.settings, base.store, base.client, base.clock
        children = ClientChildren(client)
        self.cassettes = Cassettes(settings.project, settings.cassettes)
        self.titles = None
        """Makes titles of threads, while it is entered; None where nothing is remembered."""
        if memory is not None:
            titles = ThreadTitles(client)
            self.titles = Titles(memory.threads, clock, titles.untitled, titles.entitle)
        services = AgentServices(
            guard,
            clock,
            ClientSecrets(client, settings.project),
            folder=settings.project,
            private=(settings.data.absolute(), settings.project / DATA_FOLDER),
            state=StoredState(store.query, clock),
            children={kind: ChildRunRunner(children, kind) for kind in ("Workflow", "Network")},
            mcp=mcp,
            doubles=doubles,
            cassettes=self.cassettes,
            memory=None if memory is None else memory.recall,
            threads=None if memory is None else memory.objects.on_behalf(client),
            titles=self.titles,
            config_maps=config_maps(client),
            metrics=base.metrics,
        )
        if base.metrics is not None:
            scores_in(base.metrics)
        self.library = None if memory is None else Library(services, memory.passages, config_maps(client))
        platform = platform_of(client, clock, lambda: self.pool.mailroom, memory, self.library, close)
        services = replace(services, platform=platform)
        self.pool = Pool(
            store.writer,
            store.query,
            base.bus,
            Services(clock, runners(services), _problems, children),
            holder=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            concurrency=settings.concurrent_runs,
            grace=settings.grace,
            # In virtual time an hour may pass at once, and nobody is there to take anything away.
            renew_every=RENEW_EVERY if doubles is None else _NEVER,
        )
        self._assembly = Assembly(services)
        self._closures = SameClosures()
        self._store = store
        self._memory = memory
        self.client = client
        """With which Runs act."""

    async def answer(
        self, request: ConnectRequest, close: Closer, client: Client | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """For the subresource `generate` of Agents and Networks: one record, an answer without a Run.

        Args:
            request: with the body `{input}` or `{messages}`, and maybe `context`, `modelSettings`, `memory`, `toolChoice` and `maxSteps`.
            close: builds the closure of the object.
            client: with the rights of who asks; finds and makes the thread that `memory` names.

        Raises:
            BadRequest: the body is wrong, or there is no answer.
        """
        body = request.body or {}
        if "input" not in body and "messages" not in body:
            raise BadRequest("the body needs input or messages")
        value = body["input"] if "input" in body else {"messages": body["messages"]}
        if body.get("context") is not None:
            if "input" in body and not isinstance(value, str):
                raise BadRequest("context: goes with messages, or with an input that is text")
            value = {"messages": value if isinstance(value, str) else body["messages"], "context": body["context"]}
        # Before a thread is made for what can't be answered.
        try:
            options = options_of(body)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        if not isinstance(body.get("modelSettings") or {}, Mapping):
            raise BadRequest("modelSettings: must be an object, such as {temperature: 0.2}")
        thread = None
        if self._memory is not None and body.get("memory") is not None:
            thread = await thread_for(request, self._memory.objects.directory(client or self.client))
        closure = self._closures.one(await close(request.object))
        context = DirectContext(commit=self._commit)
        try:
            with asked_by(client):
                answer = await generate(
                    self._assembly, closure, value, context, body.get("modelSettings"), thread, options
                )
            yield answer
        except StepError as error:
            raise BadRequest(f"{error.type}: {error.message}") from error

    async def _commit(self, statements: Sequence[Statement]) -> None:
        await self._store.submit((Append("power", statements),))


async def start_execution(
    base: Foundation,
    stack: AsyncExitStack,
    mcp: Connections | None = None,
    doubles: Doubles | None = None,
    memory: AppMemory | None = None,
    close: Closer | None = None,
) -> Execution:
    """Start executing; `stack` stops it gracefully."""
    guard = await stack.enter_async_context(Guard(base.policy))
    execution = Execution(base, guard, mcp, doubles, memory, close)
    if execution.titles is not None:
        await stack.enter_async_context(execution.titles)
    await stack.enter_async_context(execution.pool)
    return execution


def _problems(schema: Mapping[str, Any], value: Any) -> list[str]:
    return JsonSchema(schema).problems(value)
