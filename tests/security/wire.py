"""The whole API server in process, and what must be true of its answer to any request whatever.

It is put together as `kastra serve` does it (definitions, validators, roles, escalation, tokens), without controllers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from kastra.apiserver.authentication import TokenAuthenticator, token_hash
from kastra.apiserver.call import User
from kastra.apiserver.http.server import Application
from kastra.apiserver.rbac_authorizer import RBACAuthorizer
from kastra.apiserver.rbac_defaults import ensure_default_roles
from kastra.apiserver.rbac_escalation import EscalationPolicy
from kastra.apiserver.serviceaccount_tokens import ServiceAccountTokens
from kastra.app.certificates import signing_key
from kastra.app.composition import compose
from kastra.clock import SystemClock
from kastra.config import Settings
from tests.contract.client import WIDGETS

from .conftest import BAGS
from .mutations import JSON, meta

TOKEN = "the-administrator's"
STRANGER = "somebody-without-a-role's"
NAMESPACED = "namespaces/default"


def gadgets() -> dict[str, Any]:
    """A definition that uses all that definitions have."""
    made: dict[str, Any] = orjson.loads(
        orjson.dumps(WIDGETS).replace(b"widget", b"gadget").replace(b"Widget", b"Gadget")
    )
    made["spec"]["names"] = {
        "plural": "gadgets",
        "kind": "Gadget",
        "singular": "gadget",
        "listKind": "GadgetList",
        "shortNames": ["gd"],
        "categories": ["all"],
    }
    made["spec"] |= {"conversion": {"strategy": "None"}, "preserveUnknownFields": False}
    version = made["spec"]["versions"][0]
    version["additionalPrinterColumns"] = [{"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1, "format": "password", "description": "d"},
                                           {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'}]  # fmt: skip
    text = {
        "type": "string",
        "pattern": "^[a-z]+$",
        "minLength": 1,
        "maxLength": 9,
        "enum": ["a", "b"],
        "format": "password",
        "default": "a",
        "nullable": True,
        "description": "d",
    }
    rule = {
        "rule": "self.size(1) > 0",
        "message": "m",
        "messageExpression": "'m'",
        "reason": "FieldValueInvalid",
        "fieldPath": ".text",
        "optionalOldSelf": True,
    }
    version["schema"]["openAPIV3Schema"]["properties"]["more"] = {
        "type": "object", "required": ["text"], "minProperties": 0, "maxProperties": 9,
        "x-kubernetes-validations": [{**rule, "rule": "size(self.text) < 5 || self == oldSelf.value()"}],
        "properties": {
            "text": text,
            "number": {"type": "number", "minimum": 0, "maximum": 9, "exclusiveMinimum": True, "exclusiveMaximum": False, "multipleOf": 0.5},
            "list": {"type": "array", "items": {"type": "string"}, "minItems": 0, "maxItems": 9, "x-kubernetes-list-type": "set"},
            "any": {"x-kubernetes-preserve-unknown-fields": True},
            "both": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
            "atom": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "integer", "format": "int64"}},
            "logic": {"type": "object", "oneOf": [{"required": ["a"]}], "allOf": [{"not": {"required": ["b"]}}], "properties": {"a": {"type": "boolean"}, "b": {"type": "string"}}},
        },
    }  # fmt: skip
    return made


def objects() -> dict[str, tuple[str, dict[str, Any]]]:
    """One valid object per kind, with the path of its collection."""
    rbac, core = "rbac.authorization.k8s.io/v1", f"/api/v1/{NAMESPACED}"
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jo"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}
    step = {"id": "s", "set": {"value": "1"}}
    entries = {
        "widgets": ("apis/example.com/v1", "Widget", {"spec": {"size": 1, "color": "red", "parts": [{"name": "p"}], "labels": {"a": "b"}}}),
        "bags": ("apis/example.com/v1", "Bag", {"spec": {"x": [1, {"y": None}]}}),
        "agents": ("apis/mastra.ai/v1", "Agent", {"spec": {"instructions": "Be kind.", "model": {"provider": "openai", "name": "x"}}}),
        "workflows": ("apis/mastra.ai/v1", "Workflow", {"spec": {"steps": [step]}}),
        "leases": ("apis/coordination.k8s.io/v1", "Lease", {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 5, "renewTime": "2024-01-01T00:00:00.000000Z"}}),
        "roles": (f"apis/{rbac}", "Role", {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}),
        "rolebindings": (f"apis/{rbac}", "RoleBinding", {"subjects": [subject], "roleRef": role}),
    }  # fmt: skip
    found = {
        plural: (f"/{prefix}/{NAMESPACED}/{plural}", {"apiVersion": prefix.removeprefix("apis/"), "kind": kind, "metadata": meta(), **rest})
        for plural, (prefix, kind, rest) in entries.items()
    }  # fmt: skip
    builtin: dict[str, tuple[str, dict[str, Any]]] = {
        "configmaps": ("ConfigMap", {"data": {"k": "v"}, "binaryData": {"b": "aGk="}, "immutable": False}),
        "secrets": ("Secret", {"data": {"k": "dg=="}, "stringData": {"s": "t"}, "type": "Opaque"}),
        "serviceaccounts": ("ServiceAccount", {"secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "s"}]}),
        "events": ("Event", {"involvedObject": {"kind": "Widget", "namespace": "default", "name": "a"}, "reason": "R", "type": "Normal", "count": 1}),
    }  # fmt: skip
    for plural, (kind, rest) in builtin.items():
        found[plural] = (f"{core}/{plural}", {"apiVersion": "v1", "kind": kind, "metadata": meta(), **rest})
    cluster = meta()
    del cluster["namespace"]
    rule = {"matchLabels": {"a": "b"}}
    found["namespaces"] = (
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": cluster, "spec": {"finalizers": ["kubernetes"]}},
    )
    found["clusterroles"] = (f"/apis/{rbac}/clusterroles", {"apiVersion": rbac, "kind": "ClusterRole", "metadata": cluster, "rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}],
                                                            "aggregationRule": {"clusterRoleSelectors": [rule]}})  # fmt: skip
    found["customresourcedefinitions"] = ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", gadgets())
    found["events.k8s.io"] = (f"/apis/events.k8s.io/v1/{NAMESPACED}/events", {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": meta("e"), "eventTime": "2024-01-01T00:00:00.000000Z", "reportingController": "c/d", "reportingInstance": "i",
        "action": "A", "reason": "R", "type": "Normal", "regarding": {"kind": "Widget", "name": "a", "namespace": "default"}})  # fmt: skip
    return found


REVIEWS: Mapping[str, dict[str, Any]] = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}},
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": {"spec": {"user": "jo", "groups": ["g"], "extra": {"k": ["v"]}, "nonResourceAttributes": {"path": "/", "verb": "get"}}},
    f"/apis/authorization.k8s.io/v1/{NAMESPACED}/localsubjectaccessreviews": {"spec": {"user": "jo", "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}},
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews": {"spec": {"namespace": "default"}},
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": {},
    "/apis/authentication.k8s.io/v1/tokenreviews": {"spec": {"token": "x", "audiences": ["a"]}},
    f"/api/v1/{NAMESPACED}/serviceaccounts/a/token": {"spec": {"audiences": ["a"], "expirationSeconds": 600}},
}  # fmt: skip
"""Questions, which are answered and not stored."""


class ShiftedClock(SystemClock):
    """The system's clock, ahead of it by as much as a test wants; nobody sleeps long by it."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def shift(self, by: timedelta) -> None:
        """Go forward, or back again."""
        self._ahead += by

    def now(self) -> datetime:
        return super().now() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.02))


