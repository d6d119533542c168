"""How is a model called over the OpenAI-compatible chat completions wire, which most providers serve?

One POST, one complete JSON answer. Whatever comes back is checked before it is believed: an answer that isn't JSON, has
no choice, or says things of the wrong type becomes a `ModelError` that names what is wrong; arguments of a tool call that
aren't a JSON object are handed on as `invalid`, for the model to be told. Keys are asked for at each call, sent in one
header, and appear in no error.

Source: OpenAI API reference, chat completions. Read next: `kastra.netguard.guard`, which makes the call.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from kastra.api.durations import parse_duration
from kastra.clock import Clock
from kastra.model.interface import (
    Credentials,
    CredentialsMissing,
    FinishReason,
    Message,
    ModelConfig,
    ModelError,
    ModelRequest,
    ModelResponse,
    ModelServices,
    ToolCall,
    ToolDefinition,
    Usage,
    compact,
    text_of,
)
from kastra.netguard import Answer, BadAnswer, ConnectionFailed, Limits, Refused, TimedOut
from kastra.telemetry import without_secrets

MAX_ANSWER = 8 * 1024 * 1024
DEFAULT_TIMEOUT = 120.0
"""Seconds for one call unless the parameter `timeout` says otherwise."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How a provider's dialect differs.

    Args:
        base_url: where it is served; empty if only a ModelProvider can say.
        max_tokens: the field that bounds the answer.
        json_schema: whether `response_format: json_schema` is understood; otherwise the schema goes into the prompt.
        needs_key: whether calls without a key are pointless.
        local: whether the built-in address is on this machine.
    """

    base_url: str
    max_tokens: str = "max_tokens"
    json_schema: bool = True
    needs_key: bool = True
    local: bool = False


WIRES: Mapping[str, Wire] = {
    "openai": Wire("https://api.openai.com/v1", max_tokens="max_completion_tokens"),
    "openai-compatible": Wire("", needs_key=False),
    "deepseek": Wire("https://api.deepseek.com/v1", json_schema=False),
    "groq": Wire("https://api.groq.com/openai/v1", max_tokens="max_completion_tokens"),
    "ollama": Wire("http://127.0.0.1:11434/v1", needs_key=False, local=True),
    "openrouter": Wire("https://openrouter.ai/api/v1"),
}

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
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "content_filter": "content-filter",
}
_NAME = re.compile(r"[^A-Za-z0-9_-]")


def create(config: ModelConfig, services: ModelServices) -> "OpenAIModel":
    """A model of one of the types in `WIRES`.

    Raises:
        ValueError: the name or the base URL is missing.
    """
    wire = WIRES[config.provider]
    if not config.name:
        raise ValueError(f"model.name: required for provider {config.provider}")
    if not (config.base_url or wire.base_url):
        raise ValueError(f"spec.baseURL: required for provider {config.provider}")
    return OpenAIModel(config, wire, services)


class OpenAIModel:
    """A model behind a chat completions endpoint."""

    def __init__(self, config: ModelConfig, wire: Wire, services: ModelServices) -> None:
        self._config = config
        self._wire = wire
        self._guard = services.guard
        self._clock = services.clock
        self._url = (config.base_url or wire.base_url).rstrip("/") + "/chat/completions"
        # The built-in address of a local provider isn't one that a manifest chose.
        self._allow_private = config.allow_private or (wire.local and not config.base_url)

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """One call.

        Raises:
            ModelError: see `kastra.model.interface`.
        """
        parameters = {**self._config.parameters, **request.parameters}
        timeout = _seconds(parameters.pop("timeout", DEFAULT_TIMEOUT))
        names = _wire_names(request.tools)
        body = self._body(request, parameters, names)
        credentials = await self._credentials()
        headers = {**credentials.headers, "content-type": "application/json", "accept": "application/json"}
        if credentials.api_key:
            headers["authorization"] = f"Bearer {credentials.api_key}"
        try:
            answer = await self._guard.request(
                "POST",
                self._url,
                headers=headers,
                content=orjson.dumps(body),
                allow_private=self._allow_private,
                limits=Limits(timeout=timeout, max_bytes=MAX_ANSWER, max_redirects=0),
            )
        except Refused as error:
            raise ModelError("refused", f"provider {self._config.provider}: {error}") from None
        except TimedOut as error:
            raise ModelError("timeout", f"provider {self._config.provider}: {error}") from None
        except ConnectionFailed as error:
            raise ModelError("unavailable", f"provider {self._config.provider}: {error}") from None
        except BadAnswer as error:
            raise ModelError("malformed", f"provider {self._config.provider}: {error}") from None
        if answer.status != 200:
            raise self._refusal(answer, credentials)
        back = {wire: name for name, wire in names.items()}
        return _read(answer, back, wants_object=request.output_schema is not None, who=self._who())

    def _who(self) -> str:
        return f"model {self._config.provider}/{self._config.name}"

    async def _credentials(self) -> Credentials:
        try:
            credentials = await self._config.credentials()
        except CredentialsMissing as error:
            raise ModelError("authorization", f"{self._who()}: {error}") from None
        if self._wire.needs_key and not credentials.api_key and not credentials.headers:
            raise ModelError("authorization", f"{self._who()}: no API key is configured")
        return credentials

    def _body(self, request: ModelRequest, parameters: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._config.name}
        for name, value in parameters.items():
            if name in _OURS:
                raise ModelError("invalid_request", f"{self._who()}: the parameter {name} can't be set")
            if name in ("maxTokens", "maxOutputTokens", "max_tokens", "max_completion_tokens"):
                name = self._wire.max_tokens
            body[_RENAMED.get(name, name)] = value
        messages = [_message(message, names) for message in request.messages]
        schema = request.output_schema
        if schema is not None and self._wire.json_schema:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "output", "schema": schema}}
        elif schema is not None:
            body["response_format"] = {"type": "json_object"}
            asked = f"Answer with one JSON object that satisfies this JSON Schema:\n{compact(schema)}"
            messages.insert(0, {"role": "system", "content": asked})
        body["messages"] = messages
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": names[tool.name],
                        "description": tool.description,
                        "parameters": tool.parameters,
                    },
                }
                for tool in request.tools
            ]
            choice = request.tool_choice
            if not isinstance(choice, str):
                body["tool_choice"] = {"type": "function", "function": {"name": names.get(choice["tool"], "")}}
            elif choice != "auto":
                body["tool_choice"] = choice
        return body

    def _refusal(self, answer: Answer, credentials: Credentials) -> ModelError:
        status = answer.status
        if status in (401, 403):
            # The body is left out: providers quote the key in it.
            return ModelError("authorization", f"{self._who()}: the provider refused the credentials (HTTP {status})")
        said, code = _said(answer)
        said = without_secrets(said)
        for secret in (credentials.api_key, *credentials.headers.values()):
            said = said.replace(secret, "***") if len(secret) > 3 else said
        text = f"{self._who()}: HTTP {status}{f': {said}' if said else ''}"
        wait = _retry_after(answer.headers, self._clock)
        if status == 429:
            return ModelError("rate_limit", text, retryable=code != "insufficient_quota", retry_after=wait)
        if status in (408, 409, 425) or status >= 500:
            return ModelError("timeout" if status == 408 else "unavailable", text, retry_after=wait)
        return ModelError("invalid_request" if 400 <= status < 500 else "malformed", text, retryable=False)


def _seconds(value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ModelError("invalid_request", f"model.parameters.timeout: {error}") from None


def _wire_names(tools: Sequence[ToolDefinition]) -> dict[str, str]:
    """From each tool's name to one that the wire takes: 64 of `[A-Za-z0-9_-]`."""
    names: dict[str, str] = {}
    for tool in tools:
        plain = _NAME.sub("_", tool.name)[:64]
        candidate, number = plain, 2
        while candidate in names.values():
            candidate, number = f"{plain[:60]}_{number}", number + 1
        names[tool.name] = candidate
    return names


