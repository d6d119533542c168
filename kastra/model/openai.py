"""How is a model called over the OpenAI-compatible chat completions wire, which most providers serve?

A request becomes the JSON of one POST; what differs between providers is looked up in their `Dialect`. The answer comes whole
or as a stream and is read by `kastra.model.openai_answer`.

Source: OpenAI API reference, chat completions. Read next: `kastra.model.openai_answer`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from kastra.netguard import Answer

from .dialects import Dialect, dialect_of
from .gathering import StreamedCall, gathered
from .interface import (
    Credentials,
    Message,
    ModelConfig,
    ModelError,
    ModelPieces,
    ModelRequest,
    ModelResponse,
    ModelServices,
    ModelStream,
    Part,
    ToolDefinition,
    compact,
    one_by_one,
    text_of,
)
from .openai_answer import Gathering, read
from .parts import data_url
from .structured import Asked, ask, closed, plain_name, prompt
from .wire import Endpoint, Timeouts

_RENAMED = {
    "topP": "top_p",
    "topK": "top_k",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "stopSequences": "stop",
    "reasoningEffort": "reasoning_effort",
    "parallelToolCalls": "parallel_tool_calls",
}
_OURS = frozenset({"model", "messages", "tools", "tool_choice", "response_format", "stream", "stream_options", "n"})
_MAX_TOKENS = frozenset({"maxTokens", "maxOutputTokens", "max_tokens", "max_completion_tokens"})
_PATH = "/chat/completions"


def create(config: ModelConfig, services: ModelServices) -> "OpenAIModel":
    """A model of one of the types in `DIALECTS` that speak this wire.

    Raises:
        ValueError: the name or the base URL is missing.
    """
    dialect = dialect_of(config.provider, config.dialect)
    if not config.name:
        raise ValueError(f"model.name: required for provider {config.provider}")
    if not (config.base_url or dialect.base_url):
        raise ValueError(f"spec.baseURL: required for provider {config.provider}")
    return OpenAIModel(config, dialect, services)


class OpenAIModel:
    """A model behind a chat completions endpoint."""

    def __init__(self, config: ModelConfig, dialect: Dialect, services: ModelServices) -> None:
        self._config = config
        self._dialect = dialect
        self._endpoint = Endpoint(config, dialect, services)

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """One call, one answer.

        Raises:
            ModelError: see `kastra.model.interface`.
        """
        asked, body, timeouts = self._prepare(request)
        secret = await self._endpoint.credentials()
        answer = await self._endpoint.whole("POST", _PATH, headers(secret), body, timeouts, secret)
        return self._read(answer, asked)

    def stream(self, request: ModelRequest) -> ModelStream:
        """One call, the answer as it arrives.

        Raises:
            ModelError: see `kastra.model.interface`.
        """
        return one_by_one(self.pieces(request))

    def pieces(self, request: ModelRequest) -> ModelPieces:
        """As `stream`, with what arrives at once in one piece."""
        return gathered(self._endpoint, _PATH, partial(self._streamed, request))

    async def _streamed(self, request: ModelRequest) -> StreamedCall:
        asked, body, timeouts = self._prepare(request)
        body["stream"] = True
        if self._dialect.stream_usage:
            body["stream_options"] = {"include_usage": True}
        secret = await self._endpoint.credentials()
        gathering = Gathering(self._dialect, asked, self._endpoint, secret)
        return StreamedCall(
            headers(secret), body, timeouts, secret, gathering, lambda answer: self._read(answer, asked)
        )

    def _read(self, answer: Answer, asked: Asked) -> ModelResponse:
        return read(answer, asked, self._dialect, self._endpoint.who)

    def _prepare(self, request: ModelRequest) -> tuple[Asked, dict[str, Any], Timeouts]:
        parameters = {**self._config.parameters, **request.parameters}
        timeouts = Timeouts.of(parameters.pop("timeout", None))
        asked = ask(request, self._dialect, self._config.capabilities)
        body: dict[str, Any] = {"model": self._config.name}
        for name, value in parameters.items():
            if name in _OURS:
                raise self._wrong(f"the parameter {name} can't be set")
            if name in self._dialect.ignores:
                continue
            if name in _MAX_TOKENS:
                name = self._dialect.max_tokens
            body[_RENAMED.get(name, name)] = value
        body["messages"] = self._messages(request, asked)
        self._tools(request, asked, body)
        return asked, body, timeouts

    def _wrong(self, what: str) -> ModelError:
        return ModelError("invalid_request", f"{self._endpoint.who}: {what}")

    def _messages(self, request: ModelRequest, asked: Asked) -> list[dict[str, Any]]:
        messages = [self._message(m, asked.names, i >= request.first) for i, m in enumerate(request.messages)]
        if asked.mode in ("json_object", "prompt") and request.output_schema is not None:
            messages.insert(0, {"role": "system", "content": prompt(request.output_schema)})
        return messages

    def _message(self, message: Message, names: Mapping[str, str], current: bool) -> dict[str, Any]:
        role = message["role"]
        if role == "tool":
            return {"role": "tool", "tool_call_id": message.get("toolCallId", ""), "content": text_of(message)}
        body: dict[str, Any] = {"role": role, "content": text_of(message)}
        if parts := message.get("parts"):
            body["content"] = [self._part(part) for part in parts]
        if calls := message.get("toolCalls"):
            body["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {
                        "name": names.get(call["name"], plain_name(call["name"])),
                        "arguments": compact(call["arguments"]),
                    },
                }
                for call in calls
            ]
        if current and self._dialect.reasoning_back and (thoughts := message.get("reasoning")):
            body[self._dialect.reasoning[0]] = "".join(thought.get("text", "") for thought in thoughts)
        return body

    def _part(self, part: Part) -> dict[str, Any]:
        provider, dialect = self._config.provider, self._dialect
        if part["type"] == "text":
            return {"type": "text", "text": part.get("text", "")}
        known = self._config.capabilities
        if part["type"] == "image":
            if not dialect.images or (known and "vision" not in known):
                raise self._wrong("it takes no images; use a model with the capability vision")
            if dialect.images == "data" and "url" in part:
                raise self._wrong(f"{provider} takes images as data only, not by url")
            return {"type": "image_url", "image_url": {"url": data_url(part)}}
        if not dialect.files or (known and "files" not in known):
            raise self._wrong(
                "it takes no files; put their text into the message, or use a model with the capability files"
            )
        if "url" in part:
            raise self._wrong(f"{provider} takes files as data only, not by url")
        return {"type": "file", "file": {"filename": part.get("filename", "file"), "file_data": data_url(part)}}

    def _tools(self, request: ModelRequest, asked: Asked, body: dict[str, Any]) -> None:
        schema = request.output_schema
        tools = [_tool(tool, asked.names[tool.name]) for tool in request.tools]
        choice = request.tool_choice
        if schema is not None and asked.mode == "json_schema":
            format_: dict[str, Any] = {"name": "output", "schema": schema}
            if closed(schema):
                format_["strict"] = True
            body["response_format"] = {"type": "json_schema", "json_schema": format_}
        elif asked.mode == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif schema is not None and asked.tool:
            tools.append(_tool(asked.definition(schema), asked.tool))
            if choice == "auto":
                choice = "required" if request.tools else {"tool": asked.tool}
            elif choice == "none":
                choice = {"tool": asked.tool}
        if not tools:
            return
        if self._config.capabilities and "tools" not in self._config.capabilities:
            raise self._wrong("it can't call tools; its Model doesn't list the capability tools")
        body["tools"] = tools
        if not isinstance(choice, str):
            name = choice["tool"]
            body["tool_choice"] = {"type": "function", "function": {"name": asked.names.get(name, plain_name(name))}}
        elif choice != "auto":
            body["tool_choice"] = choice


def _tool(tool: ToolDefinition, name: str) -> dict[str, Any]:
    function = {"name": name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def headers(secret: Credentials) -> dict[str, str]:
    """The headers of a call, with the key."""
    fields = {**secret.headers, "content-type": "application/json"}
    if secret.api_key:
        fields["authorization"] = f"Bearer {secret.api_key}"
    return fields
