"""Who may have controllers act: a Reconciler makes objects with the rights of the controllers, so few may write one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.errors import Forbidden
from kastra.api.meta import ObjectRef
from kastra.apiserver.authorization import Access
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.rbac_authorizer import RBACAuthorizer
from kastra.apiserver.rbac_defaults import ensure_default_roles
from kastra.apiserver.rbac_escalation import EscalationPolicy
from kastra.app.composition import Composition, compose
from kastra.config import Settings

REF = ObjectRef("Reconciler", "pages")
RECONCILER: dict[str, Any] = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Reconciler",
    "metadata": {"name": "pages"},
    "spec": {"for": {"apiVersion": "example.com/v1", "kind": "Page"}, "workflow": {"name": "w"}},
}
GADGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.mastra.ai"},
    "spec": {
        "group": "mastra.ai",
        "scope": "Namespaced",
        "names": {"kind": "Gadget", "plural": "gadgets"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Composition]:
    """A server with the default roles, on which ada has the role `edit` and bob one for all of Kastra's kinds, everywhere."""
    settings = Settings(project=tmp_path, data=tmp_path / ".kastra", controllers=())
    async with compose(settings, path=":memory:", execute=False) as parts:
        registry = parts.api.registry
        await parts.api.definitions.ensure([GADGETS])
        await ensure_default_roles(registry)
        authorizer = RBACAuthorizer(registry.storage)
        registry.authorizer = authorizer
        registry.admission.policies.append(EscalationPolicy(authorizer))
        verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
        await role(parts, "kinds", [{"apiGroups": ["mastra.ai"], "resources": ["*"], "verbs": verbs}])
        await bind(parts, "ada", "edit")
        await bind(parts, "bob", "kinds")
        yield parts


async def role(parts: Composition, name: str, rules: list[dict[str, Any]]) -> None:
    metadata = {"name": name}
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}
    await parts.client.create(body)


async def bind(parts: Composition, user: str, name: str) -> None:
    group = "rbac.authorization.k8s.io"
    await parts.client.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{user}-{name}"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }
    )


def as_(parts: Composition, user: str) -> LoopbackClient:
    return LoopbackClient(parts.api.registry, user=User(user, ("system:authenticated",)))


def may(parts: Composition, user: str, verb: str, plural: str) -> bool:
    authorizer = RBACAuthorizer(parts.api.registry.storage)
    return authorizer.authorize(User(user), Access(verb, "mastra.ai", plural)).allowed


async def test_the_default_roles_let_nobody_but_an_administrator_write_one(parts) -> None:
    assert parts.manager is not None
    await parts.manager.settle()
    assert may(parts, "ada", "get", "reconcilers")
    assert may(parts, "ada", "create", "workflows")
    assert not any(may(parts, "ada", verb, "reconcilers") for verb in ("create", "update", "patch", "delete"))
    with pytest.raises(Forbidden):
        await as_(parts, "ada").create(RECONCILER)


async def test_the_right_to_write_all_kinds_is_not_enough(parts) -> None:
    bob = as_(parts, "bob")
    with pytest.raises(Forbidden, match="has not the verb escalate on reconcilers"):
        await bob.create(RECONCILER)
    await parts.client.create(RECONCILER)
    with pytest.raises(Forbidden, match="escalate"):
        await bob.patch(REF, {"spec": {"workflow": {"name": "other"}}})
    assert (await bob.patch(REF, {"metadata": {"labels": {"a": "b"}}})).labels == {"a": "b"}
    rules = [{"apiGroups": ["mastra.ai"], "resources": ["reconcilers"], "verbs": ["escalate"]}]
    await role(parts, "trusted", rules)
    await bind(parts, "bob", "trusted")
    assert (await bob.patch(REF, {"spec": {"workflow": {"name": "other"}}})).spec["workflow"]["name"] == "other"


async def test_a_composition_can_not_make_a_reconciler(parts) -> None:
    from tests.controllers.declared import definition, page, reconciler

    assert parts.manager is not None
    await parts.client.create(definition("Site", scope="Cluster"))
    template = {**RECONCILER, "metadata": {"name": "child"}}
    await parts.client.create(reconciler("sites", "Site", resources=[{"id": "child", "template": template}]))
    await parts.client.create(page("s", "", "Site"))
    await parts.manager.settle(horizon=3.0)
    (site,) = (await parts.client.list("sites")).items
    condition = site.condition("Ready") or {}
    assert condition["reason"] == "ChildRefused"
    assert "escalate" in condition["message"]


async def test_a_kind_of_kastras_group_is_in_the_roles_without_being_named(parts) -> None:
    assert parts.manager is not None
    await parts.manager.settle()
    assert may(parts, "ada", "create", "gadgets")
    assert may(parts, "ada", "get", "gadgets")
