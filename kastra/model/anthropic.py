"""How is a model called over Anthropic's Messages wire?

A request becomes the JSON of one POST: instructions apart from the messages, results of tools in the user's turn, thoughts
handed back with the calls that they led to, and marks where the provider's prompt cache may cut. The answer comes whole or as
a stream and is read by `kastra.model.anthropic_answer`.

Source: Anthropic API reference, messages, version 2026-10-21. Read next: `kastra.model.anthropic_answer`.
"""

from base64 import b64decode
from collections.abc import Mapping
from functools import partial
from typing import Any

from .anthropic_answer import Gathering, read
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
    one_by_one,
    text_of,
)
from .structured import Asked, ask, plain_name, prompt
from .wire import Endpoint, Timeouts

VERSION = "2026-10-21"
"""The first that refuses temperature, top_p and top_k; a ModelProvider that needs them names 2023-06-01 in its headers."""
DEFAULT_MAX_TOKENS = 4096
"""The wire insists on a bound; this one every model accepts."""
_PATH = "/messages"
_RENAMED = {
    "topP": "top_p",
    "topK": "top_k",
    "stopSequences": "stop_sequences",
    "stop": "stop_sequences",
    "maxTokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
}
_OURS = frozenset({"model", "messages", "system", "tools", "tool_choice", "stream", "output_config"})
_MARKS = 4
"""Marks of the prompt cache that one request may have."""


def create(config: ModelConfig, services: ModelServices) -> "AnthropicModel":
    """A model of a type in `DIALECTS` that speaks this wire.

    Raises:
        ValueError: the name is missing.
    """
    if not config.name:
        raise ValueError(f"model.name: required for provider {config.provider}")
    return AnthropicModel(config, dialect_of(config.provider, config.dialect), services)


