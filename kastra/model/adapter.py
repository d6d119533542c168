"""How are models of providers called that Kastra speaks no wire of? Through Pydantic AI's models, if that extra is installed.

    model: {provider: pydantic-ai, name: 'google:gemini-2.5-pro'}          # any model name that Pydantic AI knows

Translates requests, responses and chunks; decides nothing. A ModelProvider's key is handed to the provider's class as `api_key`;
without one, the provider's own environment variables hold. These calls are made by the providers' libraries: they don't pass
the outbound guard, and so a ModelProvider of this type takes no base URL, proxy or certificates.

Imported when a model of this type is made, the library with the first call. Source: Pydantic AI, `pydantic_ai.direct`.
Read next: `kastra.model.interface`.
"""

import importlib.util
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from kastra.telemetry import without_secrets

from .dialects import Dialect
from .interface import (
    Credentials,
    CredentialsMissing,
    End,
    FinishReason,
    Message,
    ModelConfig,
    ModelError,
    ModelRequest,
    ModelResponse,
    ModelServices,
    ModelStream,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    text_of,
)
from .structured import Asked, ask, plain_name, tool_call
from .wire import Timeouts

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, UserContent
    from pydantic_ai.messages import ModelResponse as TheirResponse
    from pydantic_ai.models import Model as TheirModel
    from pydantic_ai.models import ModelRequestParameters

Load = Callable[[str, Credentials], "TheirModel"]
_BY_TOOL = Dialect("", structured="tool")
_RENAMED = {
    "maxTokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "stopSequences": "stop_sequences",
    "parallelToolCalls": "parallel_tool_calls",
}
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_call": "tool-calls",
    "content_filter": "content-filter",
    "error": "error",
}


def create(config: ModelConfig, services: ModelServices) -> "AdaptedModel":
    """A model by a name that Pydantic AI knows.

    Raises:
        ValueError: there is no name, or an address that would pass by the outbound guard.
        ImportError: the extra is not installed.
    """
    if not config.name:
        raise ValueError("model.name: required for provider pydantic-ai, such as google:gemini-2.5-pro")
    if config.base_url or config.proxy:
        raise ValueError("spec.baseURL: a provider of type pydantic-ai takes no address; use openai-compatible for one")
    if importlib.util.find_spec("pydantic_ai") is None:
        raise ImportError("provider pydantic-ai needs the extra of that name: pip install 'kastra[pydantic-ai]'")
    return AdaptedModel(config, load)


def load(name: str, secret: Credentials) -> "TheirModel":
    """The library's model of that name, with the key if there is one.

    Raises:
        Exception: whatever the library says about a name or a key that it can't use.
    """
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import infer_provider, infer_provider_class

    def provider(kind: str) -> Any:
        made: Any = infer_provider_class(kind)
        return made(api_key=secret.api_key) if secret.api_key else infer_provider(kind)

    return infer_model(name, provider)


