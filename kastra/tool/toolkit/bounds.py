"""How much may a built-in tool take, hold and give back? And how does it say that it left something out?

A result that is cut says so in its own text or in a field, and what to ask for to get the rest; a model would take a silent
half for the whole. Read next: `kastra.tool.toolkit.text`, which uses most of it.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from kastra.tool.interface import ToolError
from kastra.tool.toolkit.builtin import unfit

MAX_TEXT = 200_000
"""Characters of a text in a result: about 50,000 tokens."""
MAX_INPUT = 2_000_000
"""Characters of a text in an argument."""
MAX_NODES = 200_000
"""Values within a JSON value that is taken or given."""
MAX_DEPTH = 64
"""Levels of a JSON value."""
MAX_ITEMS = 1_000
"""Entries of a list in a result."""


def clip(text: str, limit: int = MAX_TEXT, rest: str = "") -> str:
    """The text, or its beginning and a note.

    Args:
        text: whole.
        limit: characters kept.
        rest: how to get the rest, for the note.
    """
    if len(text) <= limit:
        return text
    more = f"; {rest}" if rest else ""
    return f"{text[:limit]}\n[truncated: the first {limit:,} of {len(text):,} characters{more}]"


def text_of(text: str, what: str = "text", limit: int = MAX_INPUT) -> str:
    """The text, if it is short enough. Raises ToolError."""
    if len(text) > limit:
        raise unfit(f"{what}: {len(text):,} characters are too many; at most {limit:,} are taken")
    return text


def bounded(value: Any, what: str = "value") -> Any:
    """The value, if it is small enough to be walked and written. Counts shared parts as often as they occur.

    Raises:
        ToolError: it has too many values or levels.
    """
    count, level = 0, [value]
    for _depth in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for node in level:
            if isinstance(node, Mapping):
                below.extend(node.values())
            elif isinstance(node, (list, tuple)):
                below.extend(node)
            if count + len(level) + len(below) > MAX_NODES:
                raise unfit(f"{what}: more than {MAX_NODES:,} values")
        count += len(level)
        if not below:
            return value
        level = below
    raise unfit(f"{what}: nested more than {MAX_DEPTH} levels deep")


def parse_json(text: str, what: str = "text") -> Any:
    """The value that a JSON text stands for.

    Raises:
        ToolError: it isn't JSON, with the place, or is too large.
    """
    text_of(text, what)
    depth = deepest = 0
    for character in text:
        # A parser recurses; brackets within strings only make this estimate too high.
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > 900:
        raise unfit(f"{what}: nested too deeply")
    try:
        return bounded(orjson.loads(text), what)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise unfit(f"{what}: this is not JSON at {place}: {error.msg}") from None


def write_json(value: Any, *, indent: bool = False) -> str:
    """A value as JSON text.

    Raises:
        ToolError: it is too large.
    """
    try:
        return orjson.dumps(bounded(value), option=orjson.OPT_INDENT_2 if indent else None).decode()
    except (TypeError, orjson.JSONEncodeError) as error:
        raise ToolError(f"the value can't be written as JSON: {error}", retryable=False) from None