def _message(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    role = message["role"]
    if role == "tool":
        return {"role": "tool", "tool_call_id": message.get("toolCallId", ""), "content": text_of(message)}
    body: dict[str, Any] = {"role": role, "content": text_of(message)}
    if calls := message.get("toolCalls"):
        body["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {
                    "name": names.get(call["name"], _NAME.sub("_", call["name"])[:64]),
                    "arguments": compact(call["arguments"]),
                },
            }
            for call in calls
        ]
    return body


def _read(answer: Answer, names: Mapping[str, str], *, wants_object: bool, who: str) -> ModelResponse:
    def malformed(what: str) -> ModelError:
        return ModelError("malformed", f"{who}: malformed answer: {what}")

    try:
        # A proxy may repeat what it was sent, and answers are kept for good.
        body = without_secrets(answer.json())
    except ValueError:
        raise malformed("not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise malformed("not a JSON object")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise malformed("choices is missing or empty")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise malformed("choices[0].message is missing")
    text = message.get("content")
    if text is None:
        text = message.get("refusal") or ""
    if not isinstance(text, str):
        raise malformed("choices[0].message.content is not text")
    raw_calls = message.get("tool_calls") or []
    if not isinstance(raw_calls, list):
        raise malformed("choices[0].message.tool_calls is not a list")
    calls: list[ToolCall] = []
    for index, raw in enumerate(raw_calls):
        function = raw.get("function") if isinstance(raw, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise malformed(f"choices[0].message.tool_calls[{index}] has no function name")
        calls.append(_call(raw, function, index, names))
    reason = choices[0].get("finish_reason")
    finish: FinishReason = "tool-calls" if calls else _FINISH.get(str(reason), "stop" if reason is None else "other")
    if finish == "other" and not text:
        raise malformed(f"finish_reason {str(reason)[:40]!r} and neither text nor tool calls")
    return ModelResponse(
        text=text,
        tool_calls=calls,
        object=_object(text) if wants_object and not calls else None,
        usage=_usage(body.get("usage")),
        finish_reason=finish,
        model=str(body.get("model") or ""),
    )


def _call(raw: Mapping[str, Any], function: Mapping[str, Any], index: int, names: Mapping[str, str]) -> ToolCall:
    name = names.get(function["name"], function["name"])
    identity = raw.get("id")
    call: ToolCall = {
        "id": identity if isinstance(identity, str) and identity else f"call_{index}",
        "name": name,
        "arguments": {},
    }
    text = function.get("arguments")
    if text in (None, ""):
        return call
    try:
        arguments = orjson.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        call["invalid"] = f"the arguments are not JSON: {error}"
        return call
    if not isinstance(arguments, dict):
        call["invalid"] = "the arguments are not a JSON object"
        return call
    call["arguments"] = arguments
    return call


def _object(text: str) -> Any:
    stripped = text.strip()
    if stripped.startswith("```"):
        # Many models wrap JSON in a fence although they are asked not to.
        stripped = stripped.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        return orjson.loads(stripped)
    except ValueError:
        return None


def _usage(raw: Any) -> Usage:
    if not isinstance(raw, dict):
        return Usage(calls=1)

    def count(source: Any, name: str) -> int:
        value = source.get(name) if isinstance(source, dict) else None
        return value if isinstance(value, int) and value > 0 else 0

    usage = Usage(inputTokens=count(raw, "prompt_tokens"), outputTokens=count(raw, "completion_tokens"), calls=1)
    if cached := count(raw.get("prompt_tokens_details"), "cached_tokens"):
        usage["cachedInputTokens"] = cached
    if reasoning := count(raw.get("completion_tokens_details"), "reasoning_tokens"):
        usage["reasoningTokens"] = reasoning
    return usage


def _said(answer: Answer) -> tuple[str, str]:
    """What the provider says went wrong, and its code for it."""
    try:
        body = answer.json()
    except ValueError:
        return "", ""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return error[:500], ""
    if not isinstance(error, dict):
        return "", ""
    message, code = error.get("message"), error.get("code")
    return (message[:500] if isinstance(message, str) else ""), (code if isinstance(code, str) else "")


def _retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds to wait as the headers say, at most an hour."""
    text = headers.get("retry-after", "")
    milliseconds = headers.get("retry-after-ms", "")
    try:
        if milliseconds:
            wait = float(milliseconds) / 1000
        elif text[:1].isdigit():
            wait = float(text)
        elif text:
            wait = (parsedate_to_datetime(text) - clock.now()).total_seconds()
        else:
            return None
    except (TypeError, ValueError):
        return None
    return min(max(wait, 0.0), 3600.0)
