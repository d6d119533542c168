"""A provider that is cut off at any byte of its stream: the whole response or an error that is worth another try, nothing else."""

from collections.abc import Callable

import pytest

from kastra.model import testing as fake
from kastra.model import testing_streams as said
from kastra.model.interface import Message, ModelError, ModelRequest, ModelResponse, ToolDefinition, collected, stream

from .conftest import Make

ASK: list[Message] = [{"role": "user", "content": "Hi"}]
LOOKUP = ToolDefinition("lookup", "looks up", {"type": "object"})


def openai() -> fake.Scripted:
    return said.stream(said.say("é"), said.begin(0, "a", "lookup"), said.more(0, '{"id":7}'), finish="tool_calls")


def anthropic() -> fake.Scripted:
    return said.claude_stream(said.words("é"), said.use("lookup", {"id": 7}, "a"), stop="tool_use")


def total(answer: fake.Scripted) -> int:
    head, pieces = answer.wire()
    return len(head) + sum(map(len, pieces))


@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize(("type_", "answer"), [("openai", openai), ("anthropic", anthropic)])
async def test_half_an_answer_is_never_taken_for_one(
    type_: str, answer: Callable[[], fake.Scripted], part: int, provider: fake.FakeProvider, make: Make
) -> None:
    model, whole = make(type_), answer()
    outcomes: dict[str, int] = {"whole": 0, "error": 0}
    for at in range(part, total(whole), 6):
        provider.answer(fake.cut(at, answer()))
        try:
            response = await collected(stream(model, ModelRequest(ASK, [LOOKUP])))
        except ModelError as error:
            assert error.retryable, (at, error)
            assert error.kind in ("unavailable", "malformed"), (at, error)
            outcomes["error"] += 1
        else:
            check(response, at)
            outcomes["whole"] += 1
    assert outcomes["error"] > outcomes["whole"]
    provider.answer(whole)
    check(await collected(stream(model, ModelRequest(ASK, [LOOKUP]))), -1)


def check(response: ModelResponse, at: int) -> None:
    assert response.text == "é", at
    assert list(response.tool_calls) == [{"id": "a", "name": "lookup", "arguments": {"id": 7}}], at


@pytest.mark.parametrize(("type_", "answer"), [("openai", openai), ("anthropic", anthropic)])
async def test_a_stream_that_ends_properly_but_too_early_is_an_error_too(
    type_: str, answer: Callable[[], fake.Scripted], provider: fake.FakeProvider, make: Make
) -> None:
    model, whole = make(type_), answer()
    reason = b'"finish_reason":"tool_calls"' if type_ == "openai" else b'"stop_reason":"tool_use"'
    enough = next(number for number, piece in enumerate(whole.pieces) if reason in piece)
    for count in range(1, len(whole.pieces) + 1):
        provider.answer(fake.Scripted(headers=whole.headers, pieces=whole.pieces[:count]))
        if count > enough:
            check(await collected(stream(model, ModelRequest(ASK, [LOOKUP]))), count)
            continue
        with pytest.raises(ModelError, match="ended before the answer was complete") as caught:
            await collected(stream(model, ModelRequest(ASK, [LOOKUP])))
        assert caught.value.kind == "unavailable"


@pytest.mark.parametrize(("type_", "answer"), [("openai", fake.text), ("anthropic", said.claude)])
async def test_a_whole_answer_cut_at_any_byte_is_an_error(
    type_: str, answer: Callable[..., fake.Scripted], provider: fake.FakeProvider, make: Make
) -> None:
    model, whole = make(type_), answer("Hello") if type_ == "openai" else answer(said.words("Hello"))
    for at in range(0, total(whole), 5):
        provider.answer(fake.cut(at, whole))
        with pytest.raises(ModelError) as caught:
            await model.generate(ModelRequest(ASK))
        assert caught.value.retryable
