"""Streaming over a real socket, on both wires: what arrives when, and what becomes of a stream that goes wrong."""

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import pytest

from kastra.model import testing as fake
from kastra.model import testing_streams as said
from kastra.model.interface import (
    End,
    Message,
    Model,
    ModelChunk,
    ModelError,
    ModelRequest,
    ModelResponse,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolDefinition,
    UsageUpdate,
    collected,
    stream,
)
from kastra.model.scripted import ScriptedModel

from .conftest import KEY, Make

ASK: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
LOOKUP = ToolDefinition("shop.look up", "looks up", {"type": "object", "properties": {"id": {"type": "integer"}}})
WIRES = pytest.mark.parametrize("type_", ["openai", "anthropic"])


def greeting(type_: str) -> fake.Scripted:
    return (
        said.stream(said.say("Hel"), said.say("lo"))
        if type_ == "openai"
        else said.claude_stream(said.words("Hel", "lo"))
    )


def two_calls(type_: str, first: str = '{"id": 7}') -> fake.Scripted:
    if type_ == "openai":
        return said.stream(
            said.begin(0, "a", "shop_look_up"),
            said.begin(1, "b", "shop_look_up"),
            said.more(0, first[:4]),
            said.more(1, '{"id": 8}'),
            said.more(0, first[4:]),
            finish="tool_calls",
        )
    return said.claude_stream(
        said.use("shop_look_up", first, "a"), said.use("shop_look_up", {"id": 8}, "b"), stop="tool_use"
    )


async def chunks(model: Model, request: ModelRequest | None = None) -> list[ModelChunk]:
    async with aclosing(stream(model, request or ModelRequest(ASK))) as pieces:
        return [chunk async for chunk in pieces]


