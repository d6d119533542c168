"""A process that executes one Run of each of several workflows and can be killed at any moment.

    python -m tests.crash.run_workload

Jobs come to the fork server of `tests.crash.forks`. Every effect appends its idempotency key to the job's `effects` before it
returns; the outputs of all Runs are written to `outputs` at the end. A job on a store that another left takes up what is there.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from kastra.api.types import Closure, ClosureObject
from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.engine.execution import Services
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from tests.crash.forks import Job, serve

RETRY = {"limit": 3, "initialInterval": "5ms", "jitter": 0}


def tool(step_id: str, **fields: Any) -> dict[str, Any]:
    """A tool step."""
    return {"id": step_id, "tool": {"name": "t"}, "retry": RETRY, **fields}


WORKFLOWS: dict[str, dict[str, Any]] = {
    "sequence": {"steps": [tool(f"s{number}") for number in range(6)]},
    "graph": {
        "steps": [tool("a"), tool("b"), tool("c", dependsOn=["a", "b"]), tool("d", dependsOn=["a"]), tool("e", dependsOn=["c", "d"])]
    },
    "retry": {"steps": [tool("a"), {**tool("flaky"), "tool": {"name": "flaky"}}, tool("b")]},
    "cycle": {
        "steps": [
            tool("count"),
            {"id": "again", "branch": {"cases": [{"when": "prev.n < 4", "next": "count"}], "default": {"steps": [tool("end")]}}},
        ]
    },
    "nested": {
        "state": {"initial": {"seen": 0}},
        "steps": [
            {"id": "mark", "set": {"seen": "${{ state.seen + 1 }}"}},
            {"id": "each", "forEach": {"items": [1, 2, 3], "concurrency": 2, "steps": [tool("t", input={"with": {"n": "${{ item }}"}})]}},
            {"id": "poll", "loop": {"until": "iteration >= 2", "maxIterations": 5, "delay": "2ms", "steps": [tool("t", input={"with": {"n": "${{ iteration }}"}})]}},
            {"id": "nap", "sleep": {"duration": "5ms"}},
            {"id": "fan", "parallel": {"steps": [tool("x"), tool("y"), tool("z")]}},
        ],
        "output": {"as": {"seen": "${{ state.seen }}", "each": "${{ steps.each.output }}", "fan": "${{ output }}"}},
    },
    "agent": {"steps": [{"id": "think", "agent": {"name": "a"}, "retry": RETRY}, tool("after")]},
}  # fmt: skip


class Recorder:
    """Runners whose effects leave a line each."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _note(self, effect: Effect) -> None:
        os.write(self._file, f"{effect.idempotency_key}\n".encode())

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """A tool adds one to `n`; the flaky one fails at its first attempt; an agent makes two turns and two calls."""
        if target["kind"] == "Agent":
            return await self._think(step, value)

        async def call(effect: Effect) -> Any:
            self._note(effect)
            if target["name"] == "flaky" and effect.attempt == 1:
                raise StepError("tool", "not now")
            return {"n": value["n"] + 1 if isinstance(value, dict) and "n" in value else 1}

        return await step.call("", call, CallOptions("tool"))

    async def _think(self, step: StepContext, value: Any) -> Any:
        async def turn(effect: Effect) -> Any:
            self._note(effect)
            return {"text": effect.idempotency_key.rpartition("/")[2], "usage": {"inputTokens": 1, "outputTokens": 1}}

        async def act(effect: Effect) -> Any:
            self._note(effect)
            return "done"

        first = await step.call("turn[0]", turn, CallOptions("model"))
        results = [await step.child("turn[0]").call(f"tool[{index}]", act, CallOptions("tool")) for index in (0, 1)]
        last = await step.call("turn[1]", turn, CallOptions("model"))
        return {"n": len(results), "texts": [first["text"], last["text"]]}


def closure(spec: Mapping[str, Any]) -> Closure:
    """The closure of a workflow whose tools and agents are the recorder's."""
    refs: dict[str, str] = {}
    objects: dict[str, ClosureObject] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for kind in ("tool", "agent"):
                if isinstance(node.get(kind), dict) and "name" in node[kind]:
                    name, title = node[kind]["name"], kind.capitalize()
                    refs[f"{path}.{kind}"] = f"{title}/default/{name}"
                    objects[f"{title}/default/{name}"] = _object(title, name, {})
            for key, item in node.items():
                walk(item, f"{path}.{key}")
        elif isinstance(node, list):
            for index, item in enumerate(node):
                walk(item, f"{path}[{index}]")

    walk(spec, "spec")
    objects["Workflow/default/w"] = {**_object("Workflow", "w", spec), "refs": refs}
    return {"root": "Workflow/default/w", "objects": objects}


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> ClosureObject:
    return {"kind": kind, "namespace": "default", "name": name, "uid": name, "generation": 1, "spec": spec, "refs": {}}


async def execute(job: Job) -> None:
    """Execute every workflow to its end, or go on with what is left of it."""
    opened = open_database(job.database)
    writer = Writer(opened.connection, opened.epoch)
    recorder, bus = Recorder(job.effects), Bus()
    services = Services(SystemClock(), {"tool": recorder, "agent": recorder}, lambda schema, value: [])
    outputs: dict[str, Any] = {}
    pool = Pool(writer, writer.query, bus, services, holder=f"process-{os.getpid()}")
    async with pool, bus.subscribe(TOPIC, limit=10_000) as changes:
        for name, spec in WORKFLOWS.items():
            pool.submit(RunOrder(name, "default", name, closure(spec), {"n": 0}))
        while len(outputs) < len(WORKFLOWS):
            for name in WORKFLOWS:
                progress = await pool.progress(name)
                if progress is not None and progress.phase.terminal:
                    outputs[name] = [progress.phase, progress.output]
            if len(outputs) < len(WORKFLOWS):
                await changes.batch()
    await writer.aclose()
    job.path("outputs").write_text(json.dumps(outputs, sort_keys=True))


if __name__ == "__main__":
    serve(Job, execute)
