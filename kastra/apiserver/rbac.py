"""What may be granted: the strategies of Role, ClusterRole and their bindings.

Only the form of rules and bindings is checked here; who may do what is decided where requests are authorised.

Source: pkg/apis/rbac/validation of kubernetes/kubernetes. Read next: `kastra.apiserver.builtin`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kastra.api.errors import INVALID, NOT_SUPPORTED, REQUIRED, Cause

from .core import BuiltinStrategy, created


class RoleStrategy(BuiltinStrategy):
    """Roles: every rule says which verbs on what."""

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """As pkg/apis/rbac/validation."""
        namespaced = obj["kind"] == "Role"
        causes: list[Cause] = []
        for index, rule in enumerate(obj.get("rules") or ()):
            causes += _rule_causes(rule, f"rules[{index}]", namespaced=namespaced)
        return causes


class RoleBindingStrategy(BuiltinStrategy):
    """Bindings: the role can't be exchanged, since that would be an escalation."""

    def prepare_create(self, obj: dict[str, Any], now: datetime) -> None:
        """Fill the API groups, which are the same for every subject kind."""
        role = obj.get("roleRef")
        if isinstance(role, dict) and not role.get("apiGroup"):
            role["apiGroup"] = RBAC
        for subject in obj.get("subjects") or ():
            if isinstance(subject, dict) and not subject.get("apiGroup"):
                subject["apiGroup"] = "" if subject.get("kind") == "ServiceAccount" else RBAC
                if not subject["apiGroup"]:
                    del subject["apiGroup"]

    def prepare_update(self, obj: dict[str, Any], old: Mapping[str, Any], now: datetime) -> None:
        """As at creation."""
        self.prepare_create(obj, now)

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """As pkg/apis/rbac/validation."""
        role = obj.get("roleRef") or {}
        kinds = ("Role", "ClusterRole") if obj["kind"] == "RoleBinding" else ("ClusterRole",)
        causes = []
        if role.get("kind") not in kinds:
            causes.append(_unsupported("roleRef.kind", role.get("kind"), kinds))
        if not role.get("name"):
            causes.append(Cause(REQUIRED, "Required value", "roleRef.name"))
        for index, subject in enumerate(obj.get("subjects") or ()):
            path = f"subjects[{index}]"
            if subject.get("kind") not in _SUBJECT_KINDS:
                causes.append(_unsupported(f"{path}.kind", subject.get("kind"), _SUBJECT_KINDS))
            if not subject.get("name"):
                causes.append(Cause(REQUIRED, "Required value", f"{path}.name"))
            if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
                causes.append(Cause(REQUIRED, "Required value", f"{path}.namespace"))
        if old is not None and old.get("roleRef") != obj.get("roleRef"):
            causes.append(Cause(INVALID, "Invalid value: cannot change roleRef", "roleRef"))
        return causes

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any]:
        """The role, and who has it."""
        role, by_kind = obj.get("roleRef") or {}, dict[str, list[str]]()
        for subject in obj.get("subjects") or ():
            name = subject.get("name", "")
            if subject.get("kind") == "ServiceAccount":
                name = f"{subject.get('namespace', '')}/{name}"
            by_kind.setdefault(subject.get("kind", ""), []).append(name)
        people = [", ".join(by_kind.get(kind, ())) for kind in ("User", "Group", "ServiceAccount")]
        return f"{role.get('kind', '')}/{role.get('name', '')}", created(obj), *people


RBAC = "rbac.authorization.k8s.io"
_SUBJECT_KINDS = ("ServiceAccount", "User", "Group")


def _unsupported(path: str, value: Any, supported: Iterable[str]) -> Cause:
    names = ", ".join(f'"{name}"' for name in supported)
    return Cause(NOT_SUPPORTED, f'Unsupported value: "{value or ""}": supported values: {names}', path)


def _rule_causes(rule: Mapping[str, Any], path: str, *, namespaced: bool) -> list[Cause]:
    causes = []
    if not rule.get("verbs"):
        causes.append(Cause(REQUIRED, "Required value: verbs must contain at least one value", f"{path}.verbs"))
    if rule.get("nonResourceURLs"):
        if namespaced:
            why = "Invalid value: namespaced rules cannot apply to non-resource URLs"
            causes.append(Cause(INVALID, why, f"{path}.nonResourceURLs"))
        elif rule.get("resources") or rule.get("apiGroups") or rule.get("resourceNames"):
            why = "Invalid value: rules cannot apply to both regular resources and non-resource URLs"
            causes.append(Cause(INVALID, why, f"{path}.nonResourceURLs"))
        return causes
    if not rule.get("apiGroups"):
        why = "Required value: resource rules must supply at least one api group"
        causes.append(Cause(REQUIRED, why, f"{path}.apiGroups"))
    if not rule.get("resources"):
        why = "Required value: resource rules must supply at least one resource"
        causes.append(Cause(REQUIRED, why, f"{path}.resources"))
    return causes
