"""jq expressions, parsed: the part of the language that has a counterpart in CEL, and a reason for the rest.

Runs nothing. What isn't known here is refused with what it is, so that nothing gets another meaning on its way. Source: the
jq 1.7 manual. Read next: `kastra.migrate.serverless.cel`.
"""

import re
from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 2_000
_MAX_TOKENS = 250
_MAX_DEPTH = 30
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<field>\.[A-Za-z_]\w*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<var>\$[A-Za-z_]\w*)
    |(?P<format>@\w+)
    |(?P<op>\?//|\.\.|==|!=|<=|>=|//=|\|=|\+=|-=|\*=|/=|%=|//|[-+*/%<>=|,:;()\[\]{}.?])""",
    re.VERBOSE,
)
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = frozenset({"reduce", "foreach", "def", "try", "label", "import", "include", "as", "limit", "input", "inputs"})
# Operators by how strongly they bind; the comparison ones don't associate.
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("//",),
    ("or",),
    ("and",),
    ("==", "!=", "<", "<=", ">", ">="),
    ("+", "-"),
    ("*", "/", "%"),
)


class NotExact(ValueError):
    """There is no CEL that means exactly the same; the message says what stands in the way."""


@dataclass(frozen=True, slots=True)
class Term:
    """A part of an expression.

    Args:
        kind: dot, var, literal, text, field, index, iterate, array, object, binary, minus, if, call or pipe.
        value: name, literal or operator, by kind.
        parts: what it is made of.
    """

    kind: str
    value: Any = None
    parts: tuple[Any, ...] = ()


def parse(text: str, depth: int = 0) -> Term:
    """The expression in `text`.

    Args:
        depth: how many texts it is inserted into.

    Raises:
        NotExact: it isn't jq, or uses what has no counterpart.
    """
    if len(text) > MAX_LENGTH:
        raise NotExact(f"is longer than {MAX_LENGTH:,} characters")
    if depth > _MAX_DEPTH:
        raise NotExact("is nested too deeply")
    tokens = _tokens(text, depth)
    if len(tokens) > _MAX_TOKENS:
        raise NotExact(f"has more than {_MAX_TOKENS} words and signs")
    parser = _Parser(tokens)
    found = parser.pipe()
    if parser.kind:
        raise NotExact(f'has something after its end: "{parser.text}"')
    return found


_Token = tuple[str, Any]


def _tokens(text: str, depth: int) -> list[_Token]:
    found: list[_Token] = []
    place = 0
    while place < len(text):
        if text[place] == '"':
            parts, place = _string(text, place + 1, depth)
            found.append(("string", parts))
            continue
        match = _TOKEN.match(text, place)
        if match is None:
            raise NotExact(f'isn\'t jq at "{text[place : place + 10]}"')
        place = match.end()
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match[0]))
    return found


def _string(text: str, place: int, depth: int) -> tuple[list[str | Term], int]:
    """The parts of a string from behind its quote on, and where it ends."""
    parts: list[str | Term] = []
    plain = ""
    while place < len(text):
        char = text[place]
        if char == '"':
            return [*parts, plain], place + 1
        if char != "\\":
            plain, place = plain + char, place + 1
            continue
        escaped = text[place + 1 : place + 2]
        if escaped == "(":
            end = _closing(text, place + 2)
            parts += [plain, parse(text[place + 2 : end], depth + 1)]
            plain, place = "", end + 1
        elif escaped == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", text[place + 2 : place + 6]):
            plain, place = plain + chr(int(text[place + 2 : place + 6], 16)), place + 6
        elif escaped in _ESCAPES:
            plain, place = plain + _ESCAPES[escaped], place + 2
        else:
            raise NotExact(f'holds the escape "\\{escaped}", which jq doesn\'t have')
    raise NotExact("holds a string that doesn't end")


