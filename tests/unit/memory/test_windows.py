"""Windows: what fits is sent, the newest always, and nothing that can't stand at the beginning."""

import pytest

from kastra.memory.interface import MOST_MESSAGES, MemorySpec
from kastra.memory.windows import fitting, opening, tokens


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 5), ("x" * 400, 105), ("好" * 100, 105), ("é" * 10, 15)],
    ids=["empty", "ascii", "chinese", "latin"],
)
def test_tokens_are_estimated_by_script(text: str, count: int) -> None:
    assert tokens(user(text)) == count


def test_the_newest_messages_that_fit_are_sent() -> None:
    messages = [user("x" * 400) for _ in range(10)]
    assert fitting(messages, None, 0) == 0
    assert fitting(messages, 1050, 0) == 0
    assert fitting(messages, 1049, 0) == 1
    assert fitting(messages, 1049, 500) == 5
    assert fitting(messages, 1, 0) == 9


def test_a_conversation_begins_with_a_user_if_there_is_one_and_never_with_a_result() -> None:
    result = {"role": "tool", "toolCallId": "1", "result": 1}
    answer = {"role": "assistant", "content": "a"}
    assert opening([result, answer, user("q")]) == 2
    assert opening([result, answer]) == 1
    assert opening([result]) == 1
    assert opening([]) == 0


def test_what_a_manifest_leaves_out_has_a_default() -> None:
    assert MemorySpec.of({}).last_messages == 10
    assert MemorySpec.of({"lastMessages": 0}).last_messages == 0
    assert MemorySpec.of({"messageHistory": {"maxTokens": 100}}).last_messages == MOST_MESSAGES
    assert MemorySpec.of({}, compacted=True).last_messages == MOST_MESSAGES
    assert MemorySpec.of({"semanticRecall": {"enabled": False}}).recall is None