class AnthropicModel:
    """A model behind a messages endpoint."""

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
        return read(answer, asked, self._endpoint.who)

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
        secret = await self._endpoint.credentials()
        gathering = Gathering(asked, self._endpoint, secret)
        return StreamedCall(
            headers(secret), body, timeouts, secret, gathering, lambda answer: read(answer, asked, self._endpoint.who)
        )

    def _wrong(self, what: str) -> ModelError:
        return ModelError("invalid_request", f"{self._endpoint.who}: {what}")

    def _prepare(self, request: ModelRequest) -> tuple[Asked, dict[str, Any], Timeouts]:
        parameters = {**self._config.parameters, **request.parameters}
        timeouts = Timeouts.of(parameters.pop("timeout", None))
        cached = parameters.pop("promptCache", None)
        parallel = parameters.pop("parallelToolCalls", True)
        effort = parameters.pop("reasoningEffort", None)
        asked = ask(request, self._dialect, self._config.capabilities)
        body: dict[str, Any] = {"model": self._config.name, "max_tokens": DEFAULT_MAX_TOKENS}
        for name, value in parameters.items():
            if name in _OURS:
                raise self._wrong(f"the parameter {name} can't be set")
            if name in self._dialect.ignores:
                continue
            wire = _RENAMED.get(name, name)
            body[wire] = [value] if wire == "stop_sequences" and isinstance(value, str) else value
        if isinstance(thinking := body.get("thinking"), Mapping):
            renamed = {"budget_tokens" if key == "budgetTokens" else key: value for key, value in thinking.items()}
            body["thinking"] = {"type": "enabled", **renamed}
        system, body["messages"] = self._messages(request, asked)
        if request.output_schema is not None and asked.mode in ("json_object", "prompt"):
            system.append({"type": "text", "text": prompt(request.output_schema)})
        if system:
            body["system"] = system
        output: dict[str, Any] = {} if effort is None else {"effort": effort}
        if request.output_schema is not None and asked.mode == "json_schema":
            output["format"] = {"type": "json_schema", "schema": request.output_schema}
        if output:
            body["output_config"] = output
        self._tools(request, asked, body, parallel is not False)
        if cached:
            _mark(body, {"type": "ephemeral", **({"ttl": cached} if isinstance(cached, str) else {})})
        return asked, body, timeouts

    def _messages(self, request: ModelRequest, asked: Asked) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The instructions, and the turns; neighbours of one role are one turn, as the wire wants it."""
        system: list[dict[str, Any]] = []
        turns: list[dict[str, Any]] = []
        for message in request.messages:
            if message["role"] == "system":
                blocks: list[dict[str, Any]] = [{"type": "text", "text": text_of(message)}]
                role = ""
            else:
                blocks = self._blocks(message, asked.names)
                role = "assistant" if message["role"] == "assistant" else "user"
            if message.get("cache") and blocks:
                blocks[-1]["cache_control"] = {"type": "ephemeral"}
            if not role:
                system += [block for block in blocks if block["text"]]
            elif turns and turns[-1]["role"] == role:
                turns[-1]["content"] += blocks
            elif blocks:
                turns.append({"role": role, "content": blocks})
        return system, turns

    def _blocks(self, message: Message, names: Mapping[str, str]) -> list[dict[str, Any]]:
        if message["role"] == "tool":
            identity = message.get("toolCallId", "")
            block: dict[str, Any] = {"type": "tool_result", "tool_use_id": identity, "content": text_of(message)}
            result = message.get("result")
            if isinstance(result, Mapping) and set(result) == {"error"}:
                block["is_error"] = True
            return [block]
        if parts := message.get("parts"):
            return [self._part(part) for part in parts]
        blocks: list[dict[str, Any]] = []
        for thought in message.get("reasoning", ()):
            # Without its signature the provider refuses a thought.
            if redacted := thought.get("redacted"):
                blocks.append({"type": "redacted_thinking", "data": redacted})
            elif signature := thought.get("signature"):
                blocks.append({"type": "thinking", "thinking": thought.get("text", ""), "signature": signature})
        if text := text_of(message):
            blocks.append({"type": "text", "text": text})
        for call in message.get("toolCalls", ()):
            name = names.get(call["name"], plain_name(call["name"]))
            blocks.append({"type": "tool_use", "id": call["id"], "name": name, "input": call["arguments"]})
        return blocks

    def _part(self, part: Part) -> dict[str, Any]:
        if part["type"] == "text":
            return {"type": "text", "text": part.get("text", "")}
        known = self._config.capabilities
        needed = "vision" if part["type"] == "image" else "files"
        if known and needed not in known:
            raise self._wrong(f"it takes no {part['type']}s; use a model with the capability {needed}")
        if "url" in part:
            source = {"type": "url", "url": part.get("url", "")}
        elif part.get("mediaType", "").startswith("text/"):
            text = b64decode(part.get("data", "")).decode("utf-8", "replace")
            source = {"type": "text", "media_type": "text/plain", "data": text}
        else:
            source = {"type": "base64", "media_type": part.get("mediaType", ""), "data": part.get("data", "")}
        if part["type"] == "image":
            return {"type": "image", "source": source}
        title = {"title": part.get("filename", "")} if part.get("filename") else {}
        return {"type": "document", "source": source, **title}

    def _tools(self, request: ModelRequest, asked: Asked, body: dict[str, Any], parallel: bool) -> None:
        tools = [
            {"name": asked.names[tool.name], "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
        chosen = request.tool_choice
        if isinstance(chosen, str):
            choice: dict[str, Any] = {"type": {"required": "any"}.get(chosen, chosen)}
        else:
            choice = {"type": "tool", "name": asked.names.get(chosen["tool"], plain_name(chosen["tool"]))}
        if request.output_schema is not None and asked.tool:
            definition = asked.definition(request.output_schema)
            tools.append(
                {"name": asked.tool, "description": definition.description, "input_schema": definition.parameters}
            )
            if "thinking" in body and body["thinking"].get("type") != "disabled":
                # While it thinks, no call may be forced; it is asked for in words.
                told = {"type": "text", "text": f"Give your final answer by calling the tool {asked.tool}."}
                body["system"] = [*body.get("system", ()), told]
                choice = {"type": "auto"}
            elif chosen == "auto" and request.tools:
                choice = {"type": "any"}
            elif chosen in ("auto", "none"):
                choice = {"type": "tool", "name": asked.tool}
        if not tools:
            return
        if self._config.capabilities and "tools" not in self._config.capabilities:
            raise self._wrong("it can't call tools; its Model doesn't list the capability tools")
        body["tools"] = tools
        if not parallel and choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
        if choice != {"type": "auto"}:
            body["tool_choice"] = choice


def _mark(body: dict[str, Any], mark: dict[str, Any]) -> None:
    """Where the prompt cache may cut: after the tools, after the instructions, and after the conversation so far."""
    places = [body["tools"][-1]] if body.get("tools") else []
    places += [body["system"][-1]] if body.get("system") else []
    places += [body["messages"][-1]["content"][-1]] if body["messages"] else []
    marked = sum("cache_control" in block for turn in body["messages"] for block in turn["content"])
    marked += sum("cache_control" in block for block in body.get("system", ()))
    for place in places[: max(0, _MARKS - marked)]:
        place["cache_control"] = mark


def headers(secret: Credentials) -> dict[str, str]:
    """The headers of a call, with the key."""
    fields = {"anthropic-version": VERSION, **secret.headers, "content-type": "application/json"}
    if secret.api_key:
        fields["authorization"] = f"Bearer {secret.api_key}"
    return fields
