"""Bytes to documents, each field with its place; hostile input is refused within milliseconds.

PyYAML's libyaml binding supplies events only; what a scalar means, how mappings are built and what is refused is decided
here, because the stock constructors crash on deep nesting, hang on alias bombs, let the last of two equal keys win and
read `2024-01-01` as a date. Scalars are read as kubectl reads them (YAML 1.1 booleans, Go's integers), with a warning where
that surprises. JSON has its own scanner below the same limits. Nothing else in the project calls the YAML library to read.

Source: YAML 1.1, sigs.k8s.io/yaml (which kubectl uses), RFC 8259. Read next: `kastra.manifest.loader`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from kastra.api.values import copy

from .json import SHOWN_PATH, JSONScanner
from .position import START, Mark, PathTuple, Positions, RawPlace, format_path
from .scalars import NotResolved, resolve_plain

MAX_BYTES = 3 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 200_000
MAX_ALIASES = 1_000
MAX_DOCUMENTS = 10_000

_Start = tuple[int, int]
"""Line and column, both from 1: a Mark that costs nothing to make."""
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS = {_CORE + name: name for name in ("str", "int", "float", "bool", "null")}


class DecodeError(ValueError):
    """A document can't be read. `line` and `column` count from 1; `path` is the field, as far as known."""

    def __init__(self, message: str, mark: _Start = START, path: PathTuple = ()) -> None:
        super().__init__(message)
        self.message = message
        self.line, self.column = mark
        self.path = format_path(path)


class DuplicateKey(DecodeError):
    """A key stands twice in a mapping. `key` is the key, `first` the line where it stood before."""

    def __init__(self, key: str, first: int, mark: _Start, path: PathTuple) -> None:
        super().__init__(f'key "{key}" stands twice (first on line {first})', mark, path)
        self.key = key
        self.first = first