class AdaptedModel:
    """A model of Pydantic AI as one of Kastra's.

    Args:
        config: of the model.
        load: makes the library's model from a name and a key.
    """

    def __init__(self, config: ModelConfig, load: Load) -> None:
        self._config = config
        self._load = load
        self._who = f"model pydantic-ai/{config.name}"
        self._made: tuple[str, TheirModel] | None = None

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """One call, one answer.

        Raises:
            ModelError: see `kastra.model.interface`.
        """
        async with aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, End):
                    return chunk.response
        raise ModelError("malformed", f"{self._who}: the stream ended without a response")

    async def stream(self, request: ModelRequest) -> ModelStream:
        """One call, the answer as it arrives.

        Raises:
            ModelError: see `kastra.model.interface`.
        """
        parameters = {**self._config.parameters, **request.parameters}
        timeouts = Timeouts.of(parameters.pop("timeout", None))
        asked = ask(request, _BY_TOOL, self._config.capabilities)
        settings: Any = {_RENAMED.get(name, name): value for name, value in parameters.items()}
        settings["timeout"] = timeouts.total
        try:
            model = await self._model()
            from pydantic_ai.direct import model_request_stream

            messages, tools = _messages(request, asked), _tools(request, asked)
            shown = _Shown(asked)
            async with model_request_stream(
                model, messages, model_settings=settings, model_request_parameters=tools
            ) as chunks:
                async for event in chunks:
                    for chunk in shown.chunks(event):
                        yield chunk
                response = _response(chunks.get(), asked)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a provider's library raises is a failure of this call
            raise self._failed(error) from None
        yield End(response)

    async def _model(self) -> "TheirModel":
        try:
            secret = await self._config.credentials()
        except CredentialsMissing as error:
            raise ModelError("authorization", f"{self._who}: {error}") from None
        if self._made is None or self._made[0] != secret.api_key:
            # Imports the provider's library, which takes a second or two.
            made = await anyio.to_thread.run_sync(self._load, self._config.name, secret)
            self._made = (secret.api_key, made)
        return self._made[1]

    def _failed(self, error: Exception) -> ModelError:
        from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior, UserError

        said: str = without_secrets(str(error))[:500]
        text = f"{self._who}: {said}"
        if isinstance(error, ModelHTTPError):
            status = error.status_code
            if status in (401, 403):
                return ModelError("authorization", f"{self._who}: the provider refused the credentials (HTTP {status})")
            if status == 429:
                return ModelError("rate_limit", text)
            return ModelError("unavailable" if status >= 500 or status == 408 else "invalid_request", text)
        if isinstance(error, UserError | ImportError | ValueError | TypeError):
            return ModelError("authorization" if "API_KEY" in said or "api_key" in said else "invalid_request", text)
        if isinstance(error, TimeoutError):
            return ModelError("timeout", text)
        return ModelError("malformed" if isinstance(error, UnexpectedModelBehavior) else "unavailable", text)


def _messages(request: ModelRequest, asked: Asked) -> "list[ModelMessage]":
    from pydantic_ai import messages as theirs

    found: list[ModelMessage] = []
    pending: list[Any] = []
    for message in request.messages:
        role = message["role"]
        if role == "assistant":
            if pending:
                found.append(theirs.ModelRequest(parts=pending))
                pending = []
            parts: list[Any] = [
                theirs.ThinkingPart(thought.get("text", ""), signature=thought.get("signature"))
                for thought in message.get("reasoning", ())
                if "redacted" not in thought
            ]
            if text := text_of(message):
                parts.append(theirs.TextPart(text))
            for call in message.get("toolCalls", ()):
                name = asked.names.get(call["name"], plain_name(call["name"]))
                parts.append(theirs.ToolCallPart(name, call["arguments"], call["id"]))
            found.append(theirs.ModelResponse(parts=parts))
        elif role == "system":
            pending.append(theirs.SystemPromptPart(text_of(message)))
        elif role == "tool":
            given = message.get("name", "")
            name = asked.names.get(given, plain_name(given))
            pending.append(theirs.ToolReturnPart(name, text_of(message), message.get("toolCallId", "")))
        else:
            pending.append(theirs.UserPromptPart(_content(message)))
    if pending:
        found.append(theirs.ModelRequest(parts=pending))
    return found


def _content(message: Message) -> "str | Sequence[UserContent]":
    from pydantic_ai import messages as theirs

    if not (parts := message.get("parts")):
        return text_of(message)
    content: list[UserContent] = []
    for part in parts:
        if part["type"] == "text":
            content.append(part.get("text", ""))
        elif "url" in part:
            linked = theirs.ImageUrl if part["type"] == "image" else theirs.DocumentUrl
            content.append(linked(part["url"]))
        else:
            content.append(theirs.BinaryContent(b64decode(part.get("data", "")), media_type=part.get("mediaType", "")))
    return content


