"""Requests that once made the server answer 500, each by name."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from .mutations import JSON, JSON_PATCH, MERGE
from .wire import NAMESPACED, Wire, gadgets, whole_server

CORE = f"/api/v1/{NAMESPACED}"
WIDGET = f"/apis/example.com/v1/{NAMESPACED}/widgets/a"
TOKENS = f"{CORE}/serviceaccounts/a/token"
SCALED = f"{WIDGET}/scale"
FULL = '"apiVersion":"example.com/v1","kind":"Widget"'


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with whole_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "code"),
    [
        pytest.param("DELETE", f"{CORE}/configmaps/a", '{"kind":[]}', JSON, 400, id="delete options of a kind that is a list"),
        pytest.param("DELETE", f"{CORE}/configmaps/a", '{"kind":{}}', JSON, 400, id="delete options of a kind that is a map"),
        pytest.param("POST", TOKENS, '{"spec":"-1"}', JSON, 400, id="a TokenRequest whose spec is a text"),
        pytest.param("POST", TOKENS, '{"spec":[false]}', JSON, 400, id="a TokenRequest whose spec is a list"),
        pytest.param("POST", TOKENS, '{"spec":{"audiences":7}}', JSON, 400, id="a TokenRequest for the audience 7"),
        pytest.param("POST", TOKENS, '{"spec":{"audiences":[{}]}}', JSON, 400, id="a TokenRequest for an audience that is a map"),
        pytest.param("POST", TOKENS, '{"spec":{"expirationSeconds":true}}', JSON, 422, id="a TokenRequest for true seconds"),
        pytest.param("PUT", SCALED, '{"spec":[1]}', JSON, 422, id="a Scale whose spec is a list"),
        pytest.param("PUT", SCALED, '{"spec":{"replicas":1},"metadata":"x"}', JSON, 400, id="a Scale whose metadata is a text"),
        pytest.param("PATCH", SCALED, '{"spec":"x"}', MERGE, 422, id="a Scale patched to have a text as spec"),
        pytest.param("PATCH", SCALED, '[{"op":"replace","path":"/metadata","value":7}]', JSON_PATCH, 422, id="a Scale patched to have 7 as metadata"),
        pytest.param("PUT", "/api/v1/namespaces/a/finalize", '{"spec":-1}', JSON, 400, id="a Namespace to finalize whose spec is a number"),
        pytest.param("PUT", WIDGET, f'{{{FULL},"metadata":{{"name":"a","resourceVersion":7}}}}', JSON, 422, id="a resourceVersion that is a number"),
        pytest.param("PUT", WIDGET, f'{{{FULL},"metadata":{{"name":"a","resourceVersion":["1"]}}}}', JSON, 422, id="a resourceVersion that is a list"),
        pytest.param("PUT", WIDGET, f'{{{FULL},"metadata":{{"name":"a","resourceVersion":"²"}}}}', JSON, 422, id="a resourceVersion of two squared"),
        pytest.param("PUT", WIDGET, f'{{{FULL},"metadata":{{"name":"a","resourceVersion":"{"9" * 5000}"}}}}', JSON, 409, id="a resourceVersion of 5,000 digits"),
        pytest.param("GET", f"{CORE}/configmaps?resourceVersion={'9' * 5000}", "", JSON, 400, id="a list from a resourceVersion of 5,000 digits"),
        pytest.param("GET", f"{CORE}/configmaps?watch=1&resourceVersion={'9' * 5000}", "", JSON, 400, id="a watch from a resourceVersion of 5,000 digits"),
        pytest.param("GET", f"{CORE}/configmaps?watch=1&resourceVersion=%D9%A3", "", JSON, 400, id="a watch from a resourceVersion in Arabic digits"),
    ],
)  # fmt: skip
async def test_a_request_that_was_found_is_refused(
    wire: Wire, method: str, path: str, body: str, content_type: str, code: int
) -> None:
    reply = await wire.refused_or_done(
        method,
        path,
        body.encode(),
        {"content-type": content_type},
        unchanged=path.partition("?")[0].removesuffix("/scale").removesuffix("/token").removesuffix("/finalize"),
    )
    assert reply.status == code, reply.body


async def test_a_content_length_of_five_thousand_digits_is_too_large(wire: Wire) -> None:
    reply = await wire.refused_or_done(
        "POST", f"{CORE}/configmaps", b"{}", {"content-type": JSON, "content-length": "9" * 5000}
    )
    assert reply.status == 413


def defined(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A definition of which one part is changed: the schema of `spec`."""
    made = gadgets()
    change(made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"])
    return orjson.dumps(made)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param(lambda p: p["spec"]["properties"]["parts"]["items"].update(properties=-1), "items.properties", id="properties of a list's items that are a number"),
        pytest.param(lambda p: p["spec"]["properties"]["parts"]["items"].update(required=1), "items.required", id="required of a list's items that is a number"),
        pytest.param(lambda p: p["spec"]["properties"]["parts"]["items"]["properties"]["name"].update(type=["string"]), "name].type", id="a type of a list's key that is a list"),
    ],
)  # fmt: skip
async def test_a_definition_that_was_found_is_refused_with_its_place(
    wire: Wire, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await wire.send("DELETE", f"{path}/gadgets.example.com")
    reply = await wire.refused_or_done("POST", path, defined(change), {"content-type": JSON})
    assert reply.status == 422, reply.body
    assert any(field in cause["field"] for cause in orjson.loads(reply.body)["details"]["causes"]), reply.body


async def test_a_rule_whose_message_is_null_has_none(wire: Wire) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await wire.send("DELETE", f"{path}/gadgets.example.com")
    body = defined(lambda properties: properties["more"]["x-kubernetes-validations"][0].update(message=None))
    reply = await wire.refused_or_done("POST", path, body, {"content-type": JSON})
    assert reply.status == 201, reply.body


@pytest.mark.parametrize(
    "keyword",
    [
        "properties",
        "items",
        "required",
        "type",
        "additionalProperties",
        "description",
        "enum",
        "x-kubernetes-list-type",
    ],
)
async def test_a_keyword_of_a_schema_that_is_null_does_not_keep_others_from_reading_schemas(
    wire: Wire, keyword: str
) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await wire.send("DELETE", f"{path}/gadgets.example.com")
    body = defined(lambda properties: properties["more"]["properties"]["any"].update({keyword: None}))
    assert (await wire.refused_or_done("POST", path, body, {"content-type": JSON})).status == 201
    for document in ("/openapi/v2", "/openapi/v3/apis/example.com/v1"):
        for accept in ("application/json", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf, */*"):
            reply = await wire.refused_or_done("GET", document, b"", {"accept": accept})
            assert reply.status == 200, reply.body


async def test_a_column_whose_path_can_not_be_read_does_not_hide_the_objects(wire: Wire) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await wire.send("DELETE", f"{path}/gadgets.example.com")
    broken = gadgets()
    broken["spec"]["versions"][0]["additionalPrinterColumns"][0]["jsonPath"] = "["
    made = await wire.refused_or_done("POST", path, orjson.dumps(broken), {"content-type": JSON})
    assert made.status in (201, 422), made.body
    table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    reply = await wire.refused_or_done("GET", "/apis/example.com/v1/gadgets", b"", table)
    assert reply.status == (200 if made.status == 201 else 404), reply.body
