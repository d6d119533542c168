"""What must a process be allowed to do, so that its controllers can work, and what of that is it not?

From the descriptions of controllers to rules of RBAC, and from rules to the question whether they hold, asked of the server as
`kubectl auth can-i` does. What a controller does through `ctx.client` by itself can't be known here. Grants nothing.

Source: Kubernetes' RBAC and SelfSubjectAccessReview. Read next: `kastra.app.controller_process`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kastra.api.errors import NotFound
from kastra.api.scheme import Resource, Scheme
from kastra.client.interface import Client
from kastra.runtime.declarative import ControllerSpec

RBAC = "rbac.authorization.k8s.io"
_READ = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on a resource.

    Args:
        group: of the API; empty for the core group.
        resource: plural, with `/status` and the like.
        verbs: in alphabetical order.
        namespaced: whether the resource lives in namespaces.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    namespaced: bool = True

    def __str__(self) -> str:
        """As it is written in a role."""
        group = self.group or '""'
        return f"{{apiGroups: [{group}], resources: [{self.resource}], verbs: [{', '.join(self.verbs)}]}}"

    def plain(self) -> dict[str, Any]:
        """As an entry of a role's `rules`."""
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}


class _Rules:
    def __init__(self) -> None:
        self._verbs: dict[tuple[str, str, bool], set[str]] = {}

    def add(self, resource: Resource, verbs: Iterable[str], below: str = "") -> None:
        name = f"{resource.plural}/{below}" if below else resource.plural
        self._verbs.setdefault((resource.group, name, resource.namespaced), set()).update(verbs)

    def all(self) -> list[Rule]:
        return [
            Rule(group, name, tuple(sorted(verbs)), namespaced)
            for (group, name, namespaced), verbs in sorted(self._verbs.items())
        ]


def rules_of(specs: Sequence[ControllerSpec[Any]], scheme: Scheme) -> list[Rule]:
    """What controllers of these descriptions need. Kinds that the server doesn't have yet are left out."""
    rules = _Rules()
    for spec in specs:
        own = _find(scheme, spec.kind)
        if own is not None:
            rules.add(own, ("list", "watch"))
            status = "status" if own.has_status else ""
            rules.add(own, ("patch",), status)
            if spec.finalize is not None:
                rules.add(own, ("patch",))
            if spec.owns:
                # Needed where OwnerReferencesPermissionEnforcement is on: children block the deletion of their owner.
                rules.add(own, ("update",), "finalizers")
        for kind in spec.owns:
            if (child := _find(scheme, kind)) is not None:
                rules.add(child, (*_READ, "create", "patch", "delete"))
        for kind in spec.watches:
            if (other := _find(scheme, kind)) is not None:
                rules.add(other, _READ)
    if (events := _find(scheme, "events")) is not None:
        rules.add(events, ("create", "patch"))
    return rules.all()


LEASES = Rule("coordination.k8s.io", "leases", ("create", "get", "update"))
"""What an election needs."""


def roles(rules: Sequence[Rule], name: str, namespace: str, election: str) -> list[dict[str, Any]]:
    """The roles that hold these rules, to be bound to whom the process acts as.

    Args:
        name: of the roles.
        namespace: that the process is restricted to; empty for all.
        election: namespace of the Lease; empty without an election.
    """
    there = [rule for rule in rules if namespace and rule.namespaced]
    everywhere = [rule for rule in rules if not (namespace and rule.namespaced)]
    found = []
    if everywhere:
        found.append(_role("ClusterRole", name, "", everywhere))
    if election and election == namespace:
        there.append(LEASES)
    elif election:
        found.append(_role("Role", f"{name}-election", election, [LEASES]))
    if there:
        found.append(_role("Role", name, namespace, there))
    return found


def _role(kind: str, name: str, namespace: str, rules: Sequence[Rule]) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": metadata,
        "rules": [rule.plain() for rule in rules],
    }


async def missing(client: Client, rules: Sequence[Rule], namespace: str) -> list[Rule]:
    """Those of the rules that whoever this client is does not have, with the verbs that lack.

    Args:
        namespace: where namespaced resources are used; empty for all.
    """
    found = []
    for rule in rules:
        lacking = [verb for verb in rule.verbs if not await _allowed(client, rule, verb, namespace)]
        if lacking:
            found.append(Rule(rule.group, rule.resource, tuple(lacking), rule.namespaced))
    return found


async def _allowed(client: Client, rule: Rule, verb: str, namespace: str) -> bool:
    resource, _, below = rule.resource.partition("/")
    asked: Mapping[str, Any] = {
        "verb": verb,
        "group": rule.group,
        "resource": resource,
        "subresource": below,
        "namespace": namespace if rule.namespaced else "",
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": asked},
    }
    made = await client.create(review)
    return bool((made.data.get("status") or {}).get("allowed"))


def _find(scheme: Scheme, kind: str) -> Resource | None:
    try:
        return scheme.find(kind)
    except NotFound:
        return None
