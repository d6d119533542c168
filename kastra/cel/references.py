"""What does an expression refer to? Free names, and the members of each, found without the CEL library.

A small tokenizer of our own, because callers need positions and because of one trap: `steps.check-ingredients` is a
subtraction in CEL, and the message should say what to write instead. It doesn't parse; a text that isn't CEL gives some
references and no error. Variables bound by a macro (`all(x, ...)`, `cel.bind(x, ...)`) aren't free within its parentheses.

Read next: `kastra.cel.template`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<raw>(?:[bB]?[rR]|[rR][bB])(?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*'))
    |(?P<string>[bB]?(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<quoted>`[^`\n]*`)
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = frozenset({"true", "false", "null", "in"})
_MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter", "bind", "optMap", "optFlatMap"})
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Token(NamedTuple):
    """A piece of an expression; `kind` is string, quoted, number, name or other (one character)."""

    kind: str
    text: str
    start: int


class Member(NamedTuple):
    """One use of a member of a root: `steps.x`, `steps["x"]`, `steps.?x`, `"x" in steps`.

    Args:
        name: the member.
        line: of the use, from 1.
        column: from 1.
        path: names that follow: (`output`, `score`) in `steps.x.output.score`.
        tested: it is only asked whether the member is there.
    """

    name: str
    line: int
    column: int
    path: tuple[str, ...] = ()
    tested: bool = False


@dataclass(frozen=True, slots=True)
class References:
    """What an expression refers to.

    Args:
        roots: its free variables.
        members: by root, the members named literally, in order.
        whole: roots used other than through a literal member; they may read anything below.
    """

    roots: frozenset[str]
    members: dict[str, tuple[Member, ...]]
    whole: frozenset[str]

    def names(self, root: str) -> frozenset[str]:
        """The members of `root` that are named literally."""
        return frozenset(member.name for member in self.members.get(root, ()))

    def __or__(self, other: "References") -> "References":
        members = dict(self.members)
        for root, more in other.members.items():
            members[root] = members.get(root, ()) + more
        return References(self.roots | other.roots, members, self.whole | other.whole)


NO_REFERENCES = References(frozenset(), {}, frozenset())


def tokens(text: str) -> list[Token]:
    """The tokens of `text`, without space and comments; never fails."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = "string" if match.lastgroup == "raw" else match.lastgroup or "other"
        if kind != "space":
            found.append(Token(kind, match[0], match.start()))
    return found


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1."""
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def unquote(literal: str) -> str:
    """The value of a string literal token."""
    prefix = len(literal) - len(literal.lstrip("rRbB"))
    raw = "r" in literal[:prefix].lower()
    body = literal[prefix:]
    quotes = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    body = body[quotes:-quotes]
    return body if raw or "\\" not in body else _ESCAPE.sub(_unescape, body)


def _unescape(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) == 1:
        return _SIMPLE.get(code, code)
    value = int(code, 8) if code.isdigit() and len(code) == 3 else int(code[1:], 16)
    return chr(value) if value < 0x110000 else ""


def references(text: str) -> References:
    """The free variables of an expression and how they are used."""
    return _Scan(text).run()


class _Scan:
    """One pass over the tokens, with the names that macros bind at the current depth of parentheses."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._bound: list[tuple[int, str]] = []
        self._roots: set[str] = set()
        self._whole: set[str] = set()
        self._members: dict[str, list[Member]] = {}

    def _at(self, index: int) -> str:
        return self._tokens[index].text if 0 <= index < len(self._tokens) else ""

    def run(self) -> References:
        depth = 0
        for index, token in enumerate(self._tokens):
            if token.kind == "other":
                if token.text == "(":
                    depth += 1
                elif token.text == ")":
                    depth -= 1
                    self._bound = [bound for bound in self._bound if bound[0] <= depth]
            elif token.kind == "name" and token.text not in _WORDS:
                if self._binds(index):
                    self._bound.append((depth, token.text))
                elif self._is_root(index):
                    self._root(index)
        return References(
            frozenset(self._roots),
            {root: tuple(members) for root, members in self._members.items()},
            frozenset(self._whole),
        )

    def _binds(self, index: int) -> bool:
        opened = self._at(index - 1) == "(" and self._at(index - 2) in _MACROS and self._at(index - 3) == "."
        return opened and self._at(index + 1) == ","

    def _is_root(self, index: int) -> bool:
        before, after = self._at(index - 1), self._at(index + 1)
        # A field (`.x`, `.?x`), a call (`size(`), a namespace of functions (`math.`) or a bound name is no variable.
        if before == "." and self._is_select(index - 1):
            return False
        if before == "?" and self._at(index - 2) == ".":
            return False
        name = self._tokens[index].text
        if after == "(" or any(name == bound for _, bound in self._bound):
            return False
        return not (name in {"math", "cel", "optional", "base64", "strings"} and after == ".")

    def _is_select(self, dot: int) -> bool:
        """Whether the dot selects from something; `.x` at the start of an operand is the variable x."""
        if dot == 0:
            return False
        before = self._tokens[dot - 1]
        return before.kind != "other" or before.text in ")]}"

    def _root(self, index: int) -> None:
        token = self._tokens[index]
        self._roots.add(token.text)
        name, after = self._member(index + 1)
        tested = False
        asked = self._at(index - 1) == "in" and index >= 2 and self._tokens[index - 2].kind == "string"
        if name is None and asked and self._at(index + 1) not in {".", "["}:
            name, tested = unquote(self._at(index - 2)), True
        if name is None:
            self._whole.add(token.text)
            return
        path: list[str] = []
        while not tested:
            following, after_following = self._member(after)
            if following is None:
                break
            path.append(following)
            after = after_following
        line, column = position(self._text, token.start)
        self._members.setdefault(token.text, []).append(Member(name, line, column, tuple(path), tested))

    def _member(self, index: int) -> tuple[str | None, int]:
        """The literal member selected by the tokens from `index` on, and the index after it."""
        if self._at(index) == ".":
            index += 2 if self._at(index + 1) == "?" else 1
            if (
                index < len(self._tokens)
                and self._tokens[index].kind in {"name", "quoted"}
                and self._at(index + 1) != "("
            ):
                return self._tokens[index].text.strip("`"), index + 1
        elif self._at(index) == "[":
            index += 2 if self._at(index + 1) == "?" else 1
            if index < len(self._tokens) and self._tokens[index].kind == "string" and self._at(index + 1) == "]":
                return unquote(self._tokens[index].text), index + 2
        return None, index


def hyphen_hint(text: str, known: Collection[str] | None = None) -> str:
    """What to write instead of `steps.check-ingredients`; empty if nothing in `text` looks like it.

    Args:
        text: the expression.
        known: the ids there are, if the caller knows them; only those are then hinted at.
    """
    found = tokens(text)
    for index, token in enumerate(found):
        if token.text != "." or index == 0 or found[index - 1].kind != "name":
            continue
        end = index + 1
        while end + 2 < len(found) and found[end + 1].text == "-" and _adjacent(found, end):
            end += 2
        if end == index + 1 or found[index + 1].kind != "name":
            continue
        root, member = found[index - 1].text, text[found[index + 1].start : found[end].start + len(found[end].text)]
        if known is None or member in known:
            return f'{root}.{member} is a subtraction; write {root}["{member}"]'
    return ""


def _adjacent(found: list[Token], index: int) -> bool:
    """Whether tokens index, index+1 and index+2 touch each other and the last is a name or a number."""
    first, minus, last = found[index : index + 3]
    touching = first.start + len(first.text) == minus.start and minus.start + 1 == last.start
    return touching and last.kind in {"name", "number"}
