"""How much of a conversation fits? Estimated tokens, and the newest messages that stay within a limit. Plain data, no calls.

Nobody's tokenizer is asked: four bytes of ASCII, or one character of any other script, count as a token, which is near enough to keep a
prompt within bounds and errs on the safe side for Chinese.

Read next: `kastra.agent.memory`, which sends what is left.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

MAX_BODY = 1 << 20
"""Bytes of JSON of one message that is kept; what is longer is shortened."""

MAX_TEXT = 64_000
"""Characters of a message that can be searched, and that are left of one that is too long."""

_OVERHEAD = 4
Message = Mapping[str, Any]


def tokens(message: Message) -> int:
    """About how many tokens a message takes."""
    text = message.get("content") or ""
    count = _text_tokens(text if isinstance(text, str) else str(text)) + _OVERHEAD
    for field in ("toolCalls", "result", "reasoning"):
        if message.get(field):
            count += _text_tokens(orjson.dumps(message[field], default=str).decode())
    return count


def _text_tokens(text: str) -> int:
    if text.isascii():
        return len(text) // 4 + 1
    plain = sum(1 for character in text if character < "\x80")
    return plain // 4 + len(text) - plain + 1


def fitting(messages: Sequence[Message], limit: int | None, remove: int) -> int:
    """Index of the first message that is sent: the newest that fit into `limit`, after `remove` more was taken off.

    The newest message is always sent. Nothing is taken off while everything fits.
    """
    if limit is None:
        return 0
    counts = [tokens(message) for message in messages]
    total = sum(counts)
    if total <= limit:
        return 0
    target, first = max(0, limit - remove), 0
    while total > target and first < len(messages) - 1:
        total -= counts[first]
        first += 1
    return first


def opening(messages: Sequence[Message]) -> int:
    """Index at which a conversation can begin: with what a user says if there is such a message, and never with the result of a
    call that isn't there.
    """
    for index, message in enumerate(messages):
        if message.get("role") == "user":
            return index
    for index, message in enumerate(messages):
        if message.get("role") != "tool":
            return index
    return len(messages)


def kept(message: Message) -> tuple[dict[str, Any], bytes, str | None]:
    """A message as it is stored: itself, its JSON, and its text for searching. One that is too long is shortened, and says so."""
    plain = {key: value for key, value in message.items() if key != "cache"}
    data = orjson.dumps(plain, default=str)
    if len(data) > MAX_BODY:
        plain = _shortened(plain, len(data))
        data = orjson.dumps(plain)
    content = plain.get("content")
    # A zero byte would end the text for SQLite.
    text = content[:MAX_TEXT].replace("\0", "") if isinstance(content, str) else ""
    return plain, data, text or None


def _shortened(message: Message, size: int) -> dict[str, Any]:
    note = f"[shortened: {size} bytes are more than memory keeps]"
    plain: dict[str, Any] = {"role": message["role"]}
    if message["role"] == "tool":
        return plain | {"toolCallId": message["toolCallId"], "name": message.get("name", ""), "result": note}
    content = message.get("content")
    plain["content"] = f"{content[:MAX_TEXT] if isinstance(content, str) else ''}\n{note}".lstrip()
    if message.get("toolCalls"):
        plain["toolCalls"] = [{"id": c["id"], "name": c["name"], "arguments": {}} for c in message["toolCalls"]]
    return plain
