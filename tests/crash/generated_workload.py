"""A process that executes the Runs of a batch and can be killed at any moment: `python -m tests.crash.generated_workload`.

Jobs come to the fork server of `tests.crash.forks`. What a tool does to the world is a line in `effects`. The outside world sends each
event, answer and decision until it is acknowledged, and notes that in `acknowledged`: from then on it relies on Kastra.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from kastra.agent.runners import runners
from kastra.agent.services import AgentServices
from kastra.api.cloudevents import CloudEvent, parse_event
from kastra.api.types import Closure, ClosureObject
from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.engine.children import ChildRunRunner
from kastra.engine.execution import Services
from kastra.engine.objects import ChildOutcome, ObjectRef
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.progress import Progress
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from kastra.model.chain import ModelEntry
from kastra.netguard import Guard, Policy
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from kastra.tool.interface import ToolBody, ToolContext
from tests.crash.effects import STARTED, digest
from tests.crash.forks import Job, serve
from tests.crash.generated import CHILDREN

RULES = [
    {"when": "size(results) == 0", "call": {"tool": "look", "arguments": {"q": "tea"}}},
    {"reply": "found ${{ results[0].n }}"},
]
LEAVES = {"tool": "Tool", "agent": "Agent", "workflow": "Workflow", "network": "Network"}


def _object(kind: str, name: str, spec: Mapping[str, Any], refs: Mapping[str, str] | None = None) -> ClosureObject:
    made = {"kind": kind, "namespace": "default", "name": name, "uid": name, "generation": 1, "spec": spec}
    return {**made, "refs": dict(refs or {})}  # type: ignore[typeddict-item]


def _agent() -> dict[str, ClosureObject]:
    spec = {"model": {"provider": "scripted", "parameters": {"rules": RULES}}, "tools": [{"name": "look"}]}
    found = [
        _object("Agent", "a", spec, {"spec.tools[0]": "Tool/default/look"}),
        _object("Tool", "look", {"python": {"inline": "def look(q: str) -> dict: ..."}}),
    ]
    return {f"{item['kind']}/default/{item['name']}": item for item in found}


def network() -> Closure:
    """Two members in turn, which are the same agent."""
    ref = {"kind": "Agent", "name": "a"}
    members = [
        {"kind": "Agent", "name": name, "ref": ref, "path": f"spec.agents[{index}]"}
        for index, name in enumerate(("first", "second"))
    ]
    refs = {entry["path"]: "Agent/default/a" for entry in members}
    spec = {"instructions": "Work.", "members": members, "router": {"mode": "roundRobin"}}
    return {
        "root": "Network/default/n",
        "objects": {"Network/default/n": _object("Network", "n", spec, refs), **_agent()},
    }  # type: ignore[dict-item]


def closure(spec: Mapping[str, Any], name: str = "w") -> Closure:
    """That of a workflow."""
    refs: dict[str, str] = {}
    objects: dict[str, ClosureObject] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for kind, title in LEAVES.items():
                if isinstance(node.get(kind), dict) and "name" in node[kind]:
                    target = f"{title}/default/{node[kind]['name']}"
                    refs[f"{path}.{kind}"] = target
                    probe = {"probe": {"toolRef": {"name": "probe"}}} if title == "Tool" else {}
                    objects.setdefault(target, _object(title, node[kind]["name"], probe))
            for key, item in node.items():
                walk(item, f"{path}.{key}")
        elif isinstance(node, list):
            for index, item in enumerate(node):
                walk(item, f"{path}[{index}]")

    walk(spec, "spec")
    root = f"Workflow/default/{name}"
    return {"root": root, "objects": {**objects, **_agent(), root: _object("Workflow", name, spec, refs)}}  # type: ignore[dict-item]


class World:
    """Tools with effects, and the objects that Runs create: child Runs and Approvals."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._file = os.open(job.effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.pool: Pool | None = None
        self._watching: dict[str, anyio.Event] = {}

    def note(self, line: str) -> None:
        """Leave a line."""
        os.write(self._file, f"{line}\n".encode())

    def happened(self, key: str) -> bool:
        """Whether there was an effect of that idempotency key."""
        return key in self._job.path("effects").read_text().split()

    # --- tools -----------------------------------------------------------------------------------------------------

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """What `tests.crash.oracle` says of each."""
        name = target["name"]

        async def call(effect: Effect) -> Any:
            self.note(effect.idempotency_key)
            if name == "broken" or (name == "odd" and value["n"] % 2):
                raise StepError("tool", name, retryable=False)
            if name == "refuse" or (name == "flaky" and effect.attempt == 1):
                raise StepError("tool", name)
            if name == "hang":
                await anyio.sleep_forever()
            return {"n": digest(value)}

        async def probe(key: str, effect: Effect) -> Mapping[str, Any]:
            return {"happened": self.happened(key), "output": {"n": digest(value)}}

        once = options.get("delivery") == "AtMostOnce"
        how = CallOptions("tool", at_most_once=once, on_in_doubt=options.get("onInDoubt", "suspend"), probe=probe)
        if once and options.get("onInDoubt") == "suspend":
            self._job.path(f"value-{step.run_uid}-{step.key.replace('/', '|')}").write_text(str(digest(value)))
        return await step.call("", call, how)

    async def tool(self, tool: ClosureObject, make: Callable[[], Awaitable[ToolBody]]) -> ToolBody:
        """The tools of agents; see `kastra.agent.doubles`."""
        return self

    def models(self, owner: str, make: Callable[[], list[ModelEntry]]) -> list[ModelEntry]:
        """The real ones."""
        return make()

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """A tool that an agent calls."""
        self.note(context.idempotency_key)
        return {"n": digest(dict(arguments))}

    # --- objects ---------------------------------------------------------------------------------------------------

    async def create(
        self, kind: str, namespace: str, name: str, spec: Mapping[str, Any], owner: ObjectRef
    ) -> ObjectRef:
        """Make it, or find it as it was."""
        path = self._job.path(f"{kind}-{name}")
        if path.exists():
            assert json.loads(path.read_text()) == spec, "the same object is something else after a crash"
        else:
            path.with_suffix(".new").write_text(json.dumps(spec))
            path.with_suffix(".new").rename(path)
        if kind == "Run":
            self.submit(name)
        return ObjectRef(kind, namespace, name, name)

    def submit(self, name: str) -> None:
        """A child Run, as the controller of Runs would."""
        spec = json.loads(self._job.path(f"Run-{name}").read_text())
        target = spec["target"]
        made = network() if target["kind"] == "Network" else closure(CHILDREN[target["name"]], target["name"])
        assert self.pool is not None
        self.pool.submit(RunOrder(name, "default", name, made, spec["input"], created=1))

    async def wait(self, ref: ObjectRef) -> ChildOutcome:
        """An Approval is decided at once, as it asks for; a Run takes its time."""
        if ref.kind == "Approval":
            spec = json.loads(self._job.path(f"Approval-{ref.name}").read_text())
            verdict = "approve" if spec["message"] == "yes" else "reject"
            phase = "Approved" if verdict == "approve" else "Rejected"
            return ChildOutcome(phase, {"verdict": verdict, "by": "ada", "at": STARTED})
        assert self.pool is not None
        while True:
            ended = self._watching.setdefault(ref.name, anyio.Event())
            progress = await self.pool.progress(ref.name)
            if progress is not None and progress.phase.terminal:
                return ChildOutcome(progress.phase.value, progress.output, progress.error)
            await ended.wait()

    async def cancel(self, ref: ObjectRef) -> None:
        """Ask a child Run to stop."""
        if ref.kind == "Run" and self.pool is not None:
            await self.pool.cancel(ref.name, event_id=f"cancel/{ref.name}")

    def changed(self) -> None:
        """Something is different; whoever waits looks again."""
        for event in self._watching.values():
            event.set()
        self._watching.clear()

    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        """No secrets."""
        raise LookupError("there is none")