def _tools(request: ModelRequest, asked: Asked) -> "ModelRequestParameters":
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    tools = [
        ToolDefinition(
            name=asked.names[tool.name], description=tool.description, parameters_json_schema=dict(tool.parameters)
        )
        for tool in request.tools
        if request.tool_choice != "none"
    ]
    required = request.tool_choice == "required"
    if isinstance(request.tool_choice, Mapping):
        tools = [tool for tool in tools if tool.name == asked.names.get(request.tool_choice["tool"])]
        required = True
    output = []
    if request.output_schema is not None and asked.tool:
        answer = asked.definition(request.output_schema)
        output = [
            ToolDefinition(
                name=asked.tool,
                description=answer.description,
                parameters_json_schema=dict(answer.parameters),
                kind="output",
            )
        ]
    return ModelRequestParameters(
        function_tools=tools,
        output_tools=output,
        output_mode="tool" if output else "text",
        allow_text_output=not output and not required,
    )


class _Shown:
    """From the library's events to chunks."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._back = {wire: name for name, wire in asked.names.items()}
        self._calls: dict[int, tuple[int, str, str]] = {}

    def chunks(self, event: Any) -> list[TextDelta | ReasoningDelta | ToolCallDelta]:
        """What an event shows of the answer."""
        if event.event_kind == "part_start":
            return self._begin(event.index, event.part)
        if event.event_kind != "part_delta":
            return []
        delta = event.delta
        if delta.part_delta_kind == "text":
            return [TextDelta(delta.content_delta)] if delta.content_delta else []
        if delta.part_delta_kind == "thinking":
            return [ReasoningDelta(delta.content_delta)] if delta.content_delta else []
        if delta.part_delta_kind == "tool_call" and isinstance(delta.args_delta, str) and event.index in self._calls:
            return [ToolCallDelta(*self._calls[event.index], delta.args_delta)] if delta.args_delta else []
        return []

    def _begin(self, index: int, part: Any) -> list[TextDelta | ReasoningDelta | ToolCallDelta]:
        if part.part_kind == "text":
            return [TextDelta(part.content)] if part.content else []
        if part.part_kind == "thinking":
            return [ReasoningDelta(part.content)] if part.content else []
        if part.part_kind != "tool-call" or part.tool_name == self._asked.tool:
            return []
        name = str(self._back.get(part.tool_name, part.tool_name))
        place = self._calls[index] = (len(self._calls), part.tool_call_id, name)
        begun = [ToolCallDelta(*place)]
        if isinstance(part.args, str) and part.args:
            begun.append(ToolCallDelta(*place, part.args))
        return [*begun]


def _response(theirs: "TheirResponse", asked: Asked) -> ModelResponse:
    back = {wire: name for name, wire in asked.names.items()}
    texts: list[str] = []
    calls: list[ToolCall] = []
    reasoning: list[Reasoning] = []
    for part in theirs.parts:
        if part.part_kind == "text":
            texts.append(without_secrets(part.content))
        elif part.part_kind == "thinking":
            thought: Reasoning = {"text": without_secrets(part.content)}
            if part.signature:
                thought["signature"] = part.signature
            reasoning.append(thought)
        elif part.part_kind == "tool-call":
            arguments = without_secrets(part.args)
            calls.append(tool_call(part.tool_call_id, part.tool_name, arguments, len(calls), back))
    others, text, value = asked.settle(calls, "".join(texts))
    finish: FinishReason = "tool-calls" if others else _FINISH.get(theirs.finish_reason or "stop", "other")
    finish = "stop" if finish == "tool-calls" and not others else finish
    used = theirs.usage
    usage: Usage = {"inputTokens": used.input_tokens, "outputTokens": used.output_tokens, "calls": 1}
    if used.cache_read_tokens:
        usage["cachedInputTokens"] = used.cache_read_tokens
    if used.cache_write_tokens:
        usage["cacheWriteInputTokens"] = used.cache_write_tokens
    return ModelResponse(text, others, value, usage, finish, theirs.model_name or "", reasoning)
