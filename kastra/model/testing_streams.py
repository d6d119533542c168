"""Streamed answers for `FakeProvider`, and answers of Anthropic's wire: the bytes that providers send.

    provider.answer(stream(say("Hel"), say("lo")))
    provider.answer(claude(words("Hello"), use("lookup", {"id": 7})), claude_stream(words("Hel", "lo")))

Each event is a piece of its own; `together` and `split` cut the same bytes elsewhere. Read next: `kastra.model.testing`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from .testing import Scripted

EVENTS = {"Content-Type": "text/event-stream"}
_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def event(data: Any, name: str = "") -> bytes:
    """One event; `data` is a JSON value, or text as it is."""
    text = data.encode() if isinstance(data, str) else orjson.dumps(data)
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + text + b"\n\n"


def say(text: str) -> dict[str, Any]:
    """A delta of text, on the OpenAI-compatible wire."""
    return {"content": text}


def think(text: str, field: str = "reasoning_content") -> dict[str, Any]:
    """A delta of reasoning."""
    return {field: text}


def begin(index: int, identity: str, name: str, arguments: str = "") -> dict[str, Any]:
    """The first delta of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": identity, "type": "function", "function": function}]}


def more(index: int, arguments: str) -> dict[str, Any]:
    """A further delta of a tool call."""
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def stream(
    *deltas: Mapping[str, Any],
    finish: str | None = "stop",
    usage: Mapping[str, Any] | None = None,
    done: bool = True,
    between: Callable[[int], Awaitable[None]] | None = None,
) -> Scripted:
    """A streamed answer on the OpenAI-compatible wire.

    Args:
        deltas: of the message, one event each.
        finish: the reason given at the end; None for none.
        usage: told in an event of its own.
        done: whether `[DONE]` follows.
        between: see `Scripted`.
    """

    def chunk(choices: list[Any], **fields: Any) -> dict[str, Any]:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake-1"}
        return {**head, "choices": choices, **fields}

    pieces = [event(chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]))]
    pieces += [event(chunk([{"index": 0, "delta": delta, "finish_reason": None}])) for delta in deltas]
    if finish is not None:
        pieces.append(event(chunk([{"index": 0, "delta": {}, "finish_reason": finish}])))
        pieces.append(event(chunk([], usage=usage or _USAGE)))
    if done:
        pieces.append(event("[DONE]"))
    return Scripted(headers=EVENTS, pieces=pieces, between=between)


Blocks = list[dict[str, Any]]


def words(*pieces: str) -> Blocks:
    """A block of text, on Anthropic's wire, streamed in these pieces."""
    return [{"type": "text", "text": "", "_pieces": [{"type": "text_delta", "text": piece} for piece in pieces]}]


def thought(signature: str, *pieces: str) -> Blocks:
    """A block of thinking."""
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    deltas.append({"type": "signature_delta", "signature": signature})
    return [{"type": "thinking", "thinking": "", "signature": "", "_pieces": deltas}]


def hidden(data: str) -> Blocks:
    """A block of thinking that only the provider can read."""
    return [{"type": "redacted_thinking", "data": data, "_pieces": []}]


def use(name: str, arguments: Any, identity: str = "toolu_1") -> Blocks:
    """A call of a tool; arguments that are text are sent as they are, so that they can be malformed."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    deltas = [{"type": "input_json_delta", "partial_json": text[at : at + 5]} for at in range(0, len(text), 5)]
    return [{"type": "tool_use", "id": identity, "name": name, "input": {}, "_pieces": deltas}]


_CLAUDE_USAGE = {"input_tokens": 10, "output_tokens": 5}


def claude(*blocks: Blocks, stop: str = "end_turn", usage: Mapping[str, Any] | None = None) -> Scripted:
    """A whole answer on Anthropic's wire."""
    content = [_whole(block) for group in blocks for block in group]
    return Scripted(body=orjson.dumps(_message(content, stop, usage or _CLAUDE_USAGE)))


def claude_stream(
    *blocks: Blocks,
    stop: str = "end_turn",
    usage: Mapping[str, Any] | None = None,
    between: Callable[[int], Awaitable[None]] | None = None,
) -> Scripted:
    """A streamed answer on Anthropic's wire."""
    told = dict(usage or _CLAUDE_USAGE)
    out = told.pop("output_tokens", 5)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _message([], None, {**told, "output_tokens": 1})},
        {"type": "ping"},
    ]
    for index, block in enumerate(block for group in blocks for block in group):
        start = {key: value for key, value in block.items() if key != "_pieces"}
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in block["_pieces"]]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": stop, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": out}})
    events.append({"type": "message_stop"})
    return Scripted(headers=EVENTS, pieces=[event(data, data["type"]) for data in events], between=between)


def _message(content: Sequence[Any], stop: str | None, usage: Mapping[str, Any]) -> dict[str, Any]:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "fake-claude"}
    return {**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def _whole(block: Mapping[str, Any]) -> dict[str, Any]:
    whole = {key: value for key, value in block.items() if key != "_pieces"}
    text = ""
    for delta in block["_pieces"]:
        for key in ("text", "thinking", "signature"):
            if key in delta:
                whole[key] += delta[key]
        text += delta.get("partial_json", "")
    if text:
        whole["input"] = orjson.loads(text)
    return whole


def claude_status(code: int, kind: str, message: str = "", *, retry_after: str | float | None = None) -> Scripted:
    """A refusal, as Anthropic words it."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error = {"type": kind, "message": message or f"scripted {code}"}
    return Scripted(code, orjson.dumps({"type": "error", "error": error}), headers)


def together(answer: Scripted) -> Scripted:
    """The same bytes in one piece."""
    return replace(answer, pieces=[b"".join(answer.pieces)])


def split(answer: Scripted, size: int) -> Scripted:
    """The same bytes in pieces of `size` bytes, which end in the middle of anything."""
    whole = b"".join(answer.pieces)
    return replace(answer, pieces=[whole[at : at + size] for at in range(0, len(whole), size)])