class Outside:
    """Sends what a batch says, each until it is acknowledged."""

    def __init__(self, job: Job, pool: Pool, batch: Mapping[str, Any], world: World) -> None:
        self._job, self._pool, self._batch, self._world = job, pool, batch, world
        path = job.path("acknowledged")
        self._done = set(path.read_text().split()) if path.exists() else set[str]()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _acknowledge(self, what: str) -> None:
        self._done.add(what)
        os.write(self._file, f"{what}\n".encode())

    async def act(self) -> None:
        """Do what can be done now."""
        held = set[str]()
        for entry in self._batch["events"]:
            event, how = parse_event(entry["event"]), entry["how"]
            if event.id in self._done:
                if how == "twice" and f"{event.id}/again" not in self._done:
                    await self._pool.mailroom.deliver("default", event)
                    self._acknowledge(f"{event.id}/again")
                continue
            # Events of one type keep their order.
            if event.type in held or (how == "late" and not await self._waits(entry["run"], event)):
                held.add(event.type)
                continue
            if how != "signal":
                await self._pool.mailroom.deliver("default", event)
            elif not await self._pool.signal(entry["run"], event):
                held.add(event.type)
                continue
            self._acknowledge(event.id)
        for uid, answers in self._batch["answers"].items():
            await self._answer(uid, answers)

    async def _waits(self, uid: str, event: CloudEvent) -> bool:
        progress = await self._pool.progress(uid)
        return progress is not None and any(wait.get("eventType") == event.type for wait in progress.waiting_for)

    async def _answer(self, uid: str, answers: Mapping[str, Any]) -> None:
        holds = self._pool.holds(uid)
        for key in list(holds.keys) if holds is not None else ():
            if key in answers:
                if f"{uid}/{key}" not in self._done:
                    taken = await self._pool.resume(uid, key=key, data=answers[key], event_id=f"answer/{uid}/{key}")
                    if taken:
                        self._acknowledge(f"{uid}/{key}")
                continue
            progress = await self._pool.progress(uid)
            if progress is not None and not self._in_doubt(uid, key):
                continue
            # Somebody looks whether a call in doubt took place.
            answer: dict[str, Any] = {"action": "retry"}
            if self._world.happened(f"{uid}/{key}"):
                kept = self._job.path(f"value-{uid}-{key.replace('/', '|')}").read_text()
                answer = {"action": "complete", "output": {"n": int(kept)}}
            await self._pool.resume(uid, key=key, data=answer)

    def _in_doubt(self, uid: str, key: str) -> bool:
        return self._job.path(f"value-{uid}-{key.replace('/', '|')}").exists()


