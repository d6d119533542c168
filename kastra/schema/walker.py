"""Prune, default and validate an object in one pass over it.

A schema is compiled once into nested closures, one per node, with everything bound that the node needs. Visiting an
object drops what the schema doesn't name, fills in defaults, checks every value, and changes nothing else. A valid object
makes no lists and no paths. All faults are collected, not only the first.

`null` where the field isn't nullable counts as absent: the default takes its place, or it is dropped. `apiVersion`, `kind`
and `metadata` belong to the object, not to the schema, at the root and in embedded resources.

Source: Kubernetes' apiextensions pruning, defaulting, listtype and validation packages. Read next:
`kastra.schema.compiled`, the front of this package.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from kastra.api.errors import INVALID, REQUIRED

from . import causes
from .causes import Finding, Segment
from .structural import MISSING, Structural
from .values import (
    Check,
    Test,
    canonical,
    combinations,
    enum_test,
    is_integer,
    list_tests,
    map_tests,
    number_tests,
    run,
    text_tests,
)

_NULL: list[Finding] = []
"""What a check returns for a null that its node doesn't allow; the parent decides. Compared by identity."""
_META = frozenset({"apiVersion", "kind", "metadata"})
_NOTHING: Mapping[str, Any] = {}
_EXACT: Mapping[str, type] = {"string": str, "boolean": bool, "number": float}
"""Types whose values of this Python type all do; for numbers there are others."""
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Mode:
    """What a walk does. Nulls are dropped as part of defaulting, since a default may take their place."""

    prune: bool = True
    default: bool = True
    validate: bool = True


@dataclass(slots=True)
class Walked:
    """What a walk found: faults, and the paths of fields that the schema doesn't have."""

    findings: list[Finding]
    unknown: list[str]


class _ObjectCheck(Protocol):
    def __call__(self, value: Any, before: Mapping[str, Any] = ...) -> list[Finding] | None: ...


class Walker:
    """A structural schema as a function on objects.

    Args:
        schema: must be free of faults (`parse_structural` gave no causes).
        mode: which of pruning, defaulting and validating it does.
        root: whether it walks whole objects, whose metadata is left alone, or a part of one.
    """

    __slots__ = ("_check", "_object")

    def __init__(self, schema: Structural, mode: Mode, root: bool = True) -> None:
        compiler = _Compiler(mode)
        is_object = schema.type == "object" and not schema.int_or_string
        self._object = compiler.object(schema, schema.preserve_unknown, root) if is_object else None
        self._check: Check = self._object or compiler.compile(schema, root=root)

    def __call__(self, value: Any, old: Mapping[str, Any] | None = None) -> Walked:
        """Walk `value`, changing it in place.

        Args:
            old: what it replaces, walked before. Fields whose value is not only equal but the very same are passed over:
                nothing is left to be dropped or filled in there, and what is wrong with them the update didn't bring about.
        """
        found = self._check(value) if old is None or self._object is None else self._object(value, old)
        if found is None:
            return Walked([], [])
        if found is _NULL:
            return Walked([causes.wrong_type(None, "object")], [])
        findings = [finding for finding in found if finding.reason]
        unknown = [causes.join(reversed(finding.segments)) for finding in found if not finding.reason]
        return Walked(findings, unknown)


def _merge(into: list[Finding] | None, found: list[Finding], segment: Segment) -> list[Finding]:
    for finding in found:
        finding.segments.append(segment)
    if into is None:
        return found
    # A list of a million bad items needs no million messages; unknown fields have no reason and are all kept.
    into.extend(found if len(into) < _MOST else [finding for finding in found if not finding.reason])
    return into


