"""The roles that are there from the start, and who has them.

    cluster-admin       everything; the group system:masters
    admin, edit, view   for a namespace; aggregated, so that roles of custom kinds can add to them by a label
    runner              start and watch Runs, send them signals, ask Agents and Networks
    approver            see Runs, decide about Approvals, and answer the steps that wait for people
    system:controllers  what Kastra's own ServiceAccounts need: all objects, but nobody else's rights
    system:runs         the objects that Runs are made of, and their results
    system:mcp          the path /mcp, for everybody who is known; what is behind it asks for its own rights
    system:...          discovery and questions about oneself, for everybody who is known; health for everybody

The kinds are those that the server has in Kastra's group when this is asked, so a kind that is added is in the roles without
being named here. One that is cluster-wide (Reconciler) acts for objects of everybody: all may see it, and only who may do
everything may write it.

They are written when a server starts. What was added to one is kept; what one lacks is added again, unless its annotation
rbac.authorization.kubernetes.io/autoupdate is "false".

Source: plugin/pkg/auth/authorizer/rbac/bootstrappolicy of kubernetes/kubernetes. Read next:
`kastra.apiserver.rbac_authorizer`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kastra.api.errors import AlreadyExists
from kastra.api.meta import GROUP
from kastra.api.scheme import Scheme
from kastra.client.interface import PatchType
from kastra.store.interface import Key

from .authorization import AUTHENTICATED, MASTERS, UNAUTHENTICATED
from .call import SYSTEM, Call
from .rbac import RBAC
from .rbac_authorizer import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES
from .rbac_rules import compile_rules, missing
from .registry import Registry

AGGREGATE = f"{RBAC}/aggregate-to-"
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_LABEL = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_RUN_READS = ["runs/definition", "runs/events", "runs/history", "runs/log", "runs/steps"]
_HEALTH = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_DISCOVERY = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_HEALTH]

Rules = Sequence[Mapping[str, Any]]


def _rule(groups: str | list[str], resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [groups] if isinstance(groups, str) else groups, "resources": resources, "verbs": verbs}


def _paths(paths: list[str]) -> dict[str, Any]:
    return {"nonResourceURLs": paths, "verbs": ["get"]}


_RUN: Rules = [
    _rule(GROUP, ["cloudevents", "runs"], ["create"]),
    _rule(
        GROUP,
        ["agents/generate", "networks/generate", "runs/cancel", "runs/rerun", "runs/signal", "runs/suspend"],
        ["create"],
    ),
]
_ANSWER: Rules = [
    _rule(GROUP, ["runs/resume"], ["create"]),
    _rule(GROUP, ["approvals/status"], ["patch", "update"]),
]
_ADMIN: Rules = [
    _rule(RBAC, ["rolebindings", "roles"], [*_READ, *_WRITE]),
    _rule("authorization.k8s.io", ["localsubjectaccessreviews"], ["create"]),
]

_CONTROLLERS: Rules = [
    # Custom kinds have controllers too, so all kinds; but no impersonation, and no role is given away.
    _rule("*", ["*"], [*_READ, *_WRITE]),
    # Aggregated roles are filled with rules that only their readers will hold.
    _rule(RBAC, ["clusterroles"], ["escalate"]),
]


def roles(scheme: Scheme) -> Mapping[str, Rules]:
    """Rules by ClusterRole, for the kinds that `scheme` has."""
    ours = {resource.plural: resource.namespaced for resource in scheme if resource.group == GROUP}
    kinds = sorted(plural for plural, namespaced in ours.items() if namespaced)
    read = [*sorted(ours), *(f"{plural}/status" for plural in sorted(ours))]
    view: Rules = [
        _rule("", ["configmaps", "events", "namespaces", "serviceaccounts"], _READ),
        _rule("events.k8s.io", ["events"], _READ),
        _rule(GROUP, [*read, "agents/scale"], _READ),
        _rule(GROUP, _RUN_READS, ["get"]),
    ]
    edit: Rules = [
        _rule("", ["configmaps", "events", "secrets", "serviceaccounts"], _WRITE),
        _rule("", ["secrets"], _READ),
        _rule("", ["serviceaccounts"], ["impersonate"]),
        _rule("", ["serviceaccounts/token"], ["create"]),
        _rule("events.k8s.io", ["events"], _WRITE),
        _rule("coordination.k8s.io", ["leases"], [*_READ, *_WRITE]),
        _rule(GROUP, [*kinds, "agents/scale"], _WRITE),
        *_RUN,
        *_ANSWER,
    ]
    runs: Rules = [
        _rule(GROUP, [*kinds, *(f"{plural}/status" for plural in kinds)], _READ),
        _rule(GROUP, ["runs", "runs/status"], _WRITE),
        # They ask, and can't decide: that takes approvals/status.
        _rule(GROUP, ["approvals"], ["create"]),
        _rule("", ["configmaps", "namespaces", "secrets"], _READ),
        _rule("", ["events"], [*_READ, "create", "patch", "update"]),
    ]
    return {
        "cluster-admin": [_rule("*", ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}],
        "runner": [*view, *_RUN],
        "approver": [*view, *_ANSWER],
        "system:discovery": [_paths(_DISCOVERY)],
        "system:public-info-viewer": [_paths(_HEALTH)],
        "system:mcp": [{"nonResourceURLs": ["/mcp"], "verbs": ["get", "post", "delete"]}],
        "system:monitoring": [_paths(["/metrics", *_HEALTH])],
        "system:basic-user": [
            _rule("authorization.k8s.io", ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
            _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
        ],
        "system:controllers": _CONTROLLERS,
        "system:runs": runs,
        "system:aggregate-to-view": view,
        "system:aggregate-to-edit": edit,
        "system:aggregate-to-admin": _ADMIN,
    }


AGGREGATED: Mapping[str, Sequence[str]] = {
    "admin": ("admin", "edit", "view"),
    "edit": ("edit", "view"),
    "view": ("view",),
}
"""Of which labels a role is the sum."""

BINDINGS: Mapping[str, Sequence[str]] = {
    "cluster-admin": (MASTERS,),
    "system:discovery": (AUTHENTICATED,),
    "system:basic-user": (AUTHENTICATED,),
    "system:mcp": (AUTHENTICATED,),
    "system:public-info-viewer": (AUTHENTICATED, UNAUTHENTICATED),
    "system:monitoring": ("system:monitoring",),
}
"""Groups that have a role everywhere."""

ACCOUNTS: Mapping[str, str] = {"system:controllers": "controllers", "system:runs": "runs"}
"""Roles of the ServiceAccounts in kube-system with which Kastra's own parts act."""


