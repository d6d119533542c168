"""A process with a Run of a workflow whose agent steps go on with threads, and that can be killed at any moment.

    python -m tests.crash.thread_workload

Reads jobs from standard input as `memory_workload` does. Each step names a thread; its agent asks another one, which has a thread
below it. Threads that are found for the first time get a row, as the objects of a server would.
"""

import json
import os
from collections.abc import Mapping
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
from kastra.memory.interface import ThreadDirectory, ThreadKey, thread_key
from kastra.memory.recall import Recall
from kastra.memory.threads import Threads
from kastra.netguard import Guard, Policy
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from tests.crash.memory_workload import NoSecrets, serve
from tests.crash.run_workload import Job

STEPS = ("one", "two")
ASKS = [
    {"when": "size(results) == 0", "call": {"tool": "a", "arguments": {"prompt": "${{ input.text }}"}}},
    {"reply": "${{ results[0] }}"},
]


def closure() -> Closure:
    """That of the workflow."""

    def entry(kind: str, name: str, spec: Mapping[str, Any], **refs: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "namespace": "default",
            "name": name,
            "uid": name,
            "generation": 1,
            "spec": spec,
            "refs": refs,
        }

    def agent(name: str, rules: list[Any], **spec: Any) -> dict[str, Any]:
        model = {"provider": "scripted", "parameters": {"rules": rules}}
        return entry("Agent", name, {"model": model, "memory": {"enabled": True}, **spec})

    steps = [
        {"id": name, "agent": {"name": "boss"}, "input": {"with": {}, "prompt": name}, "memory": {"thread": "t"}}
        for name in STEPS
    ]
    objects = {
        "Workflow/default/w": entry("Workflow", "w", {"steps": steps}),
        "Agent/default/boss": agent("boss", ASKS, tools=[{"name": "a", "agentRef": {"name": "a"}}]),
        "Agent/default/a": agent("a", [{"reply": "heard ${{ input.text }}"}]),
    }
    objects["Workflow/default/w"]["refs"] = {f"spec.steps[{n}].agent": "Agent/default/boss" for n in range(len(STEPS))}
    objects["Agent/default/boss"]["refs"] = {"spec.tools[0]": "Agent/default/a"}
    return cast(Closure, {"root": "Workflow/default/w", "objects": objects})


async def execute(job: Job) -> None:
    """Execute the Run to its end, or go on with what is left of it."""
    opened = open_database(job.database)
    writer = Writer(opened.connection, opened.epoch)
    threads, bus = Threads(writer, SystemClock(), opened.path, opened.driver), Bus()

    async def find(namespace: str, name: str, spec: Mapping[str, Any], owner: ThreadKey | None) -> ThreadKey:
        key = thread_key(f"uid-{name}", namespace, name, spec)
        await threads.open(key)
        return key

    async with Guard(Policy()) as guard:
        services = AgentServices(
            guard, SystemClock(), NoSecrets(), memory=Recall(threads), threads=ThreadDirectory(find)
        )
        engine = Services(SystemClock(), runners(services), lambda schema, value: [])
        pool = Pool(writer, writer.query, bus, engine, holder=f"process-{os.getpid()}")
        async with pool, bus.subscribe(TOPIC, limit=10_000) as changes:
            pool.submit(RunOrder("run", "default", "run", closure(), {}, created=1))
            while (progress := await pool.progress("run")) is None or not progress.phase.terminal:
                await changes.batch()
            Path(job.outputs).write_text(json.dumps([progress.phase, progress.output]))
    await threads.aclose()
    await writer.aclose()


if __name__ == "__main__":
    serve(execute)
