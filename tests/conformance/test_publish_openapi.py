"""OpenAPI of custom kinds: published as it was written, understood by kubectl, and gone with its version."""

import json
import re
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Kubectl

from .api import CRDS, JSON_PATCH, Api, Json
from .conftest import Define
from .definitions import ALLOW_ALL

_BAR: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"description": "Name of Bar.", "type": "string"},
        "age": {"description": "Age of Bar.", "type": "string"},
        "feeling": {"description": "Whether Bar is feeling great.", "type": "string", "enum": ["Great", "Down"]},
        "bazs": {"description": "List of Bazs.", "type": "array", "items": {"type": "string"}},
    },
}
_BAR_STATUS: Json = {
    "type": "object",
    "properties": {
        "name": {"description": "Name of Bar.", "type": "string"},
        "available": {"description": "Whether the Bar is installed.", "type": "boolean"},
        "quxType": {
            "description": "Indicates to external qux type.",
            "pattern": "in-tree|out-of-tree",
            "type": "string",
        },
    },
}
FOO: Json = {
    "description": "Foo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "description": "Specification of Foo",
            "properties": {"bars": {"description": "List of Bars and their specs.", "type": "array", "items": _BAR}},
        },
        "status": {
            "description": "Status of Foo",
            "type": "object",
            "properties": {
                "bars": {"description": "List of Bars and their statuses.", "type": "array", "items": _BAR_STATUS}
            },
        },
    },
}


def waldo(description: str, root: Json | None = None, spec: Json | None = None) -> Json:
    bars = {"description": "List of Bars and their statuses.", "type": "array", "items": {"type": "object"}}
    dummy = {"dummy": {"description": "Dummy property.", "type": "object"}}
    properties = {
        "spec": {"description": "Specification of Waldo", "type": "object", "properties": dummy, **(spec or {})},
        "status": {"description": "Status of Waldo", "type": "object", "properties": {"bars": bars}},
    }
    return {"description": description, "type": "object", "properties": properties, **(root or {})}


WALDO = waldo("Waldo CRD for Testing")
_PRESERVE: Json = {"x-kubernetes-preserve-unknown-fields": True}
PRESERVE_ROOT = waldo("preserve-unknown-properties at root for Testing", root=_PRESERVE)
PRESERVE_NESTED = waldo("preserve-unknown-properties in nested field for Testing", spec=_PRESERVE)


class Published:
    """Makes kinds, and looks at what is published of them."""

    def __init__(self, api: Api, define: Define, unique: Callable[[str], str]) -> None:
        self._api = api
        self._define = define
        self._unique = unique

    def kind(self, schema: Json | None, group: str, *versions: str) -> "Kind":
        """A new kind with the same schema in all versions; all of them are published."""
        name = self._unique(f"e2e-test-{group}-crd")
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{name}s.crd-publish-openapi-test-{group}.example.com"},
            "spec": {
                "group": f"crd-publish-openapi-test-{group}.example.com",
                "scope": "Namespaced",
                "names": {"plural": f"{name}s", "singular": name, "kind": name.capitalize()},
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": version == versions[0],
                        "schema": {"openAPIV3Schema": schema or ALLOW_ALL},
                    }
                    for version in versions
                ],
            },
        }
        made = Kind(self._api, self._define(definition))
        for version in versions:
            made.check(version, schema)
        return made


class Kind:
    """A kind that was made."""

    def __init__(self, api: Api, definition: Json) -> None:
        self._api = api
        self.group: str = definition["spec"]["group"]
        self.kind: str = definition["spec"]["names"]["kind"]
        self.plural: str = definition["spec"]["names"]["plural"]
        self.version: str = definition["spec"]["versions"][0]["name"]
        self.path = f"{CRDS}/{definition['metadata']['name']}"

    def _definitions(self) -> Json:
        found: Json = self._api.get("/openapi/v2")["definitions"]
        return found

    def _name(self, version: str) -> str:
        return ".".join([*reversed(self.group.split(".")), version, self.kind])

    def check(self, version: str, schema: Json | None) -> None:
        """The published definition of a version is the schema, with what every kind has."""
        published = self._definitions()[self._name(version)]
        gvk = {"group": self.group, "version": version, "kind": self.kind}
        assert published.pop("x-kubernetes-group-version-kind") == [gvk]
        if schema is None or "x-kubernetes-preserve-unknown-fields" in schema:
            assert published == {"type": "object"}, "kubectl takes anything only if there are no properties"
            return
        for name in ("apiVersion", "kind", "metadata"):
            del published["properties"][name]
        if "x-kubernetes-preserve-unknown-fields" not in schema["properties"]["spec"]:
            assert published == schema

    def check_gone(self, *versions: str) -> None:
        """Nothing is published of these versions."""
        assert {self._name(version) for version in versions}.isdisjoint(self._definitions())

    def clean_up(self, *versions: str) -> None:
        """Delete the kind; what was published goes with it."""
        self._api.delete(self.path)
        self._api.until_gone(self.path)
        self.check_gone(*versions)

    def object(self, name: str, **fields: object) -> str:
        """An object of it as JSON."""
        api_version = f"{self.group}/{self.version}"
        return json.dumps({"kind": self.kind, "apiVersion": api_version, "metadata": {"name": name}, **fields})


@pytest.fixture
def published(api: Api, define: Define, unique: Callable[[str], str]) -> Published:
    return Published(api, define, unique)


def create_and_apply(kubectl: Kubectl, kind: Kind, name: str, text: str) -> None:
    for verb in ("create", "apply"):
        assert "created" in kubectl(verb, "-f", "-", stdin=text)
        kubectl("delete", kind.plural, name)