async def failure(model: Model, request: ModelRequest | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await chunks(model, request)
    assert KEY not in str(caught.value)
    return caught.value


def text(found: list[ModelChunk]) -> list[str]:
    return [chunk.text for chunk in found if isinstance(chunk, TextDelta)]


def last(found: list[ModelChunk]) -> ModelResponse:
    assert isinstance(found[-1], End)
    return found[-1].response


@WIRES
async def test_text_arrives_piece_by_piece_and_the_end_holds_all_of_it(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(greeting(type_))
    found = await chunks(make(type_))
    assert text(found) == ["Hel", "lo"]
    response = last(found)
    assert (response.text, response.finish_reason) == ("Hello", "stop")
    assert response.usage == {"inputTokens": 10, "outputTokens": 5, "calls": 1}
    assert response.model.startswith("fake")
    assert provider.requests[0].json["stream"] is True
    assert any(isinstance(chunk, UsageUpdate) for chunk in found)


@WIRES
async def test_the_first_piece_is_handed_on_while_the_provider_still_writes(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    seen = anyio.Event()

    async def wait(piece: int) -> None:
        # Everything up to "Hel" is sent; the rest only once that has been seen.
        if piece == (2 if type_ == "openai" else 4):
            await seen.wait()

    answer = greeting(type_)
    provider.answer(fake.Scripted(headers=answer.headers, pieces=answer.pieces, between=wait))
    with anyio.fail_after(5):
        async with aclosing(stream(make(type_), ModelRequest(ASK))) as pieces:
            async for chunk in pieces:
                if isinstance(chunk, TextDelta):
                    seen.set()
    assert seen.is_set()


@WIRES
async def test_parallel_tool_calls_are_kept_apart_and_get_the_names_of_the_tools(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(two_calls(type_))
    found = await chunks(make(type_), ModelRequest(ASK, [LOOKUP]))
    response = last(found)
    assert response.finish_reason == "tool-calls"
    assert list(response.tool_calls) == [
        {"id": "a", "name": "shop.look up", "arguments": {"id": 7}},
        {"id": "b", "name": "shop.look up", "arguments": {"id": 8}},
    ]
    deltas = [chunk for chunk in found if isinstance(chunk, ToolCallDelta)]
    assert {(delta.index, delta.id, delta.name) for delta in deltas} == {(0, "a", LOOKUP.name), (1, "b", LOOKUP.name)}
    assert "".join(delta.arguments for delta in deltas if delta.index == 0) == '{"id": 7}'


@WIRES
async def test_arguments_that_are_no_json_are_handed_on_as_invalid(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(two_calls(type_, '{"id": }'))
    calls = last(await chunks(make(type_), ModelRequest(ASK, [LOOKUP]))).tool_calls
    assert calls[0]["arguments"] == {}
    assert "not JSON" in calls[0].get("invalid", "")
    assert calls[1]["arguments"] == {"id": 8}


@WIRES
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
async def test_it_does_not_matter_where_the_network_cuts(
    type_: str, size: int, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(said.split(two_calls(type_), size))
    found = await chunks(make(type_), ModelRequest(ASK, [LOOKUP]))
    assert [call["arguments"] for call in last(found).tool_calls] == [{"id": 7}, {"id": 8}]


@WIRES
async def test_a_character_cut_in_the_middle_arrives_whole(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    answer = said.stream(said.say("né 中文")) if type_ == "openai" else said.claude_stream(said.words("né 中文"))
    provider.answer(said.split(answer, 1))
    assert last(await chunks(make(type_))).text == "né 中文"


@pytest.mark.parametrize(
    ("type_", "answer"),
    [
        pytest.param("deepseek", said.stream(said.think("Hm"), said.think("m."), said.say("4")), id="deepseek"),
        pytest.param("vllm", said.stream(said.think("Hm"), said.think("m."), said.say("4")), id="vllm"),
        pytest.param(
            "groq", said.stream(said.think("Hm", "reasoning"), said.think("m.", "reasoning"), said.say("4")), id="groq"
        ),
        pytest.param(
            "openrouter",
            said.stream(said.think("Hm", "reasoning"), said.think("m.", "reasoning"), said.say("4")),
            id="openrouter",
        ),
        pytest.param("anthropic", said.claude_stream(said.thought("sig", "Hm", "m."), said.words("4")), id="anthropic"),
    ],
)
async def test_reasoning_arrives_before_the_answer_and_is_no_part_of_it(
    type_: str, answer: fake.Scripted, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(answer)
    found = await chunks(make(type_))
    assert [chunk.text for chunk in found if isinstance(chunk, ReasoningDelta)] == ["Hm", "m."]
    response = last(found)
    assert response.text == "4"
    assert response.reasoning[0].get("text") == "Hmm."


@WIRES
async def test_a_provider_that_does_not_stream_is_understood_all_the_same(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(fake.text("Hello") if type_ == "openai" else said.claude(said.words("Hello")))
    found = await chunks(make(type_))
    assert (text(found), last(found).text) == (["Hello"], "Hello")


@WIRES
async def test_closing_the_stream_closes_the_connection(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    never = anyio.Event()

    async def wait(piece: int) -> None:
        if piece == (2 if type_ == "openai" else 4):
            await never.wait()

    answer = greeting(type_)
    provider.answer(fake.Scripted(headers=answer.headers, pieces=answer.pieces, between=wait))
    with anyio.fail_after(5):
        async with aclosing(stream(make(type_), ModelRequest(ASK))) as pieces:
            async for chunk in pieces:
                if isinstance(chunk, TextDelta):
                    break
        while not provider.hangups:
            await anyio.wait_all_tasks_blocked()


@WIRES
async def test_cancelling_the_caller_closes_the_connection(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    asked = anyio.Event()

    async def never() -> None:
        asked.set()
        await anyio.sleep_forever()

    provider.answer(fake.after(never, greeting(type_)))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collected, stream(make(type_), ModelRequest(ASK)))
            await asked.wait()
            tasks.cancel_scope.cancel()
        while not provider.hangups:
            await anyio.wait_all_tasks_blocked()


@WIRES
@pytest.mark.parametrize(
    ("timeout", "stops_at", "says"),
    [
        pytest.param({"firstToken": "50ms"}, 0, "no first token within 0.05s", id="first-token"),
        pytest.param({"idle": "50ms"}, 1, "nothing more came for 0.05s", id="idle"),
        pytest.param({"total": "50ms", "idle": "10s"}, 1, "no complete answer within 0.05s", id="total"),
        pytest.param("50ms", 1, "no complete answer within 0.05s", id="a-duration-is-the-total"),
    ],
)
async def test_each_limit_of_time_ends_the_stream_and_says_which(
    type_: str, timeout: Any, stops_at: int, says: str, provider: fake.FakeProvider, make: Make
) -> None:
    async def wait(piece: int) -> None:
        if piece == stops_at:
            await anyio.sleep_forever()

    answer = greeting(type_)
    provider.answer(fake.Scripted(headers=answer.headers, pieces=answer.pieces, between=wait))
    error = await failure(make(type_, {"timeout": timeout}))
    assert (error.kind, error.retryable) == ("timeout", True)
    assert says in str(error)


@WIRES
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_body_that_only_drips_ends_at_the_limit_for_the_whole(
    type_: str, streamed: bool, provider: fake.FakeProvider, make: Make
) -> None:
    async def drip(_: int) -> None:
        await anyio.sleep(0.01)

    whole = fake.text("Hello" * 50) if type_ == "openai" else said.claude(said.words("Hello" * 50))
    answer = greeting(type_) if streamed else fake.Scripted(pieces=[whole.body])
    provider.answer(replace(said.split(answer, 1), between=drip))
    model = make(type_, {"timeout": "200ms"})
    with anyio.fail_after(5), pytest.raises(ModelError) as caught:
        await (collected(stream(model, ModelRequest(ASK))) if streamed else model.generate(ModelRequest(ASK)))
    assert caught.value.kind == "timeout"


@WIRES
async def test_an_unknown_limit_of_time_is_refused_before_a_call(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    error = await failure(make(type_, {"timeout": {"firstTocken": "1s"}}))
    assert error.kind == "invalid_request"
    assert "timeout.firstTocken" in str(error)
    assert provider.requests == []


@pytest.mark.parametrize(
    ("type_", "event", "kind"),
    [
        ("openai", {"error": {"message": f"busy {KEY}", "code": 502}}, "unavailable"),
        ("openai", {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, "rate_limit"),
        ("openai", {"error": {"message": "no", "code": 400}}, "invalid_request"),
        ("openai", {"error": "out of order"}, "unavailable"),
        ("groq", {"error": {"message": "bad call", "code": "tool_use_failed"}}, "malformed"),
        (
            "anthropic",
            {"type": "error", "error": {"type": "overloaded_error", "message": f"busy {KEY}"}},
            "unavailable",
        ),
        ("anthropic", {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, "rate_limit"),
        (
            "anthropic",
            {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
            "invalid_request",
        ),
    ],
)
async def test_an_error_in_the_middle_of_a_stream_is_one_of_its_kind(
    type_: str, event: Any, kind: str, provider: fake.FakeProvider, make: Make
) -> None:
    answer = greeting("anthropic" if type_ == "anthropic" else "openai")
    provider.answer(fake.Scripted(headers=answer.headers, pieces=[*answer.pieces[:3], said.event(event)]))
    assert (await failure(make(type_))).kind == kind


@WIRES
@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"data: {not json}\n\n", id="no-json"),
        pytest.param(b'data: "text"\n\n', id="no-object"),
        pytest.param(b'data: {"choices": "x", "type": "content_block_start"}\n\n', id="wrong-types"),
        pytest.param(b'data: {"choices": [7], "type": "content_block_delta"}\n\n', id="no-choice"),
        pytest.param(b'data: {"choices":[{"delta":7}],"type":"content_block_delta","index":9}\n\n', id="no-delta"),
        pytest.param(b'data: {"x": "\xff\xfe"}\n\n', id="invalid-utf-8"),
    ],
)
async def test_events_that_make_no_sense_are_malformed_and_worth_another_try(
    type_: str, piece: bytes, provider: fake.FakeProvider, make: Make
) -> None:
    answer = greeting(type_)
    provider.answer(fake.Scripted(headers=answer.headers, pieces=[*answer.pieces[:2], piece, *answer.pieces[2:]]))
    error = await failure(make(type_))
    assert (error.kind, error.retryable) == ("malformed", True)


@WIRES
async def test_an_answer_of_ten_megabytes_is_refused(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    pieces = ["x" * 500_000] * 20
    deltas = [said.say(piece) for piece in pieces]
    provider.answer(said.stream(*deltas) if type_ == "openai" else said.claude_stream(said.words(*pieces)))
    error = await failure(make(type_))
    assert error.kind == "malformed"
    assert "more than" in str(error)


@WIRES
async def test_one_connection_serves_stream_after_stream(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    provider.answer(*[greeting(type_) for _ in range(5)])
    model = make(type_)
    for _ in range(5):
        await collected(stream(model, ModelRequest(ASK)))
    assert provider.connections == 1


@WIRES
async def test_a_provider_that_never_ends_its_stream_does_not_hold_the_answer_back(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    answer = greeting(type_)

    async def wait(piece: int) -> None:
        if piece == len(answer.pieces):
            await anyio.sleep_forever()

    never_ends = [*answer.pieces, b": still here\n\n"]
    provider.answer(fake.Scripted(headers=answer.headers, pieces=never_ends, between=wait))
    with anyio.fail_after(5):
        assert (await collected(stream(make(type_), ModelRequest(ASK)))).text == "Hello"


async def test_a_model_that_only_generates_is_streamed_all_at_once() -> None:
    model = ScriptedModel([{"reply": "Hello"}])

    class Whole:
        async def generate(self, request: ModelRequest) -> ModelResponse:
            return await model.generate(request)

    found = await chunks(Whole())
    assert (text(found), last(found).text) == (["Hello"], "Hello")
