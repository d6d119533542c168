"""A process in which a Schedule and a trigger start Runs, and which can be killed at any moment.

    python -m tests.crash.trigger_workload

Jobs come to the fork server of `tests.crash.forks`. Time is virtual and goes on where the job says. An event is noted in
`acknowledged` when it has been accepted. Without failpoints the process stays until every Run has ended, and writes phases and
inputs by name to `runs`.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from kastra import failpoint
from kastra.api.cloudevents import CloudEvent
from kastra.api.errors import AlreadyExists
from kastra.app.composition import Composition, compose, discover_controllers
from kastra.client.interface import Client
from kastra.config import Settings
from kastra.engine.mailroom import Mailroom
from kastra.testing.clock import VirtualClock
from tests.crash.forks import serve

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = 5
"""Seconds between two moments of the Schedule."""


@dataclass(frozen=True)
class Job:
    """One process.

    Args:
        folder: of the store, and of `acknowledged` and `runs`.
        start: seconds after `BEGIN` at which its clock begins.
        seconds: that go by in it.
        events: ids of the events that are sent in it.
        failpoints: what kills it, as `kastra.failpoint.arm` takes it.
    """

    folder: str
    start: int
    seconds: int
    events: tuple[str, ...] = ()
    failpoints: str = ""


def manifests() -> list[dict[str, Any]]:
    """A workflow that is started by events, and the Schedule that starts it too."""
    trigger = {"name": "sent", "event": {"type": "order"}, "input": "${{ event.id }}"}
    schedule = {"target": {"kind": "Workflow", "name": "work"}, "every": f"{EVERY}s", "catchUp": "All"}
    return [
        _manifest("Workflow", "work", {"steps": [{"id": "a", "set": {"done": True}}], "triggers": [trigger]}),
        _manifest("Schedule", "tick", {**schedule, "successfulRunsLimit": 1000, "failedRunsLimit": 1000}),
    ]


def _manifest(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": metadata, "spec": spec}


async def execute(job: Job) -> None:
    """Let time pass and send the events, then wait for what follows."""
    folder = Path(job.folder)
    clock = VirtualClock(BEGIN + timedelta(seconds=job.start))
    settings = Settings(project=folder, data=folder / "data", controllers=())
    async with compose(settings, clock=clock, path=folder / "k.db") as parts:
        assert parts.manager is not None
        for manifest in manifests():
            try:
                await parts.client.create(manifest)
            except AlreadyExists:
                continue
        await parts.manager.settle()
        failpoint.arm(job.failpoints)
        mailroom = parts.manager.service(Mailroom)
        with (folder / "acknowledged").open("a", encoding="utf-8") as acknowledged:
            for event in job.events:
                await mailroom.deliver("default", CloudEvent(event, "/test", "order"))
                acknowledged.write(event + "\n")
                acknowledged.flush()
        for _ in range(job.seconds):
            await clock.advance(1)
            await anyio.sleep(0.002)
            await parts.manager.settle()
        if not job.failpoints:
            await _finish(parts, clock)
            runs = (await parts.client.list("runs")).items
            found = {run.name: [run.status.get("phase"), run.spec.get("input")] for run in runs}
            (folder / "runs").write_text(json.dumps(found, sort_keys=True))


async def _finish(parts: Composition, clock: VirtualClock) -> None:
    """Wait until there is nothing left to hand over and every Run has ended."""
    assert parts.manager is not None
    quiet = 0
    while quiet < 5:
        await parts.manager.settle()
        await clock.advance(0.05)
        await anyio.sleep(0.005)
        quiet = quiet + 1 if await _all_ended(parts.client) else 0


async def _all_ended(client: Client) -> bool:
    return all(run.is_condition_true("Complete") for run in (await client.list("runs")).items)


if __name__ == "__main__":
    # Imported once, not in every fork.
    importlib.import_module("kastra.app.execution")
    discover_controllers(Settings(controllers=()))
    serve(Job, execute)
