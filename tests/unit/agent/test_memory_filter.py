"""What of a conversation that a client sends is new to a thread: what follows the last answer, and nothing that is stored."""

from typing import Any

import pytest

from kastra.agent.processors.memory_filter import MemoryFilter

USER, ANSWER = {"role": "user", "content": "one"}, {"role": "assistant", "content": "answer one"}
NEW, SYSTEM = {"role": "user", "content": "two"}, {"role": "system", "content": "Be brief."}
CALL: Any = {"role": "assistant", "content": "", "toolCalls": [{"id": "c1", "name": "ask", "arguments": {}}]}
RESULT = {"role": "tool", "toolCallId": "c1", "name": "ask", "result": "yes"}
OTHER = {"role": "tool", "toolCallId": "c2", "name": "ask", "result": "no"}


def taken(given: list[Any], stored: list[Any], *, retain: bool = False) -> list[Any]:
    found = MemoryFilter(retain).taken(given, stored)
    return given if found is None else [given[number] for number in found]


@pytest.mark.parametrize(
    ("given", "stored", "new"),
    [
        ([NEW], [USER, ANSWER], [NEW]),
        ([USER, ANSWER, NEW], [USER, ANSWER], [NEW]),
        ([USER, ANSWER, NEW, USER], [USER, ANSWER], [NEW, USER]),
        ([SYSTEM, USER, ANSWER, NEW], [USER, ANSWER], [SYSTEM, NEW]),
        ([USER, ANSWER], [USER, {**ANSWER, "content": " answer one\n", "reasoning": []}], []),
        ([USER, ANSWER], [USER, CALL], [USER, ANSWER]),
        ([USER, ANSWER, NEW], [], [USER, ANSWER, NEW]),
        ([USER, CALL, RESULT], [USER, CALL], [RESULT]),
        ([USER, CALL, RESULT, NEW], [USER, CALL], [RESULT, NEW]),
        ([USER, CALL, RESULT, NEW], [USER, CALL, RESULT], [NEW]),
        ([USER, CALL, OTHER], [USER, CALL], []),
        ([USER, CALL, RESULT], [USER, CALL, RESULT], []),
    ],
    ids=[
        "one-question", "whole-conversation", "several-questions", "system", "nothing-new", "answer-that-is-not-stored",
        "begins-a-thread", "open-call", "open-call-and-question", "closed-call", "unknown-call", "only-what-is-stored",
    ],
)  # fmt: skip
def test_what_is_taken_is_what_the_thread_does_not_have(given: list[Any], stored: list[Any], new: list[Any]) -> None:
    assert taken(given, stored) == new


def test_everything_is_taken_where_that_is_asked_for() -> None:
    assert taken([USER, ANSWER, NEW], [USER, ANSWER], retain=True) == [USER, ANSWER, NEW]
