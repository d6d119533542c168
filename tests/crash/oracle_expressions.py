"""The corner of CEL that generated workflows use, evaluated with Python's own parser: names, members, numbers, comparisons, `size`.

Part of `tests.crash.oracle`; shares no code with the engine.
"""

import ast
import re
from collections.abc import Callable
from typing import Any

Variable = Callable[[str], Any]
"""The value of a name."""

CONSTANTS = {"true": True, "false": False, "null": None}
_OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Mod: lambda a, b: a % b,
    ast.Lt: lambda a, b: a < b,
    ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b,
}


def filled(data: Any, variable: Variable) -> Any:
    """Data with every `${{ }}`, which has to be the whole of a text, replaced by its value."""
    if isinstance(data, dict):
        return {key: filled(item, variable) for key, item in data.items()}
    if isinstance(data, list):
        return [filled(item, variable) for item in data]
    if isinstance(data, str) and (match := re.fullmatch(r"\$\{\{(.*)\}\}", data)):
        return evaluated(match[1].strip(), variable)
    return data


def evaluated(text: str, variable: Variable) -> Any:
    """The value of an expression."""
    return _value(ast.parse(text, mode="eval").body, variable)


def _value(node: ast.AST, variable: Variable) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return CONSTANTS[node.id] if node.id in CONSTANTS else variable(node.id)
    if isinstance(node, ast.Attribute):
        return _value(node.value, variable)[node.attr]
    if isinstance(node, ast.List):
        return [_value(item, variable) for item in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "size":
        return len(_value(node.args[0], variable))
    if isinstance(node, ast.BinOp | ast.Compare):
        left = _value(node.left, variable)
        operation = node.op if isinstance(node, ast.BinOp) else node.ops[0]
        right = _value(node.right if isinstance(node, ast.BinOp) else node.comparators[0], variable)
        return _OPERATIONS[type(operation)](left, right)
    raise AssertionError(f"the oracle doesn't know {ast.dump(node)}")
