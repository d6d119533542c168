"""Each cell of the matrix of providers and features, checked against what goes over the wire."""

from pathlib import Path
from typing import Any

import pytest

from kastra.model import testing as fake
from kastra.model import testing_streams as said
from kastra.model.dialects import DIALECTS
from kastra.model.embedding import create_embedder
from kastra.model.features import FEATURES, matrix
from kastra.model.interface import (
    Credentials,
    Message,
    ModelConfig,
    ModelError,
    ModelRequest,
    ModelServices,
    Part,
    ToolDefinition,
    collected,
    stream,
)
from kastra.netguard import Guard

from .conftest import KEY, FrozenClock, Make

PROVIDERS = pytest.mark.parametrize("type_", sorted(DIALECTS))
ASK: list[Message] = [{"role": "user", "content": "Hi"}]
LOOKUP = ToolDefinition("lookup", "looks up", {"type": "object"})
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
PIXEL = "iVBORw0KGgo="


def cell(feature: str, type_: str) -> str:
    return FEATURES[feature](DIALECTS[type_])


def claude(type_: str) -> bool:
    return DIALECTS[type_].wire == "anthropic"


def answer(type_: str, **options: Any) -> fake.Scripted:
    return said.claude(said.words("Hello"), **options) if claude(type_) else fake.text("Hello", **options)


async def sent(provider: fake.FakeProvider, model: Any, request: ModelRequest) -> Any:
    await model.generate(request)
    return provider.requests[-1].json


