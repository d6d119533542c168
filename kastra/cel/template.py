"""`${{ expression }}` inside data: a template is compiled once and evaluated against variables.

A string that is one expression and nothing else takes its value with its type: `${{ input.count }}` stays a number. One
with text around it becomes text: strings as they are, everything else as compact JSON. Strings without `${{` and the keys
of objects are left alone. `$${{` writes a literal `${{`. The expressions are CEL and know nothing of templates.

Read next: `kastra.engine.expressions`, the variables that a Run offers.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from .environment import Environment, Program
from .errors import CelError
from .references import NO_REFERENCES, References, position, tokens
from .values import stringify

_OPEN = re.compile(r"\$?\$\{\{")
_MAX_DEPTH = 64

Render = Callable[[Mapping[str, Any]], Any]


class Template:
    """Data with expressions in it. Immutable; evaluating gives fresh data every time."""

    __slots__ = ("_programs", "_render")

    def __init__(self, render: Render, programs: tuple[Program, ...]) -> None:
        self._render = render
        self._programs = programs

    @classmethod
    def compile(cls, data: Any, env: Environment, path: str = "") -> "Template":
        """The template of JSON-like `data`.

        Args:
            data: dicts, lists and scalars.
            env: the variables that expressions may use.
            path: of the field that holds `data`; errors name the exact place below it.

        Raises:
            CelError: an expression is wrong or its braces don't close; `path` says where.
        """
        programs: list[Program] = []
        return cls(_compile(data, env, path, programs, 0), tuple(programs))

    @property
    def constant(self) -> bool:
        """Whether there is no expression in it."""
        return not self._programs

    @property
    def programs(self) -> tuple[Program, ...]:
        """Its expressions, in order."""
        return self._programs

    def references(self) -> References:
        """What all its expressions refer to; lines and columns are within each expression."""
        found = NO_REFERENCES
        for program in self._programs:
            found |= program.references()
        return found

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """The data with every expression replaced by its value.

        Raises:
            CelError: an expression failed; `path` says where it stands.
        """
        return self._render(bindings)


def _compile(data: Any, env: Environment, path: str, programs: list[Program], depth: int) -> Render:
    if depth > _MAX_DEPTH:
        raise CelError(f"the data is nested more than {_MAX_DEPTH} levels deep", stage="compile", path=path)
    if isinstance(data, str):
        return _text(data, env, path, programs)
    if isinstance(data, Mapping):
        fields = {
            key: _compile(value, env, f"{path}.{key}" if path else str(key), programs, depth + 1)
            for key, value in data.items()
        }
        return lambda bindings: {key: render(bindings) for key, render in fields.items()}
    if isinstance(data, (list, tuple)):
        items = [_compile(value, env, f"{path}[{index}]", programs, depth + 1) for index, value in enumerate(data)]
        return lambda bindings: [render(bindings) for render in items]
    return lambda _bindings: data


def _text(text: str, env: Environment, path: str, programs: list[Program]) -> Render:
    if "${{" not in text:
        return lambda _bindings: text
    parts = _split(text, env, path, programs)
    if len(parts) == 1:
        only = parts[0]
        return _evaluator(only, path) if isinstance(only, Program) else lambda _bindings: only
    pieces = [_evaluator(part, path) if isinstance(part, Program) else part for part in parts]

    def join(bindings: Mapping[str, Any]) -> str:
        return "".join(piece if isinstance(piece, str) else stringify(piece(bindings)) for piece in pieces)

    return join


def _evaluator(program: Program, path: str) -> Render:
    def evaluate(bindings: Mapping[str, Any]) -> Any:
        try:
            return program.evaluate(bindings)
        except CelError as error:
            error.path = path
            raise

    return evaluate


def _split(text: str, env: Environment, path: str, programs: list[Program]) -> list[str | Program]:
    """The literal texts and programs that `text` consists of, in order; neighbouring literals are one."""
    parts: list[str | Program] = []
    literal, end = "", 0
    for opening in _OPEN.finditer(text):
        if opening.start() < end:
            continue
        literal += text[end : opening.start()]
        if opening[0].startswith("$$"):
            literal += "${{"
            end = opening.end()
            continue
        close = _closing(text, opening.end())
        if close < 0:
            line, column = position(text, opening.start())
            raise CelError("${{ is not closed by }}", text, "compile", line, column, path)
        try:
            program = env.compile(text[opening.end() : close].strip())
        except CelError as error:
            error.path = path
            raise
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(program)
        programs.append(program)
        end = close + 2
    literal += text[end:]
    if literal or not parts:
        parts.append(literal)
    return parts


def _closing(text: str, start: int) -> int:
    """Where the `}}` is that ends the expression from `start` on; braces in strings and in pairs don't count. -1 if none."""
    depth = 0
    for token in tokens(text[start:]):
        if token.text == "{":
            depth += 1
        elif token.text == "}":
            if depth == 0:
                offset = start + token.start
                return offset if text[offset + 1 : offset + 2] == "}" else -1
            depth -= 1
    return -1
