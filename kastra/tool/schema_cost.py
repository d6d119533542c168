"""Could checking a value by a JSON Schema take for ever? Schemas that refer to their own parts can double the work at every step.

A `$ref` is counted as often as it is followed, a cycle as often as the value is deep. Estimates, always upwards. Read next:
`kastra.tool.schema`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_NODES = 100_000
"""Nodes of a schema, each as often as references lead to it."""
MAX_STEPS = 1_000_000
"""Steps that following cycles may take."""
_MAX_OTHER = 8
REFERENCES = frozenset({"$ref", "$dynamicRef"})
"""Keywords that lead elsewhere."""
_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Keywords whose keys are names that somebody chose, not keywords."""
_ASIDE = frozenset({"$defs", "definitions", "const", "enum", "examples", "default"})
"""Keywords with nothing that is checked by itself."""


@dataclass(frozen=True, slots=True)
class SchemaCost:
    """What following the references of a schema costs.

    Args:
        cycles: references that lead back to a place that they come from.
    """

    cycles: int

    def too_much(self, value: Any) -> bool:
        """Whether `value` is so deep that following the cycles takes too long."""
        # Each level of the value may follow each reference that leads back.
        return self.cycles > 1 and self.cycles ** _depth(value) > MAX_STEPS


NO_COST = SchemaCost(0)
"""Of a schema without references."""


def cost_of(schema: Mapping[str, Any], where: str) -> SchemaCost:
    """What following the references of `schema` costs.

    Args:
        where: the field that holds it, for messages.

    Raises:
        ValueError: its references multiply beyond what can be checked, or can't be followed in advance.
    """
    counter = _Counter(schema, where)
    counter.visit(schema, ())
    return SchemaCost(counter.cycles)


class _Counter:
    """Counts the nodes of a schema with its references followed."""

    def __init__(self, root: Any, where: str) -> None:
        self._root = root
        self._where = where
        self._anchors = dict(_anchors(root))
        self._nodes = self._other = 0
        self.cycles = 0

    def visit(self, node: Any, way: tuple[str, ...]) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ValueError(f"{self._where}: its references multiply beyond what can be checked")
        if isinstance(node, list):
            for item in node:
                self.visit(item, way)
        elif isinstance(node, Mapping):
            for key, item in node.items():
                if key in REFERENCES and isinstance(item, str):
                    self._follow(item, way)
                elif key in _BY_NAME and isinstance(item, Mapping):
                    for inner in item.values():
                        self.visit(inner, way)
                elif key not in _ASIDE:
                    self.visit(item, way)

    def _follow(self, reference: str, way: tuple[str, ...]) -> None:
        if reference in way:
            self.cycles += 1
            return
        if reference in self._anchors:
            target: Any = self._anchors[reference]
        elif reference == "#" or reference.startswith("#/"):
            target = self._root
            for part in reference.split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                if isinstance(target, list):
                    target = target[int(key)] if key.isascii() and key.isdigit() and int(key) < len(target) else None
                else:
                    target = target.get(key) if isinstance(target, Mapping) else None
        else:
            self._other += 1
            if self._other > _MAX_OTHER:
                message = f"more than {_MAX_OTHER} references that are not of the form #/$defs/name"
                raise ValueError(f"{self._where}: {message}")
            return
        if target is not None:
            self.visit(target, (*way, reference))


def _anchors(schema: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a schema that have a name to refer to."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            for keyword in ("$anchor", "$dynamicAnchor"):
                if isinstance(node.get(keyword), str):
                    yield f"#{node[keyword]}", node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for node in level
            if isinstance(node, list | Mapping)
            for inner in (node.values() if isinstance(node, Mapping) else node)
        ]
    return depth