class _Compiler:
    def __init__(self, mode: Mode) -> None:
        self._mode = mode

    def compile(self, node: Structural, keep: bool = False, root: bool = False) -> Check:
        """The check of a node; `keep` leaves fields alone that it doesn't name."""
        keep = keep or node.preserve_unknown
        if node.int_or_string:
            return self._scalar(
                node, "integer,string", lambda v: type(v) is str or is_integer(v), self._all_tests(node)
            )
        match node.type:
            case "object":
                return self.object(node, keep, root)
            case "array":
                return self._array(node, keep)
            case "string":
                return self._scalar(node, "string", lambda v: type(v) is str, text_tests(node.raw))
            case "integer":
                return self._scalar(node, "integer", is_integer, number_tests(node.raw))
            case "number":
                return self._scalar(node, "number", lambda v: type(v) in (int, float), number_tests(node.raw))
            case "boolean":
                return self._scalar(node, "boolean", lambda v: type(v) is bool, [])
            case _:
                return self._anything(node, root)

    def _all_tests(self, node: Structural) -> list[Test]:
        texts, numbers = text_tests(node.raw), number_tests(node.raw)

        def by_type(test: Test, *types: type) -> Test:
            return lambda value: test(value) if type(value) in types else None

        return [*(by_type(test, str) for test in texts), *(by_type(test, int, float) for test in numbers)]

    def _scalar(self, node: Structural, name: str, has_type: Callable[[Any], bool], tests: list[Test]) -> Check:
        if not self._mode.validate:
            return _null_check(node.nullable)
        enum = enum_test(node)
        tests = [*([enum] if enum is not None else []), *tests]
        combined = combinations(node)
        nullable = node.nullable

        def mismatch(value: Any) -> list[Finding] | None:
            if value is None:
                return None if nullable else _NULL
            return [causes.wrong_type(value, name)]

        if combined:
            return _combined(has_type, mismatch, tests, combined)
        exact = {"string": str, "boolean": bool}.get(name)
        if exact is not None:
            return _exact(exact, mismatch, tests)

        def check(value: Any) -> list[Finding] | None:
            if not has_type(value):
                return mismatch(value)
            return run(tests, value) if tests else None

        return check

    def _anything(self, node: Structural, root: bool) -> Check:
        """A node without a type, which preserves unknown fields."""
        as_object = self.object(node, True, root)
        as_list = self._array(node, True) if node.items is not None else None
        enum = enum_test(node) if self._mode.validate else None
        tests = [*([enum] if enum is not None else []), *self._all_tests(node)] if self._mode.validate else []
        combined = combinations(node) if self._mode.validate else []

        absent = None if node.nullable or not self._mode.default else _NULL

        def check(value: Any) -> list[Finding] | None:
            if value is None:
                return absent
            if type(value) is dict:
                return as_object(value)
            if type(value) is list and as_list is not None:
                return as_list(value)
            found = run(tests, value) or []
            for combination in combined:
                found += combination(value) or ()
            return found or None

        return check

    def _array(self, node: Structural, keep: bool) -> Check:
        mode, nullable = self._mode, node.nullable
        item_check = self.compile(node.items, keep) if node.items is not None else None
        factory = _factory(node.items) if node.items is not None and mode.default else None
        # A node without a type allows null, though Kubernetes drops it where it is a field.
        type_ = _type_of(node.items)
        tests: list[Test] = []
        checks: list[Check] = []
        if mode.validate:
            enum = enum_test(node)
            tests = [*([enum] if enum is not None else []), *list_tests(node.raw)]
            checks = [*_uniqueness(node), *combinations(node)]

        def check(value: Any) -> list[Finding] | None:
            if type(value) is not list:
                if value is None:
                    return None if nullable else _NULL
                return [causes.wrong_type(value, "array")] if mode.validate else None
            found = run(tests, value) if tests else None
            if item_check is not None:
                for index, item in enumerate(value):
                    wrong = item_check(item)
                    if wrong is None:
                        continue
                    if wrong is _NULL:
                        if factory is not None:
                            value[index] = factory()
                            continue
                        if not type_ or not mode.validate:
                            continue
                        wrong = [causes.wrong_type(None, type_)]
                    found = _merge(found, wrong, index)
            for combination in checks:
                more = combination(value)
                if more is not None:
                    found = [*(found or ()), *more]
            return found

        return check

    def _fields(self, node: Structural, whole: bool) -> dict[str, Check]:
        checks = {}
        for name, child in node.properties.items():
            if whole and name == "metadata":
                # Only restrictions of the name stand here; the rest of the metadata is the registry's.
                checks[name] = _Compiler(Mode(False, False, self._mode.validate)).compile(child, True)
            else:
                checks[name] = self.compile(child)
        return checks

    def _plain(self, node: Structural) -> dict[str, type]:
        """The fields of which nothing is asked but a type: most values are seen to be right without a call."""
        found: dict[str, type] = {}
        for name, child in node.properties.items():
            type_ = _EXACT.get(child.type)
            if type_ is None or child.int_or_string or enum_test(child) or combinations(child):
                continue
            if not text_tests(child.raw) and not number_tests(child.raw):
                found[name] = type_
        return found

    def _rest(self, node: Structural, keep: bool) -> Check | None:
        """The check of fields that `properties` doesn't name; None drops them."""
        if isinstance(node.additional, Structural):
            return self.compile(node.additional)
        if node.additional and not keep and self._mode.prune:
            return _empty
        return _accept if node.additional or keep or not self._mode.prune else None

    def _null_field(self, node: Structural, whole: bool) -> Callable[[dict[str, Any], str], list[Finding] | None]:
        """What becomes of a null: Kubernetes puts the default in its place, or drops it without a word."""
        mode, rest = self._mode, node.additional
        factories = {name: _factory(child) for name, child in node.properties.items()} if mode.default else {}
        rest_factory = _factory(rest) if mode.default and isinstance(rest, Structural) else None

        def null(value: dict[str, Any], name: str) -> list[Finding] | None:
            if not mode.default:
                child = node.properties.get(name, rest)
                refused = mode.validate and isinstance(child, Structural)
                return [causes.wrong_type(None, _type_of(child))] if refused else None
            factory = factories.get(name, rest_factory)
            if factory is not None:
                value[name] = factory()
            elif not (whole and name in _META):
                del value[name]
            return None

        return null

    def _validations(self, node: Structural) -> list[Check]:
        """The tests of an object as such, and the checks of its logical combinations."""
        if not self._mode.validate:
            return []
        enum = enum_test(node)
        tests = [*([enum] if enum is not None else []), *map_tests(node.raw)]
        as_such: list[Check] = [lambda value: run(tests, value)] if tests else []
        return [*as_such, *([_embedded] if node.embedded else []), *combinations(node)]

    def object(self, node: Structural, keep: bool, root: bool) -> "_ObjectCheck":
        """The check of a node that is an object; see `compile`."""
        mode, nullable = self._mode, node.nullable
        whole = root or node.embedded
        get, rest, null = self._fields(node, whole).get, self._rest(node, keep), self._null_field(node, whole)
        scalars, built = _defaults(node) if mode.default else ((), ())
        ordered = tuple(node.raw.get("required", ())) if mode.validate else ()
        required = frozenset(ordered)
        validations = self._validations(node)
        plain_type = self._plain(node).get
        # Where fields have names of their own a path reads `a.b`; the keys of a map are quoted as `a[b]`.
        plain = not isinstance(node.additional, Structural)

        def check(value: Any, before: Mapping[str, Any] = _NOTHING) -> list[Finding] | None:
            if type(value) is not dict:
                if value is None:
                    return None if nullable else _NULL
                return [causes.wrong_type(value, "object")] if mode.validate else None
            for name, default in scalars:
                if name not in value:
                    value[name] = default
            for name, make in built:
                if name not in value:
                    value[name] = make()
            found: list[Finding] | None = None
            for name, item in list(value.items()):
                if plain_type(name) is type(item) or (before and item is not None and before.get(name) is item):
                    continue
                known = get(name)
                if known is not None:
                    wrong = known(item)
                elif whole and name in _META:
                    continue
                elif rest is not None:
                    wrong = rest(item)
                else:
                    del value[name]
                    wrong = [Finding("", "")]
                if wrong is None:
                    continue
                if wrong is _NULL:
                    wrong = null(value, name)
                if wrong is not None:
                    found = _merge(found, wrong, name if plain or known is not None else f"[{name}]")
            if not required <= value.keys():
                missing = [causes.required(name) for name in ordered if name not in value]
                found = [*(found or ()), *missing]
            for validation in validations:
                more = validation(value)
                if more is not None:
                    found = [*(found or ()), *more]
            return found

        return check