@PROVIDERS
async def test_whole_answers_and_streams(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    assert (cell("whole answers", type_), cell("streaming", type_)) == ("yes", "yes")
    streamed = (
        said.claude_stream(said.words("Hel", "lo")) if claude(type_) else said.stream(said.say("Hel"), said.say("lo"))
    )
    provider.answer(answer(type_), streamed)
    assert (await make(type_).generate(ModelRequest(ASK))).text == "Hello"
    response = await collected(stream(make(type_), ModelRequest(ASK)))
    assert (response.text, response.usage.get("inputTokens")) == ("Hello", 10)


@PROVIDERS
async def test_parallel_tool_calls(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    assert cell("parallel tool calls", type_) == "yes"
    if claude(type_):
        provider.answer(said.claude(said.use("lookup", {}, "a"), said.use("lookup", {"id": 1}, "b"), stop="tool_use"))
    else:
        provider.answer(fake.calls("lookup", {}, "lookup", {"id": 1}))
    response = await make(type_).generate(ModelRequest(ASK, [LOOKUP]))
    assert [call["arguments"] for call in response.tool_calls] == [{}, {"id": 1}]


@PROVIDERS
async def test_structured_output(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    way = cell("structured output", type_)
    request = ModelRequest(ASK, output_schema=SCHEMA)
    if way == "by tool":
        given = said.use("final_answer", {"n": 7})
        provider.answer(said.claude(given, stop="tool_use") if claude(type_) else fake.calls("final_answer", {"n": 7}))
    else:
        provider.answer(fake.value({"n": 7}))
    response = await make(type_).generate(request)
    assert (response.object, response.tool_calls, response.finish_reason) == ({"n": 7}, [], "stop")
    body = provider.requests[0].json
    if way == "by format":
        assert body["response_format"]["json_schema"] == {"name": "output", "schema": SCHEMA, "strict": True}
    elif way == "JSON mode":
        assert body["response_format"] == {"type": "json_object"}
        assert "JSON Schema" in body["messages"][0]["content"]
    else:
        assert body["tools"][0]["input_schema"] == SCHEMA
        assert body["tool_choice"] == {"type": "tool", "name": "final_answer"}


@PROVIDERS
async def test_reasoning_and_whether_it_is_handed_back(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    if claude(type_):
        provider.answer(said.claude(said.thought("sig", "Hm"), said.words("4")))
    else:
        field = (*DIALECTS[type_].reasoning, "reasoning_content")[0]
        body = b'{"choices": [{"message": {"content": "4", "%b": "Hm"}, "finish_reason": "stop"}]}' % field.encode()
        provider.answer(fake.raw(body))
    response = await make(type_).generate(ModelRequest(ASK))
    thought = [part.get("text") for part in response.reasoning]
    assert thought == (["Hm"] if cell("reasoning", type_) == "yes" else [])
    provider.answer(answer(type_))
    back: Message = {
        "role": "assistant",
        "content": "",
        "reasoning": [{"text": "Hm", "signature": "sig"}],
        "toolCalls": [{"id": "a", "name": "lookup", "arguments": {}}],
    }
    result: Message = {"role": "tool", "toolCallId": "a", "name": "lookup", "result": 1}
    body = await sent(provider, make(type_), ModelRequest([*ASK, back, result], [LOOKUP], first=1))
    assert ("Hm" in str(body["messages"])) is (cell("reasoning handed back", type_) == "yes")


@PROVIDERS
@pytest.mark.parametrize("kind", ["image", "file"])
async def test_images_and_files(type_: str, kind: Any, provider: fake.FakeProvider, make: Make) -> None:
    takes = cell("images" if kind == "image" else "files", type_)
    by_data: Part = {"type": kind, "data": PIXEL, "mediaType": "image/png" if kind == "image" else "application/pdf"}
    by_url: Part = {"type": kind, "url": "https://example.com/x"}
    for part, way in ((by_data, "data"), (by_url, "URL")):
        message: Message = {"role": "user", "content": "See", "parts": [{"type": "text", "text": "See"}, part]}
        if way not in takes:
            with pytest.raises(ModelError, match=r"it takes no|as data only"):
                await make(type_).generate(ModelRequest([message]))
            continue
        provider.answer(answer(type_))
        body = await sent(provider, make(type_), ModelRequest([message]))
        content = body["messages"][0]["content"]
        assert content[0] == {"type": "text", "text": "See"}
        assert (PIXEL if way == "data" else "https://example.com/x") in str(content[1])


@PROVIDERS
async def test_embeddings(type_: str, provider: fake.FakeProvider, guard: Guard) -> None:
    async def credentials() -> Credentials:
        return Credentials(KEY)

    config = ModelConfig(type_, "e-1", provider.url, allow_private=True, credentials=credentials)
    if cell("embeddings", type_) == "no":
        with pytest.raises(ValueError, match="offers no embeddings"):
            create_embedder(config, ModelServices(guard, FrozenClock()))
        return
    provider.answer(fake.raw(b'{"data": [{"index": 0, "embedding": [1, 0.5]}], "usage": {"prompt_tokens": 3}}'))
    result = await create_embedder(config, ModelServices(guard, FrozenClock())).embed(["x"])
    assert (list(result.vectors), result.usage.get("inputTokens")) == ([[1, 0.5]], 3)


@PROVIDERS
async def test_cached_tokens_and_prompt_cache_marks(type_: str, provider: fake.FakeProvider, make: Make) -> None:
    assert cell("cached tokens counted", type_) == "yes"
    if claude(type_):
        usage: Any = {"input_tokens": 10, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 5}
    else:
        usage = {"prompt_tokens": 90, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 80}}
    provider.answer(answer(type_, usage=usage))
    model = make(type_, {"promptCache": True})
    response = await model.generate(ModelRequest([{"role": "system", "content": "Be brief."}, *ASK]))
    assert response.usage.get("cachedInputTokens") == 80
    assert (response.usage.get("inputTokens") or 0) >= 90
    marked = "cache_control" in str(provider.requests[0].json)
    assert marked is (cell("prompt cache marks", type_) == "yes")
    assert "promptCache" not in provider.requests[0].json


@PROVIDERS
async def test_a_key_is_needed_or_not(type_: str, provider: fake.FakeProvider, guard: Guard) -> None:
    from kastra.model.providers import create

    provider.answer(answer(type_))
    model = create(ModelConfig(type_, "m", provider.url, allow_private=True), ModelServices(guard, FrozenClock()))
    if cell("needs a key", type_) == "yes":
        with pytest.raises(ModelError, match="no API key"):
            await model.generate(ModelRequest(ASK))
    else:
        assert (await model.generate(ModelRequest(ASK))).text == "Hello"


@PROVIDERS
async def test_models_are_listed(type_: str, provider: fake.FakeProvider, guard: Guard) -> None:
    from kastra.model.catalog import Catalog

    async def read(source: Any, namespace: str) -> str:
        return KEY

    assert cell("models listed", type_) == "yes"
    provider.models = ["b", "a"]
    spec = {"type": type_, "baseURL": provider.url, "allowPrivate": True, "apiKeyFrom": {"env": "X"}}
    assert await Catalog(guard, FrozenClock(), read).models(spec, "default") == ["a", "b"]


@PROVIDERS
async def test_the_bound_of_an_answer_goes_into_the_field_of_the_provider(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(answer(type_))
    body = await sent(provider, make(type_, {"maxTokens": 9}), ModelRequest(ASK))
    assert body[DIALECTS[type_].max_tokens] == 9


@PROVIDERS
async def test_parameters_that_a_provider_does_not_know_are_not_sent(
    type_: str, provider: fake.FakeProvider, make: Make
) -> None:
    provider.answer(answer(type_))
    given = dict.fromkeys(DIALECTS[type_].ignores, 1)
    body = await sent(provider, make(type_, given), ModelRequest(ASK))
    assert set(body) <= {"model", "messages", "max_tokens"}


async def test_quirks_can_be_corrected_by_the_provider_object(provider: fake.FakeProvider, make: Make) -> None:
    corrections = {
        "maxTokensField": "n_predict",
        "structuredOutput": "tool",
        "streamUsage": False,
        "reasoningFields": ["thoughts"],
        "images": "none",
        "ignoredParameters": ["temperature"],
    }
    model = make("openai-compatible", {"temperature": 1, "maxTokens": 3}, dialect=corrections)
    provider.answer(said.stream(said.think("Hm", "thoughts"), said.begin(0, "a", "final_answer", '{"n": 7}')))
    response = await collected(stream(model, ModelRequest(ASK, output_schema=SCHEMA)))
    assert (response.object, response.reasoning[0].get("text")) == ({"n": 7}, "Hm")
    body = provider.requests[0].json
    assert body["n_predict"] == 3
    assert not {"temperature", "stream_options", "response_format"} & set(body)


def test_every_feature_of_the_matrix_is_checked_and_every_provider_is_in_it() -> None:
    table = matrix()
    assert all(f"| {feature} |" in table for feature in FEATURES)
    assert all(name in table.splitlines()[0] for name in DIALECTS)
    checks = Path(__file__).read_text(encoding="utf-8")
    assert not [feature for feature in FEATURES if f'"{feature}"' not in checks]