async def execute(job: Job) -> None:
    """Execute every Run to its end, or go on with what is left of it."""
    batch = json.loads(job.path("batch.json").read_text())
    opened = open_database(job.database)
    writer = Writer(opened.connection, opened.epoch)
    world, bus, clock = World(job), Bus(), SystemClock()
    ended: dict[str, Progress] = {}
    async with Guard(Policy()) as guard:
        children = {kind: ChildRunRunner(world, kind) for kind in ("Workflow", "Network")}
        services = AgentServices(guard, clock, world, children=children, doubles=world)
        performed = {**runners(services), "tool": world}
        pool = Pool(
            writer, writer.query, bus, Services(clock, performed, lambda schema, value: [], world),
            holder=f"process-{os.getpid()}",
        )  # fmt: skip
        world.pool = pool
        outside = Outside(job, pool, batch, world)
        pool.mailroom.listen(_listener(world))
        async with pool, bus.subscribe(TOPIC, limit=100_000) as changes:
            for uid, spec in batch["specs"].items():
                pool.submit(RunOrder(uid, "default", uid, closure(spec), batch["inputs"][uid], created=1))
            # Child Runs that their object asks for are executed, whatever their parent does meanwhile.
            for path in job.path("k.db").parent.glob("Run-*"):
                if path.suffix != ".new":
                    world.submit(path.name.removeprefix("Run-"))
            while True:
                names = [
                    *batch["specs"],
                    *(path.name[4:] for path in job.path("k.db").parent.glob("Run-*") if path.suffix != ".new"),
                ]
                for uid in names:
                    if uid not in ended:
                        progress = await pool.progress(uid)
                        if progress is not None and progress.phase.terminal:
                            ended[uid] = progress
                if all(uid in ended for uid in names):
                    break
                await outside.act()
                await changes.batch()
                world.changed()
            await outside.act()
            while await writer.query("SELECT 1 FROM inbox WHERE type = '@pending'"):
                await anyio.sleep(0.001)
    await writer.aclose()
    outputs = {
        uid: {"phase": run.phase.value, "output": run.output, "error": run.error, "compensation": run.compensation}
        for uid, run in ended.items()
    }
    job.path("outputs").write_text(json.dumps(outputs, sort_keys=True))


def _listener(world: World) -> Callable[[str, CloudEvent], Awaitable[None]]:
    async def listen(namespace: str, event: CloudEvent) -> None:
        world.note(f"listened/{event.id}")

    return listen


if __name__ == "__main__":
    serve(Job, execute)
