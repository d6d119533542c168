"""A conversation may hold images and files, and keeps what a model thought for the providers that want it back."""

from typing import Any

import pytest

from kastra.agent.messages import assistant, conversation
from kastra.engine.step import StepError
from kastra.model.interface import ModelResponse, Reasoning

IMAGE = {"type": "image", "data": "iVBORw0KGgo=", "mediaType": "image/png"}


def test_a_users_message_may_have_parts_and_its_text_is_their_text() -> None:
    content = [{"type": "text", "text": "What is "}, IMAGE, {"type": "text", "text": "this?"}]
    [message] = conversation("", {"messages": [{"role": "user", "content": content, "cache": True}]})
    assert message.get("content") == "What is this?"
    assert [part["type"] for part in message.get("parts", ())] == ["text", "image", "text"]
    assert message.get("cache") is True


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "assistant", "content": [IMAGE]}, "input.messages.0..content: only a user's message"),
        ({"role": "user", "content": [{"type": "image"}]}, r"input.messages.0..content.0.: needs data"),
    ],
)
def test_parts_that_make_no_sense_are_refused_with_their_place(message: dict[str, Any], says: str) -> None:
    with pytest.raises(StepError, match=says) as caught:
        conversation("", {"messages": [message]})
    assert caught.value.type == "validation"


def test_what_a_model_thought_stays_with_its_message() -> None:
    thoughts: list[Reasoning] = [{"text": "Hm", "signature": "sig"}]
    message = assistant(ModelResponse("4", reasoning=thoughts))
    assert message.get("reasoning") == thoughts
    assert "reasoning" not in assistant(ModelResponse("4"))
