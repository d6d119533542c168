"""Small views of the test kinds, and a running manager over the API in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import Field

from kastra.api.types import Reference
from kastra.bus import Bus
from kastra.runtime import ControllerSpec, Fields, Manager, View
from kastra.testing.clock import VirtualClock

from .memory import MemoryClient


class AgentSpec(Fields):
    tools: list[str] = Field(default_factory=list)
    model: str | None = None
    size: int = 0


class AgentView(View, kind="Agent"):
    spec: AgentSpec = AgentSpec()

    def references(self) -> list[Reference]:
        found = [Reference(f"spec.tools[{i}]", "Tool", name) for i, name in enumerate(self.spec.tools)]
        return found + ([Reference("spec.model", "Model", self.spec.model)] if self.spec.model else [])


class ToolSpec(Fields):
    secret: str | None = None
    agent: str | None = None


class ToolView(View, kind="Tool"):
    spec: ToolSpec = ToolSpec()

    def references(self) -> list[Reference]:
        found = [Reference("spec.secret", "Secret", self.spec.secret)] if self.spec.secret else []
        return found + ([Reference("spec.agent", "Agent", self.spec.agent)] if self.spec.agent else [])


class ModelSpec(Fields):
    name: str = ""


class ModelView(View, kind="Model"):
    spec: ModelSpec = ModelSpec()


class WorkflowSpec(Fields):
    agents: list[str] = Field(default_factory=list)
    workflow: str | None = None


class WorkflowView(View, kind="Workflow"):
    spec: WorkflowSpec = WorkflowSpec()

    def references(self) -> list[Reference]:
        found = [Reference(f"spec.agents[{i}]", "Agent", name) for i, name in enumerate(self.spec.agents)]
        return found + ([Reference("spec.workflow", "Workflow", self.spec.workflow)] if self.spec.workflow else [])


VIEWS = (AgentView, ToolView, ModelView, WorkflowView)


@dataclass
class Env:
    client: MemoryClient = field(default_factory=MemoryClient)
    clock: VirtualClock = field(default_factory=VirtualClock)
    bus: Bus = field(init=False)
    manager: Manager = field(init=False)

    def __post_init__(self) -> None:
        self.bus = Bus(self.clock)
        self.manager = Manager(self.client, self.bus, self.clock)

    async def settle(self) -> None:
        """Nothing left to do; retries that are due within a second are waited for, in virtual time."""
        while True:
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(2):
                await self.manager.settle(horizon=0)
            due = self.manager.next_due()
            if due is None or due > 1:
                return
            await self.clock.advance(due)

    async def outcomes(self) -> list[dict[str, Any]]:
        """What was published so far; at least one."""
        async with self.bus.subscribe("reconcile", since=0) as subscription:
            return [dict(event) for _, event in await subscription.batch()]


@asynccontextmanager
async def running(env: Env, *specs: ControllerSpec[Any]) -> AsyncIterator[Env]:
    for spec in specs:
        env.manager.add(spec)
    async with anyio.create_task_group() as tasks:
        await tasks.start(env.manager.run)
        yield env
        env.manager.stop()
        await env.clock.advance(30)  # what hangs is cancelled after its grace
