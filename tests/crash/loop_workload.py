"""The process that is killed: loops that take a checkpoint every twenty records instead of every thousand.

    python -m tests.crash.loop_workload

Jobs come to the fork server of `tests.crash.forks`.
"""

import json
import os
from typing import Any

from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.engine import checkpoints
from kastra.engine.execution import Services
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from tests.crash.forks import Job, serve
from tests.crash.run_workload import Recorder, closure

EVERY = 20
ITERATIONS = 40


def tool(step_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "tool": {"name": "t"}, **fields}


def loop(step_id: str, steps: list[dict[str, Any]], times: int = ITERATIONS) -> dict[str, Any]:
    return {"id": step_id, "loop": {"until": f"iteration >= {times}", "maxIterations": times, "steps": steps}}


COUNT = {"id": "s", "set": {"n": "${{ iteration }}"}}
LARGE = {"id": "large", "set": {"text": "x" * 40_000}}
WORKFLOWS: dict[str, dict[str, Any]] = {
    "long": {"steps": [loop("poll", [tool("t"), COUNT])], "output": {"as": "${{ state }}"}},
    "large": {"steps": [loop("poll", [tool("t"), LARGE, COUNT], 12)], "output": {"as": {"n": "${{ state.n }}"}}},
    "inside": {
        "steps": [
            {"id": "each", "forEach": {"items": [1, 2], "steps": [loop("outer", [loop("inner", [tool("t")], 10), COUNT], 4)]}}
        ],
        "output": {"as": "${{ state }}"},
    },
    "undo": {
        "onError": "compensate",
        "steps": [
            loop("poll", [tool("t", compensate={"steps": [tool("u")]}), COUNT], 15),
            {"id": "broken", "raise": {"type": "tool", "title": "broken"}, "retry": {"limit": 0}},
        ],
    },
}  # fmt: skip


async def execute(job: Job) -> None:
    """Execute every workflow to its end, or go on with what is left of it."""
    checkpoints.EVERY = EVERY
    job.arm()
    opened = open_database(str(job.database))
    writer = Writer(opened.connection, opened.epoch)
    recorder, bus = Recorder(str(job.path("effects"))), Bus()
    services = Services(SystemClock(), {"tool": recorder}, lambda schema, value: [])
    outcomes: dict[str, Any] = {}
    pool = Pool(writer, writer.query, bus, services, holder=f"process-{os.getpid()}")
    async with pool, bus.subscribe(TOPIC, limit=10_000) as changes:
        for name, spec in WORKFLOWS.items():
            pool.submit(RunOrder(name, "default", name, closure(spec), {"n": 0}))
        while len(outcomes) < len(WORKFLOWS):
            for name in WORKFLOWS:
                progress = await pool.progress(name)
                if progress is not None and progress.phase.terminal:
                    outcomes[name] = [progress.phase, progress.output, progress.compensation, dict(progress.counts)]
            if len(outcomes) < len(WORKFLOWS):
                await changes.batch()
    await writer.aclose()
    job.path("outputs").write_text(json.dumps(outcomes, sort_keys=True))


if __name__ == "__main__":
    serve(Job, execute)