def _exact(type_: type, mismatch: Check, tests: list[Test]) -> Check:
    """Checks of strings and booleans, the most frequent ones, in as few calls as there can be."""
    if not tests:
        return lambda value: None if type(value) is type_ else mismatch(value)
    if len(tests) == 1:
        test = tests[0]

        def check_one(value: Any) -> list[Finding] | None:
            if type(value) is not type_:
                return mismatch(value)
            finding = test(value)
            return None if finding is None else [finding]

        return check_one

    def check(value: Any) -> list[Finding] | None:
        return run(tests, value) if type(value) is type_ else mismatch(value)

    return check


def _combined(has_type: Callable[[Any], bool], mismatch: Check, tests: list[Test], combined: list[Check]) -> Check:
    def check(value: Any) -> list[Finding] | None:
        if not has_type(value):
            return mismatch(value)
        found = run(tests, value) or []
        for combination in combined:
            found += combination(value) or ()
        return found or None

    return check


def _type_of(node: "Structural | bool | None") -> str:
    if not isinstance(node, Structural):
        return ""
    return "integer,string" if node.int_or_string else node.type


def _null_check(nullable: bool) -> Check:
    return _accept if nullable else lambda value: _NULL if value is None else None


def _accept(_value: Any) -> list[Finding] | None:
    """`x-kubernetes-preserve-unknown-fields`: anything, as it is."""
    return None


