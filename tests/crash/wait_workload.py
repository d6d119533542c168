"""A process whose Runs wait for events, signals, answers and decisions, and that can be killed at any moment.

    python -m tests.crash.wait_workload

Jobs come to the fork server of `tests.crash.forks`. The outside world is patient: every process sends every event and signal
again under its id, answers what is held, and decides what is asked, as somebody who got no answer would.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from kastra.api.cloudevents import CloudEvent
from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.engine.approvals import Request, ask
from kastra.engine.execution import Services
from kastra.engine.objects import ChildOutcome, ObjectRef
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.step import CallOptions, Effect, StepContext
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from tests.crash.forks import Job, serve
from tests.crash.run_workload import closure, tool

TIME = "2030-01-01T00:00:00Z"
EVENTS = [CloudEvent(f"e{number}", "/shop", "paid", time=TIME, data=number) for number in (1, 2, 3)]
SIGNAL = CloudEvent("s1", "signal", "go", time=TIME, data="go")
WORKFLOWS: dict[str, dict[str, Any]] = {
    "events": {"steps": [tool("a"), {"id": "paid", "waitForEvent": {"type": "paid", "count": 3, "timeout": "1h"}}, tool("b")]},
    "filtered": {"steps": [{"id": "paid", "waitForEvent": {"type": "paid", "filter": "event.data == 2"}}, tool("b")]},
    "signal": {"steps": [{"id": "go", "waitForEvent": {"type": "go"}}, tool("b")]},
    "hold": {"steps": [{"id": "in", "do": {"steps": [{"id": "hold", "suspend": {"timeout": "1h"}}, tool("b")]}}]},
    "ask": {"steps": [{"id": "ok", "approve": {"message": "?", "timeout": "1h"}}, tool("b")]},
    "guarded": {"steps": [{"id": "guarded", "tool": {"name": "guarded"}}, tool("b")]},
    "emit": {"steps": [tool("a"), {"id": "tell", "emit": {"type": "told", "data": {"n": "${{ prev.n }}"}}}, tool("b")]},
    "told": {"steps": [{"id": "told", "waitForEvent": {"type": "told"}}, tool("b")], "output": {"as": "${{ steps.told.output.id }}"}},
}  # fmt: skip


class World:
    """Tools whose effects leave a line each, and Approvals that are files."""

    def __init__(self, folder: Path, effects: str) -> None:
        self._file = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._approvals = folder / "approvals"
        self._approvals.mkdir(exist_ok=True)

    def note(self, line: str) -> None:
        """Leave a line."""
        os.write(self._file, f"{line}\n".encode())

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """Gives back `n` and one more; the guarded one asks first."""
        if target["name"] == "guarded":
            assert (await ask(step.child("approval"), Request("guarded"))).by == ("ada",)

        async def call(effect: Effect) -> Any:
            self.note(effect.idempotency_key)
            return {"n": value["n"] + 1 if isinstance(value, dict) and "n" in value else 1}

        return await step.call("", call, CallOptions("tool"))

    async def listen(self, namespace: str, event: CloudEvent) -> None:
        """A trigger that is told of an event."""
        self.note(f"listened/{event.id}")

    async def create(
        self, kind: str, namespace: str, name: str, spec: Mapping[str, Any], owner: ObjectRef
    ) -> ObjectRef:
        """Make the file, or find it as it was."""
        path = self._approvals / name
        if path.exists():
            assert json.loads(path.read_text()) == spec, "the same approval asks for something else after a crash"
        else:
            path.with_suffix(".new").write_text(json.dumps(spec))
            path.with_suffix(".new").rename(path)
        return ObjectRef(kind, namespace, name, name)

    async def wait(self, ref: ObjectRef) -> ChildOutcome:
        """Somebody decides at once."""
        return ChildOutcome("Approved", {"verdict": "approve", "by": "ada", "at": TIME})

    async def cancel(self, ref: ObjectRef) -> None:
        """Nobody does that."""


async def execute(job: Job) -> None:
    """Execute every workflow to its end, or go on with what is left of it."""
    opened = open_database(job.database)
    writer = Writer(opened.connection, opened.epoch)
    world, bus = World(Path(job.database).parent, job.effects), Bus()
    services = Services(SystemClock(), {"tool": world}, lambda schema, value: [], world)
    outputs: dict[str, Any] = {}
    pool = Pool(writer, writer.query, bus, services, holder=f"process-{os.getpid()}")
    pool.mailroom.listen(world.listen)
    async with pool, bus.subscribe(TOPIC, limit=10_000) as changes:
        for name, spec in WORKFLOWS.items():
            pool.submit(RunOrder(name, "default", name, closure(spec), {"n": 0}, created=1))
        for event in EVENTS:
            await pool.mailroom.deliver("default", event)
        await pool.signal("signal", SIGNAL)
        while len(outputs) < len(WORKFLOWS):
            holds = pool.holds("hold")
            if holds is not None and holds.keys:
                await pool.resume("hold", data={"n": 5}, event_id="answer")
            for name in WORKFLOWS:
                progress = await pool.progress(name)
                if progress is not None and progress.phase.terminal:
                    outputs[name] = [progress.phase, progress.output]
            if len(outputs) < len(WORKFLOWS):
                await changes.batch()
        while await writer.query("SELECT 1 FROM inbox WHERE type = '@pending'"):
            await anyio.lowlevel.checkpoint()
    await writer.aclose()
    job.path("outputs").write_text(json.dumps(outputs, sort_keys=True))


if __name__ == "__main__":
    serve(Job, execute)
