"""The front of the schema engine: `compile_schema(crd_schema).admit(obj)`.

Everything about one version of a kind is compiled here once: the walk that prunes, defaults and validates; the same walk
without validation for use before webhooks; defaulting alone for objects read from storage; the CEL rules; the topology for
server-side apply. A CompiledSchema is immutable and can be shared between threads.

Updates are ratcheted as in Kubernetes: a fault in a part of the object that the update didn't touch doesn't refuse it, so
that a schema can be tightened while objects that break it exist.

Read first: `kastra.schema.structural`. Its user is the admission chain of the API server.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from kastra.api.errors import INVALID, NOT_SUPPORTED, REQUIRED, TOO_LONG, TOO_MANY, TYPE_INVALID, Cause

from .causes import Finding, Segment, schema_invalid
from .rules import Rules, compile_rules
from .structural import MISSING, Structural, parse_structural, schema_topology
from .values import canonical, same
from .walker import Mode, Walker

# After one of these, rules would only repeat in worse words what is wrong already.
_BLOCKING = frozenset({NOT_SUPPORTED, REQUIRED, TOO_LONG, TOO_MANY, TYPE_INVALID})
_UNCHECKED = Cause(
    INVALID,
    'Invalid value: "null": some validation rules were not checked because the object was invalid; '
    "correct the existing errors to complete validation",
    "<nil>",
)
_MOST_CAUSES = 100


class SchemaError(Exception):
    """A schema isn't a structural schema, or its rules are wrong.

    Args:
        causes: why, each with a path into the CRD.
    """

    def __init__(self, causes: Sequence[Cause]) -> None:
        self.causes = tuple(causes)
        super().__init__("; ".join(f"{cause.field}: {cause.message}" for cause in self.causes))


@dataclass(frozen=True, slots=True)
class Admitted:
    """What admitting an object found.

    Args:
        causes: why it is refused; empty if it is valid.
        pruned: paths of the fields that the schema doesn't have and that were dropped: `spec.bogus`.
    """

    causes: tuple[Cause, ...]
    pruned: tuple[str, ...]


_CLEAN = Admitted((), ())


class CompiledSchema:
    """One version of a kind, ready to admit objects. Take it from `compile_schema`."""

    def __init__(self, schema: Structural, rules: Rules | None) -> None:
        self._schema = schema
        self._rules = rules
        self._admit = Walker(schema, Mode())

    @cached_property
    def _normalise(self) -> Walker:
        return Walker(self._schema, Mode(validate=False))

    @cached_property
    def _default(self) -> Walker:
        return Walker(self._schema, Mode(prune=False, validate=False))

    @cached_property
    def topology(self) -> dict[str, Any]:
        """How lists and maps merge under server-side apply; see `schema_topology`. Shared, not to be changed."""
        return schema_topology(self._schema)

    @property
    def structural(self) -> Structural:
        """The checked schema."""
        return self._schema

    def admit(self, obj: dict[str, Any], old: Mapping[str, Any] | None = None) -> Admitted:
        """Prune, default and validate `obj`, in place; then its CEL rules.

        Args:
            obj: the object, the caller's own but for what it shares with `old`; that isn't changed.
            old: the stored object that it replaces, read with this version's defaults; None on create.
        """
        walked = self._admit(obj, old)
        if not walked.findings and self._rules is None:
            return Admitted((), tuple(walked.unknown)) if walked.unknown else _CLEAN
        findings = self._ratcheted(walked.findings, obj, old)
        causes = [finding.cause() for finding in findings[:_MOST_CAUSES]]
        if self._rules is not None:
            if any(finding.reason in _BLOCKING for finding in findings):
                causes.append(_UNCHECKED)
            else:
                broken = self._ratcheted(self._rules.check(obj, old), obj, old)
                causes.extend(finding.cause() for finding in broken[:_MOST_CAUSES])
        return Admitted(tuple(dict.fromkeys(causes)), tuple(walked.unknown))

    def normalise(self, obj: dict[str, Any]) -> tuple[str, ...]:
        """Prune and default `obj` in place without validating, as mutating webhooks see it; the paths pruned."""
        return tuple(self._normalise(obj).unknown)

    def default(self, obj: dict[str, Any]) -> None:
        """Fill in defaults in place and nothing else: for objects stored before the schema had them."""
        self._default(obj)

    def _ratcheted(
        self, findings: list[Finding], obj: Mapping[str, Any], old: Mapping[str, Any] | None
    ) -> list[Finding]:
        """The findings that the update brought about, or that are about the change itself."""
        if old is None or not findings:
            return findings
        return [f for f in findings if f.transition or not _untouched(self._schema, f, obj, old)]


def compile_schema(open_api_v3_schema: Mapping[str, Any], path: str = "openAPIV3Schema") -> CompiledSchema:
    """The compiled form of a CRD version's schema.

    Args:
        open_api_v3_schema: as in the CRD; it isn't changed, and must not be changed afterwards.
        path: of it within the CRD; causes name places below it.

    Raises:
        SchemaError: it isn't structural, a default doesn't fit, a rule doesn't compile or costs too much.
    """
    schema, causes = parse_structural(open_api_v3_schema, path)
    if causes:
        raise SchemaError(causes)
    causes = list(_check_defaults(schema))
    if causes:
        raise SchemaError(causes)
    rules, causes = compile_rules(schema)
    if causes:
        raise SchemaError(causes)
    return CompiledSchema(schema, rules)


def _check_defaults(schema: Structural) -> Iterator[Cause]:
    """A default must be a valid value of its own node, with nothing that pruning would drop."""
    for node in schema.tree():
        if node.default is MISSING:
            continue
        place = f"{node.path}.default"
        try:
            value = orjson.loads(orjson.dumps(node.default))
        except (TypeError, ValueError):
            yield schema_invalid(place, "...", "must be JSON")
            continue
        walked = Walker(node, Mode(), root=False)(value)
        for unknown in walked.unknown:
            yield schema_invalid(place, node.default, f"must not have unknown fields: {unknown}")
        for finding in walked.findings:
            finding.segments.append(place)
            yield finding.cause()


def _untouched(schema: Structural, finding: Finding, obj: Any, old: Any) -> bool:
    """Whether the faulty node, or one that holds it, is the same in the old object."""
    path: list[Segment] = list(reversed(finding.segments))
    path = path[: len(path) - finding.below]
    node: Structural | None = schema
    for segment in path:
        old = _corresponding(node, segment, obj, old)
        obj = _below(obj, segment)
        if old is MISSING or obj is MISSING:
            return False
        if same(obj, old):
            return True
        node = _schema_below(node, segment)
    return bool(path) and same(obj, old)


def _below(value: Any, segment: Segment) -> Any:
    if isinstance(segment, int):
        return value[segment] if isinstance(value, list) and segment < len(value) else MISSING
    if not isinstance(value, Mapping):
        return MISSING
    return value.get(segment, value.get(segment[1:-1], MISSING) if segment.startswith("[") else MISSING)


def _corresponding(node: Structural | None, segment: Segment, obj: Any, old: Any) -> Any:
    """The old value that stands where `segment` leads; items of a list correspond by their map keys only."""
    if not isinstance(segment, int):
        return _below(old, segment)
    if node is None or node.list_type != "map" or not isinstance(old, list):
        return MISSING
    item = _below(obj, segment)
    if not isinstance(item, Mapping):
        return MISSING
    wanted = [canonical(item.get(key)) for key in node.list_map_keys]
    for candidate in old:
        if isinstance(candidate, Mapping) and [canonical(candidate.get(key)) for key in node.list_map_keys] == wanted:
            return candidate
    return MISSING


def _schema_below(node: Structural | None, segment: Segment) -> Structural | None:
    if node is None:
        return None
    if isinstance(segment, int):
        return node.items
    if segment in node.properties:
        return node.properties[segment]
    return node.additional if isinstance(node.additional, Structural) else None