def _closing(text: str, place: int) -> int:
    depth, quoted = 0, False
    while place < len(text):
        char = text[place]
        if quoted:
            place += char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char == "(":
            depth += 1
        elif char == ")":
            if not depth:
                return place
            depth -= 1
        place += 1
    raise NotExact("holds an interpolation that doesn't end")


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    @property
    def kind(self) -> str:
        return self._tokens[self._place][0] if self._place < len(self._tokens) else ""

    @property
    def text(self) -> str:
        if self._place >= len(self._tokens):
            return ""
        kind, value = self._tokens[self._place]
        return '"' if kind == "string" else str(value)

    def _next(self) -> Any:
        value = self._tokens[self._place][1] if self.kind else ""
        self._place += 1
        return value

    def _expect(self, text: str) -> None:
        if self.text != text or self.kind == "string":
            raise NotExact(f'lacks "{text}"' + (f' before "{self.text}"' if self.kind else " at its end"))
        self._place += 1

    def _is(self, *texts: str) -> bool:
        return self.kind in ("op", "name") and self.text in texts

    def pipe(self) -> Term:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotExact("is nested too deeply")
        found = self._binary(0)
        if self._is(","):
            raise NotExact('gives several results (","), and an expression here has one')
        if self._is("as"):
            raise NotExact("binds a variable (as)")
        if self._is("|"):
            self._next()
            found = Term("pipe", parts=(found, self.pipe()))
        elif self._is("=", "|=", "+=", "-=", "*=", "/=", "%=", "//=", "?//"):
            raise NotExact(f'changes its input ("{self.text}")')
        self._depth -= 1
        return found

    def _binary(self, level: int) -> Term:
        if level == len(_LEVELS):
            return self._postfix()
        found = self._binary(level + 1)
        while self._is(*_LEVELS[level]):
            operator = self._next()
            # `//` associates to the right, as nothing else here does.
            right = self._binary(level if operator == "//" else level + 1)
            found = Term("binary", operator, (found, right))
        return found

    def _postfix(self) -> Term:
        found = self._primary()
        while True:
            if self.kind == "field":
                found = Term("field", self._next()[1:], (found,))
            elif self._is(".") and self._following() in ("string", "["):
                self._next()
                if self.kind == "string":
                    found = Term("field", self._name(), (found,))
            elif self._is("["):
                found = self._bracket(found)
            elif self._is("?"):
                raise NotExact('suppresses errors ("?")')
            else:
                return found

    def _following(self) -> str:
        if self._place + 1 >= len(self._tokens):
            return ""
        kind, value = self._tokens[self._place + 1]
        return kind if kind == "string" else str(value)

    def _name(self) -> str:
        parts = self._next()
        if len(parts) != 1:
            raise NotExact("computes the name of a field")
        return str(parts[0])

    def _bracket(self, base: Term) -> Term:
        self._expect("[")
        if self._is("]"):
            self._next()
            return Term("iterate", parts=(base,))
        if self._is(":"):
            raise NotExact("takes a slice")
        index = self.pipe()
        if self._is(":"):
            raise NotExact("takes a slice")
        self._expect("]")
        return Term("index", parts=(base, index))

    def _primary(self) -> Term:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotExact("is nested too deeply")
        found = self._innermost()
        self._depth -= 1
        return found

    def _innermost(self) -> Term:
        kind = self.kind
        if kind == "number":
            text = self._next()
            return Term("literal", float(text) if any(char in text for char in ".eE") else int(text))
        if kind == "string":
            return Term("text", parts=tuple(self._next()))
        if kind == "var":
            return Term("var", self._next()[1:])
        if kind == "format":
            raise NotExact(f"formats ({self.text})")
        if kind == "field":
            return Term("field", self._next()[1:], (Term("dot"),))
        if self._is("."):
            self._next()
            if self.kind == "string":
                return Term("field", self._name(), (Term("dot"),))
            return Term("dot")
        if self._is(".."):
            raise NotExact('walks through everything ("..")')
        if self._is("("):
            self._next()
            found = self.pipe()
            self._expect(")")
            return found
        if self._is("-"):
            self._next()
            return Term("minus", parts=(self._postfix(),))
        if self._is("["):
            self._next()
            return self._array()
        if self._is("{"):
            self._next()
            return self._object()
        if kind == "name":
            return self._named()
        raise NotExact(f'isn\'t jq at "{self.text}"' if kind else "ends too early")

    def _array(self) -> Term:
        items: list[Term] = []
        while not self._is("]"):
            items.append(self._element())
            if not self._is(","):
                break
            self._next()
        self._expect("]")
        return Term("array", parts=tuple(items))

    def _element(self) -> Term:
        found = self._binary(0)
        if self._is("|"):
            self._next()
            return Term("pipe", parts=(found, self.pipe()))
        return found

    def _object(self) -> Term:
        fields: list[tuple[Term, Term]] = []
        while not self._is("}"):
            if self.kind == "var":
                name = self._next()[1:]
                fields.append((Term("text", parts=(name,)), Term("var", name)))
            else:
                fields.append(self._field())
            if not self._is(","):
                break
            self._next()
        self._expect("}")
        return Term("object", parts=tuple(fields))

    def _field(self) -> tuple[Term, Term]:
        if self._is("("):
            self._next()
            key = self.pipe()
            self._expect(")")
        elif self.kind == "string":
            key = Term("text", parts=tuple(self._next()))
        elif self.kind == "name":
            key = Term("text", parts=(self._next(),))
        else:
            raise NotExact(f'isn\'t jq at "{self.text}"')
        if not self._is(":"):
            if len(key.parts) != 1 or not isinstance(key.parts[0], str):
                raise NotExact("computes the name of a field")
            return key, Term("field", key.parts[0], (Term("dot"),))
        self._next()
        value = self._binary(0)
        while self._is("|"):
            self._next()
            value = Term("pipe", parts=(value, self._binary(0)))
        return key, value

    def _named(self) -> Term:
        name = self._next()
        if name in ("true", "false", "null"):
            return Term("literal", {"true": True, "false": False, "null": None}[name])
        if name == "if":
            return self._if()
        if name in _WORDS:
            raise NotExact(f'uses "{name}"')
        arguments: list[Term] = []
        if self._is("("):
            self._next()
            arguments.append(self.pipe())
            while self._is(";"):
                self._next()
                arguments.append(self.pipe())
            self._expect(")")
        return Term("call", name, tuple(arguments))

    def _if(self) -> Term:
        test = self.pipe()
        self._expect("then")
        then = self.pipe()
        if self._is("elif"):
            self._next()
            return Term("if", parts=(test, then, self._if()))
        other = Term("dot")
        if self._is("else"):
            self._next()
            other = self.pipe()
        self._expect("end")
        return Term("if", parts=(test, then, other))
