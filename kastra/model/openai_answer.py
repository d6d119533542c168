"""What did a model say over the chat completions wire? Reads a whole answer, and gathers a streamed one.

Whatever comes is checked before it is believed: an answer that isn't JSON, has no choice, or says things of the wrong type
becomes a `ModelError` that names what is wrong; arguments of a tool call that aren't a JSON object are handed on as `invalid`,
for the model to be told. A stream that ends before the model said that it was done is an error, too: half an answer is none.

Source: OpenAI API reference, chat completions and their chunks. Read next: `kastra.model.structured`.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from kastra.netguard import Answer
from kastra.telemetry import without_secrets

from .dialects import Dialect
from .gathering import GatheringBase
from .interface import (
    Credentials,
    End,
    FinishReason,
    ModelChunk,
    ModelError,
    ModelResponse,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageUpdate,
)
from .structured import Asked, tool_call
from .wire import Endpoint

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "content_filter": "content-filter",
    "error": "error",
}
MAX_CALLS = 128
"""Tool calls of one response."""


def read(answer: Answer, asked: Asked, dialect: Dialect, who: str) -> ModelResponse:
    """The response in a whole answer.

    Raises:
        ModelError: of kind `malformed`: there is none in it.
    """

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
    if not isinstance(raw_calls, list) or len(raw_calls) > MAX_CALLS:
        raise malformed(f"choices[0].message.tool_calls is not a list of at most {MAX_CALLS}")
    back = {wire: name for name, wire in asked.names.items()}
    calls: list[ToolCall] = []
    for index, raw in enumerate(raw_calls):
        function = raw.get("function") if isinstance(raw, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise malformed(f"choices[0].message.tool_calls[{index}] has no function name")
        calls.append(tool_call(raw.get("id"), function["name"], function.get("arguments"), index, back))
    thought = next((message[name] for name in dialect.reasoning if isinstance(message.get(name), str)), "")
    return _response(
        text,
        calls,
        thought,
        choices[0].get("finish_reason"),
        usage_of(body.get("usage")),
        body.get("model"),
        asked,
        who,
    )


def _response(
    text: str, calls: list[ToolCall], thought: str, reason: Any, usage: Usage, model: Any, asked: Asked, who: str
) -> ModelResponse:
    others, text, value = asked.settle(calls, text)
    finish: FinishReason = "stop" if reason is None or (calls and not others) else _FINISH.get(str(reason), "other")
    if others:
        finish = "tool-calls"
    elif finish == "tool-calls":
        finish = "stop"
    if finish == "error" or (finish == "other" and not text):
        shown = f"finish_reason {str(reason)[:40]!r}"
        raise ModelError("malformed", f"{who}: malformed answer: {shown} and neither text nor tool calls")
    reasoning: list[Reasoning] = [{"text": thought}] if thought else []
    return ModelResponse(text, others, value, usage, finish, model if isinstance(model, str) else "", reasoning)


class _Call:
    """A tool call that is arriving."""

    __slots__ = ("arguments", "id", "name", "shown")

    def __init__(self, identity: str, name: str, shown: int) -> None:
        self.id = identity
        self.name = name
        self.arguments: list[str] = []
        self.shown = shown


class Gathering(GatheringBase):
    """A streamed answer, gathered: feed it the data of each event."""

    def __init__(self, dialect: Dialect, asked: Asked, endpoint: Endpoint, secret: Credentials) -> None:
        super().__init__(asked, endpoint, secret)
        self._dialect = dialect
        self._text: list[str] = []
        self._thought: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._current = 0
        self._shown = 0

    def feed(self, data: bytes) -> list[ModelChunk]:
        """The chunks in one event.

        Raises:
            ModelError: it makes no sense, or tells of an error.
        """
        if data == b"[DONE]":
            self.done = True
            return []
        body = self._event(data)
        if (error := body.get("error")) is not None:
            raise self._failed(error)
        chunks: list[ModelChunk] = []
        if choices := body.get("choices"):
            self._choice(choices, chunks)
        if (usage := body.get("usage")) is None and self._dialect.usage_at:
            usage = body
            for step in self._dialect.usage_at:
                usage = usage.get(step) if isinstance(usage, dict) else None
        if usage is not None:
            self._usage = usage_of(usage)
            chunks.append(UsageUpdate(self._usage))
        if not self._model and isinstance(model := body.get("model"), str):
            self._model = model
        return chunks

    def _choice(self, choices: Any, chunks: list[ModelChunk]) -> None:
        choice = choices[0] if isinstance(choices, list) else None
        if not isinstance(choice, dict):
            raise self._malformed("choices is not a list of objects")
        delta = choice.get("delta")
        if isinstance(delta, dict):
            text = delta.get("content") or delta.get("refusal")
            if text:
                chunks.append(TextDelta(self._more(text, self._text)))
            for name in self._dialect.reasoning:
                if thought := delta.get(name):
                    chunks.append(ReasoningDelta(self._more(thought, self._thought)))
                    break
            if calls := delta.get("tool_calls"):
                self._tool_calls(calls, chunks)
        elif delta is not None:
            raise self._malformed("choices[0].delta is not an object")
        if (reason := choice.get("finish_reason")) is not None:
            self._reason = reason

    def _tool_calls(self, raw_calls: Any, chunks: list[ModelChunk]) -> None:
        if not isinstance(raw_calls, list):
            raise self._malformed("tool_calls is not a list")
        for raw in raw_calls:
            if not isinstance(raw, dict):
                raise self._malformed("a tool call is not an object")
            function = raw.get("function")
            function = function if isinstance(function, dict) else {}
            name, identity, arguments = function.get("name"), raw.get("id"), function.get("arguments")
            key = self._key(raw.get("index"), identity, name)
            call = self._calls.get(key)
            if call is None:
                if not isinstance(name, str) or not name:
                    raise self._malformed(f"tool call {key} begins without a function name")
                if len(self._calls) >= MAX_CALLS:
                    raise self._malformed(f"more than {MAX_CALLS} tool calls")
                call = self._calls[key] = self._begin(identity, name, key)
                if call.shown >= 0:
                    chunks.append(ToolCallDelta(call.shown, call.id, self._back.get(name, name)))
            if not arguments:
                continue
            if isinstance(arguments, dict):
                # Some send the whole object instead of its text.
                arguments = orjson.dumps(arguments).decode()
            arguments = self._more(arguments, call.arguments)
            if call.shown >= 0:
                chunks.append(ToolCallDelta(call.shown, call.id, self._back.get(call.name, call.name), arguments))
            elif not self._asked.wrapped:
                chunks.append(TextDelta(arguments))

    def _begin(self, identity: Any, name: str, key: int) -> _Call:
        identity = identity if isinstance(identity, str) and identity else f"call_{key}"
        if name == self._asked.tool:
            return _Call(identity, name, -1)
        self._shown += 1
        return _Call(identity, name, self._shown - 1)

    def _key(self, index: Any, identity: Any, name: Any) -> int:
        """Which call a delta belongs to: by its index, or, from those who send none or always the same, by its id."""
        known = self._calls
        if isinstance(index, int):
            call = known.get(index)
            if call is None or not identity or identity == call.id or not name:
                self._current = index
                return index
        if isinstance(identity, str) and identity:
            found = next((key for key, call in known.items() if call.id == identity), None)
            self._current = max(known, default=-1) + 1 if found is None else found
        return self._current

    def _failed(self, error: Any) -> ModelError:
        text, code = self._error(error)
        number = error.get("code") if isinstance(error, dict) else None
        if number == 429 or code in ("rate_limit_exceeded", "rate_limit_error"):
            return ModelError("rate_limit", text)
        if code in self._dialect.malformed_codes:
            return ModelError("malformed", text)
        if isinstance(number, int) and 400 <= number < 500 and number not in (408, 409, 425):
            return ModelError("authorization" if number in (401, 403) else "invalid_request", text)
        return ModelError("unavailable", text)

    def end(self) -> list[ModelChunk]:
        """The last chunk, once the stream is over.

        Raises:
            ModelError: it was over too early.
        """
        if self._reason is None and not (self.done and (self._text or self._calls)):
            raise self._too_early()
        calls = [
            tool_call(call.id, call.name, without_secrets("".join(call.arguments)), index, self._back)
            for index, call in enumerate(self._calls.values())
        ]
        response = _response(
            without_secrets("".join(self._text)),
            calls,
            without_secrets("".join(self._thought)),
            self._reason,
            self._usage or Usage(calls=1),
            self._model,
            self._asked,
            self._endpoint.who,
        )
        return [End(response)]


def usage_of(raw: Any) -> Usage:
    """Tokens as the wire counts them, and as DeepSeek counts cached ones."""
    if not isinstance(raw, dict):
        return Usage(calls=1)

    def count(source: Any, name: str) -> int:
        value = source.get(name) if isinstance(source, dict) else None
        return value if isinstance(value, int) and value > 0 else 0

    usage = Usage(inputTokens=count(raw, "prompt_tokens"), outputTokens=count(raw, "completion_tokens"), calls=1)
    if cached := count(raw.get("prompt_tokens_details"), "cached_tokens") or count(raw, "prompt_cache_hit_tokens"):
        usage["cachedInputTokens"] = cached
    if reasoning := count(raw.get("completion_tokens_details"), "reasoning_tokens"):
        usage["reasoningTokens"] = reasoning
    return usage
