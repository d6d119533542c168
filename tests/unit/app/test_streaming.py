"""An answer arrives in pieces that add up to what is journaled, whatever was missed on the way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import kastra
from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.app.running import RunResult
from kastra.app.streaming import Chunks, last_chunk

MANIFESTS = r"""
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: clock}
spec:
  python: {inline: "def clock() -> str:\n    return 'noon'"}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: helper}
spec:
  instructions: Help.
  tools: [clock]
  model:
    provider: scripted
    parameters:
      chunkSize: 3
      chunkDelay: 1ms
      rules:
      - {when: size(results) == 0, call: {tool: clock}}
      - {reply: 'It is ${{ results[0] }}.'}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: broken}
spec:
  instructions: Help.
  model: {provider: scripted, parameters: {rules: [{error: {kind: refused, message: not today}}]}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: flow}
spec:
  steps:
  - {id: loud, agent: helper}
  - {id: still, agent: helper, stream: false}
"""


async def chunks(folder: Path, target: str, value: Any = "time?") -> list[Mapping[str, Any]]:
    (folder / "manifests.yaml").write_text(MANIFESTS)
    async with kastra.open(":memory:") as k:
        report = await k.apply(folder / "manifests.yaml")
        assert report.ok, report.problems
        return [chunk async for chunk in k.stream(target, value)]


async def test_text_and_tool_calls_arrive_in_pieces_and_the_output_comes_last(tmp_path: Path) -> None:
    found = await chunks(tmp_path, "agent/helper")
    assert found[0]["type"] == "start"
    assert [chunk["text"] for chunk in found if chunk["type"] == "text-delta"] == ["It ", "is ", "noo", "n."]
    kinds = [chunk["type"] for chunk in found if chunk["type"] not in ("text-delta", "tool-call-delta")]
    assert kinds == ["start", "tool-call", "tool-result", "finish"]
    assert (found[-1]["output"], found[-1]["usage"]["calls"]) == ("It is noon.", 2)


async def test_what_goes_wrong_is_the_last_chunk(tmp_path: Path) -> None:
    found = await chunks(tmp_path, "agent/broken")
    assert (found[-1]["type"], found[-1]["phase"]) == ("error", "Failed")
    assert "not today" in found[-1]["error"]["title"]


async def test_a_step_that_says_so_tells_nothing_before_it_is_done(tmp_path: Path) -> None:
    found = await chunks(tmp_path, "workflow/flow")
    loud = [chunk["text"] for chunk in found if chunk["type"] == "text-delta" and chunk["key"].startswith("loud/")]
    still = [chunk["text"] for chunk in found if chunk["type"] == "text-delta" and chunk["key"].startswith("still/")]
    assert len(loud) == 4
    # What is small enough to be in the event of a turn is known with it.
    assert still == ["It is noon."]


def delta(text: str, key: str = "turn[0]") -> dict[str, Any]:
    return {"type": "step.output.delta", "key": key, "data": {"type": "text", "text": text, "attempt": 1}}


def turn(text: str, key: str = "turn[0]") -> dict[str, Any]:
    return {"type": "model.turn", "key": key, "seq": 7, "data": {"output": {"text": text, "toolCalls": []}}}


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (["Hel", "lo"], ["Hel", "lo"]),
        (["Hel"], ["Hel", "lo"]),
        ([], ["Hello"]),
        (["lo"], ["lo", None, "Hello"]),
    ],
    ids=["all", "the-beginning", "nothing", "the-end"],
)
def test_what_was_missed_follows_when_the_turn_is_journaled(heard: list[str], expected: list[str | None]) -> None:
    reader = Chunks()
    events = [*map(delta, heard), turn("Hello")]
    found = [chunk for event in events for chunk in reader.of(event)]
    assert [chunk.get("text") for chunk in found] == expected
    assert [chunk["type"] for chunk in found if "text" not in chunk] == ["restart"] * expected.count(None)


@pytest.mark.parametrize(
    "void",
    [
        {"type": "step.output.delta", "key": "turn[0]", "data": {"type": "restart", "reason": "cut off", "attempt": 1}},
        {"type": "step.reset", "key": "turn[0]", "seq": 5, "attempt": 2, "data": {}},
        {"type": "step.reset", "key": "", "seq": 5, "attempt": 2, "data": {}},
    ],
    ids=["another-try", "recovered-turn", "recovered-run"],
)
def test_after_a_restart_what_came_before_is_void(void: dict[str, Any]) -> None:
    reader = Chunks()
    found = [chunk for event in (delta("Hel"), void, delta("Good day"), turn("Good day")) for chunk in reader.of(event)]
    assert [chunk["type"] for chunk in found] == ["text-delta", "restart", "text-delta"]


def test_arguments_of_a_call_come_as_they_are_written() -> None:
    data = {"type": "tool", "index": 0, "id": "c1", "name": "find", "arguments": '{"a"'}
    [found] = Chunks().of({"type": "step.output.delta", "key": "turn[0]", "data": data})
    assert found == {
        "type": "tool-call-delta",
        "key": "turn[0]",
        "toolCallId": "c1",
        "toolName": "find",
        "args": '{"a"',
    }


def test_a_tool_that_failed_is_told_as_such_and_an_approval_by_name() -> None:
    reader = Chunks()
    reader.of({"type": "tool.call", "key": "turn[0]/tool[0]", "data": {"tool": "find", "arguments": {}}})
    failed = {"output": {"error": {"type": "tool", "title": "no"}}}
    [found] = reader.of({"type": "tool.result", "key": "turn[0]/tool[0]", "data": failed})
    assert (found["toolName"], found["isError"], found["result"]["title"]) == ("find", True, "no")
    waits = {"type": "run.suspended", "key": "turn[0]/tool[0]/approval", "data": {"reason": "Approval", "name": "a-1"}}
    assert Chunks().of(waits) == [{"type": "approval", "key": "turn[0]/tool[0]/approval", "name": "a-1"}]


def test_a_cancelled_run_ends_with_an_error() -> None:
    ended = last_chunk(RunResult("r", "default", "u", "Cancelled", None, None, {}))
    assert (ended["type"], ended["error"]) == ("error", {"title": "cancelled"})


async def test_a_run_that_is_refused_before_it_begins_ends_its_stream_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "manifests.yaml").write_text(MANIFESTS)
    async with kastra.open(":memory:") as k:
        await k.apply(tmp_path / "manifests.yaml")
        await k.run("agent/helper", "hello", spec={"threadRef": {"name": "theirs"}})
        found = [chunk async for chunk in k.stream("agent/broken", "x", spec={"threadRef": {"name": "theirs"}})]
        assert [chunk["type"] for chunk in found] == ["start", "error"]
        assert "thread theirs is one of agent helper" in str(found[-1]["error"]["title"]).replace("default/", "")
        assert [event async for event in k.events(found[0]["run"])] == []


async def test_a_run_that_is_deleted_before_it_begins_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "manifests.yaml").write_text(MANIFESTS)
    async with kastra.open(":memory:", execute=False) as k:
        await k.apply(tmp_path / "manifests.yaml")
        stream = k.stream("agent/helper", "x")
        start = await anext(stream)
        await k.client.delete(ObjectRef("runs", start["run"], start["namespace"]))
        with pytest.raises(NotFound):
            await anext(stream)
