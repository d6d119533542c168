"""What does this server have? Discovery documents, one per group-version or all in one.

Plain: `/api`, `/apis`, `/apis/GROUP`, and an APIResourceList per version. Aggregated (kubectl >= 1.30): everything in two
documents, whose content type must repeat what was asked for, because clients that can't tell them apart print nothing.
Built anew whenever a kind has come or gone.

Source: apidiscovery.k8s.io/v2 and metav1.APIResourceList. Read next: `kastra.apiserver.http.routing`.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from kastra.api.meta import join_api_version
from kastra.api.scheme import Resource
from kastra.apiserver.registry import Registry

from .health import HEALTH
from .message import JSON, Response
from .negotiation import clauses, negotiate
from .routing import Router

_GROUP = "apidiscovery.k8s.io"
_LIST = "APIGroupDiscoveryList"
AGGREGATED = f"application/json;g={_GROUP};v=v2;as={_LIST}".encode()
_WRITE = ("get", "patch", "update")


class Discovery:
    """Answers discovery requests."""

    def __init__(self, registry: Registry, router: Router) -> None:
        self._registry = registry
        self._router = router
        self._generation = -1
        self._cache: dict[tuple[str, ...], bytes | None] = {}

    def find(self, segments: Sequence[str], accept: bytes) -> Response | None:
        """The document at a path that begins with `api` or `apis`; None if there is none. Raises NotAcceptable."""
        if len(segments) == 1 and _wants_aggregated(accept):
            body = self._cached((*segments, "aggregated"))
            return Response(body=body, content_type=AGGREGATED) if body is not None else None
        negotiate(accept, tables=False)
        body = self._cached(tuple(segments))
        return Response(body=body, content_type=JSON) if body is not None else None

    def paths(self) -> list[str]:
        """Every path at which something can be discovered."""
        groups = sorted({group for group, _ in self._router.versions() if group})
        versions = sorted(
            f"/apis/{group}/{version}" if group else f"/api/{version}" for group, version in self._router.versions()
        )
        fixed = [
            "/api",
            "/apis",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/version",
            *(f"/{name}" for name in HEALTH),
        ]
        return sorted([*fixed, *versions, *(f"/apis/{group}" for group in groups)])

    def _cached(self, key: tuple[str, ...]) -> bytes | None:
        generation = self._registry.scheme.generation
        if generation != self._generation:
            self._cache.clear()
            self._generation = generation
        if key not in self._cache:
            found = self._build(key)
            if found is None:
                return None
            self._cache[key] = orjson.dumps(found)
        return self._cache[key]

    def _build(self, key: tuple[str, ...]) -> Mapping[str, Any] | None:
        match key:
            case ("api",):
                cidrs = [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]
                return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": cidrs}
            case ("apis",):
                groups = [_group(name, versions) for name, versions in self._groups().items() if name]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ("api" | "apis", "aggregated"):
                core = key[0] == "api"
                items = [self._aggregated(n, v) for n, v in self._groups().items() if (not n) == core]
                return {"kind": _LIST, "apiVersion": f"{_GROUP}/v2", "metadata": {}, "items": items}
            case ("apis", group):
                versions = self._groups().get(group)
                return (
                    {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)} if group and versions else None
                )
            case ("api", version):
                return self._resource_list("", version)
            case ("apis", group, version) if group:
                return self._resource_list(group, version)
        return None

    def _groups(self) -> dict[str, list[str]]:
        """The versions of each group, the preferred one first."""
        groups: dict[str, list[str]] = {}
        for group, version in self._router.versions():
            groups.setdefault(group, []).append(version)
        return {group: sorted(versions, key=_priority) for group, versions in groups.items()}

    def _resource_list(self, group: str, version: str) -> Mapping[str, Any] | None:
        resources = self._router.versions().get((group, version))
        if resources is None:
            return None
        rows: list[dict[str, Any]] = []
        for resource in resources.values():
            rows.append(
                {
                    "name": resource.plural,
                    "singularName": resource.singular,
                    "namespaced": resource.namespaced,
                    "kind": resource.kind,
                    "verbs": sorted(resource.verbs),
                    **({"shortNames": resource.short_names} if resource.short_names else {}),
                    **({"categories": resource.categories} if resource.categories else {}),
                    "storageVersionHash": _storage_hash(resource),
                }
            )
            for name, kind, verbs in self._subresources(resource):
                row: dict[str, Any] = {
                    "name": f"{resource.plural}/{name}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": kind["kind"],
                    "verbs": verbs,
                }
                if (kind["group"], kind["version"]) != (group, version):
                    row |= {"group": kind["group"], "version": kind["version"]}
                rows.append(row)
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": join_api_version(group, version),
            "resources": rows,
        }

    def _aggregated(self, group: str, versions: Sequence[str]) -> dict[str, Any]:
        found = self._router.versions()
        return {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [
                {
                    "version": version,
                    "freshness": "Current",
                    "resources": [self._aggregated_resource(r) for r in found[(group, version)].values()],
                }
                for version in versions
            ],
        }

    def _aggregated_resource(self, resource: Resource) -> dict[str, Any]:
        row: dict[str, Any] = {
            "resource": resource.plural,
            "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": sorted(resource.verbs),
        }
        if resource.short_names:
            row["shortNames"] = resource.short_names
        if resource.categories:
            row["categories"] = resource.categories
        below = [
            {"subresource": name, "responseKind": kind, "verbs": verbs}
            for name, kind, verbs in self._subresources(resource)
        ]
        if below:
            row["subresources"] = below
        return row

    def _subresources(self, resource: Resource) -> Iterator[tuple[str, dict[str, str], Sequence[str]]]:
        """Name, kind and verbs of what hangs below objects of a kind."""
        own = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        connectors = self._registry.connectors.of(resource.group_resource)
        if resource.has_status:
            yield "status", own, _WRITE
        if resource.scale is not None:
            yield "scale", {"group": "autoscaling", "version": "v1", "kind": "Scale"}, _WRITE
        if "finalize" in resource.subresources:
            yield "finalize", own, ("update",)
        if "token" in resource.subresources:
            yield "token", {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}, ("create",)
        for connector in connectors:
            yield connector.name, own, (connector.verb,)


@lru_cache(maxsize=256)
def _wants_aggregated(accept: bytes) -> bool:
    for clause in clauses(accept):
        asked = clause.parameters
        if clause.media_type == "application/json" and asked.get("g") == _GROUP:
            if asked.get("v") == "v2" and asked.get("as") == _LIST:
                return True
        elif clause.media_type in {"application/json", "application/*", "*/*"} and not asked.get("as"):
            return False
    return False


def _group(name: str, versions: Sequence[str]) -> dict[str, Any]:
    rows = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": rows, "preferredVersion": rows[0]}


def _priority(version: str) -> tuple[int, int, int, str]:
    """Orders versions as Kubernetes does: v2, v1, v2beta1, v1alpha1, then others by their name."""
    digits, maturity, minor = version[1:], 0, ""
    for rank, word in ((1, "beta"), (2, "alpha")):
        if word in digits:
            digits, _, minor = digits.partition(word)
            maturity = rank
    if not version.startswith("v") or not digits.isdecimal() or (maturity and not minor.isdecimal()):
        return (3, 0, 0, version)
    return (maturity, -int(digits), -int(minor or 0), version)


def _storage_hash(resource: Resource) -> str:
    text = f"{resource.group}/{resource.storage_version or resource.version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
