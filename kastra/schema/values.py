"""Is this value allowed? The value validations of one schema node, compiled to closures.

`minimum`, `pattern`, `enum`, `maxItems` and their like; and the logical combinations, whose branches hold nothing else.
These closures never change a value.

Source: kube-openapi's validate package. Read next: `kastra.schema.walker`, which descends and calls these.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import orjson

from kastra.api.errors import INVALID

from . import causes
from .causes import Finding
from .formats import compile_pattern, integer_range, text_format
from .structural import Structural

Check = Callable[[Any], list[Finding] | None]
"""The faults of a value, or None. The list is the caller's own."""
Test = Callable[[Any], Finding | None]

_INT64 = (-(1 << 63), (1 << 63) - 1)


def is_integer(value: Any) -> bool:
    """Whether a JSON number counts as an integer: `3`, and `3.0` as in Kubernetes, within 64 bits. True does not."""
    if type(value) is int:
        return _INT64[0] <= value <= _INT64[1]
    return type(value) is float and value.is_integer() and abs(value) <= 2**53


def same(a: Any, b: Any) -> bool:
    """Deep equality of JSON-like data, where True isn't 1."""
    if type(a) is not type(b):
        return type(a) in (int, float) and type(b) in (int, float) and a == b
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def canonical(value: Any) -> Any:
    """A hashable form of JSON-like data; equal for equal data, and True isn't 1."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (dict, list)):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return value


def enum_test(node: Structural) -> Test | None:
    """Membership in `enum`."""
    if "enum" not in node.raw:
        return None
    supported = node.raw["enum"]
    allowed = frozenset(canonical(value) for value in supported)

    def test(value: Any) -> Finding | None:
        return None if canonical(value) in allowed else causes.unsupported(value, supported)

    return test


def text_tests(raw: Mapping[str, Any]) -> list[Test]:
    """What a string must keep to."""
    tests: list[Test] = []
    secret = raw.get("format") == "password"
    if "minLength" in raw:
        least: int = raw["minLength"]
        tests.append(
            lambda v: None if len(v) >= least else causes.broken(v, f"should be at least {least} chars long", secret)
        )
    if "maxLength" in raw:
        most: int = raw["maxLength"]
        tests.append(lambda v: None if len(v) <= most else causes.too_long(most))
    if "pattern" in raw:
        pattern: str = raw["pattern"]
        search = compile_pattern(pattern)

        def matches(value: str) -> Finding | None:
            try:
                found = search(value)
            except UnicodeError:
                found = None
            return None if found else causes.broken(value, f"should match '{pattern}'", secret)

        tests.append(matches)
    name = raw.get("format", "")
    check = text_format(name)
    if check is not None:
        known = check
        tests.append(lambda v: None if known(v) else causes.wrong_format(v, name))
    return tests


def number_tests(raw: Mapping[str, Any]) -> list[Test]:
    """What a number must keep to."""
    tests: list[Test] = []
    if "minimum" in raw:
        least: float = raw["minimum"]
        if raw.get("exclusiveMinimum"):
            above = f"should be greater than {causes.number(least)}"
            tests.append(lambda v: None if v > least else causes.broken(v, above))
        else:
            from_ = f"should be greater than or equal to {causes.number(least)}"
            tests.append(lambda v: None if v >= least else causes.broken(v, from_))
    if "maximum" in raw:
        most: float = raw["maximum"]
        if raw.get("exclusiveMaximum"):
            below = f"should be less than {causes.number(most)}"
            tests.append(lambda v: None if v < most else causes.broken(v, below))
        else:
            up_to = f"should be less than or equal to {causes.number(most)}"
            tests.append(lambda v: None if v <= most else causes.broken(v, up_to))
    if "multipleOf" in raw:
        factor: float = raw["multipleOf"]
        exact, rule = Fraction(str(factor)), f"should be a multiple of {causes.number(factor)}"
        tests.append(lambda v: None if Fraction(str(v)) % exact == 0 else causes.broken(v, rule))
    bounds = integer_range(raw.get("format", ""))
    if bounds is not None:
        low, high, name = *bounds, raw["format"]
        tests.append(lambda v: None if low <= v <= high else causes.wrong_format(v, name))
    return tests


def list_tests(raw: Mapping[str, Any]) -> list[Test]:
    """What a list must keep to, its items aside."""
    tests: list[Test] = []
    if "minItems" in raw:
        least: int = raw["minItems"]
        tests.append(
            lambda v: None if len(v) >= least else causes.broken(len(v), f"should have at least {least} items")
        )
    if "maxItems" in raw:
        most: int = raw["maxItems"]
        tests.append(lambda v: None if len(v) <= most else causes.too_many(len(v), most))
    return tests


def map_tests(raw: Mapping[str, Any]) -> list[Test]:
    """What an object must keep to, its fields aside."""
    tests: list[Test] = []
    if "minProperties" in raw:
        least: int = raw["minProperties"]
        rule = f"should have at least {least} properties"
        tests.append(lambda v: None if len(v) >= least else causes.broken(len(v), rule))
    if "maxProperties" in raw:
        most: int = raw["maxProperties"]
        tests.append(lambda v: None if len(v) <= most else causes.too_many(len(v), most))
    return tests


def run(tests: Sequence[Test], value: Any) -> list[Finding] | None:
    """The faults that the tests find."""
    found: list[Finding] | None = None
    for test in tests:
        finding = test(value)
        if finding is not None:
            found = [*(found or ()), finding]
    return found


def combinations(node: Structural) -> list[Check]:
    """allOf, anyOf, oneOf and not."""
    checks: list[Check] = [_nested(branch) for branch in node.all_of]
    if node.any_of:
        checks.append(_any_of([_nested(branch) for branch in node.any_of]))
    if node.one_of:
        checks.append(_one_of([_nested(branch) for branch in node.one_of]))
    if node.none_of is not None:
        refused = _nested(node.none_of)
        message = 'Invalid value: "": "\0" must not validate the schema (not)'
        checks.append(lambda value: [Finding(INVALID, message)] if refused(value) is None else None)
    return checks


def _any_of(branches: Sequence[Check]) -> Check:
    def check(value: Any) -> list[Finding] | None:
        best: list[Finding] = []
        for branch in branches:
            found = branch(value)
            if found is None:
                return None
            if not best or len(found) < len(best):
                best = found
        return [Finding(INVALID, 'Invalid value: "": "\0" must validate at least one schema (anyOf)'), *best]

    return check


def _one_of(branches: Sequence[Check]) -> Check:
    def check(value: Any) -> list[Finding] | None:
        best: list[Finding] = []
        valid = 0
        for branch in branches:
            found = branch(value)
            if found is None:
                valid += 1
            elif not best or len(found) < len(best):
                best = found
        if valid == 1:
            return None
        message = 'Invalid value: "": "\0" must validate one and only one schema (oneOf). '
        if valid:
            return [Finding(INVALID, f"{message}Found {valid} valid alternatives")]
        return [Finding(INVALID, f"{message}Found none valid"), *best]

    return check


_TYPES: dict[str, Callable[[Any], bool]] = {
    "integer": is_integer,
    "string": lambda value: type(value) is str,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: type(value) is bool,
    "array": lambda value: type(value) is list,
    "object": lambda value: isinstance(value, dict),
}


def _nested(node: Structural) -> Check:
    """A branch of a combination: what it says of a type holds for values of that type only."""
    raw = node.raw
    texts, numbers, lists, maps = text_tests(raw), number_tests(raw), list_tests(raw), map_tests(raw)
    enum = enum_test(node)
    always: list[Test] = [enum] if enum is not None else []
    if node.type:
        has_type, type_ = _TYPES[node.type], node.type
        always.insert(0, lambda value: None if has_type(value) else causes.wrong_type(value, type_))
    fields = {name: _nested(child) for name, child in node.properties.items()}
    items = _nested(node.items) if node.items is not None else None
    required: Sequence[str] = raw.get("required", ())
    combined = combinations(node)

    def check(value: Any) -> list[Finding] | None:
        found = run(always, value) or []
        if isinstance(value, dict):
            found += run(maps, value) or ()
            found += [causes.required(name) for name in required if name not in value]
            for name, field in fields.items():
                if name in value:
                    found += _below(field(value[name]), name)
        elif isinstance(value, str):
            found += run(texts, value) or ()
        elif isinstance(value, list):
            found += run(lists, value) or ()
            if items is not None:
                for index, item in enumerate(value):
                    found += _below(items(item), index)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found += run(numbers, value) or ()
        for combination in combined:
            found += combination(value) or ()
        return found or None

    return check


def _below(found: list[Finding] | None, segment: causes.Segment) -> list[Finding]:
    for finding in found or ():
        finding.segments.append(segment)
    return found or []
