"""A whole engine on a database in memory or in a file, with tools that are functions of the test."""

from asyncio import Future, get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio

from kastra.api.types import Closure, ClosureObject
from kastra.bus import Bus
from kastra.clock import Clock
from kastra.engine.children import ChildRunRunner
from kastra.engine.execution import Services
from kastra.engine.objects import ChildObjects
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.progress import Progress
from kastra.engine.step import CallOptions, Effect, StepContext
from kastra.sql.database import open_database
from kastra.sql.interface import Operation
from kastra.sql.writer import Writer
from kastra.testing.clock import VirtualClock

Tool = Callable[[Any, Effect], Awaitable[Any]]
_KINDS = {"agent": "Agent", "tool": "Tool", "workflow": "Workflow", "network": "Network"}
_numbers = count(1)


async def echo(value: Any, effect: Effect) -> Any:
    return value


class CountingWriter(Writer):
    """A writer that says how many transactions it was asked for, and that can be broken for a while."""

    submitted = 0
    broken: Exception | None = None

    def submit(self, operations: Sequence[Operation]) -> Future[None]:
        self.submitted += 1
        if self.broken is None:
            return super().submit(operations)
        future: Future[None] = get_running_loop().create_future()
        future.set_exception(self.broken)
        for operation in operations:
            operation.failed(self.broken)
        return future


class Tools:
    """The runner of tool steps: looks its function up by the target's name and notes every call."""

    def __init__(self, functions: Mapping[str, Tool]) -> None:
        self.functions = dict(functions)
        self.calls: list[tuple[str, Any]] = []
        self.keys: list[str] = []

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        function = self.functions.get(target["name"], echo)

        async def call(effect: Effect) -> Any:
            self.calls.append((step.key, value))
            self.keys.append(effect.idempotency_key)
            return await function(value, effect)

        once = options.get("delivery") == "AtMostOnce"
        return await step.call("", call, CallOptions("tool", once, options.get("onInDoubt", "suspend")))


SELDOM: Mapping[str, Any] = {"renew_every": 60.0}
"""For tests in which hours pass: every renewal of the lease is a moment at which everything comes to rest."""


@dataclass
class Engine:
    """A pool and what it stands on."""

    pool: Pool
    bus: Bus
    tools: Tools
    writer: CountingWriter
    clock: Clock
    services: Services

    def submit(self, spec: Mapping[str, Any], value: Any = None, **order: Any) -> str:
        """Start a workflow; returns the Run's uid."""
        return self.submit_closure(workflow(spec), value, **order)

    def submit_closure(self, closure: Closure, value: Any = None, **order: Any) -> str:
        """Start whatever the closure holds; returns the Run's uid."""
        uid = order.pop("uid", "") or f"run-{next(_numbers)}"
        self.pool.submit(RunOrder(uid, "default", order.pop("name", uid), closure, value, **order))
        return uid

    async def ended(self, uid: str) -> Progress:
        """The progress of a Run once it has ended; virtual time passes meanwhile."""
        return await self.until(uid, lambda progress: progress.phase.terminal)

    async def until(self, uid: str, holds: Callable[[Progress], bool]) -> Progress:
        """The progress of a Run once it meets a condition; virtual time passes meanwhile."""
        async with self.bus.subscribe(TOPIC, limit=100_000) as changes:
            while True:
                progress = await self.pool.progress(uid)
                if progress is not None and holds(progress):
                    return progress
                if isinstance(self.clock, VirtualClock):
                    await self.pass_time(self.clock)
                else:
                    await changes.batch()

    async def pass_time(self, clock: VirtualClock) -> None:
        """Let everything happen that can now, then let time pass until the next sleeper is due."""
        await self.settle()
        due = clock.next_due()
        if due is not None:
            await clock.advance(due)

    async def settle(self) -> None:
        """Give the tasks and the writer the time to finish what they can do without time passing."""
        for _ in range(3):
            await self.writer.query("SELECT 1")
            for _ in range(20):
                await anyio.lowlevel.checkpoint()

    async def run(self, spec: Mapping[str, Any], value: Any = None, **order: Any) -> Progress:
        """Execute a workflow to its end."""
        return await self.ended(self.submit(spec, value, **order))

    async def journal(self, uid: str) -> list[tuple[str, str | None]]:
        """(type, stepKey) of every record of a Run."""
        return [(record["type"], record["stepKey"]) for record in await self.pool.history(uid, limit=100_000)]


