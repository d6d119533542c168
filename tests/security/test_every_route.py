"""No route of those that the server publishes answers without a valid token, and none does more than the token's user may."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .wire import STRANGER, Wire, whole_server

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "BREW")
OPEN = {"/livez", "/readyz", "/healthz", "/version"}
FREE = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")
"""What everybody who has a token may ask."""


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with whole_server(tmp_path) as running:
        yield running


async def document(wire: Wire, path: str) -> Any:
    reply = await wire.send("GET", path)
    assert reply.status == 200, path
    return orjson.loads(reply.body)


async def published(wire: Wire) -> list[str]:
    """Every path of OpenAPI v2 and v3, of discovery, and of the root's list, with names filled in."""
    paths = set((await document(wire, "/"))["paths"]) | {"/", "/openapi/v3"}
    index = await document(wire, "/openapi/v3")
    for name, entry in index["paths"].items():
        paths |= {f"/openapi/v3/{name}", entry["serverRelativeURL"], f"/{name}"}
        paths |= set((await document(wire, f"/openapi/v3/{name}"))["paths"])
        for row in (await document(wire, f"/{name}"))["resources"]:
            plural, _, below = row["name"].partition("/")
            inside = f"/{name}/namespaces/default" if row["namespaced"] else f"/{name}"
            paths |= {
                f"/{name}/{plural}",
                f"{inside}/{plural}",
                f"{inside}/{plural}/a",
                f"{inside}/{plural}/a/{below}".rstrip("/"),
            }
    paths |= set((await document(wire, "/openapi/v2"))["paths"])
    return sorted({path.replace("{namespace}", "default").replace("{name}", "a") for path in paths})


def bad_tokens() -> Iterator[str]:
    """Authorization headers that must not let anybody in."""
    yield from (
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic YTpi",
        "Bearer \xff",
        "Bearer a.b.c",
        "Bearer " + "x" * 20_000,
        "bearer\tx",
    )
    claims = {"iss": "kastra", "aud": ["kastra"], "sub": "system:serviceaccount:default:a", "exp": 4_000_000_000}
    yield f"Bearer {jwt.encode(claims, None, algorithm='none')}"
    yield f"Bearer {jwt.encode(claims, 'k' * 40, algorithm='HS256')}"
    yield f"Bearer {jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm='EdDSA')}"


async def test_every_published_route_is_401_for_every_method_without_a_token(wire: Wire) -> None:
    paths = await published(wire)
    assert len(paths) > 100
    answers = set()
    for path in paths:
        if path in OPEN:
            continue
        for method in METHODS:
            reply = await wire.send(method, path, b"{}", {"content-type": "application/json"}, token="")
            assert reply.status == 401, (method, path, reply.status)
            answers.add((reply.body, reply.headers["content-type"]))
    ((body, content_type),) = answers
    assert content_type == "application/json"
    assert orjson.loads(body)["reason"] == "Unauthorized"


async def test_what_needs_no_token_is_health_and_version_and_can_only_be_read(wire: Wire) -> None:
    for path in OPEN:
        assert (await wire.send("GET", path, token="")).status == 200
        for method in METHODS:
            if method != "GET":
                assert (await wire.send(method, path, b"{}", token="")).status in (403, 405), (method, path)


async def test_a_bad_token_is_no_token(wire: Wire) -> None:
    for authorization in bad_tokens():
        for path in ("/api", "/metrics", "/openapi/v2", "/api/v1/namespaces/default/secrets/a", "/nowhere"):
            reply = await wire.send("GET", path, headers={"authorization": authorization}, token="")
            assert reply.status == 401, (authorization[:80], path, reply.status)


async def test_a_token_of_a_service_account_ends_with_its_time_and_with_its_account(wire: Wire) -> None:
    account = "/api/v1/namespaces/default/serviceaccounts/a"
    reply = await wire.send(
        "POST", f"{account}/token", b'{"spec":{"expirationSeconds":600}}', {"content-type": "application/json"}
    )
    token = orjson.loads(reply.body)["status"]["token"]
    assert (await wire.send("GET", "/api", token=token)).status == 200
    wire.clock.shift(timedelta(seconds=601))
    assert (await wire.send("GET", "/api", token=token)).status == 401
    wire.clock.shift(-timedelta(seconds=601))
    assert (await wire.send("GET", "/api", token=token)).status == 200
    assert (await wire.send("DELETE", account)).status == 200
    assert (await wire.send("GET", "/api", token=token)).status == 401


async def test_a_user_without_a_role_is_403_on_every_resource_for_every_method(wire: Wire) -> None:
    refused = 0
    for path in await published(wire):
        parts = path.split("/")
        if path.startswith("/openapi") or len(parts) < 4 or (parts[1] == "apis" and len(parts) < 5):
            continue
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            reply = await wire.send(method, path, b"{}", {"content-type": "application/json"}, token=STRANGER)
            if parts[-1] in FREE and method == "POST":
                assert reply.status in (201, 400, 422), (path, reply.body)
                continue
            # 405 where the path has no such method for anybody.
            assert reply.status in (403, 405), (method, path, reply.status, reply.body)
            refused += reply.status == 403
    assert refused > 150
    assert (await wire.send("GET", "/metrics", token=STRANGER)).status == 403


RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{RBAC}/clusterroles", {"metadata": {"name": "all"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
        ("POST", f"{RBAC}/namespaces/default/roles", {"metadata": {"name": "all"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]}),
        ("POST", f"{RBAC}/clusterrolebindings", {"metadata": {"name": "me"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                                                 "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "editor-of-roles"}]}),
        ("PATCH", f"{RBAC}/clusterroles/roles-only", {"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
        ("PATCH", f"{RBAC}/namespaces/default/roles/a", {"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
    ],
    ids=["a role of everything", "a role to read secrets", "a binding to cluster-admin", "more into one's own role", "more into another role"],
)  # fmt: skip
async def test_who_may_write_roles_can_not_give_what_they_do_not_have(
    wire: Wire, method: str, path: str, body: dict
) -> None:
    rules = [
        {
            "verbs": ["*"],
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
        }
    ]
    rules[0]["verbs"] = ["get", "list", "create", "update", "patch"]
    made = await wire.send(
        "POST",
        f"{RBAC}/clusterroles",
        orjson.dumps({"metadata": {"name": "roles-only"}, "rules": rules}),
        {"content-type": "application/json"},
    )
    assert made.status == 201, made.body
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "stranger"}
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "roles-only"},
        "subjects": [subject],
    }
    made = await wire.send(
        "POST", f"{RBAC}/clusterrolebindings", orjson.dumps(binding), {"content-type": "application/json"}
    )
    assert made.status == 201, made.body
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    reply = await wire.send(method, path, orjson.dumps(body), {"content-type": content_type}, token=STRANGER)
    assert (reply.status, orjson.loads(reply.body)["reason"]) == (403, "Forbidden"), reply.body


@pytest.mark.parametrize("headers", [{"impersonate-user": "admin"}, {"impersonate-user": "x", "impersonate-group": "system:masters"}, {"impersonate-uid": "1"}, {"impersonate-extra-scopes": "all"}], ids=lambda h: next(reversed(h)))  # fmt: skip
async def test_nobody_becomes_somebody_else_without_being_allowed_to(wire: Wire, headers: dict[str, str]) -> None:
    reply = await wire.send("GET", "/api", headers=headers, token=STRANGER)
    assert reply.status in (400, 403), reply.body
    assert orjson.loads(reply.body)["code"] == reply.status
