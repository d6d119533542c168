"""Which entries does a filter over their metadata let through? The operators that vector stores share.

    {"lang": "de"}                                     equal
    {"year": {"$gte": 2020, "$lt": 2024}}              $eq $ne $gt $gte $lt $lte
    {"lang": {"$in": ["de", "fr"]}, "draft": {"$exists": false}}
    {"$or": [{"a": 1}, {"$not": {"b": 2}}]}            $and $or $nor $not

A list fits if one of its items does. Values of different types are different, and neither more nor less. A filter is compiled
before it is used; `author.name` is a field within a field. Source: the filters of MongoDB and of Mastra's vector stores.

Read next: `kastra.memory.passages`.
"""

from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Mapping[str, Any]], bool]
_Check = Callable[[Any], bool]

MAX_NODES = 200
MAX_DEPTH = 8
_MISSING = object()


class BadFilter(ValueError):
    """A filter can't be understood; the message says where."""


def compiled(where: Mapping[str, Any]) -> Test:
    """The test that a filter means; an empty one lets everything through.

    Raises:
        BadFilter: an operator isn't known, has no fitting operand, or the filter is too large.
    """
    budget = [MAX_NODES]
    return _all(where, "where", budget, 0)


def _all(where: Any, path: str, budget: list[int], depth: int) -> Test:
    if not isinstance(where, Mapping):
        raise BadFilter(f"{path}: must be an object")
    if depth > MAX_DEPTH:
        raise BadFilter(f"{path}: nested more than {MAX_DEPTH} levels deep")
    tests: list[Test] = []
    for name, operand in where.items():
        budget[0] -= 1
        if budget[0] < 0:
            raise BadFilter(f"where: more than {MAX_NODES} conditions")
        below = f"{path}.{name}"
        if name in ("$and", "$or", "$nor"):
            if not isinstance(operand, list) or not operand:
                raise BadFilter(f"{below}: must be a list of filters")
            parts = [_all(part, f"{below}[{n}]", budget, depth + 1) for n, part in enumerate(operand)]
            tests.append(_joined(name, parts))
        elif name == "$not":
            tests.append(_not(_all(operand, below, budget, depth + 1)))
        elif name.startswith("$"):
            raise BadFilter(f"{below}: there is no such operator here; there are $and, $or, $nor and $not")
        else:
            tests.append(_field(name, _checks(operand, below, budget, depth)))
    return lambda metadata: all(test(metadata) for test in tests)


def _joined(name: str, parts: list[Test]) -> Test:
    if name == "$and":
        return lambda metadata: all(part(metadata) for part in parts)
    if name == "$or":
        return lambda metadata: any(part(metadata) for part in parts)
    return lambda metadata: not any(part(metadata) for part in parts)


def _not(test: Test) -> Test:
    return lambda metadata: not test(metadata)


def _field(name: str, check: _Check) -> Test:
    steps = name.split(".")

    def test(metadata: Mapping[str, Any]) -> bool:
        value: Any = metadata
        for step in steps:
            value = value.get(step, _MISSING) if isinstance(value, Mapping) else _MISSING
        return check(value)

    return test


def _checks(operand: Any, path: str, budget: list[int], depth: int) -> _Check:
    if not isinstance(operand, Mapping) or not any(str(name).startswith("$") for name in operand):
        return _any(lambda value: _same(value, operand))
    if depth > MAX_DEPTH:
        raise BadFilter(f"{path}: nested more than {MAX_DEPTH} levels deep")
    checks: list[_Check] = []
    for name, given in operand.items():
        budget[0] -= 1
        checks.append(_check(name, given, f"{path}.{name}", budget, depth))
    return lambda value: all(check(value) for check in checks)


def _check(name: str, given: Any, path: str, budget: list[int], depth: int) -> _Check:
    if name == "$eq":
        return _any(lambda value: _same(value, given))
    if name == "$ne":
        equal = _any(lambda value: _same(value, given))
        return lambda value: not equal(value)
    if name in ("$in", "$nin"):
        if not isinstance(given, list) or len(given) > 1000:
            raise BadFilter(f"{path}: must be a list of at most 1000 values")
        found = _any(lambda value: any(_same(value, one) for one in given))
        return found if name == "$in" else lambda value: not found(value)
    if name == "$exists":
        if not isinstance(given, bool):
            raise BadFilter(f"{path}: must be true or false")
        return lambda value: (value is not _MISSING) == given
    if name == "$not":
        inner = _checks(given, path, budget, depth + 1)
        return lambda value: not inner(value)
    if name in _ORDERS:
        if isinstance(given, bool) or not isinstance(given, (int, float, str)):
            raise BadFilter(f"{path}: must be a number or a text")
        order = _ORDERS[name]
        return _any(lambda value: _comparable(value, given) and order(value, given))
    known = "$eq $ne $gt $gte $lt $lte $in $nin $exists $not"
    raise BadFilter(f"{path}: there is no such operator; there are {known}")


_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda value, given: value > given,
    "$gte": lambda value, given: value >= given,
    "$lt": lambda value, given: value < given,
    "$lte": lambda value, given: value <= given,
}


def _any(check: _Check) -> _Check:
    return lambda value: check(value) or (isinstance(value, list) and any(check(item) for item in value))


def _same(value: Any, other: Any) -> bool:
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _comparable(value: Any, other: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, float)) if isinstance(other, (int, float)) else isinstance(value, str)