@asynccontextmanager
async def engine(
    functions: Mapping[str, Tool] | None = None,
    *,
    path: str = ":memory:",
    clock: Clock | None = None,
    children: ChildObjects | None = None,
    validate: Callable[[Mapping[str, Any], Any], list[str]] | None = None,
    runners: Mapping[str, Any] | None = None,
    **pool: Any,
) -> AsyncIterator[Engine]:
    """A running engine; the same path again takes up what an earlier one left."""
    database = open_database(path, "sqlite3")
    writer = CountingWriter(database.connection, database.epoch)
    clock = clock or VirtualClock()
    tools = Tools(functions or {})
    every: dict[str, Any] = {"tool": tools, **(runners or {})}
    if children is not None:
        every |= {kind: ChildRunRunner(children, _KINDS[kind]) for kind in ("workflow", "network")}
    bus = Bus(clock)
    services = Services(clock, every, validate or (lambda schema, value: []), children)
    try:
        made = Pool(writer, writer.query, bus, services, holder=f"test-{next(_numbers)}", **{"grace": 0.0, **pool})
        async with made:
            yield Engine(made, bus, tools, writer, clock, services)
    finally:
        await writer.aclose()


def workflow(spec: Mapping[str, Any]) -> Closure:
    """The closure of a workflow in its normal form; every object that it names exists."""
    objects: dict[str, ClosureObject] = {}
    refs: dict[str, str] = {}
    _collect(spec.get("steps", ()), "spec.steps", objects, refs)
    _collect(spec.get("finally", ()), "spec.finally", objects, refs)
    root = _object("Workflow", "w", spec)
    root["refs"] = refs
    objects["Workflow/default/w"] = root
    return {"root": "Workflow/default/w", "objects": objects}


def single(kind: str, spec: Mapping[str, Any] | None = None) -> Closure:
    """The closure of one object of another kind."""
    return {"root": f"{kind}/default/x", "objects": {f"{kind}/default/x": _object(kind, "x", spec or {})}}


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> ClosureObject:
    return {
        "kind": kind,
        "namespace": "default",
        "name": name,
        "uid": f"{kind}-{name}",
        "generation": 1,
        "spec": spec,
        "refs": {},
    }


def _collect(steps: Sequence[Any], path: str, objects: dict[str, ClosureObject], refs: dict[str, str]) -> None:
    for index, step in enumerate(steps):
        where = f"{path}[{index}]"
        for field_name, kind in _KINDS.items():
            if field_name in step:
                name = step[field_name]["name"]
                refs[f"{where}.{field_name}"] = f"{kind}/default/{name}"
                objects.setdefault(f"{kind}/default/{name}", _object(kind, name, step[field_name].get("spec", {})))
        for body in ("parallel", "do", "loop", "forEach"):
            if body in step:
                _collect(step[body]["steps"], f"{where}.{body}.steps", objects, refs)
        for number, case in enumerate(step.get("branch", {}).get("cases", ())):
            _collect(case.get("steps", ()), f"{where}.branch.cases[{number}].steps", objects, refs)
        default = step.get("branch", {}).get("default", {})
        _collect(default.get("steps", ()), f"{where}.branch.default.steps", objects, refs)
        _collect(step.get("compensate", {}).get("steps", ()), f"{where}.compensate.steps", objects, refs)
        for number, catch in enumerate(step.get("catch", ())):
            _collect(catch.get("steps", ()), f"{where}.catch[{number}].steps", objects, refs)


def tool(step_id: str, name: str = "", **fields: Any) -> dict[str, Any]:
    """A tool step."""
    return {"id": step_id, "tool": {"name": name or step_id}, **fields}