def _empty(value: Any) -> list[Finding] | None:
    """`additionalProperties: true`: scalars as they are, but nothing names the fields of the objects in it."""
    found: list[Finding] | None = None
    if type(value) is dict:
        for name in value:
            found = _merge(found, [Finding("", "")], name)
        value.clear()
    elif type(value) is list:
        for index, item in enumerate(value):
            wrong = _empty(item)
            if wrong is not None:
                found = _merge(found, wrong, index)
    return found


def _embedded(value: Mapping[str, Any]) -> list[Finding] | None:
    """An embedded resource says what it is."""
    found: list[Finding] = []
    for name in ("apiVersion", "kind"):
        if not value.get(name):
            found.append(Finding(REQUIRED, "Required value: must not be empty", (name,), below=1))
        elif type(value[name]) is not str:
            wrong = causes.wrong_type(value[name], "string")
            wrong.segments.append(name)
            found.append(wrong)
    return found or None


def _uniqueness(node: Structural) -> list[Check]:
    if node.list_type == "set":
        return [lambda value: _duplicates([canonical(item) for item in value], value)]
    if node.list_type != "map":
        return []
    keys = node.list_map_keys
    first = keys[0]

    def check(value: Any) -> list[Finding] | None:
        for index, item in enumerate(value):
            if item is not None and type(item) is not dict:
                message = f"Invalid value: {causes.show(item)}: must be an object for an array of list-type map"
                return [Finding(INVALID, message, (index,))]
        if len(value) < 2:
            return None
        if len(keys) == 1:
            marks: list[Any] = [canonical(item.get(first, MISSING)) if item else MISSING for item in value]
        else:
            marks = [tuple(canonical(item.get(key, MISSING)) if item else MISSING for key in keys) for item in value]
        if len(set(marks)) == len(marks):
            return None
        shown = [{key: item[key] for key in keys if key in item} if item else {} for item in value]
        return _duplicates(marks, shown)

    return [check]


def _duplicates(marks: list[Any], shown: list[Any]) -> list[Finding] | None:
    """The first repetition of every mark that repeats, as in Kubernetes."""
    if len(set(marks)) == len(marks):
        return None
    times: dict[Any, int] = {}
    found: list[Finding] = []
    for index, mark in enumerate(marks):
        times[mark] = times.get(mark, 0) + 1
        if times[mark] == 2 and len(found) < _MOST:
            found.append(causes.duplicate(index, shown[index]))
    return found


def _factory(node: Structural | None) -> Callable[[], Any] | None:
    """Makes a fresh default with the defaults of what is below it applied; None when there is none."""
    if node is None or node.default is MISSING:
        return None
    value = orjson.loads(orjson.dumps(node.default))
    if not isinstance(value, (dict, list)):
        return lambda: value
    Walker(node, Mode(prune=False, default=True, validate=False), root=False)(value)
    encoded = orjson.dumps(value)
    return lambda: orjson.loads(encoded)


_Built = tuple[tuple[str, Callable[[], Any]], ...]


def _defaults(node: Structural) -> tuple[tuple[tuple[str, Any], ...], _Built]:
    """The defaults of the properties: those that can be shared, and those that are made anew."""
    scalars, built = [], []
    for name, child in node.properties.items():
        factory = _factory(child)
        if factory is None:
            continue
        if isinstance(child.default, (dict, list)):
            built.append((name, factory))
        else:
            scalars.append((name, child.default))
    return tuple(scalars), tuple(built)
