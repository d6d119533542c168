"""Texts with `{{ }}`, `${ }`, `$var` and handlebars blocks become texts with `${{ }}`.

What a text means is decided by its parts: literals, expressions, and `{{#if}}` blocks, which become conditional
expressions. A part that has no counterpart is left as it stands and named in the result, so that the caller can report it.
Never raises, whatever the text. Read next: `kastra.migrate.paths` and `kastra.migrate.conditions`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kastra.cel import CelError
from kastra.cel.environment import environment

from .conditions import VARIABLES, condition
from .paths import NotAPath, Scope, literal, to_cel

_TAG = re.compile(
    r"(?P<new>\$\{\{.*?\}\})|\{\{\{?(?P<mustache>[^{}]*)\}\}\}?|\$\{(?P<dollar>[^{}]*)\}"
    r"|(?<![\w$\\}])\$(?P<var>[A-Za-z_]\w*(?:\.\w[\w-]*)*)",
    re.DOTALL,
)
_TAIL = re.compile(_TAG.pattern.replace(r"(?P<new>\$\{\{.*?\}\})", r"(?P<new>(?!))"), re.DOTALL)
_MAX_DEPTH = 8
_MAX_EXPRESSIONS = 500
_SOLE = re.compile(r"\s*(?:\{\{([^{}#/]*)\}\}|\$\{([^{}]*)\}|\$([A-Za-z_]\w*(?:\.\w[\w-]*)*))\s*")
_OLD = re.compile(r"\{\{|\$\{|(?<![\w$\\}])\$[A-Za-z_]")


@dataclass(slots=True)
class Rewritten:
    """A text or value in today's form.

    Args:
        failed: why parts were left as they stood.
        guessed: what was assumed.
    """

    value: Any
    failed: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Block:
    """An open `{{#if}}` or `{{#unless}}`."""

    test: str
    then: list["_Part"] = field(default_factory=list)
    otherwise: list["_Part"] | None = None

    @property
    def current(self) -> list["_Part"]:
        return self.then if self.otherwise is None else self.otherwise


@dataclass(frozen=True, slots=True)
class _Part:
    """A literal, or an expression in CEL."""

    text: str
    cel: bool = False


def rewrite(value: Any, scope: Scope, *, variables: bool = True) -> Rewritten:
    """JSON-like data with every text in it rewritten.

    Args:
        variables: whether `$name` is a variable; not so in prose, where it may be a price or a shell's.
    """
    if isinstance(value, str):
        return rewrite_text(value, scope, variables=variables)
    result = Rewritten(value)
    if isinstance(value, dict):
        result.value = {key: _into(result, item, scope, variables) for key, item in value.items()}
    elif isinstance(value, list):
        result.value = [_into(result, item, scope, variables) for item in value]
    return result


def _into(result: Rewritten, item: Any, scope: Scope, variables: bool) -> Any:
    inner = rewrite(item, scope, variables=variables)
    result.failed += inner.failed
    result.guessed += inner.guessed
    return inner.value


def rewrite_text(text: str, scope: Scope, *, variables: bool = True) -> Rewritten:
    """One text in today's form. Never raises."""
    result = Rewritten(text)
    if not _OLD.search(text):
        return result
    try:
        parts = _parsed(text, scope, variables, result)
    except NotAPath as error:
        result.failed.append(str(error))
        return result
    result.value = "".join(f"${{{{ {part.text} }}}}" if part.cel else part.text for part in parts)
    return result


def sole_path(text: str) -> str:
    """The path that a text consists of as a whole, without its braces; empty if there is more to it."""
    match = _SOLE.fullmatch(text)
    return next((group.strip() for group in match.groups() if group is not None), "") if match else ""


