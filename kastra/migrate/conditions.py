"""Conditions of the older dialects (JavaScript, and `and`, `or`, `not`) as CEL.

Read by words: paths are translated, operators renamed, everything else refused. Nothing is evaluated, but what
comes out is compiled, so that nothing is passed on as CEL that isn't. A path that stands
alone where a truth is wanted gets JavaScript's meaning of truth. Read next: `kastra.migrate.expressions`.
"""

import re

from kastra.cel import CelError
from kastra.cel.environment import environment

from .paths import NotAPath, Scope, literal, to_cel, truthy

VARIABLES = ("input", "prev", "steps", "state", "run", "lastError", "error", "iteration")
"""What the expressions that are made can see."""
_MAX = 2_000
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<operator>===|!==|==|!=|<=|>=|&&|\|\||[<>!()+*/%,\[\]?:-])
    |(?P<path>\$?[A-Za-z_](?:[\w]|\?\.(?=\w)|-(?=[A-Za-z_])|\.(?=\w)|\[(?:\d+|"[^"\\\]]*"|'[^'\\\]]*')\])*)""",
    re.VERBOSE,
)
_WORDS = {
    "and": "&&",
    "or": "||",
    "not": "!",
    "true": "true",
    "false": "false",
    "null": "null",
    "undefined": "null",
    "in": "in",
}
_RENAMED = {"===": "==", "!==": "!="}
_WRAPPED = re.compile(r"\s*(?:\{\{(?P<mustache>[^{}]*)\}\}|\$\{(?P<dollar>[^{}]*)\})\s*")
_EMBEDDED = re.compile(r"\$?\{\{([^{}]*)\}\}|\$\{([^{}]*)\}")


def condition(text: str, scope: Scope) -> tuple[str, list[str]]:
    """A condition in CEL, and what was guessed.

    Raises:
        NotAPath: it holds something that has no counterpart.
    """
    if len(text) > _MAX:
        raise NotAPath(f"has more than {_MAX:,} characters")
    wrapped = _WRAPPED.fullmatch(text)
    if wrapped:
        text = wrapped["mustache"] if wrapped["mustache"] is not None else wrapped["dollar"]
    else:
        text = _EMBEDDED.sub(lambda found: f" {found[1] if found[1] is not None else found[2]} ", text)
    parts, guesses = _translate(text, scope)
    if not parts:
        raise NotAPath("is empty")
    found = "".join(parts)
    try:
        environment(*VARIABLES).compile(found)
    except CelError as error:
        raise NotAPath("has no counterpart in CEL") from error
    return found, guesses


def _translate(text: str, scope: Scope) -> tuple[list[str], list[str]]:
    found: list[tuple[str, str]] = []
    guesses: list[str] = []
    index = 0
    while index < len(text):
        match = _TOKEN.match(text, index)
        if match is None:
            raise NotAPath(f"has no counterpart in CEL from character {index + 1} on")
        index = match.end()
        kind, word = match.lastgroup or "", match[0]
        if kind == "space":
            continue
        if kind == "text":
            found.append(("value", literal(re.sub(r"\\(.)", r"\1", word[1:-1]))))
        elif kind == "number":
            found.append(("value", word))
        elif kind == "operator":
            found.append(("operator", _RENAMED.get(word, word)))
        elif word in _WORDS:
            word = _WORDS[word]
            found.append(("operator" if word in ("&&", "||", "!", "in") else "value", word))
        else:
            if text[index:].lstrip().startswith("(") and word != "size":
                raise NotAPath("calls a function")
            size = word.endswith(".length")
            cel, guess = to_cel(word.lstrip("$").removesuffix(".length"), scope)
            guesses += [guess] if guess else []
            found.append(("value", f"size({cel})") if size else ("path", cel))
    return _assembled(found), guesses


_LOGICAL = ("&&", "||", "!", "(", ")")


def _assembled(words: list[tuple[str, str]]) -> list[str]:
    parts: list[str] = []
    for index, (kind, word) in enumerate(words):
        before = words[index - 1][1] if index else ""
        after = words[index + 1][1] if index + 1 < len(words) else ""
        if kind == "path" and before in ("", *_LOGICAL[:4]) and after in ("", "&&", "||", ")"):
            word = f"({truthy(word)})" if len(words) > 1 else truthy(word)
        tight = (
            word in (")", ",", "]")
            or (word == "[" and before != "in")
            or before in ("(", "!", "")
            or before == "["
            or (word == "(" and before == "size")
        )
        parts.append(word if tight or not parts else f" {word}")
    return parts
