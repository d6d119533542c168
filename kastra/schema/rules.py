"""Do the CEL rules of a kind hold? `x-kubernetes-validations`, compiled once per version of a CRD.

Every rule is compiled when the CRD is read: it must be an expression on `self` (and `oldSelf`) that gives true or false,
reads only fields there are, and whose estimated cost over everything the schema admits fits Kubernetes' budget. Rules run
after the structural schema has held. A rule with `oldSelf` is a transition rule: it runs on updates, for values that
correspond to an old one (list items by their map keys), unless `optionalOldSelf` says otherwise.

Source: Kubernetes' apiextensions pkg/apiserver/schema/cel. Read next: `kastra.schema.compiled`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kastra.api.errors import DUPLICATE, FORBIDDEN, INVALID, NOT_SUPPORTED, REQUIRED, Cause
from kastra.cel import KUBERNETES, CelError, Program, UndefinedField, environment, estimate, references

from .causes import Finding, Segment, schema_forbidden, schema_invalid, schema_required, show
from .fieldpaths import parse_field_path
from .structural import MISSING, Structural
from .unchanged import Path, all_there, needed_to_hold
from .values import canonical
from .visible import View, count_of, size_of, view

RULE_BUDGET = 10_000_000
"""Kubernetes' cost units that one rule may cost over a whole object, and its message as much again."""
TOTAL_BUDGET = 100_000_000
"""What all rules of a version may cost together."""
MAX_EVALUATIONS = 20_000
"""Rules evaluated for one object."""

_REASONS = (INVALID, FORBIDDEN, REQUIRED, DUPLICATE)
_KEYS = frozenset({"rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf"})
_ADVICE = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
# An optional value can't be handed in from outside, so the rule is wrapped; the list holds the old value or nothing.
_OPTIONAL = "cel.bind(oldSelf, size(oldSelves) == 0 ? optional.none() : optional.of(oldSelves[0]), "


@dataclass(slots=True)
class _Rule:
    program: Program
    text: str
    message: str
    expression: Program | None
    reason: str
    segments: tuple[Segment, ...]
    transition: bool
    optional: bool
    settled: frozenset[Path] | None
    """What must be there for it to hold where nothing changed; None if only evaluating can tell."""


@dataclass(slots=True)
class _Node:
    """The rules at a node of the schema, and at the nodes below it."""

    rules: list[_Rule]
    type: str
    convert: View
    fields: "dict[str, _Node]" = field(default_factory=dict)
    items: "_Node | None" = None
    rest: "_Node | None" = None
    keys: tuple[str, ...] = ()
    unchanged: "_Node | None" = None
    """What is left to check where the value is the old one: rules about the change. All else would be ratcheted."""


class _Budget:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_EVALUATIONS


