"""JSON with the place of every field, by recursive descent over the standard library's string scanner.

The usual parsers let the last of two equal keys win, recurse without bound and accept NaN; this one refuses all three, and
remembers where things stand so that errors can point at them. Source: RFC 8259. Read next: `kastra.manifest.decode`.
"""

import re
from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined] # documented only by its use in the standard library
from typing import Any

from .position import Mark, PathTuple, RawPlace

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_LITERALS = {"true": True, "false": False, "null": None}
_LITERAL = re.compile("true|false|null")
_MAX_NUMBER = 400
SHOWN_PATH = 4
"""Parts of a field's path that are worth showing where what is wrong is that there are too many."""


class JSONScanner:
    """One JSON text.

    Args:
        text: the whole document.
        max_depth: levels of nesting allowed.
        max_nodes: values allowed.
        error: builds the exception to raise from a message, a place and a path.
    """

    def __init__(
        self, text: str, *, max_depth: int, max_nodes: int, error: Callable[[str, Mark, PathTuple], Exception]
    ) -> None:
        self._text = text
        self._max_depth = max_depth
        self._max_nodes = max_nodes
        self._error = error
        self._nodes = 0
        self._places: dict[PathTuple, RawPlace] = {}
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._line = 0

    def document(self) -> tuple[Any, dict[PathTuple, RawPlace]]:
        """The value and the places of its fields."""
        start = self._skip(0)
        value, end = self._value(start, (), 1, start)
        end = self._skip(end)
        if end != len(self._text):
            raise self._fail("more text after the end of the JSON value", end, ())
        return value, self._places

    def _skip(self, index: int) -> int:
        match = _SPACE.match(self._text, index)
        assert match is not None
        return match.end()

    def _mark(self, index: int) -> Mark:
        # Scanning moves forwards except in errors, so that the line is found by a few steps from the last one.
        while self._line and self._line_starts[self._line] > index:
            self._line -= 1
        while self._line + 1 < len(self._line_starts) and self._line_starts[self._line + 1] <= index:
            self._line += 1
        return Mark(self._line + 1, index - self._line_starts[self._line] + 1)

    def _fail(self, message: str, index: int, path: PathTuple) -> Exception:
        return self._error(message, self._mark(min(index, len(self._text))), path)

    def _value(self, index: int, path: PathTuple, depth: int, key: int) -> tuple[Any, int]:
        if depth > self._max_depth:
            raise self._fail(f"nested more than {self._max_depth} levels deep", index, path[:SHOWN_PATH])
        self._nodes += 1
        if self._nodes > self._max_nodes:
            raise self._fail(f"more than {self._max_nodes:,} values", index, path)
        first = self._text[index : index + 1]
        at, here = self._mark(key), self._mark(index)
        value: Any
        if first == "{":
            self._places[path] = (at[0], at[1], here[0], here[1], 0)
            return self._object(index + 1, path, depth)
        if first == "[":
            self._places[path] = (at[0], at[1], here[0], here[1], 0)
            return self._array(index + 1, path, depth)
        if first == '"':
            value, end = self._string(index, path)
        elif literal := _LITERAL.match(self._text, index):
            value, end = _LITERALS[literal.group()], literal.end()
        elif number := _NUMBER.match(self._text, index):
            value, end = self._number(number, path), number.end()
        else:
            raise self._fail("expected a JSON value", index, path)
        self._places[path] = (at[0], at[1], here[0], here[1], end - index)
        return value, end

    def _string(self, index: int, path: PathTuple) -> tuple[str, int]:
        try:
            value, end = scanstring(self._text, index + 1, True)
            value.encode()
        except UnicodeEncodeError:
            raise self._fail("string holds half of a surrogate pair", index, path) from None
        except ValueError as error:
            raise self._fail(str(error).partition(":")[0], getattr(error, "pos", index), path) from None
        return value, end

    def _number(self, match: re.Match[str], path: PathTuple) -> int | float:
        text = match.group()
        if len(text) > _MAX_NUMBER:
            raise self._fail(f"number of {len(text)} characters", match.start(), path)
        if not match.group(2) and not match.group(3):
            integer = int(text)
            if -(2**63) <= integer < 2**64:
                return integer
            raise self._fail(f"integer {text[:40]} does not fit 64 bits", match.start(), path)
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise self._fail(f"number {text[:40]} is out of range", match.start(), path)
        return value

    def _array(self, index: int, path: PathTuple, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        index = self._skip(index)
        if self._text[index : index + 1] == "]":
            return items, index + 1
        while True:
            value, index = self._value(index, (*path, len(items)), depth + 1, index)
            items.append(value)
            index = self._skip(index)
            following = self._text[index : index + 1]
            if following == "]":
                return items, index + 1
            if following != ",":
                raise self._fail('expected "," or "]"', index, path)
            index = self._skip(index + 1)

    def _object(self, index: int, path: PathTuple, depth: int) -> tuple[dict[str, Any], int]:
        members: dict[str, Any] = {}
        index = self._skip(index)
        if self._text[index : index + 1] == "}":
            return members, index + 1
        while True:
            if self._text[index : index + 1] != '"':
                raise self._fail("expected a key in double quotes", index, path)
            key_at = index
            key, index = self._string(index, path)
            here = (*path, key)
            if key in members:
                raise self._fail(f'key "{key}" stands twice (first on line {self._places[here][0]})', key_at, here)
            index = self._skip(index)
            if self._text[index : index + 1] != ":":
                raise self._fail('expected ":"', index, here)
            members[key], index = self._value(self._skip(index + 1), here, depth + 1, key_at)
            index = self._skip(index)
            following = self._text[index : index + 1]
            if following == "}":
                return members, index + 1
            if following != ",":
                raise self._fail('expected "," or "}"', index, path)
            index = self._skip(index + 1)
