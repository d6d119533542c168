"""What did a model say over Anthropic's Messages wire? Reads a whole answer, and gathers a streamed one.

Both are lists of blocks (text, thinking, calls of tools); a stream opens, extends and closes them by index. What makes no
sense becomes a `ModelError`, as does a stream that ends before its message does. Tokens read from the prompt cache and written
to it are counted apart on this wire; here they are part of `inputTokens`, as everywhere else.

Source: Anthropic API reference, messages and streaming. Read next: `kastra.model.structured`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.netguard import Answer
from kastra.telemetry import without_secrets

from .gathering import GatheringBase
from .interface import (
    Credentials,
    End,
    ErrorKind,
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
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool-calls",
    "refusal": "content-filter",
}
_ERRORS: Mapping[str, ErrorKind] = {
    "rate_limit_error": "rate_limit",
    "invalid_request_error": "invalid_request",
    "request_too_large": "invalid_request",
    "not_found_error": "invalid_request",
    "authentication_error": "authorization",
    "permission_error": "authorization",
    "timeout_error": "timeout",
}
MAX_BLOCKS = 512
"""Blocks of one answer."""


def read(answer: Answer, asked: Asked, who: str) -> ModelResponse:
    """The response in a whole answer.

    Raises:
        ModelError: of kind `malformed`: there is none in it.
    """

    def malformed(what: str) -> ModelError:
        return ModelError("malformed", f"{who}: malformed answer: {what}")

    try:
        body = without_secrets(answer.json())
    except ValueError:
        raise malformed("not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise malformed("not a JSON object")
    content = body.get("content")
    if not isinstance(content, list) or len(content) > MAX_BLOCKS:
        raise malformed(f"content is not a list of at most {MAX_BLOCKS} blocks")
    blocks = []
    for index, raw in enumerate(content):
        block = _block(raw)
        if block is None:
            raise malformed(f"content[{index}] is not a block")
        blocks.append(block)
    usage = usage_of(body.get("usage"), None)
    return _response(blocks, body.get("stop_reason"), usage, body.get("model"), asked, who)


class _Block:
    """A block, whole or arriving; `shown` is its number among the calls of tools, -1 for the answer's own tool."""

    __slots__ = ("id", "input", "kind", "name", "pieces", "shown", "signature")

    def __init__(self, kind: str, identity: str = "", name: str = "", given: Any = None) -> None:
        self.kind = kind
        self.id = identity
        self.name = name
        self.input = given
        self.pieces: list[str] = []
        self.signature = ""
        self.shown = -1

    @property
    def text(self) -> str:
        """What has arrived."""
        return "".join(self.pieces)


def _block(raw: Any) -> _Block | None:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if kind == "text" and isinstance(raw.get("text"), str):
        block = _Block("text")
        block.pieces.append(raw["text"])
        return block
    if kind == "thinking" and isinstance(raw.get("thinking"), str):
        block = _Block("thinking")
        block.pieces.append(raw["thinking"])
        block.signature = str(raw.get("signature") or "")
        return block
    if kind == "redacted_thinking" and isinstance(raw.get("data"), str):
        block = _Block("redacted")
        block.pieces.append(raw["data"])
        return block
    if kind == "tool_use" and isinstance(raw.get("name"), str):
        return _Block("call", str(raw.get("id") or ""), raw["name"], raw.get("input"))
    # What the provider did by itself, such as a search, is nobody's to act on.
    return _Block("other") if isinstance(kind, str) and kind not in ("text", "thinking", "tool_use") else None


def _response(blocks: list[_Block], reason: Any, usage: Usage, model: Any, asked: Asked, who: str) -> ModelResponse:
    back = {wire: name for name, wire in asked.names.items()}
    calls: list[ToolCall] = []
    reasoning: list[Reasoning] = []
    texts: list[str] = []
    for block in blocks:
        if block.kind == "call":
            text = without_secrets(block.text)
            calls.append(tool_call(block.id, block.name, text if text else block.input, len(calls), back))
        elif block.kind == "text":
            texts.append(without_secrets(block.text))
        elif block.kind == "redacted":
            reasoning.append({"redacted": block.text})
        elif block.kind == "thinking":
            thought: Reasoning = {"text": without_secrets(block.text)}
            if block.signature:
                thought["signature"] = block.signature
            reasoning.append(thought)
    others, text, value = asked.settle(calls, "".join(texts))
    finish: FinishReason = "stop" if reason is None or (calls and not others) else _FINISH.get(str(reason), "other")
    if others:
        finish = "tool-calls"
    elif finish == "tool-calls":
        finish = "stop"
    if finish == "other" and not text:
        raise ModelError(
            "malformed", f"{who}: malformed answer: stop_reason {str(reason)[:40]!r} and neither text nor tool calls"
        )
    return ModelResponse(text, others, value, usage, finish, model if isinstance(model, str) else "", reasoning)


