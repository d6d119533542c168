"""CustomResourceDefinitions as the conformance tests of Kubernetes make them."""

from collections.abc import Callable

from .api import Json

GROUP = "mygroup.example.com"
ALLOW_ALL: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def random_definition(unique: Callable[[str], str], scope: str = "Cluster", schema: Json | None = None) -> Json:
    """A kind of one version."""
    return _definition(unique("foo") + "a", scope, [_version("v1beta1", schema, storage=True)])


def two_versions(unique: Callable[[str], str], schema: Json | None = None) -> Json:
    """A cluster-scoped kind of two versions, both with a status."""
    versions = [_version("v1beta1", schema, storage=False), _version("v1", schema, storage=True)]
    return _definition(unique("foo") + "a", "Cluster", [{**v, "subresources": {"status": {}}} for v in versions])


def collection(definition: Json, namespace: str = "", version: str = "") -> str:
    """Where objects of a kind are."""
    spec = definition["spec"]
    below = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/{spec['group']}/{version or spec['versions'][0]['name']}/{below}{spec['names']['plural']}"


def instance(definition: Json, name: str, version: str = "") -> Json:
    """An object of a kind, without anything."""
    spec = definition["spec"]
    api_version = f"{spec['group']}/{version or spec['versions'][0]['name']}"
    return {"apiVersion": api_version, "kind": spec["names"]["kind"], "metadata": {"name": name}}


def _version(name: str, schema: Json | None, *, storage: bool) -> Json:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema or ALLOW_ALL}}


def _definition(name: str, scope: str, versions: list[Json]) -> Json:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{name}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "versions": versions,
            "names": {"plural": f"{name}s", "singular": name, "kind": name, "listKind": f"{name}List"},
        },
    }
