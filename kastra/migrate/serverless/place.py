"""One task under conversion: what its expressions see, and how its data become templates.

    ${ .x }       in data, as a whole text, is an expression; any other text is a text
    .x            where an expression is expected, the same without ${ }

Read next: `kastra.migrate.serverless.tasks`.
"""

import re
from typing import Any

from kastra.api.durations import parse_duration
from kastra.migrate.context import Context, Draft
from kastra.migrate.node import Node

from .cel import Seen, quoted, to_cel, to_condition
from .jq import NotExact

_WHOLE = re.compile(r"\s*\$\{(.*)\}\s*", re.DOTALL)
_UNITS = {"days": 86_400_000, "hours": 3_600_000, "minutes": 60_000, "seconds": 1_000, "milliseconds": 1}
_LONGEST = 10**13
_LONGEST_ID = 60


class Unmapped(NotExact):
    """A task, or a part of one without which it isn't what it was, has no counterpart.

    Args:
        node: the place.
    """

    def __init__(self, node: Node, message: str) -> None:
        super().__init__(message)
        self.node = node


class Converter:
    """What all parts of one conversion share.

    Args:
        draft: the Workflow.
        use: the section `use` of the document; None without one.

    Attributes:
        places: the task that each of the steps at the top was made from.
    """

    def __init__(self, ctx: Context, draft: Draft, use: Node | None) -> None:
        self.ctx = ctx
        self.draft = draft
        self.use = use
        self.places: list[Node] = []
        self._ids: set[str] = set()
        self._numbers: dict[str, int] = {}

    def fresh(self, wanted: str) -> str:
        """An id for a step that the document doesn't have; no other step of the workflow gets it."""
        return self.beside(wanted, self._ids)

    def beside(self, wanted: str, taken: set[str]) -> str:
        """An id that isn't taken yet, and is now."""
        name = wanted[:_LONGEST_ID]
        while name in taken:
            number = self._numbers[name] = self._numbers.get(name, 1) + 1
            numbered = f"{wanted[: _LONGEST_ID - 8]}-{number}"
            if numbered not in taken:
                name = numbered
        taken.add(name)
        return name

    def reusable(self, section: str, node: Node) -> Node:
        """What `node` says, or what it names in a section of `use`. Raises Unmapped."""
        name = node.text
        if not name and isinstance(node.value, dict) and list(node.value) == ["use"]:
            name = str(node.value["use"])
        if not name:
            return node
        found = self.use.get(section) if self.use is not None else None
        if found is None or not found.has(name):
            raise Unmapped(node, f'use.{section} has no "{name}"')
        return found.child(name)


def is_expression(value: Any) -> bool:
    """Whether a value of data is an expression."""
    return isinstance(value, str) and _WHOLE.fullmatch(value) is not None


def expression(node: Node, seen: Seen) -> str:
    """CEL for a field that is an expression. Raises Unmapped."""
    return _translated(node, seen, to_cel)


def condition(node: Node, seen: Seen) -> str:
    """CEL for a field that is a condition. Raises Unmapped."""
    return _translated(node, seen, to_condition)


def _translated(node: Node, seen: Seen, to: Any) -> str:
    if not isinstance(node.value, str):
        if isinstance(node.value, bool):
            return "true" if node.value else "false"
        raise Unmapped(node, "isn't an expression")
    match = _WHOLE.fullmatch(node.value)
    try:
        return str(to(match[1] if match else node.value, seen))
    except NotExact as error:
        raise Unmapped(node, f"the expression {error}") from None


def template(node: Node, seen: Seen) -> Any:
    """Data with its expressions as `${{ }}`. Raises Unmapped."""
    value = node.value
    if isinstance(value, dict):
        return {key: template(node.child(key), seen) for key in value}
    if isinstance(value, list):
        return [template(node.child(index), seen) for index in range(len(value))]
    if is_expression(value):
        return f"${{{{ {expression(node, seen)} }}}}"
    if isinstance(value, str) and "${{" in value:
        # A text that would be an expression here.
        return f"${{{{ {quoted(value)} }}}}"
    return value


def transformed(node: Node, seen: Seen) -> Any:
    """A field that is an expression or data: `as` and `from`. Raises Unmapped."""
    if isinstance(node.value, str):
        return f"${{{{ {expression(node, seen)} }}}}"
    return template(node, seen)


def literal(node: Node | None, what: str) -> str:
    """A text that is written out. Raises Unmapped."""
    if node is None or not isinstance(node.value, (str, int, float)) or isinstance(node.value, bool):
        raise Unmapped(node, f"{what} isn't a text") if node is not None else NotExact(f"{what} is missing")
    if is_expression(node.value) or "${{" in str(node.value):
        raise Unmapped(node, f"{what} is computed, and must be written out here")
    return str(node.value)


def duration(node: Node) -> str:
    """A duration as Kastra writes it: from `{minutes: 1, seconds: 30}` or ISO 8601. Raises Unmapped."""
    value = node.value
    if isinstance(value, str):
        try:
            parse_duration(value)
        except (ValueError, TypeError):
            raise Unmapped(node, "isn't a duration") from None
        return value
    if not isinstance(value, dict) or not value or set(value) - set(_UNITS):
        raise Unmapped(node, "isn't a duration")
    total = 0.0
    for unit, number in value.items():
        if not isinstance(number, (int, float)) or isinstance(number, bool) or number < 0:
            raise Unmapped(node.child(unit), "isn't a number that is written out")
        total += number * _UNITS[unit]
    if total >= _LONGEST:
        raise Unmapped(node, "is too long")
    whole = round(total)
    return f"{whole // 1000}s" if whole % 1000 == 0 else f"{whole}ms"
