"""A process whose Runs emit events for a sink, and which can be killed at any moment.

    python -m tests.crash.sink_workload

Jobs come to the fork server of `tests.crash.forks`.
The sink is a server in the same process, which appends what it is sent to `received` before it answers, so that a killed process
leaves that behind. Without failpoints the process stays until every Run has ended and nothing is queued, and writes the uids of
the Runs to `runs`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from kastra import failpoint
from kastra.api.errors import AlreadyExists
from kastra.api.meta import ObjectRef
from kastra.app.composition import Composition, compose
from kastra.client.interface import PatchType
from kastra.config import Settings
from kastra.engine.outbox import Outbox
from kastra.model import testing as fake
from tests.crash.forks import serve

EVENTS = 3
"""That each Run emits."""


@dataclass(frozen=True)
class Job:
    """One process.

    Args:
        folder: of the store, and of `received` and `runs`.
        runs: names of the Runs that are created in it.
        failpoints: what kills it, as `kastra.failpoint.arm` takes it.
    """

    folder: str
    runs: tuple[str, ...]
    failpoints: str = ""


def _manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": metadata, "spec": spec}


async def execute(job: Job) -> None:
    """Start the Runs, then wait for what follows."""
    folder = Path(job.folder)
    settings = Settings(project=folder, data=folder / "data", controllers=())
    steps = [{"id": f"tell{n}", "emit": {"type": "told", "data": {"n": n}}} for n in range(EVENTS)]
    with (folder / "received").open("a", encoding="utf-8") as received:

        def take(request: fake.Received) -> fake.Scripted:
            received.write(json.dumps(request.json["id"]) + "\n")
            received.flush()
            return fake.raw(b"")

        async with fake.FakeProvider() as server, compose(settings, path=folder / "k.db") as parts:
            server.always(take)
            assert parts.manager is not None
            sink = _manifest("EventSink", "out", {"uri": server.url, "allowPrivate": True})
            try:
                await parts.client.create(_manifest("Workflow", "teller", {"steps": steps}))
                await parts.client.create(sink)
            except AlreadyExists:
                # The server has another port in each process.
                reference = ObjectRef("eventsinks", "out", "default")
                await parts.client.patch(reference, {"spec": {"uri": server.url}}, PatchType.MERGE)
            await parts.manager.settle()
            failpoint.arm(job.failpoints)
            for name in job.runs:
                target = {"kind": "Workflow", "name": "teller"}
                await parts.client.create(_manifest("Run", name, {"target": target}))
            await _finish(parts)
            if not job.failpoints:
                runs = (await parts.client.list("runs")).items
                (folder / "runs").write_text(json.dumps([run.uid for run in runs]))


async def _finish(parts: Composition) -> None:
    """Wait until every Run has ended and nothing is queued."""
    assert parts.manager is not None
    outbox = parts.manager.service(Outbox)
    [sink] = (await parts.client.list("eventsinks")).items
    while True:
        await anyio.sleep(0.005)
        await parts.manager.settle()
        runs = (await parts.client.list("runs")).items
        waiting = await parts.store.query("SELECT count(*) FROM inbox WHERE type = '@pending'", ())
        ended = all(run.is_condition_true("Complete") for run in runs) and not waiting[0][0]
        if ended and (await outbox.report(sink.uid)).pending == 0:
            return


if __name__ == "__main__":
    serve(Job, execute)
