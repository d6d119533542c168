"""The OpenAI-compatible wire over a real socket: what is sent, what is believed, and what is said when it goes wrong."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import anyio
import orjson
import pytest

from kastra.clock import SystemClock
from kastra.model import testing as fake
from kastra.model.interface import (
    Credentials,
    CredentialsMissing,
    Message,
    Model,
    ModelConfig,
    ModelError,
    ModelRequest,
    ModelServices,
    ToolDefinition,
)
from kastra.model.providers import create
from kastra.netguard import Guard, Policy

KEY = "sk-canary-1234"
ASK: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
LOOKUP = ToolDefinition("shop.look up", "looks up", {"type": "object", "properties": {"id": {"type": "integer"}}})


class FrozenClock(SystemClock):
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def provider() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as provider:
        yield provider


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    async with Guard(Policy()) as guard:
        yield guard


async def credentials() -> Credentials:
    return Credentials(KEY)


def model(
    provider: fake.FakeProvider, guard: Guard, type_: str = "openai", parameters: Mapping[str, Any] | None = None
) -> Model:
    config = ModelConfig(type_, "gpt-4o", provider.url, parameters or {}, allow_private=True, credentials=credentials)
    return create(config, ModelServices(guard, FrozenClock()))


async def failure(model: Model, request: ModelRequest | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await model.generate(request or ModelRequest(ASK))
    assert KEY not in str(caught.value)
    return caught.value


async def test_a_text_answer_comes_with_its_usage_and_the_name_of_the_model(
    provider: fake.FakeProvider, guard: Guard
) -> None:
    provider.answer(fake.text("Hello."))
    response = await model(provider, guard).generate(ModelRequest(ASK, parameters={"temperature": 0}))
    assert (response.text, response.finish_reason, response.model) == ("Hello.", "stop", "fake-1")
    assert response.usage == {"inputTokens": 10, "outputTokens": 5, "calls": 1}
    sent = provider.requests[0]
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.json == {"model": "gpt-4o", "temperature": 0, "messages": ASK}


@pytest.mark.parametrize(("type_", "field"), [("openai", "max_completion_tokens"), ("openai-compatible", "max_tokens")])
async def test_the_bound_on_tokens_has_the_name_that_the_provider_knows(
    type_: str, field: str, provider: fake.FakeProvider, guard: Guard
) -> None:
    provider.answer(fake.text("x"))
    settings = {"maxTokens": 7, "topP": 0.5, "stopSequences": ["."], "reasoning_effort": "low"}
    await model(provider, guard, type_, settings).generate(ModelRequest(ASK))
    body = provider.requests[0].json
    assert (body[field], body["top_p"], body["stop"], body["reasoning_effort"]) == (7, 0.5, ["."], "low")


async def test_tool_calls_go_out_and_come_back_under_names_that_the_wire_takes(
    provider: fake.FakeProvider, guard: Guard
) -> None:
    provider.answer(fake.calls("shop_look_up", {"id": 7}), fake.text("done"))
    subject = model(provider, guard)
    first = await subject.generate(ModelRequest(ASK, [LOOKUP], tool_choice="required"))
    assert first.tool_calls == [{"id": "call_0", "name": "shop.look up", "arguments": {"id": 7}}]
    assert fake.tool_names(provider.requests[0]) == ["shop_look_up"]
    assert provider.requests[0].json["tool_choice"] == "required"
    turn: list[Message] = [
        {"role": "assistant", "content": "", "toolCalls": list(first.tool_calls)},
        {"role": "tool", "toolCallId": "call_0", "name": "shop.look up", "result": {"price": 3}},
    ]
    await subject.generate(ModelRequest([*ASK, *turn], [LOOKUP], tool_choice={"tool": "shop.look up"}))
    sent = provider.requests[1].json
    assert sent["messages"][2]["tool_calls"][0]["function"] == {"name": "shop_look_up", "arguments": '{"id":7}'}
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "call_0", "content": '{"price":3}'}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "shop_look_up"}}


@pytest.mark.parametrize("arguments", ['{"id": ', "[1]", "7", "not json"])
async def test_arguments_that_are_no_object_are_handed_on_as_invalid(
    arguments: str, provider: fake.FakeProvider, guard: Guard
) -> None:
    provider.answer(fake.calls("shop_look_up", arguments))
    (call,) = (await model(provider, guard).generate(ModelRequest(ASK, [LOOKUP]))).tool_calls
    assert call["arguments"] == {}
    assert "not" in call["invalid"]


async def test_structured_output_is_asked_for_by_schema_and_read_even_from_a_fence(
    provider: fake.FakeProvider, guard: Guard
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    provider.answer(fake.value({"a": 1}), fake.text('```json\n{"a": 2}\n```'), fake.text("no json"))
    subject = model(provider, guard)
    request = ModelRequest(ASK, output_schema=schema)
    assert [(await subject.generate(request)).object for _ in range(3)] == [{"a": 1}, {"a": 2}, None]
    assert provider.requests[0].json["response_format"]["json_schema"]["schema"] == schema


async def test_a_provider_without_schemas_gets_it_in_the_prompt(provider: fake.FakeProvider, guard: Guard) -> None:
    provider.answer(fake.value({}))
    await model(provider, guard, "deepseek").generate(ModelRequest(ASK, output_schema={"type": "object"}))
    body = provider.requests[0].json
    assert body["response_format"] == {"type": "json_object"}
    assert '{"type":"object"}' in body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("answer", "kind", "retryable", "wait"),
    [
        (fake.status(429, retry_after=7), "rate_limit", True, 7.0),
        (
            fake.status(429, retry_after=format_datetime(datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC))),
            "rate_limit",
            True,
            30.0,
        ),
        (fake.status(429), "rate_limit", True, None),
        (fake.status(429, retry_after="soon"), "rate_limit", True, None),
        (fake.status(429, error_code="insufficient_quota"), "rate_limit", False, None),
        (fake.status(500), "unavailable", True, None),
        (fake.status(503, retry_after="0.5"), "unavailable", True, 0.5),
        (fake.status(529), "unavailable", True, None),
        (fake.status(408), "timeout", True, None),
        (fake.status(400, message=f"bad request with {KEY}"), "invalid_request", False, None),
        (fake.status(404), "invalid_request", False, None),
        (fake.status(401, message=f"Incorrect API key provided: {KEY}"), "authorization", False, None),
        (fake.status(302), "malformed", False, None),
    ],
)
async def test_refusals_say_whether_and_when_to_try_again(
    answer: fake.Scripted, kind: str, retryable: bool, wait: float | None, provider: fake.FakeProvider, guard: Guard
) -> None:
    provider.answer(answer)
    error = await failure(model(provider, guard))
    assert (error.kind, error.retryable, error.retry_after) == (kind, retryable, wait)
    assert f"HTTP {answer.status}" in error.message
    assert len(provider.requests) == 1


def completion(**choice: Any) -> bytes:
    return orjson.dumps({"choices": [choice]})


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"choices": [{"message": {"content": "\xff\xfe"}}]}', "not JSON in UTF-8"),
        (b"[]", "not a JSON object"),
        (b"{}", "choices is missing"),
        (b'{"choices": []}', "choices is missing"),
        (b'{"choices": ["x"]}', "choices is missing"),
        (completion(finish_reason="stop"), "message is missing"),
        (completion(message={"content": [1]}), "content is not text"),
        (completion(message={"content": None, "tool_calls": {}}, finish_reason="huh"), "neither text nor tool calls"),
        (completion(message={"tool_calls": "x"}), "tool_calls is not a list"),
        (completion(message={"tool_calls": [{"function": {}}]}), r"tool_calls\[0\] has no function name"),
        (completion(message={"tool_calls": [3]}), r"tool_calls\[0\] has no function name"),
        (completion(message={"content": ""}, finish_reason="exploded"), "'exploded' and neither"),
        (b"x" * (10 * 1024 * 1024), "larger than"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_an_error_that_names_why(
    body: bytes, what: str, provider: fake.FakeProvider, guard: Guard
) -> None:
    provider.answer(fake.raw(body))
    error = await failure(model(provider, guard))
    assert error.kind == "malformed"
    with pytest.raises(ModelError, match=what):
        raise error


async def test_an_unknown_finish_reason_beside_text_is_other(provider: fake.FakeProvider, guard: Guard) -> None:
    provider.answer(fake.text("words", finish_reason="exploded"), fake.text("cut", finish_reason="length"))
    subject = model(provider, guard)
    assert [(await subject.generate(ModelRequest(ASK))).finish_reason for _ in range(2)] == ["other", "length"]


@pytest.mark.parametrize("at", [0, 1, 20, 60, 100, 150, 250])
async def test_an_answer_cut_at_any_byte_is_worth_another_try(
    at: int, provider: fake.FakeProvider, guard: Guard
) -> None:
    provider.answer(fake.cut(at))
    error = await failure(model(provider, guard))
    assert (error.kind, error.retryable) == ("unavailable", True)


async def test_a_provider_that_never_answers_times_out(provider: fake.FakeProvider, guard: Guard) -> None:
    provider.answer(fake.hang())
    error = await failure(model(provider, guard, parameters={"timeout": "100ms"}))
    assert (error.kind, error.retryable) == ("timeout", True)


async def test_a_slow_answer_within_the_timeout_is_an_answer(provider: fake.FakeProvider, guard: Guard) -> None:
    ready = anyio.Event()
    provider.answer(fake.after(ready.wait, fake.text("at last")))
    answers: list[str] = []

    async def ask() -> None:
        answers.append((await model(provider, guard).generate(ModelRequest(ASK))).text)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        ready.set()
    assert answers == ["at last"]


async def test_nobody_listening_is_worth_another_try(guard: Guard) -> None:
    config = ModelConfig("openai-compatible", "m", "http://127.0.0.1:1/v1", allow_private=True)
    error = await failure(create(config, ModelServices(guard, SystemClock())))
    assert (error.kind, error.retryable) == ("unavailable", True)


async def test_a_private_address_is_refused_unless_allowed(provider: fake.FakeProvider, guard: Guard) -> None:
    config = ModelConfig("openai-compatible", "m", provider.url)
    error = await failure(create(config, ModelServices(guard, SystemClock())))
    assert (error.kind, error.retryable) == ("refused", False)
    assert provider.connections == 0


async def test_missing_credentials_are_named_and_nothing_is_sent(provider: fake.FakeProvider, guard: Guard) -> None:
    async def missing() -> Credentials:
        raise CredentialsMissing("secret default/keys has no key openai")

    for source in (missing, ModelConfig("openai").credentials):
        config = ModelConfig("openai", "m", provider.url, allow_private=True, credentials=source)
        error = await failure(create(config, ModelServices(guard, SystemClock())))
        assert (error.kind, error.retryable) == ("authorization", False)
    assert provider.connections == 0


@pytest.mark.parametrize("name", ["messages", "stream", "model"])
async def test_parameters_cannot_replace_what_is_ours(name: str, provider: fake.FakeProvider, guard: Guard) -> None:
    error = await failure(model(provider, guard, parameters={name: True}))
    assert error.kind == "invalid_request"


async def test_a_configuration_without_name_or_address_is_refused(guard: Guard) -> None:
    services = ModelServices(guard, SystemClock())
    with pytest.raises(ValueError, match=r"model\.name"):
        create(ModelConfig("openai"), services)
    with pytest.raises(ValueError, match=r"spec\.baseURL"):
        create(ModelConfig("openai-compatible", "m"), services)


async def test_keys_are_in_no_representation() -> None:
    assert KEY not in repr(Credentials(KEY, {"x-api-key": KEY}))
