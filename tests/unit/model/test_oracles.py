"""The providers' own SDKs read the same bytes, and must say the same: their parsers are the oracle."""

import random
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module as sdk  # seconds, which every process of pytest would wait for at its start
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from kastra.model import testing as fake
from kastra.model import testing_streams as said
from kastra.model.interface import Message, ModelRequest, ModelResponse, ToolDefinition, collected, stream

from .conftest import KEY, Make

if TYPE_CHECKING:
    import anthropic

ASK: list[Message] = [{"role": "user", "content": "Hi"}]
TOOLS = [ToolDefinition(name, name, {"type": "object"}) for name in ("lookup", "order")]

OPENAI = {
    "text": said.stream(said.say("Hel"), said.say("lo"), said.say(" wörld 中")),
    "length": said.stream(said.say("Hel"), finish="length"),
    "filtered": said.stream(said.say("H"), finish="content_filter"),
    "one-call": said.stream(said.begin(0, "a", "lookup", '{"i'), said.more(0, 'd": 7}'), finish="tool_calls"),
    "text-and-calls": said.stream(
        said.say("Let me see."),
        said.begin(0, "a", "lookup"),
        said.more(0, '{"id":'),
        said.begin(1, "b", "order"),
        said.more(1, '{"n": [1, 2, {"x": null}]}'),
        said.more(0, " 7}"),
        finish="tool_calls",
    ),
    "usage-in-detail": said.stream(
        said.say("4"),
        usage={
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 80},
            "completion_tokens_details": {"reasoning_tokens": 40},
        },
    ),
}
CLAUDE = {
    "text": said.claude_stream(said.words("Hel", "lo", " wörld 中")),
    "length": said.claude_stream(said.words("Hel"), stop="max_tokens"),
    "calls": said.claude_stream(
        said.words("Let me see."),
        said.use("lookup", {"id": 7}, "a"),
        said.use("order", {"n": [1, 2]}, "b"),
        stop="tool_use",
    ),
    "thinking": said.claude_stream(said.thought("sig==", "Hm", "m."), said.hidden("xyz"), said.words("4")),
    "cache": said.claude_stream(
        said.words("4"),
        usage={
            "input_tokens": 10,
            "cache_read_input_tokens": 80,
            "cache_creation_input_tokens": 20,
            "output_tokens": 50,
        },
    ),
}


def cuts(answer: fake.Scripted) -> list[fake.Scripted]:
    """The same bytes, cut in several ways."""
    whole, draw = b"".join(answer.pieces), random.Random(7)
    at = sorted(draw.sample(range(1, len(whole)), 20))
    drawn = [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]
    crlf = [piece.replace(b"\n", b"\r\n") for piece in answer.pieces]
    return [answer, said.together(answer), replace(answer, pieces=drawn), replace(answer, pieces=crlf)]


async def ours(make: Make, type_: str, provider: fake.FakeProvider, answer: fake.Scripted) -> ModelResponse:
    provider.answer(answer)
    return await collected(stream(make(type_), ModelRequest(ASK, TOOLS)))


def calls(response: ModelResponse) -> list[tuple[str, str, Any]]:
    return [(call["id"], call["name"], call["arguments"]) for call in response.tool_calls]


@pytest.mark.parametrize("name", sorted(OPENAI))
async def test_the_openai_sdk_reads_the_same_from_a_stream(name: str, provider: fake.FakeProvider, make: Make) -> None:
    tools: Sequence[Any] = [{"type": "function", "function": {"name": t.name, "parameters": {}}} for t in TOOLS]
    async with sdk("openai").AsyncOpenAI(api_key=KEY, base_url=provider.url, max_retries=0) as client:
        for answer in cuts(OPENAI[name]):
            provider.answer(answer)
            text, heard, usage, reason = "", {}, None, None
            async for chunk in await client.chat.completions.create(
                model="m-1",
                messages=[{"role": "user", "content": "Hi"}],
                tools=tools,
                stream=True,
                stream_options={"include_usage": True},
            ):
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reason = choice.finish_reason or reason
                    for call in choice.delta.tool_calls or ():
                        entry = heard.setdefault(call.index, [call.id, call.function.name, ""])
                        entry[2] += call.function.arguments or ""
            response = await ours(make, "openai", provider, answer)
            assert response.text == text
            assert calls(response) == [(i, n, orjson.loads(a)) for i, n, a in heard.values()]
            assert response.finish_reason == reason.replace("_", "-")
            assert usage is not None
            assert response.usage.get("inputTokens") == usage.prompt_tokens
            assert response.usage.get("outputTokens") == usage.completion_tokens
            if (details := usage.prompt_tokens_details) is not None:
                assert response.usage.get("cachedInputTokens") == details.cached_tokens


