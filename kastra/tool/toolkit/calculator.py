"""What is the value of an arithmetic expression, without evaluating Python?

The expression is parsed by Python's own parser and walked here: numbers, the usual operators, comparisons and a closed list of
functions and constants. Names, attributes, calls of anything else, and texts have no meaning. Integers are exact and bounded, so
that `9**9**9` is an error and not a minute of work.

Read next: `kastra.tool.toolkit.arithmetic`.
"""

import ast
import math
import operator
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from kastra.tool.interface import ToolError
from kastra.tool.toolkit.builtin import unfit

MAX_LENGTH = 1_000
MAX_BITS = 4_096
"""Of an integer: about 1,200 digits."""
_MAX_NODES = 500
Number = int | float | bool

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau, "inf": math.inf}
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _factorial(number: Any) -> int:
    if number != int(number) or not 0 <= number <= 500:
        raise unfit("factorial: takes an integer from 0 to 500")
    return math.factorial(int(number))


def _round(number: Any, digits: Any = 0) -> Any:
    if digits != int(digits) or not -300 <= digits <= 300:
        raise unfit("round: takes a number and at most 300 digits")
    return round(number, int(digits)) if digits else round(number)


def _choose(n: Any, k: Any) -> int:
    if not (0 <= k <= n <= 2_000) or n != int(n) or k != int(k):
        raise unfit("comb: takes integers 0 <= k <= n <= 2000")
    return math.comb(int(n), int(k))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "round": _round,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "sqrt": math.sqrt,
    "cbrt": math.cbrt,
    "exp": math.exp,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "atan2": math.atan2,
    "degrees": math.degrees,
    "radians": math.radians,
    "hypot": math.hypot,
    "gcd": math.gcd,
    "lcm": math.lcm,
    "factorial": _factorial,
    "comb": _choose,
    "min": min,
    "max": max,
    "sum": lambda *numbers: math.fsum(numbers) if any(isinstance(n, float) for n in numbers) else sum(numbers),
    "mean": lambda *numbers: statistics.fmean(numbers),
    "median": lambda *numbers: statistics.median(numbers),
}


def calculate(expression: str, variables: Mapping[str, float]) -> Number:
    """The value of an expression.

    Args:
        expression: such as `(price * 1.19) ** 2`; `^` isn't a power.
        variables: numbers by name.

    Raises:
        ToolError: it has no value, or is none; the message says where.
    """
    if len(expression) > MAX_LENGTH:
        raise unfit(f"expression: more than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise unfit(f"expression: at character {error.offset}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise unfit("expression: can't be read") from None
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise unfit("expression: too long")
    try:
        result: Any = _value(tree.body, {**CONSTANTS, **variables})
    except ZeroDivisionError:
        raise unfit("expression: divides by zero") from None
    except OverflowError:
        raise unfit("expression: the result is too large") from None
    except (ValueError, TypeError, statistics.StatisticsError) as error:
        raise unfit(f"expression: {error}") from None
    if isinstance(result, complex) or (isinstance(result, float) and not math.isfinite(result)):
        raise unfit(f"expression: the result is {result}")
    number: Number = result
    return number


def _value(node: ast.expr, names: Mapping[str, float]) -> Any:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, (int, float)):
            return _bounded(node.value)
    elif isinstance(node, ast.Name):
        if node.id in names:
            return names[node.id]
        raise unfit(f"expression: there is no {node.id!r}; known are {', '.join(sorted(names))}")
    elif isinstance(node, ast.UnaryOp):
        operand = _value(node.operand, names)
        if isinstance(node.op, ast.Not):
            return not operand
        return -operand if isinstance(node.op, ast.USub) else +operand
    elif isinstance(node, ast.BinOp):
        return _binary(node, names)
    elif isinstance(node, ast.Compare):
        return _compared(node, names)
    elif isinstance(node, ast.BoolOp):
        every = isinstance(node.op, ast.And)
        found = [bool(_value(part, names)) for part in node.values]
        return all(found) if every else any(found)
    elif isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, names) else node.orelse, names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = FUNCTIONS.get(node.func.id)
        if function is None:
            raise unfit(f"expression: there is no function {node.func.id!r}; known are {', '.join(FUNCTIONS)}")
        return _bounded(function(*(_value(argument, names) for argument in node.args)))
    raise _not_allowed(node)


def _binary(node: ast.BinOp, names: Mapping[str, float]) -> Any:
    left, right = _value(node.left, names), _value(node.right, names)
    if isinstance(node.op, ast.Pow):
        if isinstance(left, int) and isinstance(right, int) and right > 0:
            # Judged before it is done: the result has about so many bits.
            if left.bit_length() * right > MAX_BITS:
                raise unfit("expression: the result is too large")
            return left**right
        return _bounded(left**right)
    if isinstance(node.op, ast.BitXor):
        raise unfit("expression: ^ is not a power here; write **")
    function = _BINARY.get(type(node.op))
    if function is None:
        raise _not_allowed(node)
    return _bounded(function(left, right))


def _compared(node: ast.Compare, names: Mapping[str, float]) -> bool:
    left = _value(node.left, names)
    for operation, following in zip(node.ops, node.comparators, strict=True):
        function = _COMPARED.get(type(operation))
        if function is None:
            raise _not_allowed(node)
        right = _value(following, names)
        if not function(left, right):
            return False
        left = right
    return True


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise unfit("expression: the result is too large")
    return value


def _not_allowed(node: ast.AST) -> ToolError:
    place = getattr(node, "col_offset", 0) + 1
    return unfit(f"expression: at character {place}: only numbers, operators and functions are allowed")