@dataclass(frozen=True, slots=True)
class DecodeWarning:
    """Something was read in a way that may surprise."""

    message: str
    mark: Mark
    path: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value (dict, list or scalar), the places of its fields, and what looked odd."""

    value: Any
    positions: Positions
    warnings: tuple[DecodeWarning, ...] = ()


@dataclass(slots=True)
class _Anchor:
    value: Any
    nodes: int
    height: int


@dataclass(slots=True)
class _Budget:
    """What one file may cost; shared by its documents."""

    nodes: int = 0
    aliases: int = 0

    def charge(self, nodes: int, mark: _Start, path: PathTuple) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise DecodeError(f"more than {MAX_NODES:,} nodes (aliases count as often as they are used)", mark, path)


def decode(data: bytes, *, json: bool = False) -> list[Document]:
    """All documents of a file; empty YAML documents are left out.

    Args:
        data: UTF-8, with or without a byte-order mark.
        json: read as JSON (one document) instead of YAML.

    Raises:
        DecodeError: the text is malformed, ambiguous (a key twice) or beyond a limit.
    """
    if len(data) > MAX_BYTES:
        raise DecodeError(f"more than {MAX_BYTES:,} bytes; split the file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        mark = Mark(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        raise DecodeError(f"not UTF-8: byte 0x{data[error.start]:02x}", mark) from None
    if json:
        scanner = JSONScanner(text, max_depth=MAX_DEPTH, max_nodes=MAX_NODES, error=DecodeError)
        value, places = scanner.document()
        return [Document(value, Positions(places))]
    return list(_documents(text))


def _documents(text: str) -> Iterator[Document]:
    parser: Any = yaml.CLoader(text)
    budget = _Budget()
    count = 0
    try:
        parser.get_event()
        while not parser.check_event(yaml.StreamEndEvent):
            count += 1
            if count > MAX_DOCUMENTS:
                raise DecodeError(f"more than {MAX_DOCUMENTS:,} documents", _mark(parser.peek_event().start_mark))
            parser.get_event()
            builder = _Builder(parser, budget)
            value, _ = builder.node((), 1)
            parser.get_event()
            if value is not None:
                yield Document(value, Positions(builder.places), tuple(builder.warnings))
    except yaml.YAMLError as error:
        _refuse(error, text)
    finally:
        parser.dispose()


def _refuse(error: yaml.YAMLError, text: str) -> NoReturn:
    if isinstance(error, yaml.MarkedYAMLError):
        where = error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.context, error.problem))) or "malformed YAML"
        raise DecodeError(problem, _mark(where)) from None
    if isinstance(error, yaml.reader.ReaderError):
        # libyaml counts bytes.
        before = text.encode()[: error.position].decode(errors="ignore")
        mark = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise DecodeError(f"character U+{error.character:04X} is not allowed in YAML: {error.reason}", mark) from None
    raise DecodeError(str(error)) from None


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark is not None else START


@dataclass(slots=True)
class _Builder:
    """One document by recursive descent over events; depth is bounded, so recursion is."""

    parser: Any
    budget: _Budget
    places: dict[PathTuple, RawPlace] = field(default_factory=dict)
    warnings: list[DecodeWarning] = field(default_factory=list)
    anchors: dict[str, _Anchor | None] = field(default_factory=dict)

    def node(self, path: PathTuple, depth: int, key: _Start | None = None) -> tuple[Any, int]:
        """The value of the next node and its height (1 for a scalar)."""
        event = self.parser.get_event()
        kind = type(event)
        start = event.start_mark
        here = (start.line + 1, start.column + 1)
        at = key or here
        if depth > MAX_DEPTH:
            raise DecodeError(f"nested more than {MAX_DEPTH} levels deep", here, path[:SHOWN_PATH])
        if kind is yaml.AliasEvent:
            name = event.anchor or ""
            self.places[path] = (at[0], at[1], here[0], here[1], len(name) + 1)
            return self._alias(name, here, path, depth)
        before = self.budget.nodes
        self.budget.charge(1, here, path)
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None  # open: an alias to it from within would be a cycle
        value: Any
        if kind is yaml.ScalarEvent:
            end = event.end_mark
            length = end.column - start.column if end.line == start.line else 0
            self.places[path] = (at[0], at[1], here[0], here[1], length)
            value, height = self._scalar(event, here, path), 1
        else:
            self.places[path] = (at[0], at[1], here[0], here[1], 0)
            expected = "seq" if kind is yaml.SequenceStartEvent else "map"
            if event.tag not in (None, "!", _CORE + expected):
                raise DecodeError(f"tag {event.tag} is not allowed", here, path)
            value, height = self._sequence(path, depth) if expected == "seq" else self._mapping(path, depth)
        if anchor is not None:
            self.anchors[anchor] = _Anchor(value, self.budget.nodes - before, height)
        return value, height

    def _alias(self, name: str, mark: _Start, path: PathTuple, depth: int) -> tuple[Any, int]:
        self.budget.aliases += 1
        if self.budget.aliases > MAX_ALIASES:
            raise DecodeError(f"more than {MAX_ALIASES:,} aliases", mark, path)
        if name not in self.anchors:
            raise DecodeError(f"alias *{name} has no anchor before it", mark, path)
        anchor = self.anchors[name]
        if anchor is None:
            raise DecodeError(f"alias *{name} stands inside its own anchor", mark, path)
        if depth + anchor.height - 1 > MAX_DEPTH:
            raise DecodeError(
                f"nested more than {MAX_DEPTH} levels deep through alias *{name}", mark, path[:SHOWN_PATH]
            )
        self.budget.charge(anchor.nodes, mark, path)
        # Copied, not shared: admission changes objects in place.
        return copy(anchor.value), anchor.height

    def _sequence(self, path: PathTuple, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        height = 0
        parser = self.parser
        while type(parser.peek_event()) is not yaml.SequenceEndEvent:
            item, below = self.node((*path, len(items)), depth + 1)
            items.append(item)
            if below > height:
                height = below
        parser.get_event()
        return items, height + 1

    def _mapping(self, path: PathTuple, depth: int) -> tuple[dict[str, Any], int]:
        mapping: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        height = 0
        while True:
            event = self.parser.get_event()
            kind = type(event)
            if kind is yaml.MappingEndEvent:
                break
            start = event.start_mark
            mark = (start.line + 1, start.column + 1)
            if kind is yaml.ScalarEvent:
                if event.value == "<<" and event.implicit[0]:
                    value, below = self.node((*path, "<<"), depth + 1, mark)
                    merged.extend(self._merge_sources(value, mark, path))
                    height = max(height, below)
                    continue
                self.budget.charge(1, mark, path)
                key = self._key_text(self._scalar(event, mark, path, key=True), mark, path)
                if event.anchor is not None:
                    self.anchors[event.anchor] = _Anchor(key, 1, 1)
            elif kind is yaml.AliasEvent:
                key = self._key_text(self._alias(event.anchor or "", mark, path, depth)[0], mark, path)
            else:
                raise DecodeError("a key must be a scalar, not a list or mapping", mark, path)
            here = (*path, key)
            if key in mapping:
                raise DuplicateKey(key, self.places[here][0], mark, here)
            mapping[key], below = self.node(here, depth + 1, mark)
            if below > height:
                height = below
        for source in merged:
            for key, value in source.items():
                if key not in mapping:
                    mapping[key] = copy(value)
        return mapping, height + 1

    def _merge_sources(self, value: Any, mark: _Start, path: PathTuple) -> list[dict[str, Any]]:
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise DecodeError("<< must be followed by a mapping or a list of mappings", mark, path)
        return sources

    def _key_text(self, value: Any, mark: _Start, path: PathTuple) -> str:
        if isinstance(value, str):
            return value
        if value is None:
            raise DecodeError("a key can't be null; quote it if the text is meant", mark, path)
        if isinstance(value, (list, dict)):
            raise DecodeError("a key must be a scalar, not a list or mapping", mark, path)
        if isinstance(value, bool):
            return "true" if value else "false"
        return repr(value)

    def _scalar(self, event: Any, mark: _Start, path: PathTuple, *, key: bool = False) -> Any:
        text: str = event.value
        tag: str | None = event.tag
        if tag is not None and tag != "!" and tag not in _SCALAR_TAGS:
            raise DecodeError(f"tag {tag} is not allowed; only str, int, float, bool and null are", mark, path)
        plain = event.style is None or event.style == ""
        if tag == "!" or (tag is None and not plain) or tag == _CORE + "str":
            return text
        try:
            value, surprise = resolve_plain(text)
        except NotResolved as error:
            raise DecodeError(str(error), mark, path) from None
        if tag is not None:
            return self._tagged(value, text, _SCALAR_TAGS[tag], mark, path)
        if surprise:
            shown = "true" if value is True else "false" if value is False else str(value)
            what = "key" if key else "value"
            self.warnings.append(
                DecodeWarning(
                    f'{what} {text} is read as {shown}, as kubectl reads it; write "{text}" if text is meant',
                    Mark(*mark),
                    format_path(path),
                )
            )
        return value

    def _tagged(self, value: Any, text: str, name: str, mark: _Start, path: PathTuple) -> Any:
        if name == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        expected = {"int": int, "float": float, "bool": bool, "null": type(None)}[name]
        if type(value) is not expected:
            raise DecodeError(f"{text!r} is not a value of !!{name}", mark, path)
        return value


def looks_like_json(text: bytes) -> bool:
    """Whether a stream of unknown form is JSON: its first character is an opening brace or bracket."""
    return re.match(rb"(\xef\xbb\xbf)?\s*[\[{]\s*(\"|\}|\]|\{|\[)", text) is not None
