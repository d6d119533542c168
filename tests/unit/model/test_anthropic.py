"""What is sent over Anthropic's Messages wire, and what its refusals mean."""

from typing import Any

import pytest

from kastra.model import testing as fake
from kastra.model import testing_streams as said
from kastra.model.interface import Message, ModelError, ModelRequest, ToolDefinition

from .conftest import KEY, Make

SYSTEM: Message = {"role": "system", "content": "Be brief."}
HI: Message = {"role": "user", "content": "Hi"}
LOOKUP = ToolDefinition("look.up", "looks up", {"type": "object"})
SCHEMA = {"type": "array", "items": {"type": "integer"}}


async def body_of(provider: fake.FakeProvider, make: Make, request: ModelRequest, **parameters: Any) -> Any:
    provider.answer(said.claude(said.words("ok")))
    await make("anthropic", parameters).generate(request)
    return provider.requests[-1].json


async def test_instructions_stand_apart_and_neighbours_of_one_role_are_one_turn(
    provider: fake.FakeProvider, make: Make
) -> None:
    call: Message = {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning": [{"text": "Hm", "signature": "sig"}, {"redacted": "xyz"}, {"text": "without a signature"}],
        "toolCalls": [{"id": "a", "name": "look.up", "arguments": {"id": 7}}],
    }
    results: list[Message] = [
        {"role": "tool", "toolCallId": "a", "name": "look.up", "result": {"n": 1}},
        {"role": "tool", "toolCallId": "b", "name": "look.up", "result": {"error": {"type": "tool", "title": "no"}}},
    ]
    body = await body_of(provider, make, ModelRequest([SYSTEM, HI, call, *results, HI], [LOOKUP]))
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "a", "name": "look_up", "input": {"id": 7}},
    ]
    first, second, last = body["messages"][2]["content"]
    assert first == {"type": "tool_result", "tool_use_id": "a", "content": '{"n":1}'}
    assert second["is_error"] is True
    assert last == {"type": "text", "text": "Hi"}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"tool": "look.up"}, {"type": "tool", "name": "look_up"}),
    ],
)
async def test_each_choice_of_tools_has_its_form(
    choice: Any, sent: Any, provider: fake.FakeProvider, make: Make
) -> None:
    body = await body_of(provider, make, ModelRequest([HI], [LOOKUP], choice))
    assert body.get("tool_choice") == sent


async def test_settings_get_the_names_of_the_wire(provider: fake.FakeProvider, make: Make) -> None:
    parameters = {
        "maxTokens": 2000,
        "stopSequences": "END",
        "thinking": {"budgetTokens": 1024},
        "reasoningEffort": "low",
        "parallelToolCalls": False,
        "metadata": {"user_id": "u"},
    }
    body = await body_of(provider, make, ModelRequest([HI], [LOOKUP]), **parameters)
    assert (body["max_tokens"], body["stop_sequences"]) == (2000, ["END"])
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert body["output_config"] == {"effort": "low"}
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert body["metadata"] == {"user_id": "u"}