class Rules:
    """The compiled rules of a schema."""

    __slots__ = ("_root",)

    def __init__(self, root: _Node) -> None:
        self._root = root

    def check(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> list[Finding]:
        """The rules that don't hold.

        Args:
            obj: pruned, defaulted and valid by its structural schema.
            old: what it replaces, likewise; None on create.
        """
        # A rule of the whole object is about its metadata too, and never passed over.
        before = MISSING if old is None else {**old} if old is obj else old
        return _check(self._root, obj, before, _Budget()) or []


def compile_rules(schema: Structural) -> tuple[Rules | None, list[Cause]]:
    """The rules of a schema, None if it has none; and what is wrong with them."""
    if not any(node.rules for node in schema.tree()):
        return None, []
    compiler = _Compiler()
    root = compiler.node(schema, 1, True, root=True)
    if compiler.total > TOTAL_BUDGET and not compiler.causes:
        factor = _factor(compiler.total / TOTAL_BUDGET)
        detail = f"x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of {factor} {_ADVICE}"
        compiler.causes.append(schema_forbidden(schema.path, detail))
    return (Rules(root) if root is not None else None), compiler.causes


class _Compiler:
    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self.total = 0.0

    def node(self, schema: Structural, times: float, correlates: bool, root: bool = False) -> _Node | None:
        """The rules at and below a node.

        Args:
            schema: the node.
            times: how many values of it an object can have.
            correlates: whether an old value corresponds to each of them.
            root: whether its values are whole objects.
        """
        rules = [
            rule
            for index, raw in enumerate(schema.rules)
            if (
                rule := self._rule(
                    raw, f"{schema.path}.x-kubernetes-validations[{index}]", schema, times, correlates, root
                )
            )
        ]
        found = _Node(rules, schema.type, view(schema, root, _needed(rules)))
        for name, child in schema.properties.items():
            below = self.node(child, times, correlates)
            if below is not None:
                found.fields[name] = below
        if schema.items is not None:
            keyed = schema.list_type == "map"
            found.keys = schema.list_map_keys if keyed else ()
            found.items = self.node(schema.items, times * count_of(schema), correlates and keyed)
        if isinstance(schema.additional, Structural):
            found.rest = self.node(schema.additional, times * count_of(schema), correlates)
        if not (found.rules or found.fields or found.items or found.rest):
            return None
        found.unchanged = _of_changes(found)
        return found

    def _rule(
        self, raw: Mapping[str, Any], path: str, schema: Structural, times: float, correlates: bool, root: bool
    ) -> _Rule | None:
        before = len(self.causes)
        segments = self._shape(raw, path, schema)
        if len(self.causes) > before:
            return None
        optional = bool(raw.get("optionalOldSelf"))
        program = self._compile(raw["rule"], f"{path}.rule", schema, times, root, optional, "bool")
        expression = None
        if raw.get("messageExpression"):
            place = f"{path}.messageExpression"
            expression = self._compile(raw["messageExpression"], place, schema, times, root, optional, "string")
        if program is None or len(self.causes) > before:
            return None
        transition = "oldSelf" in references(raw["rule"]).roots
        if transition and not correlates:
            detail = "oldSelf cannot be used on the uncorrelatable portion of the schema within " + schema.path
            self.causes.append(schema_invalid(f"{path}.rule", raw["rule"], detail))
            return None
        if optional and not transition:
            detail = "may not be set if oldSelf is not used in rule"
            self.causes.append(schema_invalid(f"{path}.optionalOldSelf", True, detail))
            return None
        text, message = raw["rule"].strip(), (raw.get("message") or "").strip()
        reason = raw.get("reason") or INVALID
        settled = needed_to_hold(program.tree) if transition and not optional else None
        return _Rule(program, text, message, expression, reason, segments, transition, optional, settled)

    def _shape(self, raw: Mapping[str, Any], path: str, schema: Structural) -> tuple[Segment, ...]:
        """Check a rule's fields; the segments of its fieldPath."""
        add = self.causes.append
        for key in raw.keys() - _KEYS:
            add(schema_forbidden(f"{path}.{key}", f"{key} is not a field of a validation rule"))
        for key in ("rule", "message", "messageExpression", "reason", "fieldPath"):
            value = raw.get(key)
            if value is not None and not isinstance(value, str):
                add(schema_invalid(f"{path}.{key}", value, "must be a string"))
                return ()
        if not (raw.get("rule") or "").strip():
            add(schema_required(f"{path}.rule", "rule is not specified"))
        message = raw.get("message")
        if message is not None and (not message.strip() or "\n" in message.strip() or len(message) > 2048):
            detail = "must be one line of at most 2048 characters and not empty"
            add(schema_invalid(f"{path}.message", message, detail))
        reason = raw.get("reason")
        if reason is not None and reason not in _REASONS:
            known = ", ".join(show(item) for item in _REASONS)
            add(Cause(NOT_SUPPORTED, f"Unsupported value: {show(reason)}: supported values: {known}", f"{path}.reason"))
        if not isinstance(raw.get("optionalOldSelf", False), (bool, type(None))):
            add(schema_invalid(f"{path}.optionalOldSelf", raw["optionalOldSelf"], "must be true or false"))
        if raw.get("fieldPath"):
            try:
                return parse_field_path(raw["fieldPath"], schema)
            except ValueError as error:
                add(schema_invalid(f"{path}.fieldPath", raw["fieldPath"], f"fieldPath must be a valid path: {error}"))
        return ()

    def _compile(
        self, text: str, path: str, schema: Structural, times: float, root: bool, optional: bool, result: str
    ) -> Program | None:
        env = environment("self", "oldSelves") if optional else environment("self", "oldSelf")
        try:
            program = env.compile(f"{_OPTIONAL}{text}\n)" if optional else text)
        except CelError as error:
            column = error.column - len(_OPTIONAL) if optional and error.line == 1 else error.column
            place = f"{error.line}:{column}: " if error.line else ""
            self.causes.append(schema_invalid(path, text, f"compilation failed: {place}{error.reason}"))
            return None
        if program.result_type not in {result, "dyn"}:
            detail = f"must evaluate to a {result}, this gives {program.result_type}"
            self.causes.append(schema_invalid(path, text, detail))
            return None
        size = size_of(schema, root)
        try:
            cost, _ = estimate(program.tree, {"self": size, "oldSelf": size, "oldSelves": size}, KUBERNETES)
        except UndefinedField as error:
            self.causes.append(schema_invalid(path, text, f"compilation failed: undefined field '{error}'"))
            return None
        except RecursionError:
            self.causes.append(schema_forbidden(path, f"its loops are nested too deeply {_ADVICE}"))
            return None
        self.total += cost * times
        if cost * times > RULE_BUDGET:
            what = path.rpartition(".")[2]
            detail = (
                f"estimated {what} cost exceeds budget by factor of {_factor(cost * times / RULE_BUDGET)} {_ADVICE}"
            )
            self.causes.append(schema_forbidden(path, detail))
            return None
        return program


def _of_changes(node: _Node) -> _Node | None:
    """Only the rules that read `oldSelf`, here and below; None if there are none."""
    rules = [rule for rule in node.rules if rule.transition]
    fields = {name: child.unchanged for name, child in node.fields.items() if child.unchanged is not None}
    items = node.items.unchanged if node.items is not None else None
    rest = node.rest.unchanged if node.rest is not None else None
    if not (rules or fields or items or rest):
        return None
    found = _Node(rules, node.type, node.convert, fields, items, rest, node.keys)
    found.unchanged = found
    return found


def _factor(times: float) -> str:
    return "more than 100x" if times > 100 else f"{times:.1f}x"


def _needed(rules: list[_Rule]) -> frozenset[str] | None:
    """The fields of `self` that these rules read; None if any may be."""
    needed: set[str] = set()
    for rule in rules:
        for program in (rule.program, rule.expression):
            if program is None:
                continue
            for variable in ("self", "oldSelf"):
                members = program.members(variable)
                if members is None:
                    return None
                needed |= members
        if rule.optional:
            return None
    return frozenset(needed)


_Check = Callable[[_Node, Any, Any, _Budget], list[Finding] | None]


def _check(node: _Node, value: Any, old: Any, budget: _Budget) -> list[Finding] | None:
    if value is None:
        return None
    found: list[Finding] | None = None
    rules = node.rules
    if value is old:
        if node.unchanged is None:
            return None
        node = node.unchanged
        rules = [rule for rule in node.rules if rule.settled is None or not all_there(value, rule.settled)]
    if rules:
        found = _evaluate(node, rules, value, old, budget)
    if type(value) is dict or isinstance(value, Mapping):
        before: Mapping[str, Any] = old if isinstance(old, Mapping) else {}
        for name, child in node.fields.items():
            if name in value:
                found = _merge(found, _check(child, value[name], before.get(name, MISSING), budget), name)
        if node.rest is not None:
            for name, item in value.items():
                found = _merge(found, _check(node.rest, item, before.get(name, MISSING), budget), f"[{name}]")
    elif isinstance(value, list) and node.items is not None:
        olds = _by_key(old, node.keys)
        for index, item in enumerate(value):
            found = _merge(found, _check(node.items, item, olds.get(_key(item, node.keys), MISSING), budget), index)
    return found


def _merge(found: list[Finding] | None, more: list[Finding] | None, segment: Segment) -> list[Finding] | None:
    if more is None:
        return found
    for finding in more:
        finding.segments.append(segment)
    return more if found is None else [*found, *more]


def _key(item: Any, keys: tuple[str, ...]) -> Any:
    if not keys or not isinstance(item, Mapping):
        return MISSING
    return tuple(canonical(item.get(key)) for key in keys)


def _by_key(old: Any, keys: tuple[str, ...]) -> dict[Any, Any]:
    return {_key(item, keys): item for item in old} if keys and isinstance(old, list) else {}


def _evaluate(node: _Node, rules: list[_Rule], value: Any, old: Any, budget: _Budget) -> list[Finding] | None:
    found: list[Finding] = []
    known = None if old is MISSING else old
    seen = node.convert(value)
    seen_old = node.convert(known) if known is not None else None
    plain = optional = None
    for rule in rules:
        if rule.transition and known is None and not rule.optional:
            continue
        budget.left -= 1
        if budget.left < 0:
            if budget.left == -1:
                message = "validation failed due to running out of cost budget, no further validation rules will be run"
                found.append(Finding(INVALID, f'Invalid value: "{node.type}": {message}'))
            break
        if rule.optional:
            if optional is None:
                values = {"self": seen, "oldSelves": [seen_old] if known is not None else []}
                optional = environment("self", "oldSelves").bind(values)
            bindings = optional
        else:
            if plain is None:
                values = {"self": seen, "oldSelf": seen_old} if known is not None else {"self": seen}
                plain = environment("self", "oldSelf").bind(values)
            bindings = plain
        try:
            if rule.program.test(bindings):
                continue
            message = _message(rule, bindings)
        except CelError as error:
            detail = f"{error.reason} evaluating rule: {rule.message or rule.text}"
            found.append(Finding(INVALID, f'Invalid value: "{node.type}": {detail}', transition=rule.transition))
            continue
        found.append(_finding(rule, node.type, message))
    return found or None


def _message(rule: _Rule, bindings: Any) -> str:
    if rule.expression is not None:
        try:
            text = rule.expression.evaluate(bindings)
        except CelError:
            # Kubernetes, too, falls back to the message when the expression for it fails.
            text = None
        if isinstance(text, str) and text.strip() and "\n" not in text.strip() and len(text) <= 5120:
            return text.strip()
    return rule.message or f"failed rule: {rule.text}"


def _finding(rule: _Rule, type_: str, message: str) -> Finding:
    texts = {
        FORBIDDEN: f"Forbidden: {message}",
        REQUIRED: f"Required value: {message}",
        DUPLICATE: f'Duplicate value: "{type_}"',
    }
    text = texts.get(rule.reason, f'Invalid value: "{type_}": {message}')
    segments = tuple(reversed(rule.segments))
    return Finding(rule.reason, text, segments, below=len(segments), transition=rule.transition)
