"""OpenAPI 3: each group-version has a document that says nothing which OpenAPI doesn't know.

Kubernetes reads the documents into typed structures, writes them again, and compares: what would be lost there is found here
by its name.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .api import CRDS, Api, Json
from .conftest import Define
from .definitions import collection, random_definition

DOCUMENT = {"openapi", "info", "paths", "components", "security", "servers", "externalDocs"}
PATH = {"get", "put", "post", "delete", "patch", "options", "head", "trace", "parameters", "summary", "description"}
OPERATION = {"operationId", "parameters", "requestBody", "responses", "tags", "summary", "description", "deprecated"}
PARAMETER = {"name", "in", "required", "schema", "description", "deprecated", "allowEmptyValue", "style", "explode"}
SCHEMA = {
    "$ref", "additionalProperties", "allOf", "anyOf", "default", "description", "enum", "example", "exclusiveMaximum",
    "exclusiveMinimum", "externalDocs", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems",
    "minLength", "minProperties", "minimum", "multipleOf", "not", "nullable", "oneOf", "pattern", "properties", "required",
    "title", "type", "uniqueItems",
}  # fmt: skip


def schemas_in(schema: Json) -> Iterator[Json]:
    yield schema
    below = [
        *schema.get("properties", {}).values(),
        *(schema.get(key) for key in ("items", "additionalProperties", "not")),
    ]
    below += [item for key in ("allOf", "anyOf", "oneOf") for item in schema.get(key, ())]
    for found in below:
        if isinstance(found, dict):
            yield from schemas_in(found)


def unknown(obj: Json, known: set[str]) -> set[str]:
    return {key for key in obj if key not in known and not key.startswith("x-")}


def check_document(document: Any) -> None:
    """It has only what OpenAPI 3 has, and refers to nothing that isn't there."""
    assert document["openapi"].startswith("3.0")
    assert unknown(document, DOCUMENT) == set()
    published = document["components"]["schemas"]
    found = [each for schema in published.values() for each in schemas_in(schema)]
    for path, item in document["paths"].items():
        assert unknown(item, PATH) == set(), path
        for method, operation in item.items():
            if method == "parameters":
                continue
            assert unknown(operation, OPERATION) == set(), path
            assert operation["responses"], path
            for parameter in (*operation["parameters"], *item.get("parameters", ())):
                assert unknown(parameter, PARAMETER) == set(), path
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            contents = [content for body in bodies for content in body.get("content", {}).values()]
            found += [content["schema"] for content in contents if "schema" in content]
    assert found
    for schema in found:
        assert unknown(schema, SCHEMA) == set(), schema
        reference = schema.get("$ref", "")
        assert not reference or reference.removeprefix("#/components/schemas/") in published, reference


def index(api: Api) -> dict[str, str]:
    return {path: entry["serverRelativeURL"] for path, entry in api.get("/openapi/v3")["paths"].items()}


@pytest.mark.conformance("[sig-api-machinery] OpenAPIV3 should round trip OpenAPI V3 for all built-in group versions")
def test_the_documents_of_all_group_versions_are_whole(api: Api) -> None:
    found = {path: url for path, url in index(api).items() if not path.partition("/")[2].endswith("example.com")}
    assert {"api/v1", "apis/coordination.k8s.io/v1", "apis/mastra.ai/v1"} <= set(found)
    for path, url in found.items():
        if "example.com" not in path:
            check_document(api.get(url))


@pytest.mark.conformance("[sig-api-machinery] OpenAPIV3 should publish OpenAPI V3 for CustomResourceDefinition")
def test_the_document_of_a_new_kind_comes_and_goes_with_it(
    api: Api, define: Define, unique: Callable[[str], str]
) -> None:
    definition = random_definition(unique, "Namespaced")
    group = definition["spec"]["group"] = f"{unique('group')}.example.com"
    definition["metadata"]["name"] = f"{definition['spec']['names']['plural']}.{group}"
    made = define(definition)
    path = f"apis/{group}/v1beta1"
    url = index(api)[path]
    document = api.get(url)
    check_document(document)
    assert f"/apis/{group}/v1beta1/namespaces/{{namespace}}/{made['spec']['names']['plural']}" in document["paths"]

    api.delete(f"{CRDS}/{definition['metadata']['name']}")
    api.until_gone(f"{CRDS}/{definition['metadata']['name']}")
    assert path not in index(api)
    assert not api.exists(f"/openapi/v3/{path}")
    assert not api.exists(collection(made))
