"""Predicates of stored workflows (`{op: eq, left: {path}, right: {literal}}`) as CEL.

A path that isn't there makes a comparison false instead of failing it, as it did. Read next: `kastra.migrate.dynamic`.
"""

from typing import Any

import orjson

from .paths import NotAPath, Scope, literal, to_cel, truthy

_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_MAX_DEPTH = 16


def predicate(value: Any, scope: Scope, depth: int = 0) -> str:
    """A predicate in CEL.

    Raises:
        NotAPath: its shape isn't known.
    """
    if depth > _MAX_DEPTH or not isinstance(value, dict):
        raise NotAPath("is no predicate")
    op = value.get("op")
    if op in _COMPARISONS:
        left, right = _operand(value.get("left"), scope), _operand(value.get("right"), scope)
        there = [
            guard for guard in (_presence(value.get("left"), scope), _presence(value.get("right"), scope)) if guard
        ]
        return " && ".join([*there, f"{left} {_COMPARISONS[op]} {right}"])
    if op in ("in", "notIn"):
        members = value.get("set")
        if not isinstance(members, list):
            raise NotAPath('has no "set"')
        item = _operand(value.get("value"), scope)
        presence = _presence(value.get("value"), scope)
        test = f"{item} in [{', '.join(_literal(m.get('literal') if isinstance(m, dict) else m) for m in members)}]"
        return " && ".join(filter(None, [presence, f"!({test})" if op == "notIn" else test]))
    if op in ("exists", "notExists"):
        found = _presence({"path": value.get("path")}, scope) or "true"
        return f"!({found})" if op == "notExists" else found
    if op in ("truthy", "falsy"):
        given = value.get("value")
        path = given.get("path") if isinstance(given, dict) else None
        found = (
            truthy(to_cel(path, scope)[0])
            if isinstance(path, str)
            else _literal(bool(given.get("literal") if isinstance(given, dict) else given))
        )
        return f"!({found})" if op == "falsy" else found
    if op in ("and", "or"):
        args = value.get("args")
        if not isinstance(args, list) or not args:
            raise NotAPath('has no "args"')
        return (" && " if op == "and" else " || ").join(f"({predicate(arg, scope, depth + 1)})" for arg in args)
    if op == "not":
        return f"!({predicate(value.get('arg'), scope, depth + 1)})"
    raise NotAPath("has an operator that isn't known")


def _operand(value: Any, scope: Scope) -> str:
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return to_cel(value["path"], scope)[0]
    if isinstance(value, dict) and "literal" in value:
        return _literal(value["literal"])
    raise NotAPath("has an operand that is neither a path nor a literal")


def _presence(value: Any, scope: Scope) -> str:
    """That everything on the way to a path is there; empty for a literal."""
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        return ""
    return " && ".join(truthy(to_cel(value["path"], scope)[0]).split(" && ")[:-1])


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(str(key))}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return orjson.dumps(value).decode()
