"""`workflow.input.x`, `step.id.result`, `steps.id.outputs.x`: paths of the older dialects as CEL.

A path is split into names and indices; what it begins with says what it means. The id of a step may hold hyphens and dots,
so ids that are known are tried, the longest first. Read next: `kastra.migrate.expressions`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_PART = re.compile(r"""\.?([A-Za-z_][\w-]*|[0-9]+)|\[\s*(?:([0-9]+)|"([^"\\\]]*)"|'([^'\\\]]*)')\s*\]""")
_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RESERVED = frozenset(
    (
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "null",
        "package",
        "namespace",
        "return",
        "true",
        "var",
        "void",
        "while",
    )
)
_MAX_DIGITS = 9
_MAX = 1_000
_INPUT = ("input", "inputs", "initData", "trigger", "triggerData")
_RESULT = ("output", "outputs", "result", "results")


class NotAPath(ValueError):
    """The text can't be written in CEL; the message says why."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names in an expression can mean.

    Args:
        steps: ids of the workflow's steps.
        labels: step ids by the names that steps give their outputs.
        whole: step ids by the name of their only declared output, which stands for the whole output.
        aliases: where the output of a step is found that stands within another, as CEL by its id.
        prompt: whether only `input` can be seen, as in an agent's instructions or a tool's request.
    """

    steps: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    prompt: bool = False


def parts_of(text: str) -> list[str | int]:
    """A path's names and indices.

    Raises:
        NotAPath: the text is no path.
    """
    if len(text) > _MAX:
        raise NotAPath(f"has more than {_MAX:,} characters")
    parts: list[str | int] = []
    index = 0
    text = text.strip().replace("?.", ".").removeprefix("this.")
    while index < len(text):
        match = _PART.match(text, index)
        if match is None or (index == 0) != (not match[0].startswith((".", "["))):
            raise NotAPath("is no path of names")
        name, number, double, single = match.groups()
        if number is not None or (name is not None and name[0] in "0123456789"):
            digits = number or name
            if len(digits) > _MAX_DIGITS:
                raise NotAPath("has an index that is too large")
            parts.append(int(digits))
        else:
            parts.append(name if name is not None else double if double is not None else single)
        index = match.end()
    if not parts or not isinstance(parts[0], str):
        raise NotAPath("is no path of names")
    return parts


def to_cel(text: str, scope: Scope) -> tuple[str, str]:
    """A path in CEL, and what was guessed on the way (empty if nothing was).

    Raises:
        NotAPath: it is no path, or names something that expressions don't see.
    """
    parts = parts_of(text)
    first, rest = str(parts[0]), parts[1:]
    if first == "env" or (first == "process" and rest[:1] == ["env"]):
        raise NotAPath("reads a variable of the environment, which expressions don't see")
    if first in ("workflow", "context") and rest and rest[0] in (*_INPUT, "steps", "state"):
        first, rest = str(rest[0]), rest[1:]
    if first == "getInitData":
        first = "input"
    if first in _INPUT:
        return select("input", rest), ""
    if scope.prompt:
        if first in ("step", "steps", "stepResults", "state", "prev", "previous", "inputData"):
            raise NotAPath("reads what only a workflow has; pass it as input")
        return select("input", parts), ""
    if first in ("step", "steps", "stepResults") and rest:
        return _step(rest, scope, bare=first == "stepResults"), ""
    if first in ("inputData", "prev", "previous"):
        return select("prev", rest), ""
    if first in ("state", "run", "lastError", "error", "iteration"):
        return select(first, rest), ""
    if first in scope.steps:
        return _step(parts, scope, bare=True), ""
    if first in scope.labels:
        return select(select("steps", [scope.labels[first], "output"]), rest), ""
    return select("input", parts), f'"{first}" is read as input.{first}'


def _step(parts: list[str | int], scope: Scope, *, bare: bool) -> str:
    """`id.output.x`; `bare` where `id.x` means the output's x."""
    known = {*scope.steps, *scope.aliases}
    length = next((n for n in range(len(parts), 0, -1) if _joined(parts[:n]) in known), 1)
    step, rest = _joined(parts[:length]), parts[length:]
    if rest and rest[0] in ("status", "error", "attempts") and len(rest) == 1 and not bare:
        return select("steps", [step, rest[0]])
    if rest and rest[0] in _RESULT:
        plural = rest[0] == "outputs"
        rest = rest[1:]
        if plural and rest and scope.whole.get(step) == rest[0]:
            rest = rest[1:]
    if step in scope.aliases:
        return select(scope.aliases[step], rest)
    return select("steps", [step, "output", *rest])


def _joined(parts: list[str | int]) -> str:
    return ".".join(map(str, parts))


def select(root: str, parts: list[str | int]) -> str:
    """`root` and what is selected of it, in CEL."""
    text = root
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.fullmatch(part) and part not in _RESERVED:
            text += f".{part}"
        else:
            text += f"[{literal(part)}]"
    return text


def literal(text: str) -> str:
    """A text as a CEL literal."""
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return '"' + "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in escaped) + '"'


def truthy(cel: str) -> str:
    """Whether a value counts as true in JavaScript and handlebars, where what isn't there doesn't."""
    test = f'!({cel} in [false, null, "", 0])'
    presence = []
    # Everything on the way must be there, since CEL refuses to look into nothing.
    steps = [match.start() for match in re.finditer(r'\.[A-Za-z_]\w*|\["(?:[^"\\]|\\.)*"\]', cel)]
    for start in steps:
        end = next((other for other in steps if other > start), len(cel))
        parent, member = cel[:start], cel[start:end].split("[", 1)[0] if cel[start] == "." else cel[start:end]
        presence.append(f"has({parent}{member})" if member.startswith(".") else f"{member[1:-1]} in {parent}")
    return " && ".join([*presence, test])