def explains(kubectl: Kubectl, path: str, pattern: str) -> None:
    text = kubectl("explain", path)
    assert re.search(pattern, text, re.DOTALL), text


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema "
    "[Conformance]"
)
def test_kubectl_checks_and_explains_by_the_schema(published: Published, kubectl: Kubectl) -> None:
    kind = published.kind(FOO, "foo", "v1")
    create_and_apply(kubectl, kind, "test-foo", kind.object("test-foo", spec={"bars": [{"name": "test-bar"}]}))
    wrong = {
        'Unsupported value: "NonExistentValue"': {"bars": [{"name": "test-bar", "feeling": "NonExistentValue"}]},
        'unknown field "spec.foo"': {"foo": True},
        "spec.bars[0].name: Required value": {"bars": [{"age": "10"}]},
    }
    for why, spec in wrong.items():
        for verb in ("create", "apply"):
            assert why in kubectl.fails(verb, "-f", "-", stdin=kind.object("test-foo", spec=spec))
    explains(
        kubectl,
        kind.plural,
        r"DESCRIPTION:.*Foo CRD for Testing.*FIELDS:.*apiVersion.*<string>.*APIVersion defines.*spec.*<Object>.*"
        "Specification of Foo",
    )
    explains(
        kubectl,
        f"{kind.plural}.metadata",
        r"DESCRIPTION:.*Standard object's metadata.*FIELDS:.*creationTimestamp.*<string>.*CreationTimestamp is a timestamp",
    )
    explains(
        kubectl,
        f"{kind.plural}.spec",
        r"DESCRIPTION:.*Specification of Foo.*FIELDS:.*bars.*<\[\]Object>.*List of Bars and their specs",
    )
    explains(
        kubectl,
        f"{kind.plural}.spec.bars",
        r"(FIELD|RESOURCE):.*bars.*<\[\]Object>.*DESCRIPTION:.*List of Bars and their specs.*FIELDS:.*bazs.*<\[\]string>.*"
        r"List of Bazs.*name.*<string>.*Name of Bar",
    )
    assert 'field "bars2" does not exist' in kubectl.fails("explain", f"{kind.plural}.spec.bars2")
    kind.clean_up("v1")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema "
    "[Conformance]"
)
def test_kubectl_takes_anything_without_a_schema(published: Published, kubectl: Kubectl) -> None:
    kind = published.kind(None, "empty", "v1")
    create_and_apply(kubectl, kind, "test-cr", kind.object("test-cr", a={"b": [{"c": "d"}]}))
    explains(kubectl, kind.plural, "DESCRIPTION:.*<empty>")
    kind.clean_up("v1")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at "
    "the schema root [Conformance]"
)
def test_kubectl_takes_anything_at_a_root_that_preserves_it(published: Published, kubectl: Kubectl) -> None:
    kind = published.kind(PRESERVE_ROOT, "unknown-at-root", "v1")
    create_and_apply(kubectl, kind, "test-cr", kind.object("test-cr", a={"b": [{"c": "d"}]}))
    explains(kubectl, kind.plural, f"KIND:.*{kind.kind}")
    kind.clean_up("v1")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in "
    "an embedded object [Conformance]"
)
def test_kubectl_takes_anything_in_a_field_that_preserves_it(published: Published, kubectl: Kubectl) -> None:
    kind = published.kind(PRESERVE_NESTED, "unknown-in-nested", "v1")
    create_and_apply(kubectl, kind, "test-cr", kind.object("test-cr", spec={"a": None, "b": [{"c": "d"}]}))
    explains(kubectl, kind.plural, "DESCRIPTION:.*preserve-unknown-properties in nested field for Testing")
    kind.clean_up("v1")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups "
    "[Conformance]"
)
def test_kinds_of_different_groups_are_published(published: Published) -> None:
    foo, other = published.kind(FOO, "foo", "v1"), published.kind(WALDO, "waldo", "v1beta1")
    assert foo.group != other.group
    foo.check("v1", FOO)
    foo.clean_up("v1")
    other.check("v1beta1", WALDO)
    other.clean_up("v1beta1")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but "
    "different versions [Conformance]"
)
def test_versions_of_a_group_are_published(published: Published) -> None:
    published.kind(FOO, "multi-ver", "v2", "v3").clean_up("v2", "v3")
    foo, other = published.kind(FOO, "common-group", "v4"), published.kind(WALDO, "common-group", "v5")
    assert foo.group == other.group
    foo.check("v4", FOO)
    foo.clean_up("v4")
    other.check("v5", WALDO)
    other.clean_up("v5")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and "
    "version but different kinds [Conformance]"
)
def test_kinds_of_a_version_are_published(published: Published) -> None:
    foo, other = published.kind(FOO, "common-group", "v6"), published.kind(WALDO, "common-group", "v6")
    assert foo.group == other.group
    foo.check("v6", FOO)
    foo.clean_up("v6")
    other.check("v6", WALDO)
    other.clean_up("v6")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version "
    "gets renamed [Conformance]"
)
def test_a_renamed_version_is_published_under_its_new_name(published: Published, api: Api) -> None:
    kind = published.kind(FOO, "multi-ver", "v2", "v3")
    rename = [
        {"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"},
    ]
    api.patch(kind.path, rename, JSON_PATCH)
    kind.check("v4", FOO)
    kind.check_gone("v3")
    kind.check("v2", FOO)
    kind.clean_up("v2", "v4")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version "
    "gets changed to not be served [Conformance]"
)
def test_a_version_that_is_served_no_longer_is_not_published(published: Published, api: Api) -> None:
    kind = published.kind(FOO, "multi-to-single-ver", "v5", "v6alpha1")
    api.change(kind.path, lambda crd: crd["spec"]["versions"][1].update(served=False))
    kind.check_gone("v6alpha1")
    kind.check("v5", FOO)
    kind.clean_up("v5")
