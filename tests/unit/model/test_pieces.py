"""What arrived at once is handed on at once, to those who read all of it anyway; and which limit of time a call broke."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import pytest

from kastra.clock import SystemClock
from kastra.model import testing as fake
from kastra.model import testing_streams as said
from kastra.model.chain import ModelEntry, answer
from kastra.model.interface import (
    End,
    Message,
    Model,
    ModelChunk,
    ModelConfig,
    ModelError,
    ModelPieces,
    ModelRequest,
    ModelResponse,
    ModelServices,
    ModelStream,
    TextDelta,
    pieces,
    stream,
)
from kastra.model.providers import create
from kastra.netguard import Guard, Policy

from .conftest import Make

ASK: list[Message] = [{"role": "user", "content": "Hi"}]
WIRES = pytest.mark.parametrize("type_", ["openai", "anthropic"])


def greeting(type_: str) -> fake.Scripted:
    """`Hello` in two events, all of them in one piece."""
    if type_ == "openai":
        whole = said.stream(said.say("Hel"), said.say("lo"))
    else:
        whole = said.claude_stream(said.words("Hel", "lo"))
    return replace(whole, pieces=[b"".join(whole.pieces)])


async def read(model: Model) -> list[Sequence[ModelChunk]]:
    async with aclosing(pieces(model, ModelRequest(ASK))) as arriving:
        return [piece async for piece in arriving]


def texts(chunks: Sequence[ModelChunk]) -> list[str]:
    return [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)]


class Wire:
    """A model that has both."""

    async def generate(self, request: ModelRequest) -> ModelResponse:
        return ModelResponse("wire")

    async def stream(self, request: ModelRequest) -> ModelStream:
        yield TextDelta("wire")

    async def pieces(self, request: ModelRequest) -> ModelPieces:
        yield (TextDelta("wire"),)


class Replaced(Wire):
    """One whose author knows of `stream` alone."""

    async def stream(self, request: ModelRequest) -> ModelStream:
        yield TextDelta("replaced")


async def test_a_stream_that_a_subclass_replaced_is_not_passed_over() -> None:
    assert await read(Wire()) == [(TextDelta("wire"),)]
    assert await read(Replaced()) == [(TextDelta("replaced"),)]


@WIRES
async def test_what_arrives_in_one_piece_is_handed_on_in_one(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(greeting(type_), greeting(type_))
    model = make(type_)
    first, *_, last = await read(model)
    assert texts(first) == ["Hel", "lo"]
    assert isinstance(last[-1], End)
    async with aclosing(stream(model, ModelRequest(ASK))) as chunks:
        assert texts([chunk async for chunk in chunks]) == ["Hel", "lo"]


async def test_what_came_before_an_event_that_makes_no_sense_is_still_handed_on(
    provider: fake.FakeProvider, make: Make
) -> None:
    whole = greeting("openai")
    until_hel = whole.pieces[0].partition(b'"lo"')[0].rpartition(b"\n\n")[0]
    provider.answer(replace(whole, pieces=[until_hel + b"\n\ndata: {broken\n\n"]))
    seen: list[str] = []
    with pytest.raises(ModelError, match="not JSON") as caught:
        async with aclosing(pieces(make(), ModelRequest(ASK))) as arriving:
            async for piece in arriving:
                seen += texts(piece)
    assert (caught.value.kind, seen) == ("malformed", ["Hel"])


class Generates:
    async def generate(self, request: ModelRequest) -> ModelResponse:
        return ModelResponse("Hello")


class Streams(Generates):
    async def stream(self, request: ModelRequest) -> ModelStream:
        yield TextDelta("Hel")
        yield TextDelta("lo")
        yield End(ModelResponse("Hello"))


@pytest.mark.parametrize(
    ("model", "found"),
    [pytest.param(Generates(), [["Hello"]], id="whole"), pytest.param(Streams(), [["Hel"], ["lo"], []], id="streamed")],
)
async def test_a_model_of_a_plugin_needs_to_know_nothing_of_pieces(model: Model, found: list[list[str]]) -> None:
    assert [texts(piece) for piece in await read(model)] == found
    seen: list[ModelChunk] = []
    response = await answer([ModelEntry("m", model)], ModelRequest(ASK), SystemClock(), "", seen.append)
    assert (texts(seen), response.text) == ([text for piece in found for text in piece], "Hello")
    assert not any(isinstance(chunk, End) for chunk in seen)


@pytest.mark.parametrize(
    ("timeout", "says"),
    [
        pytest.param({"connect": "50ms"}, "no answer in time", id="connect"),
        pytest.param({"firstToken": "50ms"}, "no first token within 0.05s", id="first-token"),
        pytest.param("50ms", "no first token within 0.05s", id="total"),
    ],
)
async def test_a_call_that_never_gets_a_connection_says_which_limit_it_broke(timeout: Any, says: str) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    async with Guard(Policy(), resolver=never) as guard:
        config = ModelConfig("openai-compatible", "m", "http://provider.test/v1", {"timeout": timeout})
        with pytest.raises(ModelError) as caught:
            await read(create(config, ModelServices(guard, SystemClock())))
    assert caught.value.kind == "timeout"
    assert says in str(caught.value)
