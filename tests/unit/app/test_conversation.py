"""What a Run adds to a conversation is read from its journal, or stands as question and answer where that has not all of it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.app.closures import SameClosures
from kastra.app.conversation import messages_of

RUN = ObjectRef("runs", "r", "default")
CALL = {"id": "c1", "name": "find", "arguments": {"a": 1}}


class Journal:
    """A client whose Run has these records."""

    def __init__(self, *records: Mapping[str, Any]) -> None:
        self._records = records

    async def connect(self, ref: ObjectRef, subresource: str) -> AsyncIterator[Mapping[str, Any]]:
        assert (ref, subresource) == (RUN, "history")
        for record in self._records:
            yield record


def turn(key: str, text: str = "", *calls: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "ModelTurn", "stepKey": key, "body": {"output": {"text": text, "toolCalls": list(calls)}}}


def result(key: str, outcome: Any) -> dict[str, Any]:
    return {"type": "ToolResult", "stepKey": key, "body": {"output": outcome}}


async def messages(*records: Mapping[str, Any], output: Any = "done") -> list[dict[str, Any]]:
    client: Any = Journal(*records)
    return await messages_of(client, RUN, output)


async def test_calls_and_results_stand_between_the_question_and_the_answer() -> None:
    found = await messages(
        turn("turn[0]", "let me see", CALL), result("turn[0]/tool[0]", {"result": [1]}), turn("turn[1]", "done")
    )
    assert found == [
        {"role": "assistant", "content": "let me see", "toolCalls": [CALL]},
        {"role": "tool", "toolCallId": "c1", "name": "find", "result": [1]},
        {"role": "assistant", "content": "done"},
    ]


async def test_a_failure_of_a_tool_is_its_result() -> None:
    found = await messages(turn("turn[0]", "", CALL), result("turn[0]/tool[0]", {"error": {"title": "no"}}))
    assert found[1]["result"] == {"error": {"title": "no"}}


@pytest.mark.parametrize(
    "records",
    [
        [turn("turn[0]", "", CALL)],
        [turn("turn[0]", "", {**CALL, "invalid": "no JSON"}), result("turn[0]/tool[0]", {"result": 1})],
        [turn("turn[0]", "", CALL), turn("turn[0]/tool[0]/turn[0]", "of an agent below")],
        [],
    ],
    ids=["no-result", "unreadable-arguments", "agent-as-tool", "nothing"],
)
async def test_where_something_is_missing_the_answer_stands_alone(records: list[dict[str, Any]]) -> None:
    assert await messages(*records) == [{"role": "assistant", "content": "done"}]


async def test_a_structured_answer_is_its_json() -> None:
    assert await messages(output={"a": [1]}) == [{"role": "assistant", "content": '{"a":[1]}'}]


def closure(digest: str, uid: str = "u", kind: str = "Agent") -> Any:
    made = {"kind": kind, "namespace": "d", "name": "n", "uid": uid, "generation": 1, "spec": {}, "refs": {}}
    return {"root": "x", "hash": digest, "objects": {"x": made}}


def test_equal_closures_become_one_and_what_may_change_under_its_hash_does_not() -> None:
    same = SameClosures()
    first = same.one(closure("a"))
    assert same.one(closure("a")) is first
    assert same.one(closure("b")) is not first
    assert same.one(closure("a", uid="made again")) is not first
    server = closure("c", kind="MCPServer")
    assert same.one(server) is server
    assert same.one(closure("c", kind="MCPServer")) is not server