async def test_an_answer_by_a_schema_that_is_no_object_is_wrapped_and_unwrapped(
    provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(said.claude(said.use("final_answer", {"value": [1, 2]}), stop="tool_use"))
    response = await make("anthropic").generate(ModelRequest([HI], output_schema=SCHEMA))
    assert (response.object, response.text) == ([1, 2], "[1,2]")
    tool = provider.requests[0].json["tools"][0]
    assert tool["input_schema"]["properties"] == {"value": SCHEMA}


async def test_while_it_thinks_no_call_is_forced(provider: fake.FakeProvider, make: Make) -> None:
    request = ModelRequest([HI], output_schema=SCHEMA)
    body = await body_of(provider, make, request, thinking={"budgetTokens": 1024})
    assert "tool_choice" not in body
    assert "final_answer" in body["system"][-1]["text"]


async def test_an_answer_that_comes_beside_other_calls_is_too_early_and_dropped(
    provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(
        said.claude(said.use("look_up", {"id": 7}, "a"), said.use("final_answer", {"value": [1]}, "b"), stop="tool_use")
    )
    response = await make("anthropic").generate(ModelRequest([HI], [LOOKUP], output_schema=SCHEMA))
    assert [call["name"] for call in response.tool_calls] == ["look.up"]
    assert (response.object, response.finish_reason) == (None, "tool-calls")


async def test_the_native_format_can_be_chosen(provider: fake.FakeProvider, make: Make) -> None:
    provider.answer(said.claude(said.words("[1]")))
    model = make("anthropic", dialect={"structuredOutput": "json_schema"})
    assert (await model.generate(ModelRequest([HI], output_schema=SCHEMA))).object == [1]
    assert provider.requests[0].json["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}


async def test_the_prompt_cache_is_marked_in_four_places_at_most(provider: fake.FakeProvider, make: Make) -> None:
    marked: list[Message] = [
        {**SYSTEM, "cache": True},
        {**HI, "cache": True},
        {"role": "assistant", "content": "Hello"},
        HI,
    ]
    body = await body_of(provider, make, ModelRequest(marked, [LOOKUP]), promptCache="1h")
    assert str(body).count("cache_control") <= 4
    assert body["tools"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["system"][-1]["cache_control"]["type"] == "ephemeral"
    assert "cache_control" in body["messages"][0]["content"][-1]


async def test_texts_images_and_documents_have_their_blocks(provider: fake.FakeProvider, make: Make) -> None:
    message: Message = {
        "role": "user",
        "content": "See",
        "parts": [
            {"type": "image", "data": "iVBORw0KGgo=", "mediaType": "image/png"},
            {"type": "file", "data": "JVBERi0=", "mediaType": "application/pdf", "filename": "a.pdf"},
            {"type": "file", "data": "aGVsbG8=", "mediaType": "text/plain"},
            {"type": "file", "url": "https://example.com/b.pdf"},
            {"type": "text", "text": "See"},
        ],
    }
    body = await body_of(provider, make, ModelRequest([message]))
    image, pdf, text, linked, words = body["messages"][0]["content"]
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert (pdf["type"], pdf["title"]) == ("document", "a.pdf")
    assert text["source"] == {"type": "text", "media_type": "text/plain", "data": "hello"}
    assert linked["source"] == {"type": "url", "url": "https://example.com/b.pdf"}
    assert words == {"type": "text", "text": "See"}


@pytest.mark.parametrize(
    ("answer", "kind", "retryable", "wait"),
    [
        (said.claude_status(400, "invalid_request_error", f"bad {KEY}"), "invalid_request", False, None),
        (said.claude_status(401, "authentication_error", f"invalid {KEY}"), "authorization", False, None),
        (said.claude_status(404, "not_found_error", "model: m-1"), "invalid_request", False, None),
        (said.claude_status(413, "request_too_large"), "invalid_request", False, None),
        (said.claude_status(429, "rate_limit_error", retry_after=7), "rate_limit", True, 7.0),
        (said.claude_status(500, "api_error"), "unavailable", True, None),
        (said.claude_status(529, "overloaded_error", retry_after=3), "unavailable", True, 3.0),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_refusals_are_of_their_kind_and_never_show_the_key(
    answer: fake.Scripted,
    kind: str,
    retryable: bool,
    wait: float | None,
    streamed: bool,
    provider: fake.FakeProvider,
    make: Make,
) -> None:
    from kastra.model.interface import collected, stream

    provider.answer(answer)
    with pytest.raises(ModelError) as caught:
        if streamed:
            await collected(stream(make("anthropic"), ModelRequest([HI])))
        else:
            await make("anthropic").generate(ModelRequest([HI]))
    assert (caught.value.kind, caught.value.retryable, caught.value.retry_after) == (kind, retryable, wait)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b'{"content": 7}',
        b'{"content": [7]}',
        b'{"content": [{"type": "text"}]}',
        b'{"content": [], "stop_reason": "x"}',
    ],
)
async def test_answers_that_make_no_sense_are_malformed(body: bytes, provider: fake.FakeProvider, make: Make) -> None:
    provider.answer(fake.raw(body))
    with pytest.raises(ModelError) as caught:
        await make("anthropic").generate(ModelRequest([HI]))
    assert (caught.value.kind, caught.value.retryable) == ("malformed", True)


async def test_a_provider_object_may_name_an_older_version_of_the_wire(provider: fake.FakeProvider, make: Make) -> None:
    from kastra.model.anthropic import headers
    from kastra.model.interface import Credentials

    assert headers(Credentials("k", {"anthropic-version": "2023-06-01"}))["anthropic-version"] == "2023-06-01"
    provider.answer(said.claude(said.words("ok")))
    await make("anthropic", {"temperature": 0.1}, dialect={"ignoredParameters": []}).generate(ModelRequest([HI]))
    assert provider.requests[0].json["temperature"] == 0.1
