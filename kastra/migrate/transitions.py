"""Where a step of the older dialects leads to: `next`, `transitions`, `onTrue`, `onFalse`, in all their shapes.

Every shape becomes a list of edges, each to one step, each with or without a condition; what they mean together is decided
in `kastra.migrate.workflows`, which is to be read next.
"""

from dataclasses import dataclass, field
from typing import Any

from .node import Node

END = "END"
_TARGET = ("step", "next", "target", "to", "then", "id", "stepId")
_TEST = ("if", "condition", "when", "expression")


@dataclass(frozen=True, slots=True)
class Edge:
    """To a step (or END), if `test` holds; with no test, always or (`otherwise`) if no other edge of the step is taken."""

    target: str
    node: Node
    test: Node | None = None
    otherwise: bool = False


@dataclass(slots=True)
class Edges:
    """All edges of a step, and what of its fields was not understood."""

    found: list[Edge] = field(default_factory=list)
    unknown: list[Node] = field(default_factory=list)

    @property
    def conditional(self) -> bool:
        """Whether one of them has a condition."""
        return any(edge.test is not None for edge in self.found)


def step_id(text: Any) -> str:
    """An id that a step can have; empty if nothing of the text can stand in one."""
    if not isinstance(text, (str, int)) or isinstance(text, bool):
        return ""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in str(text)[:63])
    return kept.strip(".-")


def edges_of(node: Node) -> Edges:
    """The edges of the step at `node`; the fields that say so count as read."""
    edges = Edges()
    test = (
        _test(node.get("condition"))
        if node.has("onTrue", "onFalse", "transitions") or node.peek("type") == "condition"
        else None
    )
    config = node.peek("config")
    if test is None and isinstance(config, dict) and node.peek("type") == "condition":
        inner = node.child("config")
        test = _test(inner.get("condition", "expression", "if"))
    for key in ("next", "transitions"):
        given = node.get(key)
        if given is not None:
            _read(given, edges, test)
    for key, otherwise in (("onTrue", False), ("then", False), ("onFalse", True), ("else", True)):
        given = node.get(key) if key.startswith("on") or node.peek("type") == "condition" else None
        if given is not None:
            _targets(given, edges, None if otherwise else test, otherwise=otherwise)
            if test is None:
                edges.unknown.append(given)
    return edges


def _test(node: Node | None) -> Node | None:
    while node is not None and isinstance(node.value, dict):
        inner = next((key for key in _TEST if node.peek(key) is not None), None)
        if inner is None:
            return None
        node = node.get(inner)
    return node


def _read(node: Node, edges: Edges, test: Node | None) -> None:
    value = node.value
    if isinstance(value, dict):
        if "true" in value or "false" in value:
            for key, otherwise in (("true", False), ("false", True)):
                given = node.get(key)
                if given is not None:
                    _targets(given, edges, None if otherwise else test, otherwise=otherwise)
                    if test is None:
                        edges.unknown.append(given)
            given = node.get("next")
            if given is not None and not edges.found:
                _targets(given, edges, None)
            return
        inner = node.get("condition")
        branch = (
            inner if inner is not None and isinstance(inner.value, dict) and inner.has("then", "else", "if") else node
        )
        own = (
            _test(branch)
            if branch is not node
            else _test(inner)
            if inner is not None
            else _test(node.get("if", "when", "expression"))
        )
        then, otherwise_ = branch.get("then"), branch.get("else", "default", "otherwise")
        if then is None and branch is not node:
            then = node.get("then")
        if then is not None or otherwise_ is not None:
            if then is not None:
                _targets(then, edges, own)
            if otherwise_ is not None:
                _targets(otherwise_, edges, None, otherwise=True)
            if own is None:
                edges.unknown.append(node)
            return
        _targets(node, edges, own)
    elif isinstance(value, list):
        for index in range(len(value)):
            item = node.child(index)
            if isinstance(item.value, dict):
                _read(item, edges, test)
            else:
                _targets(item, edges, None)
    else:
        _targets(node, edges, None)


def _targets(node: Node, edges: Edges, test: Node | None, *, otherwise: bool = False) -> None:
    value = node.value
    if isinstance(value, list):
        for index in range(len(value)):
            _targets(node.child(index), edges, test, otherwise=otherwise)
        return
    if isinstance(value, dict):
        inner = node.get(*_TARGET)
        if inner is None or isinstance(inner.value, dict):
            edges.unknown.append(node)
        else:
            _targets(inner, edges, test, otherwise=otherwise)
        return
    name = END if isinstance(value, str) and value.strip("$").lower() == "end" else step_id(value)
    if name:
        edges.found.append(Edge(name, node, test, otherwise))
    else:
        edges.unknown.append(node)
