"""Nobody can give what they don't have: the check on writes to roles, bindings and Reconcilers.

A role may hold only rules that its writer is allowed already, unless the writer has the verb `escalate` on roles; a role
may be bound only by who is allowed all of it, or has the verb `bind` on it. Runs as a policy of admission, so that it holds
for every way of writing. A Reconciler makes objects of any kind, for objects of everybody, with the rights of the controllers:
what it does may be written only by who has the verb `escalate` on reconcilers. Read next: `kastra.apiserver.rbac_defaults`.

Source: pkg/registry/rbac (role, rolebinding: policybased storage) of kubernetes/kubernetes.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from kastra.api.errors import Forbidden, NotFound
from kastra.api.meta import GROUP

from .admission import Attributes, Operation
from .authorization import EVERYTHING, MASTERS, Access
from .rbac import RBAC
from .rbac_authorizer import RBACAuthorizer
from .rbac_rules import Rule, compile_rules, missing

_ROLES = frozenset({"Role", "ClusterRole"})
_BINDINGS = frozenset({"RoleBinding", "ClusterRoleBinding"})
_RECONCILERS = "reconcilers"
_MOST_SHOWN = 5


class EscalationPolicy:
    """Refuses roles and bindings that go beyond their writer."""

    def __init__(self, authorizer: RBACAuthorizer) -> None:
        self._authorizer = authorizer

    async def __call__(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        resource = attributes.resource
        if resource.group not in (RBAC, GROUP) or attributes.operation not in (Operation.CREATE, Operation.UPDATE):
            return
        if MASTERS in attributes.user.groups or attributes.object is None:
            return
        if resource.group == GROUP:
            if resource.plural == _RECONCILERS:
                self._check_reconciler(attributes, attributes.object)
        elif resource.kind in _ROLES:
            self._check_role(attributes, attributes.object)
        elif resource.kind in _BINDINGS:
            self._check_binding(attributes, attributes.object)

    def _check_role(self, attributes: Attributes, role: Mapping[str, Any]) -> None:
        old = attributes.old_object or {}
        if role.get("rules") == old.get("rules") and role.get("aggregationRule") == old.get("aggregationRule"):
            return
        if self._may(attributes, "escalate", attributes.resource.plural, attributes.name):
            return
        if role.get("aggregationRule") != old.get("aggregationRule") and role.get("aggregationRule"):
            # What it will hold is anybody's guess, so only who may do everything can say so.
            self._refuse(attributes, compile_rules(EVERYTHING))
        self._refuse(attributes, compile_rules(role.get("rules") or ()))

    def _check_binding(self, attributes: Attributes, binding: Mapping[str, Any]) -> None:
        old = attributes.old_object or {}
        if all(binding.get(field) == old.get(field) for field in ("roleRef", "subjects")):
            return
        ref = binding.get("roleRef") or {}
        kind, name = ref.get("kind", ""), ref.get("name", "")
        plural = "roles" if kind == "Role" else "clusterroles"
        if self._may(attributes, "bind", plural, name):
            return
        rules = self._authorizer.rules_of_role(kind, attributes.namespace, name)
        if rules is None:
            raise NotFound(f'{plural}.{RBAC} "{name}" not found', name=name, group=RBAC, kind=plural)
        self._refuse(attributes, rules)

    def _check_reconciler(self, attributes: Attributes, reconciler: Mapping[str, Any]) -> None:
        if reconciler.get("spec") == (attributes.old_object or {}).get("spec"):
            return
        if self._may(attributes, "escalate", _RECONCILERS, attributes.name, GROUP):
            return
        raise Forbidden(
            f'{_RECONCILERS}.{GROUP} "{attributes.name}" is forbidden: user "{attributes.user.name}" can write Reconcilers but '
            f"has not the verb escalate on {_RECONCILERS}: a Reconciler acts with the rights of the controllers",
            name=attributes.name,
            group=GROUP,
            kind=_RECONCILERS,
        )

    def _may(self, attributes: Attributes, verb: str, plural: str, name: str, group: str = RBAC) -> bool:
        access = Access(verb, group, plural, "", attributes.namespace, name)
        return self._authorizer.authorize(attributes.user, access).allowed

    def _refuse(self, attributes: Attributes, wanted: list[Rule]) -> None:
        owned = self._authorizer.held(attributes.user, attributes.namespace)
        beyond = missing(owned, wanted)
        if not beyond:
            return
        user = attributes.user
        shown = [orjson.dumps(rule.plain()).decode() for rule in beyond[:_MOST_SHOWN]]
        more = f" and {len(beyond) - _MOST_SHOWN} more" if len(beyond) > _MOST_SHOWN else ""
        qualified = attributes.resource.group_resource
        raise Forbidden(
            f'{qualified} "{attributes.name}" is forbidden: user "{user.name}" (groups={list(user.groups)}) is attempting '
            f"to grant RBAC permissions not currently held: {'; '.join(shown)}{more}",
            name=attributes.name,
            group=attributes.resource.group,
            kind=attributes.resource.plural,
        )
