"""Does a configuration concern this request? Rules, selectors, and other versions of the same resource.

Rules are compared in the order operation, group and version, resource, scope. With `matchPolicy: Equivalent` a rule for
another version of the resource, or for another group that serves the same objects, matches too; then the object is shown in
the version that the rule names. Never looks into an object beyond its labels.

Source: apiserver/pkg/admission/plugin/webhook/predicates. Read next: `kastra.apiserver.dynamic.review`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from kastra.api.selectors import LabelSelector, label_selector_of
from kastra.apiserver.admission import Attributes
from kastra.apiserver.served import Served
from kastra.store.interface import Key, Storage

NAMESPACES = "namespaces"


class Kinds(Protocol):
    """What is known of kinds and of namespaces: the registry."""

    storage: Storage

    def equivalents(self, served: Served) -> Sequence[Served]:
        """The other ways in which the same objects are served."""
        ...


class Rule:
    """One entry of `rules`, compiled."""

    __slots__ = ("_groups", "_names", "_operations", "_resources", "_scope", "_versions")

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._operations = frozenset(raw.get("operations") or ())
        self._groups = frozenset(raw.get("apiGroups") or ())
        self._versions = frozenset(raw.get("apiVersions") or ())
        self._resources = [_split(text) for text in raw.get("resources") or ()]
        self._names = frozenset(raw.get("resourceNames") or ())
        self._scope = raw.get("scope") or "*"

    def matches(self, attributes: Attributes, served: Served) -> bool:
        """Whether the request, taken as one for `served`, is meant."""
        resource = served.resource
        # A namespace counts as cluster-scoped, though requests for it can carry its name as their namespace.
        scope = "Namespaced" if resource.namespaced else "Cluster"
        return (
            _in(self._operations, attributes.operation)
            and _in(self._groups, resource.group)
            and _in(self._versions, resource.version)
            and any(
                name in ("*", resource.plural) and sub in ("*", attributes.subresource) for name, sub in self._resources
            )
            and self._scope in ("*", scope)
            and (not self._names or attributes.name in self._names)
        )


def _in(wanted: frozenset[str], value: str) -> bool:
    return "*" in wanted or value in wanted


def _split(text: str) -> tuple[str, str]:
    """`pods/status` into both; `*` alone means no subresource, `*/*` all."""
    name, _, sub = text.partition("/")
    return name, sub


class Match:
    """What `rules`, `matchPolicy` and the two selectors say together.

    Args:
        rules: one must match.
        excluded: none may.
        whatever: whether no rule at all means every request.
    """

    __slots__ = ("_equivalent", "_excluded", "_namespaces", "_objects", "_rules", "_whatever")

    def __init__(
        self,
        raw: Mapping[str, Any],
        rules: Iterable[Mapping[str, Any]],
        excluded: Iterable[Mapping[str, Any]] = (),
        *,
        whatever: bool = False,
    ) -> None:
        self._rules = [Rule(rule) for rule in rules]
        self._excluded = [Rule(rule) for rule in excluded]
        self._equivalent = raw.get("matchPolicy", "Equivalent") == "Equivalent"
        self._namespaces = label_selector_of(raw.get("namespaceSelector") or {})
        self._objects = label_selector_of(raw.get("objectSelector") or {})
        self._whatever = whatever

    def find(self, attributes: Attributes, kinds: Kinds) -> Served | None:
        """The version in which the object is to be shown; None if the request isn't concerned."""
        served = self._by_rules(attributes, kinds)
        if served is None or not self._selected(attributes, kinds.storage):
            return None
        return served

    def _by_rules(self, attributes: Attributes, kinds: Kinds) -> Served | None:
        served = attributes.served
        if any(rule.matches(attributes, served) for rule in self._excluded):
            return None
        if self._whatever and not self._rules:
            return served
        if any(rule.matches(attributes, served) for rule in self._rules):
            return served
        if not self._equivalent:
            return None
        for other in kinds.equivalents(served):
            if any(rule.matches(attributes, other) for rule in self._excluded):
                return None
            if any(rule.matches(attributes, other) for rule in self._rules):
                return other
        return None

    def _selected(self, attributes: Attributes, storage: Storage) -> bool:
        if not self._objects.everything:
            objects = (attributes.object, attributes.old_object)
            if not any(self._objects.matches(_labels(obj)) for obj in objects if obj is not None):
                return False
        return self._namespaces.everything or self._namespace_selected(self._namespaces, attributes, storage)

    @staticmethod
    def _namespace_selected(selector: LabelSelector, attributes: Attributes, storage: Storage) -> bool:
        if attributes.served.group_resource == NAMESPACES:
            return selector.matches(_labels(attributes.object or attributes.old_object or {}))
        if not attributes.resource.namespaced:
            return True
        namespace = namespace_of(attributes, storage)
        return namespace is not None and selector.matches(_labels(namespace))


def namespace_of(attributes: Attributes, storage: Storage) -> dict[str, Any] | None:
    """The Namespace object of a request; None for what has none."""
    if not attributes.resource.namespaced:
        return None
    entry = storage.get(Key(NAMESPACES, "", attributes.namespace))
    found: dict[str, Any] | None = orjson.loads(entry.body) if entry is not None else None
    return found


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}
