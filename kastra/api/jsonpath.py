r"""kubectl's JSONPath: where in an object is the value?

    compile_path('.status.conditions[?(@.type=="Ready")].status')(obj)     the first value found, or None
    compile_query('.items[*].metadata.name')(obj)                          all values found, in order

A path is `.name`, `['name']`, `\.` for a dot in a name, `[0]`, `[-1]`, `[1:3:2]`, `[0,2]`, `[*]`, `.*`, `..name` for any depth,
and filters `[?(@.a=="x")]` with == != < <= > >= or no operator (exists). `$` and `@` in front are optional and mean the value
one is at. Paths are compiled to closures once and never evaluate code; what is absent is not found, which is no error.

Source: client-go's util/jsonpath. Read next: `kastra.api.jsonpath_template`, the text form of `-o jsonpath=`.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any

MAX_LENGTH = 8192
_MAX_FILTERS = 8
"""Filters inside filters."""

Query = Callable[[Any], list[Any]]


class JSONPathError(ValueError):
    """A path can't be understood, or (in templates) leads nowhere.

    Args:
        message: what is wrong.
        position: at which character of the text, from 0; None when the path is fine and the object lacks something.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message if position is None else f"{message} at position {position}")
        self.position = position


class Missing(IntEnum):
    """What happens when a path leads nowhere."""

    NOTHING = 0
    """It finds nothing."""
    INDEX = 1
    """A list that is too short is an error, as in kubectl."""
    ERROR = 2
    """An absent field is an error too."""


Step = Callable[[list[Any], Missing], list[Any]]


def compile_query(path: str) -> Query:
    """A function from an object to the list of all values at `path`.

    Raises:
        JSONPathError: `path` is not a path.
    """
    steps = _whole(path).steps
    return lambda obj: follow(steps, obj, Missing.NOTHING)


@lru_cache(256)
def compile_path(path: str) -> Callable[[Any], Any]:
    """A function from an object to the first value at `path`, or None. Made for columns; plain paths are fastest.

    Columns of different kinds often have the same path, so the latest are kept.

    Raises:
        JSONPathError: `path` is not a path.
    """
    parser = _whole(path)
    steps, names = parser.steps, parser.names
    if names is None:

        def first(obj: Any) -> Any:
            found = follow(steps, obj, Missing.NOTHING)
            return found[0] if found else None

        return first

    def walk(value: Any) -> Any:
        for name in names:
            if type(value) is not dict:
                return None
            value = value.get(name)
        return value

    return walk


def follow(steps: Sequence[Step], obj: Any, missing: Missing) -> list[Any]:
    """All values that `steps` lead to from `obj`.

    Raises:
        JSONPathError: they lead nowhere, and `missing` says that this is an error.
    """
    values = [obj]
    for step in steps:
        values = step(values, missing)
        if not values:
            break
    return values


def _whole(path: str) -> "PathParser":
    if len(path) > MAX_LENGTH:
        raise JSONPathError(f"path has {len(path)} characters; at most {MAX_LENGTH} are allowed")
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    parser = PathParser(text)
    parser.parse(bare_name=True)
    if parser.at < len(text):
        raise JSONPathError(f"unexpected {text[parser.at]!r}", parser.at)
    return parser


