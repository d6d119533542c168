"""Providers that Kastra speaks no wire of, through Pydantic AI: the library's own test models stand for them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError, UserError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from kastra.model.adapter import AdaptedModel
from kastra.model.interface import (
    Credentials,
    Message,
    ModelChunk,
    ModelConfig,
    ModelError,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolDefinition,
    collected,
)

from .conftest import Make

ASK: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
LOOKUP = ToolDefinition("shop.look up", "looks up", {"type": "object", "properties": {"id": {"type": "integer"}}})
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Provider:
    """Streams `deltas`, or raises, and keeps what it was asked."""

    def __init__(self, *deltas: Any) -> None:
        self.deltas = deltas
        self.keys: list[str] = []
        self.messages: list[ModelMessage] = []
        self.info: AgentInfo | None = None

    def model(self, key: str = "", **parameters: Any) -> AdaptedModel:
        async def credentials() -> Credentials:
            return Credentials(key)

        config = ModelConfig("pydantic-ai", "x:y", parameters=parameters, credentials=credentials)
        return AdaptedModel(config, self.load)

    def load(self, name: str, secret: Credentials) -> FunctionModel:
        self.keys.append(secret.api_key)
        return FunctionModel(stream_function=self.stream)

    async def stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.messages, self.info = messages, info
        for delta in self.deltas:
            if isinstance(delta, Exception):
                raise delta
            yield delta


async def test_text_and_reasoning_arrive_piece_by_piece() -> None:
    provider = Provider({0: DeltaThinkingPart(content="Hm")}, "Hel", "lo")
    seen: list[ModelChunk] = []
    response = await collected(provider.model(temperature=0.5, maxTokens=9).stream(ModelRequest(ASK)), seen.append)
    assert [chunk.text for chunk in seen if isinstance(chunk, TextDelta)] == ["Hel", "lo"]
    assert [chunk.text for chunk in seen if isinstance(chunk, ReasoningDelta)] == ["Hm"]
    assert (response.text, response.finish_reason) == ("Hello", "stop")
    assert response.usage.get("outputTokens", 0) > 0
    assert provider.info is not None
    assert provider.info.model_settings is not None
    assert (provider.info.model_settings.get("temperature"), provider.info.model_settings.get("max_tokens")) == (0.5, 9)


async def test_tool_calls_get_the_names_of_the_tools_and_results_go_back() -> None:
    provider = Provider(
        {0: DeltaToolCall("shop_look_up", '{"id"', tool_call_id="a")},
        {0: DeltaToolCall(json_args=": 7}", tool_call_id="a")},
    )
    seen: list[ModelChunk] = []
    response = await collected(provider.model().stream(ModelRequest(ASK, [LOOKUP])), seen.append)
    assert list(response.tool_calls) == [{"id": "a", "name": "shop.look up", "arguments": {"id": 7}}]
    assert "".join(c.arguments for c in seen if isinstance(c, ToolCallDelta)) == '{"id": 7}'
    answered = Provider("done")
    turn: list[Message] = [
        *ASK,
        {"role": "assistant", "content": "", "toolCalls": list(response.tool_calls)},
        {"role": "tool", "toolCallId": "a", "name": "shop.look up", "result": {"n": 1}},
    ]
    assert (await answered.model().generate(ModelRequest(turn, [LOOKUP]))).text == "done"
    kinds = [part.part_kind for message in answered.messages for part in message.parts]
    assert kinds == ["system-prompt", "user-prompt", "tool-call", "tool-return"]


async def test_an_answer_by_a_schema_is_asked_for_by_a_tool() -> None:
    provider = Provider({0: DeltaToolCall("final_answer", '{"n": 7}', tool_call_id="a")})
    response = await provider.model().generate(ModelRequest(ASK, output_schema=SCHEMA))
    assert (response.object, response.text, list(response.tool_calls)) == ({"n": 7}, '{"n":7}', [])
    assert provider.info is not None
    assert [tool.name for tool in provider.info.output_tools] == ["final_answer"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelHTTPError(401, "m", "key sk-canary"), "authorization"),
        (ModelHTTPError(429, "m"), "rate_limit"),
        (ModelHTTPError(503, "m"), "unavailable"),
        (ModelHTTPError(400, "m"), "invalid_request"),
        (UserError("Set the `X_API_KEY` environment variable"), "authorization"),
        (OSError("reset"), "unavailable"),
    ],
)
async def test_failures_are_of_their_kind(error: Exception, kind: str) -> None:
    with pytest.raises(ModelError) as caught:
        await Provider(error).model().generate(ModelRequest(ASK))
    assert caught.value.kind == kind
    assert "sk-canary" not in str(caught.value)


async def test_a_rotated_key_makes_a_new_client_and_the_same_key_none() -> None:
    provider, key = Provider("a"), ["one"]

    async def credentials() -> Credentials:
        return Credentials(key[0])

    model = provider.model()
    model = AdaptedModel(ModelConfig("pydantic-ai", "x:y", credentials=credentials), model._load)
    for value in ("one", "one", "two"):
        key[0] = value
        await model.generate(ModelRequest(ASK))
    assert provider.keys == ["one", "two"]


async def test_names_are_the_librarys_own(make: Make) -> None:
    with pytest.raises(ValueError, match="takes no address"):
        make("pydantic-ai")
