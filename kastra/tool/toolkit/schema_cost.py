"""Could checking a value by a schema take for ever? Schemas that refer to their own parts can double the work at every step.

A `$ref` is counted as often as it is followed, a cycle as often as the value is deep. Estimates, always upwards. Read next:
`kastra.tool.toolkit.json_values`.
"""

from typing import Any

from kastra.tool.toolkit.builtin import unfit

MAX_COST = 100_000
_MAX_STEPS = 1_000_000
_MAX_OTHER = 8


def afford(schema: dict[str, Any], value: Any) -> None:
    """Refuse a schema by which `value` can't be checked in reasonable time. Raises ToolError."""
    counter = _Counter(schema)
    counter.visit(schema, ())
    if counter.other > _MAX_OTHER:
        raise unfit(f"schema: more than {_MAX_OTHER} references that are not of the form #/$defs/name")
    # Each level of the value may follow each reference that leads back.
    if counter.cycles > 1 and counter.cycles ** _depth(value) > _MAX_STEPS:
        raise unfit("schema: refers to itself in too many ways for a value as deep as this")


class _Counter:
    """Counts the nodes of a schema with its references followed."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self.cost = self.cycles = self.other = 0

    def visit(self, node: Any, way: tuple[str, ...]) -> None:
        self.cost += 1
        if self.cost > MAX_COST:
            raise unfit("schema: its references multiply beyond what can be checked")
        if isinstance(node, list):
            for item in node:
                self.visit(item, way)
        elif isinstance(node, dict):
            for key, item in node.items():
                if key in ("$ref", "$dynamicRef") and isinstance(item, str):
                    self._follow(item, way)
                elif key not in ("$defs", "definitions", "const", "enum", "examples", "default"):
                    self.visit(item, way)

    def _follow(self, reference: str, way: tuple[str, ...]) -> None:
        if reference in way:
            self.cycles += 1
            return
        if reference != "#" and not reference.startswith("#/"):
            self.other += 1
            return
        target: Any = self._root
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, dict) else None
        if target is not None:
            self.visit(target, (*way, reference))


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for node in level
            if isinstance(node, (dict, list))
            for inner in (node.values() if isinstance(node, dict) else node)
        ]
    return depth
