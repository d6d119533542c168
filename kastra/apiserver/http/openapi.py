"""The schemas of all kinds as OpenAPI documents, and when they change.

Version 3 is one document per group-version, found through an index whose URLs carry a hash of the document: a client keeps
each until its hash changes. Version 2 is one document for everything, as JSON and as the protobuf that kubectl asks for. All
are built on demand, and again when a kind has come, gone or changed. This module has what both share: names of definitions,
and the metadata every object has.

Source: Kubernetes' published OpenAPI. Read next: `kastra.apiserver.http.openapi_v3`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime

import orjson

from kastra.api.scheme import Resource
from kastra.apiserver.registry import Registry

from . import openapi_v2, openapi_v3
from .message import Request, Response
from .negotiation import clauses, not_acceptable
from .openapi_definitions import path_of
from .routing import Router

_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_V2_PROTOBUF_ANSWER = b"application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_JSON_TYPES = frozenset({"application/json", "application/*", "*/*"})


class OpenAPI:
    """Answers requests for OpenAPI documents."""

    def __init__(self, registry: Registry, router: Router) -> None:
        self._registry = registry
        self._router = router
        self._generation = -1
        self._cache: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}

    def find(self, segments: Sequence[str], request: Request) -> Response | None:
        """The document at a path that begins with `openapi`; None if there is none. Raises NotAcceptable."""
        accept = request.headers.get(b"accept", b"")
        match segments:
            case ("openapi", "v2"):
                return self._v2(accept)
            case ("openapi", "v3"):
                _check_json(accept)
                return Response(body=self._cached("index"))
            case ("openapi", "v3", *rest):
                path = "/".join(rest)
                if path not in self._paths():
                    return None
                _check_json(accept)
                return self._v3(path, request.query.get("hash", ""))
        return None

    def _v2(self, accept: bytes) -> Response:
        for clause in clauses(accept):
            if clause.media_type == _V2_PROTOBUF:
                return Response(body=self._cached("v2.protobuf"), content_type=_V2_PROTOBUF_ANSWER)
            if clause.media_type in _JSON_TYPES:
                return Response(body=self._cached("v2.json"))
        raise not_acceptable(f"application/json, {_V2_PROTOBUF}")

    def _v3(self, path: str, asked: str) -> Response:
        body = self._cached(path)
        if asked != self._hash(path):
            return Response(body=body)
        # Under this URL it never changes.
        expires = format_datetime(self._registry.clock.now() + timedelta(days=365), usegmt=True)
        return Response(body=body, headers=[(b"expires", expires.encode())], cache=b"public, immutable")

    def _paths(self) -> Mapping[str, Mapping[str, Resource]]:
        return {path_of(group, version): found for (group, version), found in self._router.versions().items()}

    def _hash(self, path: str) -> str:
        body = self._cached(path)
        if path not in self._hashes:
            self._hashes[path] = hashlib.sha256(body).hexdigest()[:32].upper()
        return self._hashes[path]

    def _cached(self, key: str) -> bytes:
        generation = self._registry.scheme.generation
        if generation != self._generation:
            self._cache.clear()
            self._hashes.clear()
            self._generation = generation
        if key not in self._cache:
            self._cache[key] = self._build(key)
        return self._cache[key]

    def _build(self, key: str) -> bytes:
        paths = self._paths()
        if key == "index":
            index = {
                path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"} for path in sorted(paths)
            }
            return orjson.dumps({"paths": index})
        if key.startswith("v2"):
            everything: list[Resource] = [resource for found in paths.values() for resource in found.values()]
            built = openapi_v2.document(everything, self._verbs)
            return orjson.dumps(built) if key == "v2.json" else openapi_v2.encode(built)
        return orjson.dumps(openapi_v3.document(paths[key].values(), self._verbs))

    def _verbs(self, resource: Resource) -> Sequence[str]:
        return resource.verbs


def _check_json(accept: bytes) -> None:
    if not any(clause.media_type in _JSON_TYPES for clause in clauses(accept)):
        raise not_acceptable()
