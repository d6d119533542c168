"""Which functions does an expression have beyond standard CEL? Kubernetes' list, regex, URL and quantity libraries.

Everything here is pure and linear in its arguments. URLs and quantities stay texts: `url("https://a/b").getHost()` and
`quantity("1Gi").isGreaterThan(quantity("1M"))` read as in Kubernetes, but `type(url(x))` is `string`. Kubernetes'
`indexOf` for lists is missing: the CEL library has no way to add an overload to a function of its strings extension.

Source: Kubernetes' apiserver cel/library (lists.go, regex.go, urls.go, quantity.go). Read next: `kastra.cel.environment`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import re2

from kastra.api.quantities import format_quantity, parse_quantity

from .cost import MATCHES


@dataclass(frozen=True, slots=True)
class Function:
    """One overload.

    Args:
        name: as written in expressions.
        parameters: type names (`string`, `int`, `list`); the first is the receiver of a method. The library doesn't
            dispatch on `dyn`.
        result: type name.
        call: the implementation; a ValueError's message becomes the expression's error.
        member: whether it is called as a method.
    """

    name: str
    parameters: tuple[str, ...]
    result: str
    call: Callable[..., Any]
    member: bool = True


def _ordered(items: list[Any]) -> list[Any]:
    kinds = {
        "number" if isinstance(item, (int, float)) and not isinstance(item, bool) else type(item) for item in items
    }
    if len(kinds) > 1:
        raise ValueError("no such overload: the list's items are of different types")
    return items


def _is_sorted(items: list[Any]) -> bool:
    _ordered(items)
    return all(not items[i + 1] < items[i] for i in range(len(items) - 1))


def _sum(items: list[Any]) -> Any:
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items):
        raise ValueError("no such overload: sum() adds numbers")
    total = sum(items)
    if isinstance(total, int) and not -(1 << 63) <= total < 1 << 63:
        raise ValueError("integer overflow")
    return total


def _extreme(name: str, pick: Callable[[Iterable[Any]], Any]) -> Callable[[list[Any]], Any]:
    def extreme(items: list[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} called on empty list")
        return pick(_ordered(items))

    return extreme


# The CEL library compiles a pattern anew at every call of `matches`, which can take milliseconds. So `matches` is replaced
# by a function of ours. Constant patterns are compiled once and may be large; those computed by an expression may not.
_constants: dict[str, Any] = {}
_MAX_CONSTANTS = 8192
_MAX_MEMORY = 8 << 20
_MAX_COMPUTED = 1 << 20


def keep_pattern(text: str) -> None:
    """Compile a constant pattern, so that evaluating needn't.

    Raises:
        ValueError: it is no RE2.
    """
    if text not in _constants and len(_constants) < _MAX_CONSTANTS:
        _constants[text] = _compiled(text, _MAX_MEMORY)


@lru_cache(maxsize=256)
def _compiled(text: str, memory: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise ValueError(f"invalid regular expression: {reason}") from None


def _pattern(text: str) -> Any:
    return _constants.get(text) or _compiled(text, _MAX_COMPUTED)


def _matches(text: str, pattern: str) -> bool:
    return _pattern(pattern).search(text) is not None


def _find(text: str, pattern: str) -> str:
    found = _pattern(pattern).search(text)
    return found.group(0) if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    if limit == 0:
        return found
    for match in _pattern(pattern).finditer(text):
        found.append(match.group(0))
        if len(found) == limit:
            break
    return found


def _url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"URL parse error during conversion from string: {error}") from None
    if not ((parts.scheme and parts.netloc) or text.startswith("/")):
        raise ValueError(f'URL parse error during conversion from string: "{text[:80]}" is no absolute URL or path')
    return parts


def _host(text: str) -> str:
    return _url(text).netloc.rpartition("@")[2]


def _hostname(text: str) -> str:
    return _host(text).removesuffix(f":{_url(text).port}").strip("[]")


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def parses(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return parses


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        parse(text)
        return text

    return checked


def _integer(text: str) -> int:
    value = parse_quantity(text)
    if value.denominator != 1 or not -(1 << 63) <= value < 1 << 63:
        raise ValueError("cannot convert value to integer")
    return int(value)


def _operand(value: str | int) -> Fraction:
    return Fraction(value) if isinstance(value, int) else parse_quantity(value)


def _add(text: str, other: str | int) -> str:
    return format_quantity(parse_quantity(text) + _operand(other))


def _sub(text: str, other: str | int) -> str:
    return format_quantity(parse_quantity(text) - _operand(other))


def _compare(a: str, b: str) -> int:
    left, right = parse_quantity(a), parse_quantity(b)
    return (left > right) - (left < right)


def _sign(text: str) -> int:
    value = parse_quantity(text)
    return (value > 0) - (value < 0)


FUNCTIONS: tuple[Function, ...] = (
    Function("isSorted", ("list",), "bool", _is_sorted),
    Function("sum", ("list",), "dyn", _sum),
    Function("min", ("list",), "dyn", _extreme("min", min)),
    Function("max", ("list",), "dyn", _extreme("max", max)),
    Function(MATCHES, ("string", "string"), "bool", _matches),
    Function(MATCHES, ("string", "string"), "bool", _matches, member=False),
    Function("find", ("string", "string"), "string", _find),
    Function("findAll", ("string", "string"), "list", _find_all),
    Function("findAll", ("string", "string", "int"), "list", _find_all),
    Function("isURL", ("string",), "bool", _parses(_url), member=False),
    Function("url", ("string",), "string", _checked(_url), member=False),
    Function("getScheme", ("string",), "string", lambda text: _url(text).scheme),
    Function("getHost", ("string",), "string", _host),
    Function("getHostname", ("string",), "string", _hostname),
    Function("getPort", ("string",), "string", lambda text: str(_url(text).port or "")),
    Function("getEscapedPath", ("string",), "string", lambda text: _url(text).path),
    Function("getQuery", ("string",), "dyn", lambda text: parse_qs(_url(text).query, keep_blank_values=True)),
    Function("isQuantity", ("string",), "bool", _parses(parse_quantity), member=False),
    Function("quantity", ("string",), "string", _checked(parse_quantity), member=False),
    Function("isGreaterThan", ("string", "string"), "bool", lambda a, b: _compare(a, b) > 0),
    Function("isLessThan", ("string", "string"), "bool", lambda a, b: _compare(a, b) < 0),
    Function("compareTo", ("string", "string"), "int", _compare),
    Function("sign", ("string",), "int", _sign),
    Function("isInteger", ("string",), "bool", _parses(_integer)),
    Function("asInteger", ("string",), "int", _integer),
    Function("asApproximateFloat", ("string",), "double", lambda text: float(parse_quantity(text))),
    *(Function("add", ("string", other), "string", _add) for other in ("string", "int")),
    *(Function("sub", ("string", other), "string", _sub) for other in ("string", "int")),
)