class PathParser:
    """Parses one path in a longer text, from `at` up to the first character that can't belong to it.

    Afterwards `steps` is the compiled path, `names` its fields if it has nothing else, and `at` where it ended.
    """

    def __init__(self, text: str, at: int = 0, *, filters: int = 0) -> None:
        self.text = text
        self.at = at
        self.steps: list[Step] = []
        self.names: list[str] | None = []
        self._filters = filters
        self._ends = frozenset(" \t\r\n.,[]{}$@" + ("=!<>()" if filters else ""))

    def parse(self, *, bare_name: bool = False) -> None:
        """Read the path; with `bare_name` the first field needs no dot.

        Raises:
            JSONPathError: it is broken.
        """
        if self._peek() in ("$", "@"):
            self.at += 1
        elif bare_name and self._peek() and self._peek() not in self._ends:
            self._field()
        while self._peek() in (".", "["):
            if self._peek() == "[":
                self._bracket()
                continue
            self.at += 1
            if self._peek() == ".":
                self.at += 1
                self._add(_recursive)
                if self._peek() in ("", "."):
                    raise JSONPathError("expected a name after '..'", self.at)
            if self._peek() == "*":
                self.at += 1
                self._add(_wildcard)
            elif self._peek() and self._peek() not in self._ends:
                self._field()
            elif self._peek() == ".":
                raise JSONPathError("expected a name after '.'", self.at)

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _add(self, step: Step, name: str | None = None) -> None:
        self.steps.append(step)
        if name is None:
            self.names = None
        elif self.names is not None:
            self.names.append(name)

    def _field(self) -> None:
        name = ""
        while (char := self._peek()) and char not in self._ends:
            if char == "\\":
                self.at += 1
                char = self._peek()
                if not char:
                    raise JSONPathError("nothing after the backslash", self.at)
            name += char
            self.at += 1
        self._add(_fields((name,)), name)

    def _bracket(self) -> None:
        start = self.at
        self.at += 1
        self._space()
        char = self._peek()
        if char == "?":
            self._filter()
        elif char == "*":
            self.at += 1
            self._add(_wildcard)
        elif char in ("'", '"'):
            names = [self.quoted()]
            while self._comma():
                names.append(self.quoted())
            self._add(_fields(tuple(names)), names[0] if len(names) == 1 else None)
        else:
            slices = [self._slice()]
            while self._comma():
                slices.append(self._slice())
            self._add(_slices(slices))
        self._space()
        if self._peek() != "]":
            raise JSONPathError(
                "unterminated '['" if not self._peek() else f"unexpected {self._peek()!r} in '['", start
            )
        self.at += 1

    def _space(self) -> None:
        while self._peek() in (" ", "\t"):
            self.at += 1

    def _comma(self) -> bool:
        self._space()
        found = self._peek() == ","
        self.at += found
        self._space()
        return found

    def quoted(self) -> str:
        """Read a quoted text at `at`; backslashes escape as in Go.

        Raises:
            JSONPathError: there is none, or it doesn't end.
        """
        quote, start = self._peek(), self.at
        if quote not in ("'", '"'):
            raise JSONPathError("expected a quoted name", start)
        out = ""
        self.at += 1
        while (char := self._peek()) != quote:
            if not char:
                raise JSONPathError("unterminated quoted string", start)
            if char == "\\":
                self.at += 1
                char = _ESCAPES.get(self._peek(), self._peek())
            out += char
            self.at += 1
        self.at += 1
        return out

    def _slice(self) -> slice | int:
        start = self.at
        parts: list[int | None] = []
        while True:
            begin = self.at
            while self._peek() in "+-0123456789" and self._peek():
                self.at += 1
            digits = self.text[begin : self.at]
            if digits:
                try:
                    parts.append(int(digits))
                except ValueError:
                    raise JSONPathError(f"invalid array index {digits!r}", begin) from None
            else:
                parts.append(None)
            if self._peek() != ":" or len(parts) == 3:
                break
            self.at += 1
        if len(parts) == 1:
            if parts[0] is None:
                raise JSONPathError("expected an index, a quoted name, '*' or '?(' in '['", start)
            return parts[0]
        if len(parts) == 3 and (parts[2] is None or parts[2] <= 0):
            raise JSONPathError("step must be > 0", start)
        return slice(*parts)

    def _filter(self) -> None:
        start = self.at
        if self._filters >= _MAX_FILTERS:
            raise JSONPathError("filters are nested too deeply", start)
        if self.text[start : start + 2] != "?(":
            raise JSONPathError("expected '(' after '?'", start)
        self.at += 2
        left = self._operand()
        operator = next((o for o in ("==", "!=", "<=", ">=", "<", ">") if self.text.startswith(o, self.at)), "")
        self.at += len(operator)
        right = self._operand() if operator else None
        if self._peek() != ")":
            raise JSONPathError("unterminated filter" if not self._peek() else f"unexpected {self._peek()!r}", self.at)
        self.at += 1
        self._add(_filtered(left, operator, right))

    def _operand(self) -> Query:
        self._space()
        start = self.at
        if self._peek() in ("'", '"'):
            text = self.quoted()
            self._space()
            return lambda _: [text]
        if self._peek() in ("@", "$", "."):
            parser = PathParser(self.text, self.at, filters=self._filters + 1)
            parser.parse()
            self.at = parser.at
            self._space()
            return lambda obj: follow(parser.steps, obj, Missing.NOTHING)
        while self._peek() and self._peek() not in " \t)]=!<>":
            self.at += 1
        word = self.text[start : self.at]
        self._space()
        if word not in _WORDS:
            try:
                number = float(word) if set(word) & set(".eE") else int(word)
            except ValueError:
                raise JSONPathError(
                    f"expected a path, a quoted text, a number, true or false, not {word!r}", start
                ) from None
            return lambda _: [number]
        return lambda _: [_WORDS[word]]


_WORDS = {"true": True, "false": False, "null": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def _fields(names: tuple[str, ...]) -> Step:
    def step(values: list[Any], missing: Missing) -> list[Any]:
        found = [value[name] for value in values if type(value) is dict for name in names if name in value]
        if not found and missing is Missing.ERROR:
            raise JSONPathError(f"{names[0]} is not found")
        return found

    return step


def _slices(slices: Sequence[slice | int]) -> Step:
    def step(values: list[Any], missing: Missing) -> list[Any]:
        found: list[Any] = []
        for value in values:
            if type(value) is not list:
                continue
            for wanted in slices:
                if isinstance(wanted, slice):
                    found += value[wanted]
                elif -len(value) <= wanted < len(value):
                    found.append(value[wanted])
                elif missing:
                    raise JSONPathError(f"array index out of bounds: index {wanted}, length {len(value)}")
        return found

    return step


def _wildcard(values: list[Any], _: Missing) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if type(value) is list:
            found += value
        elif type(value) is dict:
            found += value.values()
    return found


def _recursive(values: list[Any], _: Missing) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found.append(value)
        inner = value if type(value) is list else list(value.values()) if type(value) is dict else []
        if inner:
            found += _recursive(inner, _)
    return found


def _filtered(left: Query, operator: str, right: Query | None) -> Step:
    def keep(item: Any) -> bool:
        found = left(item)
        if right is None or not found:
            return bool(found)
        other = right(item)
        return bool(other) and _compares(found[0], operator, other[0])

    def step(values: list[Any], _: Missing) -> list[Any]:
        return [item for item in _wildcard(values, _) if keep(item)]

    return step


def _compares(a: Any, operator: str, b: Any) -> bool:
    if operator in ("==", "!="):
        same = a == b and isinstance(a, bool) == isinstance(b, bool)
        return same is (operator == "==")
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    if not numbers and not (isinstance(a, str) and isinstance(b, str)):
        return False
    match operator:
        case "<":
            return bool(a < b)
        case "<=":
            return bool(a <= b)
        case ">":
            return bool(a > b)
    return bool(a >= b)