@pytest.mark.parametrize("name", sorted(CLAUDE))
async def test_the_anthropic_sdk_reads_the_same_from_a_stream(
    name: str, provider: fake.FakeProvider, make: Make
) -> None:
    base = provider.url.removesuffix("/v1")
    async with sdk("anthropic").AsyncAnthropic(api_key=KEY, base_url=base, max_retries=0) as client:
        for answer in cuts(CLAUDE[name]):
            provider.answer(answer)
            async with client.messages.stream(
                model="m-1", max_tokens=100, messages=[{"role": "user", "content": "Hi"}]
            ) as heard:
                message = await heard.get_final_message()
            same(await ours(make, "anthropic", provider, answer), message)


@pytest.mark.parametrize("name", sorted(CLAUDE))
async def test_the_anthropic_sdk_reads_the_same_from_a_whole_answer(
    name: str, provider: fake.FakeProvider, make: Make
) -> None:
    blocks = {
        "text": [said.words("Hello")],
        "length": [said.words("Hel")],
        "calls": [said.words("See"), said.use("lookup", {"id": 7}, "a")],
        "thinking": [said.thought("sig==", "Hm"), said.hidden("xyz"), said.words("4")],
        "cache": [said.words("4")],
    }[name]
    answer = said.claude(*blocks, usage={"input_tokens": 10, "cache_read_input_tokens": 80, "output_tokens": 5})
    base = provider.url.removesuffix("/v1")
    async with sdk("anthropic").AsyncAnthropic(api_key=KEY, base_url=base, max_retries=0) as client:
        provider.answer(answer)
        message = await client.messages.create(
            model="m-1", max_tokens=100, messages=[{"role": "user", "content": "Hi"}]
        )
    provider.answer(answer)
    same(await make("anthropic").generate(ModelRequest(ASK, TOOLS)), message)


def same(response: ModelResponse, message: "anthropic.types.Message") -> None:
    blocks = message.content
    assert response.text == "".join(block.text for block in blocks if block.type == "text")
    assert calls(response) == [(block.id, block.name, block.input) for block in blocks if block.type == "tool_use"]
    thoughts = [{"text": b.thinking, "signature": b.signature} for b in blocks if b.type == "thinking"]
    thoughts += [{"redacted": block.data} for block in blocks if block.type == "redacted_thinking"]
    assert list(response.reasoning) == thoughts
    usage = message.usage
    fresh = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    assert response.usage.get("inputTokens") == fresh
    assert response.usage.get("outputTokens") == usage.output_tokens
    assert response.usage.get("cachedInputTokens") == usage.cache_read_input_tokens


async def test_requests_of_both_sides_are_the_same_to_the_openai_wire(provider: fake.FakeProvider, make: Make) -> None:
    provider.answer(fake.text("a"), fake.text("b"))
    async with sdk("openai").AsyncOpenAI(api_key=KEY, base_url=provider.url, max_retries=0) as client:
        await client.chat.completions.create(
            model="m-1",
            messages=[{"role": "user", "content": "Hi"}],
            temperature=0.5,
            max_completion_tokens=7,
            tools=[
                {
                    "type": "function",
                    "function": {"name": "lookup", "description": "lookup", "parameters": {"type": "object"}},
                }
            ],
            tool_choice="required",
        )
    await make().generate(ModelRequest(ASK, TOOLS[:1], "required", parameters={"temperature": 0.5, "maxTokens": 7}))
    theirs, own = provider.requests
    assert own.json == theirs.json
    assert own.path == theirs.path
    assert own.headers["authorization"] == theirs.headers["authorization"]


async def test_requests_of_both_sides_are_the_same_to_the_anthropic_wire(
    provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(said.claude(said.words("a")), said.claude(said.words("b")))
    async with sdk("anthropic").AsyncAnthropic(
        api_key=KEY, base_url=provider.url.removesuffix("/v1"), max_retries=0
    ) as client:
        await client.messages.create(
            model="m-1",
            max_tokens=7,
            system=[{"type": "text", "text": "Be brief."}],
            messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            stop_sequences=["END"],
            tools=[{"name": "lookup", "description": "lookup", "input_schema": {"type": "object"}}],
            tool_choice={"type": "any"},
        )
    messages: list[Message] = [{"role": "system", "content": "Be brief."}, *ASK]
    parameters = {"maxTokens": 7, "stopSequences": ["END"]}
    await make("anthropic").generate(ModelRequest(messages, TOOLS[:1], "required", parameters=parameters))
    theirs, own = provider.requests
    assert own.json == theirs.json
    assert own.path == theirs.path
    for header in ("authorization", "anthropic-version", "content-type"):
        assert own.headers[header] == theirs.headers[header]
