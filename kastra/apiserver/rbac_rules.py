"""What does one rule of a role allow, and does one set of rules contain another?

The second question guards against escalation: nobody can write a role, or bind one, that allows what they may not do
themselves. It is answered by taking a rule apart into its smallest parts, each of which must be allowed by some rule.

Source: pkg/registry/rbac/validation (Covers, BreakdownRule) of kubernetes/kubernetes. Read next:
`kastra.apiserver.rbac_escalation`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from .authorization import Access

ALL = "*"


class Rule(NamedTuple):
    """A PolicyRule, as sets."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    paths: frozenset[str]

    def allows(self, access: Access) -> bool:
        """Whether this rule alone allows it."""
        if ALL not in self.verbs and access.verb not in self.verbs:
            return False
        if not access.resource:
            return self.allows_path(access.path)
        if ALL not in self.groups and access.group not in self.groups:
            return False
        if self.names and access.name not in self.names:
            return False
        return self._names_resource(access.target, access.subresource)

    def allows_path(self, path: str) -> bool:
        """Whether its paths have this one; one that ends in `*` stands for all that begin so."""
        return any(
            known in (ALL, path) or (known.endswith(ALL) and path.startswith(known.rstrip(ALL))) for known in self.paths
        )

    def _names_resource(self, target: str, subresource: str) -> bool:
        if ALL in self.resources or target in self.resources:
            return True
        return bool(subresource) and f"*/{subresource}" in self.resources

    def parts(self) -> Iterator["Rule"]:
        """The rules of one verb on one resource, name or path that this one consists of."""
        for verb, path in product(self.verbs, self.paths):
            yield Rule(frozenset((verb,)), _NONE, _NONE, _NONE, frozenset((path,)))
        for verb, group, resource in product(self.verbs, self.groups, self.resources):
            for name in self.names or ("",):
                names = frozenset((name,)) if name else _NONE
                yield Rule(frozenset((verb,)), frozenset((group,)), frozenset((resource,)), names, _NONE)

    def contains(self, part: "Rule") -> bool:
        """Whether it allows everything that a part, as `parts` makes them, allows."""
        if not (ALL in self.verbs or part.verbs <= self.verbs):
            return False
        if part.paths:
            return all(ALL in self.paths or path in self.paths or self.allows_path(path) for path in part.paths)
        if not (ALL in self.groups or part.groups <= self.groups):
            return False
        if self.names and not (part.names and part.names <= self.names):
            return False
        (target,) = part.resources
        return self._names_resource(target, target.partition("/")[2])

    def plain(self) -> dict[str, Any]:
        """As a PolicyRule."""
        fields = {
            "verbs": self.verbs,
            "apiGroups": self.groups,
            "resources": self.resources,
            "resourceNames": self.names,
            "nonResourceURLs": self.paths,
        }
        return {name: sorted(values) for name, values in fields.items() if values}


_NONE: frozenset[str] = frozenset()


def compile_rules(rules: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """PolicyRules as they are compared."""
    return [
        Rule(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            frozenset(rule.get("nonResourceURLs") or ()),
        )
        for rule in rules
    ]


def missing(owned: Sequence[Rule], wanted: Sequence[Rule]) -> list[Rule]:
    """The parts of `wanted` that no rule of `owned` contains."""
    return [part for rule in wanted for part in rule.parts() if not any(own.contains(part) for own in owned)]
