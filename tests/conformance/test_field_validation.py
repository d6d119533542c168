"""Field validation: with `fieldValidation=Strict` nothing that is unknown or said twice goes by unnoticed."""

import json
from collections.abc import Callable

import pytest

from .api import APPLY_PATCH, Answer, Api, Json
from .conftest import Define
from .definitions import collection, two_versions

STRICT = {"fieldManager": "field_validation_mgr", "fieldValidation": "Strict"}
_PORT: Json = {
    "type": "object",
    "required": ["containerPort", "protocol"],
    "properties": {
        "containerPort": {"format": "int32", "type": "integer"},
        "hostIP": {"type": "string"},
        "hostPort": {"format": "int32", "type": "integer"},
        "name": {"type": "string"},
        "protocol": {"type": "string"},
    },
}
FIELDS: Json = {
    "foo": {"type": "string"},
    "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
    "ports": {
        "type": "array",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "x-kubernetes-list-type": "map",
        "items": _PORT,
    },
}
TEMPLATE: Json = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object"},
    },
}
REST = """\
  foo: foo1
  cronSpec: "* * * * */5"
  ports:
  - name: x
    containerPort: 80
    protocol: TCP"""


def schema(**more: object) -> Json:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": FIELDS, **more}}}


class Kind:
    """A kind with a schema, and its one object."""

    def __init__(self, api: Api, definition: Json) -> None:
        spec = definition["spec"]
        self._api = api
        self._path = f"{collection(definition)}/mytest"
        self._head = (
            f"\napiVersion: {spec['group']}/{spec['versions'][0]['name']}\nkind: {spec['names']['kind']}\n"
            "metadata:\n  name: mytest\n"
        )

    def apply(self, metadata: str, rest: str) -> Answer:
        """Apply it on the server as YAML."""
        body = f"{self._head}{metadata}  finalizers:\n  - test-finalizer\n{rest}".encode()
        return self._api.ask("PATCH", self._path, body, content_type=APPLY_PATCH, **STRICT)

    def forget(self) -> None:
        """Let the object go, so that its kind can."""
        if self._api.exists(self._path):
            self._api.patch(self._path, {"metadata": {"finalizers": None}})


@pytest.fixture
def kind(api: Api, define: Define, unique: Callable[[str], str], request: pytest.FixtureRequest) -> Kind:
    made = Kind(api, define(two_versions(unique, request.param)))
    request.addfinalizer(made.forget)
    return made


def lease(more: str, metadata: str = "") -> bytes:
    """As text, since what is wrong with it no dict can hold."""
    return (
        '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", '
        f'"metadata": {{"name": "my-dep", {metadata}"labels": {{"app": "nginx"}}}}, '
        f'"spec": {{{more}"holderIdentity": "nginx"}}}}'
    ).encode()


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]"
)
def test_a_built_in_kind_with_unknown_and_duplicate_fields_is_refused(api: Api, namespace: str) -> None:
    body = lease('"unknownField": "foo", "leaseTransitions": 2, "leaseTransitions": 3, ')
    answer = api.ask("POST", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", body, **STRICT)
    assert answer.status == 400
    wanted = 'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.leaseTransitions"'
    assert wanted in answer.json["message"]


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]"
)
def test_a_built_in_kind_with_unknown_metadata_is_refused(api: Api, namespace: str) -> None:
    body = lease("", '"unknownMeta": "foo", ')
    answer = api.ask("POST", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", body, **STRICT)
    assert answer.status == 400
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in answer.json["message"]


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]"
)
@pytest.mark.parametrize("kind", [schema()], indirect=True, ids=["schema"])
def test_a_valid_object_is_applied(kind: Kind) -> None:
    assert kind.apply("", f"spec:\n{REST}").status == 201


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema "
    "[Conformance]"
)
@pytest.mark.parametrize("kind", [None], indirect=True, ids=["no-schema"])
def test_without_a_schema_nothing_is_unknown(kind: Kind) -> None:
    answer = kind.apply("", f"spec:\n  unknown: uk1\n{REST}")
    assert answer.status == 201
    assert answer.json["spec"]["unknown"] == "uk1"


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation "
    "schema [Conformance]"
)
@pytest.mark.parametrize("kind", [schema()], indirect=True, ids=["schema"])
def test_an_object_with_extra_properties_is_not_applied(kind: Kind) -> None:
    answer = kind.apply("", f"unknownField: unknown\nspec:\n{REST}")
    assert answer.status >= 400
    assert ".unknownField: field not declared in schema" in answer.body.decode()


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a "
    "CR [Conformance]"
)
@pytest.mark.parametrize(
    "kind",
    [schema(properties={**FIELDS, "template": TEMPLATE}, **{"x-kubernetes-preserve-unknown-fields": True})],
    indirect=True,
    ids=["embedded"],
)
def test_unknown_metadata_is_found_at_the_root_or_in_embedded_objects(kind: Kind, namespace: str) -> None:
    template = (
        "  template:\n    apiversion: foo/v1\n    kind: Sub\n    metadata:\n        unknownSubMeta: unknown\n"
        f"        name: subobject\n        namespace: {namespace}\n"
    )
    answer = kind.apply("  unknownMeta: unknown\n", f"spec:\n{template}{REST}")
    assert answer.status >= 400
    fields = (".metadata.unknownMeta", ".spec.template.metadata.unknownSubMeta")
    assert any(f"{field}: field not declared in schema" in answer.json["message"] for field in fields)


@pytest.mark.conformance(
    "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]"
)
@pytest.mark.parametrize(
    "kind", [schema(**{"x-kubernetes-preserve-unknown-fields": True})], indirect=True, ids=["preserving"]
)
def test_a_key_that_is_said_twice_is_found_where_anything_goes(kind: Kind) -> None:
    answer = kind.apply("", f"spec:\n  unknown: uk1\n  foo: foo1\n{REST.replace('foo1', 'foo2')}")
    assert answer.status >= 400
    assert json.dumps('line 11: key "foo" already set in map')[1:-1] in answer.body.decode()