def _parsed(text: str, scope: Scope, variables: bool, result: Rewritten) -> list[_Part]:
    top: list[_Part] = []
    blocks: list[_Block] = []
    index = 0

    def put(part: _Part) -> None:
        (blocks[-1].current if blocks else top).append(part)

    for number, match in enumerate(_tags(text)):
        if number >= _MAX_EXPRESSIONS:
            raise NotAPath(f"is one of more than {_MAX_EXPRESSIONS:,} in one text")
        if match["var"] is not None and not variables:
            continue
        if match.start() > index:
            put(_Part(text[index : match.start()]))
        index = match.end()
        if match["new"] is not None:
            put(_Part(match["new"][3:-2].strip(), cel=True) if blocks else _Part(match["new"]))
            continue
        raw = next(group for group in (match["mustache"], match["dollar"], match["var"]) if group is not None).strip()
        if (
            match["mustache"] is not None
            and raw.startswith(("#", "/", "else", "^", "!", ">", "&"))
            and not raw.startswith("else.")
        ):
            _tag(raw, scope, blocks, put, result)
            continue
        try:
            put(_Part(_expression(raw, scope, result, dollar=match["dollar"] is not None), cel=True))
        except NotAPath as error:
            result.failed.append(f'"{_shown(raw)}" {error}')
            put(_Part(match[0]))
    if blocks:
        raise NotAPath("has a block that isn't closed")
    if index < len(text):
        top.append(_Part(text[index:]))
    return top


def _tags(text: str) -> Iterator[re.Match[str]]:
    """The expressions in a text, found in time that grows with its length: `${{` is not looked at where no end follows."""
    last = text.rfind("}}") + 2 if "}}" in text else 0
    yield from _TAG.finditer(text, 0, last)
    yield from _TAIL.finditer(text, last)


def _tag(raw: str, scope: Scope, blocks: list[_Block], put: Any, result: Rewritten) -> None:
    if raw.startswith("!"):
        return
    word, _, rest = raw.partition(" ")
    if word in ("#if", "#unless") and rest.strip():
        if len(blocks) >= _MAX_DEPTH:
            raise NotAPath(f"has blocks nested more than {_MAX_DEPTH} deep")
        cel, guesses = condition(rest, scope)
        result.guessed += guesses
        blocks.append(_Block(f"!({cel})" if word == "#unless" else cel))
    elif word in ("else", "^") and blocks and blocks[-1].otherwise is None and not rest.strip():
        blocks[-1].otherwise = []
    elif word in ("/if", "/unless") and blocks:
        block = blocks.pop()
        test = f"({block.test})" if "?" in block.test else block.test
        cel = f"{test} ? {_joined(block.then)} : {_joined(block.otherwise or [])}"
        try:
            environment(*VARIABLES).compile(cel)
        except CelError as error:
            raise NotAPath("has a block without a counterpart in CEL") from error
        put(_Part(cel, cel=True))
    else:
        raise NotAPath(f'has the handlebars block "{_shown(word)}", which has no counterpart')


def _joined(parts: list[_Part]) -> str:
    """Parts as one CEL expression that gives a text."""
    pieces = [
        f"string({part.text})"
        if part.cel and " ? " not in part.text
        else f"({part.text})"
        if part.cel
        else literal(part.text)
        for part in parts
    ]
    if not pieces:
        return '""'
    return pieces[0] if len(pieces) == 1 else f"({' + '.join(pieces)})"


def _expression(raw: str, scope: Scope, result: Rewritten, *, dollar: bool) -> str:
    if dollar and re.fullmatch(r"[A-Z][A-Z0-9_]*", raw):
        raise NotAPath("reads a variable of the environment, which expressions don't see")
    try:
        cel, guess = to_cel(raw, scope)
    except NotAPath:
        if not re.search(r"[^\w.\[\]\"'$ -]|\s", raw) or raw.startswith(("env.", "process.env")):
            raise
        cel, guesses = condition(raw, scope)
        result.guessed += guesses
        return cel
    result.guessed += [guess] if guess else []
    return cel


def _shown(text: str) -> str:
    """The beginning of an expression's path; enough to find it, too little to give away what it holds."""
    match = re.match(r"[#/]?[A-Za-z_][\w.]{0,40}", text)
    return match[0] if match else "…"
