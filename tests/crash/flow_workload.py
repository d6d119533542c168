"""A process that executes Runs with endings, budgets, memos and repetitions, and can be killed at any moment.

    python -m tests.crash.flow_workload

Jobs come to the fork server of `tests.crash.forks`; the outcomes of all Runs are written when they have ended.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.engine.execution import Services
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.rerun import Rerun
from kastra.engine.step import StepContext, StepError
from kastra.sql.database import open_database
from kastra.sql.writer import Writer
from tests.crash.forks import Job, serve
from tests.crash.run_workload import RETRY, Recorder, closure, tool


def undoable(step_id: str) -> dict[str, Any]:
    """A step that is undone by two others."""
    return tool(
        step_id, compensate={"steps": [tool("first", input={"with": {"n": "${{ output.n }}"}}), tool("second")]}
    )


BROKEN: dict[str, Any] = {"id": "broken", "tool": {"name": "broken"}, "retry": {"limit": 0}}
ENDING = [tool("clean", input={"with": {"n": "${{ size(outcome) }}"}}), tool("report")]
LIMITED: dict[str, Any] = {"concurrency": {"maxRuns": 1}, "steps": [tool("a"), tool("b")], "finally": ENDING}

WORKFLOWS: dict[str, dict[str, Any]] = {
    "finally": {
        "state": {"initial": {"n": 1}},
        "steps": [tool("a"), {"id": "count", "set": {"n": 2}}],
        "finally": [{"id": "change", "set": {"n": 3}}, *ENDING],
        "output": {"as": {"n": "${{ state.n }}"}},
    },
    "undo": {
        "onError": "compensate",
        "steps": [
            undoable("a"),
            {"id": "each", "forEach": {"items": [1, 2], "concurrency": 2, "steps": [undoable("t")]}},
            {"id": "fan", "parallel": {"steps": [undoable("x"), undoable("y")]}},
            BROKEN,
        ],
        "finally": ENDING,
    },
    "at-once": {
        "onError": "compensate",
        "compensation": {"order": "parallel"},
        "steps": [undoable("a"), undoable("b"), BROKEN],
    },
    "memo": {
        "steps": [
            {"id": "each", "forEach": {"items": [1, 2, 1, 2], "as": "n", "steps": [tool("t", input={"with": {"n": "${{ n }}"}}, memoize={"key": "n", "scope": "run"})]}}
        ]
    },
    "budget": {
        "budget": {"maxModelCalls": 1000, "maxToolCalls": 1000},
        "steps": [{"id": "think", "agent": {"name": "a"}, "retry": RETRY, "budget": {"maxTokens": 100000}}, tool("after")],
    },
    "limited-1": LIMITED,
    "limited-2": LIMITED,
    "again": {"steps": [tool("s1"), tool("s2"), tool("s3"), tool("s4")]},
}  # fmt: skip
REPEATED = "again-from-s3"


class FlowRecorder(Recorder):
    """A recorder with one more tool, which always fails."""

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """As every recorder, except that `broken` is."""
        if target["name"] == "broken":
            raise StepError("tool", "broken", retryable=False)
        return await super().run(step, target, value, options)


async def execute(job: Job) -> None:
    """Execute every workflow to its end, repeat one of them from a step, or go on with what is left of that."""
    opened = open_database(job.database)
    writer = Writer(opened.connection, opened.epoch)
    recorder, bus = FlowRecorder(job.effects), Bus()
    services = Services(SystemClock(), {"tool": recorder, "agent": recorder}, lambda schema, value: [])
    outcomes: dict[str, Any] = {}
    pool = Pool(writer, writer.query, bus, services, holder=f"process-{os.getpid()}")
    async with pool, bus.subscribe(TOPIC, limit=10_000) as changes:
        for name, spec in WORKFLOWS.items():
            pool.submit(RunOrder(name, "default", name, closure(spec), {"n": 0}))
        while len(outcomes) < len(WORKFLOWS) + 1:
            for name in (*WORKFLOWS, REPEATED):
                progress = await pool.progress(name)
                if progress is not None and progress.phase.terminal:
                    outcomes[name] = [progress.phase, progress.output, progress.compensation]
            if "again" in outcomes and REPEATED not in outcomes:
                spec, rerun = WORKFLOWS["again"], Rerun("again", "again", "s3")
                pool.submit(RunOrder(REPEATED, "default", REPEATED, closure(spec), rerun=rerun))
            if len(outcomes) < len(WORKFLOWS) + 1:
                await changes.batch()
    await writer.aclose()
    job.path("outputs").write_text(json.dumps(outcomes, sort_keys=True))


if __name__ == "__main__":
    serve(Job, execute)
