"""A process whose Runs go on with one thread, and that can be killed at any moment.

    python -m tests.crash.memory_workload

Jobs come to the fork server of `tests.crash.forks`. Each Run is an agent's that keeps something in working memory and then answers;
three of them go on with one thread. Every process then erases another thread, which the first one fills.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from kastra.agent.runners import runners
from kastra.agent.services import AgentServices
from kastra.api.types import Closure
from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.engine.execution import Services
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.memory.interface import ThreadKey
from kastra.memory.recall import Recall
from kastra.memory.threads import Threads
from kastra.netguard import Guard, Policy
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from tests.crash import forks
from tests.crash.forks import Job

RUNS = ("one", "two", "three")
THREAD = ThreadKey("thread", "default", "t", "ann")
GONE = ThreadKey("gone", "default", "g", "bob")
RULES = [
    {
        "when": "size(results) == 0",
        "call": {"tool": "updateWorkingMemory", "arguments": {"memory": "last: ${{ input.text }}"}},
    },
    {"reply": "noted ${{ input.text }}"},
]


class NoSecrets:
    """Has none."""

    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        """Nothing."""
        raise LookupError("there is none")


def closure() -> Closure:
    """That of the agent."""
    spec = {
        "model": {"provider": "scripted", "parameters": {"rules": RULES}},
        "memory": {
            "enabled": True,
            "workingMemory": {"enabled": True, "template": "last:"},
            "semanticRecall": {"enabled": True, "embedder": {"provider": "scripted"}, "scope": "resource"},
        },
    }
    agent = {
        "kind": "Agent",
        "namespace": "default",
        "name": "a",
        "uid": "a",
        "generation": 1,
        "spec": spec,
        "refs": {},
    }
    return cast(Closure, {"root": "Agent/default/a", "objects": {"Agent/default/a": agent}})


async def execute(job: Job) -> None:
    """Execute every Run to its end, or go on with what is left of it; then erase."""
    opened = open_database(job.database)
    writer = Writer(opened.connection, opened.epoch)
    threads, bus = Threads(writer, SystemClock(), opened.path, opened.driver), Bus()
    await threads.open(THREAD)
    outputs: dict[str, Any] = {}
    async with Guard(Policy()) as guard:
        services = AgentServices(guard, SystemClock(), NoSecrets(), memory=Recall(threads))
        engine = Services(SystemClock(), runners(services), lambda schema, value: [])
        pool = Pool(writer, writer.query, bus, engine, holder=f"process-{os.getpid()}")
        async with pool, bus.subscribe(TOPIC, limit=10_000) as changes:
            for name in RUNS:
                options = {"thread": THREAD.plain()}
                pool.submit(RunOrder(name, "default", name, closure(), name, options=options, created=1))
            while len(outputs) < len(RUNS):
                for name in RUNS:
                    progress = await pool.progress(name)
                    if progress is not None and progress.phase.terminal:
                        outputs[name] = [progress.phase, progress.output]
                if len(outputs) < len(RUNS):
                    await changes.batch()
    if not Path(job.outputs).with_suffix(".erased").exists():
        await threads.open(GONE)
        await threads.add(GONE, [{"role": "user", "content": f"secret {number}"} for number in range(700)], "before")
        await threads.erase(GONE)
        Path(job.outputs).with_suffix(".erased").touch()
    await threads.aclose()
    await writer.aclose()
    Path(job.outputs).write_text(json.dumps(outputs, sort_keys=True))


def serve(work: Callable[[Job], Awaitable[None]] = execute) -> None:
    """Serve jobs until standard input ends."""
    forks.serve(Job, work)


if __name__ == "__main__":
    serve()
