"""A process in which an agent's tools run a Workflow, emit an event and keep entries and working memory, and which can be killed.

    python -m tests.crash.tool_workload

Jobs come to the fork server of `tests.crash.forks`; their `effects` are not used. The first process makes
the objects and the one Run; every process goes on until that Run and what it started have ended.
"""

import importlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from kastra.api.errors import AlreadyExists
from kastra.api.meta import ObjectRef
from kastra.app.composition import Composition, compose, discover_controllers
from kastra.app.running import has_ended, wait_until
from kastra.config import Settings
from tests.crash.forks import Job, serve

CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("workflow_run", {"workflow": "work", "input": "tool"}),
    ("event_emit", {"type": "done", "data": "event"}),
    ("vector_upsert", {"entries": [{"id": "1", "text": "one " * 400}, {"id": "2", "text": "two"}]}),
    ("memory_update", {"fields": {"a": 1}}),
    ("memory_update", {"fields": {"b": 2}}),
    ("memory_read", {}),
)
STARTED = ("tool", "event")
"""Inputs of the Runs that must be there in the end, once each."""


def manifests() -> list[dict[str, Any]]:
    """The agent and what its tools need."""
    rules: list[dict[str, Any]] = [
        {"when": f"size(results) == {n}", "call": {"tool": tool, "arguments": arguments}}
        for n, (tool, arguments) in enumerate(CALLS)
    ]
    rules.append({"object": {"results": "${{ results }}"}})
    tools = [
        {"builtin": {"name": "workflow", "workflows": ["work"]}},
        {"builtin": {"name": "event", "types": ["done"]}},
        {"builtin": {"name": "vector", "bases": ["kb"]}},
        {"builtin": "memory"},
    ]
    model = {"provider": "scripted", "parameters": {"rules": rules}}
    agent = {"model": model, "tools": tools, "maxSteps": 20, "outputSchema": {"type": "object"}}
    trigger = {"name": "t", "event": {"type": "done"}, "input": "${{ event.data }}"}
    return [
        _manifest("KnowledgeBase", "kb", {"sources": [{"file": "docs"}], "embedder": {"provider": "scripted"}}),
        _manifest("Workflow", "work", {"steps": [{"id": "a", "set": {"done": True}}], "triggers": [trigger]}),
        _manifest("Agent", "a", agent),
        _manifest("Run", "go", {"target": {"kind": "Agent", "name": "a"}, "input": "go", "threadRef": "t"}),
    ]


def _manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": metadata, "spec": spec}


async def execute(job: Job) -> None:
    """Go on until everything has ended."""
    database = Path(job.database)
    folder = database.parent / "project"
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (folder / f"docs/{number}.md").write_text(f"document {number}")
    settings = Settings(project=folder, data=database.parent / "data", controllers=())
    async with compose(settings, path=database) as parts:
        *needed, order = manifests()
        for manifest in needed:
            await _create(parts, manifest)
        # What is read and what the agent does would be mixed as it happens, and so would the points where the process is killed.
        base = ObjectRef("KnowledgeBase", "kb", "default")
        await wait_until(parts.client, base, lambda kb: kb.is_condition_true("Ready"))
        await _create(parts, order)
        run = await wait_until(parts.client, ObjectRef("Run", "go", "default"), has_ended)
        await wait_until(
            parts.client, base, lambda kb: kb.is_condition_true("Ready") and kb.status.get("entries") is not None
        )
        started = await _started(parts)
    outcome = {"phase": run.status.get("phase"), "output": run.status.get("output"), "started": started}
    Path(job.outputs).write_text(json.dumps({**outcome, "error": run.status.get("error")}))


async def _create(parts: Composition, manifest: dict[str, Any]) -> None:
    with suppress(AlreadyExists):
        await parts.client.create(manifest)


async def _started(parts: Composition) -> list[Any]:
    """The inputs of the Runs of the Workflow, when they have ended and what was emitted has been handed over."""
    with anyio.fail_after(30):
        while True:
            runs = [run for run in (await parts.client.list("runs")).items if run.name != "go"]
            if len(runs) >= len(STARTED) and all(map(has_ended, runs)):
                return sorted(run.spec.get("input") for run in runs)
            await anyio.sleep(0.01)


if __name__ == "__main__":
    # Imported once, not in every fork.
    importlib.import_module("kastra.app.execution")
    discover_controllers(Settings(controllers=()))
    serve(Job, execute)