async def ensure_default_roles(registry: Registry) -> None:
    """Write what is missing."""
    call = Call(SYSTEM)
    for name, rules in roles(registry.scheme).items():
        labels = dict(_LABEL)
        if name.startswith("system:aggregate-to-"):
            labels[AGGREGATE + name.removeprefix("system:aggregate-to-")] = "true"
        await _ensure(registry, _role(name, labels, rules=rules), call)
    for name, parts in AGGREGATED.items():
        selectors = [{"matchLabels": {AGGREGATE + part: "true"}} for part in parts]
        await _ensure(registry, _role(name, _LABEL, aggregationRule={"clusterRoleSelectors": selectors}), call)
    subjects: dict[str, list[dict[str, str]]] = {
        name: [{"kind": "Group", "name": group, "apiGroup": RBAC} for group in groups]
        for name, groups in BINDINGS.items()
    }
    for name, account in ACCOUNTS.items():
        subjects[name] = [{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}]
    for name, whom in subjects.items():
        role = {"kind": "ClusterRole", "name": name, "apiGroup": RBAC}
        binding = _object("ClusterRoleBinding", name, _LABEL, roleRef=role, subjects=whom)
        if registry.storage.get(Key(CLUSTER_ROLE_BINDINGS, "", name)) is None:
            await _create(registry, binding, call)


async def _ensure(registry: Registry, role: dict[str, Any], call: Call) -> None:
    """Create a role, or add the rules that it lacks."""
    name = role["metadata"]["name"]
    entry = registry.storage.get(Key(CLUSTER_ROLES, "", name))
    if entry is None:
        await _create(registry, role, call)
        return
    present = orjson.loads(entry.body)
    if (present["metadata"].get("annotations") or {}).get(AUTO_UPDATE) == "false" or "rules" not in role:
        return
    rules = present.get("rules") or []
    lacking = missing(compile_rules(rules), compile_rules(role["rules"]))
    if lacking:
        patch = {"rules": [*rules, *(rule.plain() for rule in lacking)]}
        resource = registry.scheme.find(f"clusterroles.{RBAC}")
        await registry.patch(resource, "", name, patch, PatchType.MERGE, call)


async def _create(registry: Registry, obj: dict[str, Any], call: Call) -> None:
    resource = registry.scheme.for_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None
    try:
        await registry.create(resource, "", obj, call)
    except AlreadyExists:
        return


def _role(name: str, labels: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    return _object("ClusterRole", name, labels, **fields)


def _object(kind: str, name: str, labels: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    annotations = {AUTO_UPDATE: "true"}
    metadata = {"name": name, "labels": dict(labels), "annotations": annotations}
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, **orjson.loads(orjson.dumps(fields))}
