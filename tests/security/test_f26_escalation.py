"""Fault F26: whoever has some rights can't turn them into more; each attempt is refused and stands in the audit log."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from .wire import STRANGER, Wire, whole_server

RBAC = "/apis/rbac.authorization.k8s.io/v1"
HERE = "namespaces/default"
NAME = "stranger"
MERGE, JSON, APPLY = "application/merge-patch+json", "application/json", "application/apply-patch+yaml"
GROUP = "rbac.authorization.k8s.io"
MORE: dict[str, dict[str, Any]] = {
    "everything": {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    "another namespace's kinds": {"verbs": ["get"], "apiGroups": [""], "resources": ["namespaces", "nodes"]},
    "escalate": {"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"]},
    "bind": {"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"]},
    "impersonate": {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users", "groups"]},
    "definitions": {"verbs": ["create"], "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"]},
    "status": {"verbs": ["patch"], "apiGroups": ["mastra.ai"], "resources": ["runs/status"]},
    "one more verb": {"verbs": ["get", "deletecollection", "approve"], "apiGroups": ["mastra.ai"], "resources": ["agents"]},
}  # fmt: skip
Attempt = tuple[str, str, dict[str, Any], dict[str, str]]


def role(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": name}, "rules": list(rules)}


def binding(name: str, role: str, kind: str = "ClusterRole", who: str = NAME) -> dict[str, Any]:
    subjects = [{"kind": "User", "apiGroup": GROUP, "name": who}]
    made = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": subjects,
    }
    return {"apiVersion": f"{GROUP}/v1", "kind": "RoleBinding", **made}


def attempts() -> Iterator[tuple[str, Attempt]]:
    """What an admin of one namespace may try."""
    for what, rule in MORE.items():
        roles = f"{RBAC}/{HERE}/roles"
        yield f"a new role of {what}", ("POST", roles, role("new", rule), {"content-type": JSON})
        yield f"a role becomes {what}", ("PUT", f"{roles}/there", role("there", rule), {"content-type": JSON})
        yield f"a role is patched to {what}", ("PATCH", f"{roles}/there", {"rules": [rule]}, {"content-type": MERGE})
        applied = f"{roles}/new?fieldManager=me"
        yield f"a role of {what} is applied", ("PATCH", applied, role("new", rule), {"content-type": APPLY})
    for name, kind in (("cluster-admin", "ClusterRole"), ("system:controllers", "ClusterRole"), ("strong", "Role")):
        bindings = f"{RBAC}/{HERE}/rolebindings"
        yield f"a binding to {name}", ("POST", bindings, binding("new", name, kind), {"content-type": JSON})
        applied = f"{bindings}/new?fieldManager=me"
        yield f"an applied binding to {name}", ("PATCH", applied, binding("new", name, kind), {"content-type": APPLY})
        more = {"subjects": binding("x", name, who=NAME)["subjects"]}
        yield f"joining the binding to {name}", ("PATCH", f"{bindings}/to-{kind}-{name.replace(':', '-')}", more, {"content-type": MERGE})  # fmt: skip
    everywhere = {**binding("new", "view"), "kind": "ClusterRoleBinding"}
    yield "a binding everywhere", ("POST", f"{RBAC}/clusterrolebindings", everywhere, {"content-type": JSON})
    yield (
        "a cluster role",
        ("POST", f"{RBAC}/clusterroles", {**role("new"), "kind": "ClusterRole"}, {"content-type": JSON}),
    )
    extend = {"metadata": {"labels": {f"{GROUP}/aggregate-to-admin": "true"}}, "rules": [MORE["everything"]]}
    yield "more in an aggregated role", ("PATCH", f"{RBAC}/clusterroles/edit", extend, {"content-type": MERGE})
    for header, value in {
        "impersonate-user": "kastra-admin",
        "impersonate-group": "system:masters",
        "impersonate-uid": "1",
        "impersonate-extra-scopes": "all",
    }.items():
        headers = {"impersonate-user": NAME, header: value}
        yield f"taking on {header}", ("GET", f"/apis/mastra.ai/v1/{HERE}/agents", {}, headers)
    for account in ("system:serviceaccount:kube-system:controllers", "system:serviceaccount:other:default"):
        yield f"taking on {account}", ("GET", f"/apis/mastra.ai/v1/{HERE}/agents", {}, {"impersonate-user": account})
    for account in ("controllers", "runs"):
        token = f"/api/v1/namespaces/kube-system/serviceaccounts/{account}/token"
        yield f"a token of {account}", ("POST", token, {"spec": {}}, {"content-type": JSON})
    for kind, plural in (("Agent", "agents"), ("Run", "runs"), ("Workflow", "workflows")):
        body = {
            "apiVersion": "mastra.ai/v1",
            "kind": kind,
            "metadata": {"name": "a"},
            "spec": {},
            "status": {"phase": "Succeeded"},
        }
        path = f"/apis/mastra.ai/v1/{HERE}/{plural}/a/status"
        yield f"the status of a {kind}", ("PUT", path, body, {"content-type": JSON})
        yield f"a patch to the status of a {kind}", ("PATCH", path, {"status": {}}, {"content-type": MERGE})
        elsewhere = f"/apis/mastra.ai/v1/namespaces/kube-system/{plural}"
        yield f"a {kind} elsewhere", ("POST", elsewhere, {**body, "metadata": {"name": "b"}}, {"content-type": JSON})
    for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies"):
        path = f"/apis/admissionregistration.k8s.io/v1/{plural}"
        yield f"writing {plural}", ("POST", path, {"metadata": {"name": "a"}}, {"content-type": JSON})
        yield f"removing {plural}", ("DELETE", path, {}, {"content-type": JSON})
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agents.mastra.ai"
    yield "another schema", ("PATCH", definitions, {"spec": {"versions": []}}, {"content-type": MERGE})
    yield "no schema", ("DELETE", definitions, {}, {"content-type": JSON})
    for verb, path in (
        ("DELETE", "/api/v1/namespaces/default"),
        ("POST", "/api/v1/namespaces"),
        ("GET", "/api/v1/namespaces"),
    ):
        yield (
            f"{verb} of namespaces",
            (verb, path, {"metadata": {"name": "mine"}} if verb == "POST" else {}, {"content-type": JSON}),
        )
    yield "other people's secrets", ("GET", "/api/v1/namespaces/kube-system/secrets", {}, {})
    yield "everybody's secrets", ("GET", "/api/v1/secrets", {}, {})
    yield "the figures", ("GET", "/metrics", {}, {})


ATTEMPTS = dict(attempts())


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Wire]:
    async with whole_server(Path(tmp_path_factory.mktemp("f26"))) as running:
        strong = role("strong", {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        rules = []
        for part in ("view", "edit", "admin"):
            found = await running.send("GET", f"{RBAC}/clusterroles/system:aggregate-to-{part}")
            rules += orjson.loads(found.body)["rules"]
        for path, body in (
            # What the role `admin` is made of; nobody fills aggregated roles here.
            (f"{RBAC}/clusterroles", {**role("all-of-admin", *rules), "kind": "ClusterRole"}),
            (f"{RBAC}/{HERE}/rolebindings", binding("stranger-admin", "all-of-admin")),
            (f"{RBAC}/{HERE}/roles", role("there", {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]})),
            (f"{RBAC}/{HERE}/roles", strong),
            (f"{RBAC}/{HERE}/rolebindings", binding("to-ClusterRole-cluster-admin", "cluster-admin", who="boss")),
            (
                f"{RBAC}/{HERE}/rolebindings",
                binding("to-ClusterRole-system-controllers", "system:controllers", who="boss"),
            ),
            (f"{RBAC}/{HERE}/rolebindings", binding("to-Role-strong", "strong", "Role", who="boss")),
        ):
            made = await running.send("POST", path, orjson.dumps(body), {"content-type": JSON})
            assert made.status == 201, made.body
        yield running


def test_there_are_enough_attempts() -> None:
    assert len(ATTEMPTS) >= 75


async def test_the_user_does_have_rights(wire: Wire) -> None:
    reply = await wire.send(
        "POST", f"{RBAC}/{HERE}/roles",
        orjson.dumps(role("fine", {"verbs": ["get"], "apiGroups": ["mastra.ai"], "resources": ["agents"]})),
        {"content-type": JSON}, token=STRANGER,
    )  # fmt: skip
    assert reply.status == 201, reply.body


@pytest.mark.parametrize("what", ATTEMPTS)
async def test_it_is_refused_and_noted(wire: Wire, what: str, caplog: pytest.LogCaptureFixture) -> None:
    method, path, body, headers = ATTEMPTS[what]
    with caplog.at_level(logging.INFO, "kastra.audit"):
        reply = await wire.send(method, path, orjson.dumps(body) if body else b"", headers, token=STRANGER)
    assert (reply.status, orjson.loads(reply.body)["reason"]) == (403, "Forbidden"), reply.body
    (entry,) = [record for record in caplog.records if record.name == "kastra.audit"]
    assert (entry.__dict__["code"], entry.__dict__["user"]) == (403, NAME)


async def test_spec_and_owner_can_not_be_smuggled_in_with_a_status(wire: Wire) -> None:
    path = f"/apis/mastra.ai/v1/{HERE}/agents"
    agent = {
        "apiVersion": "mastra.ai/v1",
        "kind": "Agent",
        "metadata": {"name": "x"},
        "spec": {"instructions": "You cook."},
    }
    assert (await wire.send("POST", path, orjson.dumps(agent), {"content-type": JSON})).status == 201
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1"}
    smuggled = {
        "spec": {"instructions": "You burn."},
        "metadata": {"ownerReferences": [owner]},
        "status": {"phase": "Running"},
    }
    reply = await wire.send("PATCH", f"{path}/x/status", orjson.dumps(smuggled), {"content-type": MERGE})
    after = orjson.loads(reply.body)
    assert after["status"]["phase"] == "Running"
    assert after["spec"]["instructions"] == "You cook."
    assert "ownerReferences" not in after["metadata"]