@dataclass
class Reply:
    """An answer, as it went out."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Wire:
    """Sends requests to the application as bytes; the client of a stream goes away at once."""

    app: Application
    clock: "ShiftedClock"
    seen: dict[int, int] = field(default_factory=dict)

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, token: str = TOKEN
    ) -> Reply:
        """One request, to its end."""
        target, _, query = path.partition("?")
        sent = {"host": "127.0.0.1", "authorization": f"Bearer {token}", "accept": JSON, **(headers or {})}
        if not token and not (headers or {}).get("authorization"):
            del sent["authorization"]
        scope = {
            "type": "http",
            "method": method,
            "path": target,
            "raw_path": target.encode("utf-8", "surrogatepass"),
            "query_string": query.encode("utf-8", "surrogatepass"),
            "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in sent.items()],
        }
        incoming = [{"type": "http.request", "body": body, "more_body": False}]
        reply = Reply()

        async def receive() -> dict[str, Any]:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def out(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {key.decode(): value.decode("latin-1") for key, value in message["headers"]}
            else:
                reply.body += message.get("body", b"")

        await self.app(scope, receive, out)
        self.seen[reply.status] = self.seen.get(reply.status, 0) + 1
        return reply

    async def refused_or_done(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, unchanged: str = ""
    ) -> Reply:
        """Send something odd and hold the answer against the rules.

        Args:
            unchanged: path of an object that must stay as it is, byte by byte, if the answer is a refusal.
        """
        before = await self.send("GET", unchanged) if unchanged else None
        reply = await self.send(method, path, body, headers)
        shown = (method, path[:300], dict(headers), body[:2000], reply.status, reply.body[:500])
        assert reply.status < 500 or (reply.status == 504 and b'"reason":"Timeout"' in reply.body), shown
        if reply.status >= 400 and reply.body != b"404 page not found\n":
            status = orjson.loads(reply.body)
            assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure"), shown
            assert status["code"] == reply.status, shown
            assert status["message"], shown
            assert status["reason"], shown
            assert reply.headers["content-type"] == JSON, shown
            assert "Traceback" not in status["message"], shown
        if reply.status >= 400 and before is not None:
            after = await self.send("GET", unchanged)
            assert (after.status, after.body) == (before.status, before.body), shown
        return reply

    async def reset(self, collection: str, obj: Mapping[str, Any]) -> None:
        """Make the object what it was, as far as that can be done from outside."""
        path = f"{collection}/{obj['metadata']['name']}"
        for _ in range(3):
            made = await self.send("POST", collection, orjson.dumps(obj), {"content-type": JSON})
            if made.status == 201:
                return
            await self.send("DELETE", path)
            free = b'{"metadata":{"finalizers":null}}'
            await self.send("PATCH", path, free, {"content-type": "application/merge-patch+json"})


@asynccontextmanager
async def whole_server(folder: Path) -> AsyncIterator[Wire]:
    """Everything that answers requests, over a store in memory with an object of each kind."""
    clock = ShiftedClock()
    async with compose(Settings(data=folder), clock=clock, reconcile=False, execute=False, path=":memory:") as parts:
        registry = parts.api.registry
        await parts.api.definitions.ensure([WIDGETS, BAGS])
        accounts = ServiceAccountTokens(signing_key(folder), registry.storage, parts.clock)
        admin = (token_hash(TOKEN), User("admin", ("system:masters", "system:authenticated")))
        authenticator = TokenAuthenticator([admin, (token_hash(STRANGER), User("stranger"))], accounts)
        registry.token_issuer, registry.token_reader = accounts, authenticator
        await ensure_default_roles(registry)
        registry.authorizer = RBACAuthorizer(registry.storage)
        registry.admission.policies.append(EscalationPolicy(registry.authorizer))
        wire = Wire(Application(registry, authenticator), clock)
        for path, obj in objects().values():
            made = await wire.send("POST", path, orjson.dumps(obj), {"content-type": JSON})
            assert made.status == 201, (path, made.body)
        yield wire


class BlockingWire:
    """A `Wire` for tests that aren't coroutines: hypothesis can't draw within one that another loop runs."""

    def __init__(self, wire: Wire, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._wire = wire
        self._run = run

    @property
    def seen(self) -> Mapping[int, int]:
        """How often each status code came."""
        return self._wire.seen

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """As `Wire.send`."""
        return self._run(self._wire.send(method, path, body, headers))

    def refused_or_done(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, unchanged: str = ""
    ) -> Reply:
        """As `Wire.refused_or_done`."""
        return self._run(self._wire.refused_or_done(method, path, body, headers, unchanged=unchanged))

    def reset(self, collection: str, obj: Mapping[str, Any]) -> None:
        """As `Wire.reset`."""
        self._run(self._wire.reset(collection, obj))


@contextmanager
def blocking_server(folder: Path) -> Iterator[BlockingWire]:
    """As `whole_server`."""
    with asyncio.Runner() as runner:
        manager = whole_server(folder)
        wire = runner.run(manager.__aenter__())
        try:
            yield BlockingWire(wire, runner.run)
        finally:
            runner.run(manager.__aexit__(None, None, None))