class Gathering(GatheringBase):
    """A streamed answer, gathered: feed it the data of each event."""

    def __init__(self, asked: Asked, endpoint: Endpoint, secret: Credentials) -> None:
        super().__init__(asked, endpoint, secret)
        self._blocks: dict[int, _Block] = {}
        self._calls = 0

    def feed(self, data: bytes) -> list[ModelChunk]:
        """The chunks in one event.

        Raises:
            ModelError: it makes no sense, or tells of an error.
        """
        event = self._event(data)
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event)
        if kind == "content_block_start":
            return self._start(event)
        if kind == "message_start":
            message = event.get("message")
            message = message if isinstance(message, dict) else {}
            self._model = str(message.get("model") or "")
            self._usage = usage_of(message.get("usage"), None)
            return [UsageUpdate(self._usage)]
        if kind == "message_delta":
            delta = event.get("delta")
            if isinstance(delta, dict) and delta.get("stop_reason") is not None:
                self._reason = delta["stop_reason"]
            if event.get("usage") is not None:
                self._usage = usage_of(event["usage"], self._usage)
                return [UsageUpdate(self._usage)]
        elif kind == "message_stop":
            self.done = True
        elif kind == "error":
            raise self._failed(event.get("error"))
        # ping, content_block_stop, and whatever is added later
        return []

    def _start(self, event: Mapping[str, Any]) -> list[ModelChunk]:
        index, block = event.get("index"), _block(event.get("content_block"))
        if not isinstance(index, int) or block is None or index in self._blocks:
            raise self._malformed("a block begins that is none, or that was there already")
        if len(self._blocks) >= MAX_BLOCKS:
            raise self._malformed(f"more than {MAX_BLOCKS} blocks")
        self._blocks[index] = block
        if block.kind == "call" and block.name != self._asked.tool:
            block.shown = self._calls
            self._calls += 1
            return [ToolCallDelta(block.shown, block.id, self._back.get(block.name, block.name))]
        if block.kind == "text" and block.pieces[0]:
            return [TextDelta(block.pieces[0])]
        return []

    def _delta(self, event: Mapping[str, Any]) -> list[ModelChunk]:
        block, delta = self._blocks.get(event.get("index", -1)), event.get("delta")
        if block is None or not isinstance(delta, dict):
            raise self._malformed("a delta of a block that has not begun")
        kind = delta.get("type")
        if kind == "text_delta":
            text = self._more(delta.get("text"), block.pieces)
            return [TextDelta(text)] if text and block.kind == "text" else []
        if kind == "input_json_delta":
            text = self._more(delta.get("partial_json"), block.pieces)
            if not text:
                return []
            if block.shown >= 0:
                return [ToolCallDelta(block.shown, block.id, self._back.get(block.name, block.name), text)]
            return [TextDelta(text)] if block.kind == "call" and not self._asked.wrapped else []
        if kind == "thinking_delta":
            text = self._more(delta.get("thinking"), block.pieces)
            return [ReasoningDelta(text)] if text else []
        if kind == "signature_delta":
            block.signature += str(delta.get("signature") or "")
            self._bound(len(block.signature))
        return []

    def _failed(self, error: Any) -> ModelError:
        text, code = self._error(error)
        return ModelError(_ERRORS.get(code, "unavailable"), text)

    def end(self) -> list[ModelChunk]:
        """The last chunk, once the stream is over.

        Raises:
            ModelError: it was over too early.
        """
        if self._reason is None:
            raise self._too_early()
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        usage = self._usage or Usage(calls=1)
        return [End(_response(blocks, self._reason, usage, self._model, self._asked, self._endpoint.who))]


def usage_of(raw: Any, before: Usage | None) -> Usage:
    """Tokens as the wire counts them; `before` is what an earlier event of the stream told, which a later one may repeat."""
    given = raw if isinstance(raw, dict) else {}
    usage: Usage = {**before} if before is not None else {"inputTokens": 0, "outputTokens": 0, "calls": 1}

    def count(name: str) -> int | None:
        value = given.get(name)
        return value if isinstance(value, int) and value >= 0 else None

    fresh, read_, written = (
        count("input_tokens"),
        count("cache_read_input_tokens"),
        count("cache_creation_input_tokens"),
    )
    if fresh is not None:
        read_ = usage.get("cachedInputTokens", 0) if read_ is None else read_
        written = usage.get("cacheWriteInputTokens", 0) if written is None else written
        usage["inputTokens"] = fresh + read_ + written
    if read_:
        usage["cachedInputTokens"] = read_
    if written:
        usage["cacheWriteInputTokens"] = written
    if (out := count("output_tokens")) is not None:
        usage["outputTokens"] = out
    details = given.get("output_tokens_details")
    if isinstance(details, dict) and isinstance(thinking := details.get("thinking_tokens"), int) and thinking > 0:
        usage["reasoningTokens"] = thinking
    return usage
