"""An answer as it arrives: a Run is created, and what its agent says and does becomes chunks, until the last one has the output.

    async for chunk in k.stream("agent/helper", "What is for dinner?"):
        if chunk["type"] == "text-delta":
            print(chunk["text"], end="")

    start             run, namespace: the Run that was created; it goes on whether or not anybody reads
    text-delta        text: more of the answer         reasoning-delta   text: more of what the model thinks before it
    tool-call-delta   toolCallId, toolName, args: more of the JSON of its arguments
    tool-call         toolName, args: a tool is called tool-result       toolName, result: what it gave
    approval          name: an Approval of this name is waited for
    restart           reason: what was said in this turn is void, and begins again
    finish            output, usage, phase             error             output is missing: what went wrong

Each has the `key` of the place that it comes from, where it comes from one: of a Run of an agent `turn[0]`, of a workflow's step
`answer/turn[0]`. Deltas are for watching; where some were missed (they are in no journal) the text of the turn follows whole,
once it is known. The names are Mastra's. Read next: `kastra.app.following`.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client

from .following import follow_events
from .running import RunResult, has_ended, wait_until

Chunk = Mapping[str, Any]


class Chunks:
    """Turns the events of one Run into chunks."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._tools: dict[str, str] = {}

    def of(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What an event is to somebody who reads an answer; often nothing."""
        kind, key, data = event.get("type", ""), event.get("key") or "", event.get("data") or {}
        if kind == "step.output.delta":
            return self._delta(key, data)
        if kind == "model.turn":
            return self._turn(key, data.get("output"))
        if kind == "step.reset":
            self._forget(key)
            return [{"type": "restart", "key": key, "reason": "its process ended", "attempt": event.get("attempt", 1)}]
        if kind == "tool.call" and data.get("tool"):
            self._tools[key] = data["tool"]
            return [{"type": "tool-call", "key": key, "toolName": data["tool"], "args": data.get("arguments")}]
        if kind == "tool.result":
            outcome = data.get("output")
            if not isinstance(outcome, Mapping):
                outcome = {"result": outcome}
            found = {"type": "tool-result", "key": key, "toolName": self._tools.get(key, "")}
            failed = "error" in outcome and "result" not in outcome
            return [{**found, "result": outcome.get("error" if failed else "result"), "isError": failed}]
        if kind == "run.suspended" and data.get("reason") == "Approval" and data.get("name"):
            return [{"type": "approval", "key": key, "name": data["name"]}]
        return []

    def _delta(self, key: str, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        kind = data.get("type")
        if kind == "text":
            self._said[key] = self._said.get(key, "") + data["text"]
            return [{"type": "text-delta", "key": key, "text": data["text"]}]
        if kind == "reasoning":
            return [{"type": "reasoning-delta", "key": key, "text": data["text"]}]
        if kind == "tool":
            named = {"toolCallId": data["id"], "toolName": data["name"], "args": data["arguments"]}
            return [{"type": "tool-call-delta", "key": key, **named}]
        if kind == "restart":
            self._forget(key)
            return [
                {"type": "restart", "key": key, "reason": data.get("reason", ""), "attempt": data.get("attempt", 1)}
            ]
        return []

    def _turn(self, key: str, output: Any) -> list[dict[str, Any]]:
        said, text = self._said.pop(key, ""), output.get("text") if isinstance(output, Mapping) else None
        if not text or said == text:
            return []
        if text.startswith(said):
            return [{"type": "text-delta", "key": key, "text": text[len(said) :]}]
        # The beginning was missed, or what was journaled isn't what was said: the journal counts.
        return [
            {"type": "restart", "key": key, "reason": "some of it was missed", "attempt": 1},
            {"type": "text-delta", "key": key, "text": text},
        ]

    def _forget(self, key: str) -> None:
        for known in [name for name in self._said if not key or name == key or name.startswith(f"{key}/")]:
            del self._said[known]


async def stream_run(client: Client, run: Object) -> AsyncGenerator[Chunk, None]:
    """The chunks of a Run that was just created, until its end; the last is `finish` or `error`.

    Raises:
        NotFound: the Run was deleted meanwhile.
        ConnectionError: the server could not be reached for 30 seconds.
    """
    chunks = Chunks()
    yield {"type": "start", "run": run.name, "namespace": run.namespace}
    async for event in follow_events(client, run.ref):
        for chunk in chunks.of(event):
            yield chunk
    yield last_chunk(
        RunResult.of(await wait_until(client, ObjectRef(run.ref.kind, run.name, run.namespace), has_ended))
    )


def last_chunk(result: RunResult) -> dict[str, Any]:
    """How a Run ended, as a chunk."""
    ended = {"run": result.name, "phase": result.phase, "usage": dict(result.usage)}
    if result.phase == "Succeeded":
        return {"type": "finish", **ended, "output": result.output}
    return {"type": "error", **ended, "error": dict(result.error or {"title": result.phase.lower()})}
