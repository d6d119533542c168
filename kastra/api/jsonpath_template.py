r"""Text made from an object by `-o jsonpath=`: `{range .items[*]}{.metadata.name}{"\n"}{end}`.

Text outside of braces is copied. In braces stands a path (its values are printed, a space between two), a quoted text, or
`range PATH` and `end` around what is repeated for each value. Strings print as they are, maps and lists as JSON.

Source: client-go's util/jsonpath. Read next: `kastra.api.jsonpath`, the paths.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from .jsonpath import MAX_LENGTH, JSONPathError, Missing, PathParser, Step, follow

_Node = Callable[[Any, Missing, list[str]], None]
_MAX_RANGES = 16


class Template:
    """A parsed template.

    Args:
        text: with at least one `{...}`; see `relaxed` for what people type.
        allow_missing: whether absent fields print nothing. A list that is too short for an index is an error in any case,
            as in kubectl.

    Raises:
        JSONPathError: the template is broken; says where.
    """

    def __init__(self, text: str, *, allow_missing: bool = True) -> None:
        if len(text) > MAX_LENGTH:
            raise JSONPathError(f"template has {len(text)} characters; at most {MAX_LENGTH} are allowed")
        self._missing = Missing.INDEX if allow_missing else Missing.ERROR
        self._nodes = _TemplateParser(text).nodes()

    def render(self, obj: Any) -> str:
        """The text for `obj`.

        Raises:
            JSONPathError: a path leads nowhere.
        """
        out: list[str] = []
        for node in self._nodes:
            node(obj, self._missing, out)
        return "".join(out)


def relaxed(text: str) -> str:
    """A template from what people type: `metadata.name` and `.metadata.name` stand for `{.metadata.name}`."""
    text = text.strip()
    if "{" in text or not text:
        return text
    return "{" + (text if text[0] in ".[$@" else "." + text) + "}"


def to_text(value: Any) -> str:
    """A value as templates print it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return str(value)


class _TemplateParser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ranges: list[int] = []

    def nodes(self) -> list[_Node]:
        """All nodes up to the end of the text or of the range being read."""
        nodes: list[_Node] = []
        text = self._text
        while self._at < len(text):
            brace = text.find("{", self._at)
            end = len(text) if brace < 0 else brace
            if end > self._at:
                nodes.append(_literal(text[self._at : end]))
            self._at = end
            if brace < 0:
                break
            node = self._action(brace)
            if node is None:
                return nodes
            nodes.append(node)
        if self._ranges:
            raise JSONPathError("range without end", self._ranges[-1])
        return nodes

    def _action(self, brace: int) -> _Node | None:
        """The node of one `{...}`; None for `{end}`."""
        self._at = brace + 1
        self._space()
        text = self._text
        if self._at >= len(text):
            raise JSONPathError("unclosed action", brace)
        if text[self._at] in "'\"":
            parser = PathParser(text, self._at)
            quoted = parser.quoted()
            self._close(parser.at, brace)
            return _literal(quoted)
        if self._word("end"):
            self._close(self._at, brace)
            if not self._ranges:
                raise JSONPathError("not in range, nothing to end", brace)
            self._ranges.pop()
            return None
        if self._word("range"):
            if len(self._ranges) >= _MAX_RANGES:
                raise JSONPathError("ranges are nested too deeply", brace)
            steps = self._path(brace)
            self._ranges.append(brace)
            return _range(steps, self.nodes())
        return _print(self._path(brace))

    def _path(self, brace: int) -> list[Step]:
        self._space()
        parser = PathParser(self._text, self._at)
        parser.parse()
        if parser.at == self._at and self._at < len(self._text) and self._text[self._at] != "}":
            raise JSONPathError(f"unrecognized {self._text[self._at]!r} in action; paths start with a dot", self._at)
        self._close(parser.at, brace)
        return parser.steps

    def _word(self, word: str) -> bool:
        after = self._at + len(word)
        if not self._text.startswith(word, self._at) or self._text[after : after + 1] not in ("}", " ", "\t"):
            return False
        self._at = after
        return True

    def _space(self) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1

    def _close(self, at: int, brace: int) -> None:
        self._at = at
        self._space()
        if self._at >= len(self._text):
            raise JSONPathError("unclosed action", brace)
        if self._text[self._at] != "}":
            raise JSONPathError(f"unexpected {self._text[self._at]!r} in action", self._at)
        self._at += 1


def _literal(text: str) -> _Node:
    return lambda _obj, _missing, out: out.append(text)


def _print(steps: Sequence[Step]) -> _Node:
    return lambda obj, missing, out: out.append(" ".join(map(to_text, follow(steps, obj, missing))))


def _range(steps: Sequence[Step], body: Sequence[_Node]) -> _Node:
    def render(obj: Any, missing: Missing, out: list[str]) -> None:
        for value in follow(steps, obj, missing):
            for node in body:
                node(value, missing, out)

    return render
