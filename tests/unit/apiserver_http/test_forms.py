"""In which form objects are answered, and what discovery says of the kinds."""

import pytest

from .conftest import WIDGETS_PATH, Server, widget

TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
KUBECTL = f"{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


async def test_a_list_is_made_of_complete_objects_under_one_resource_version(server: Server) -> None:
    for name in "ba":
        await server.client.create(widget(name))
    listed = (await server.request("GET", WIDGETS_PATH)).json
    assert (listed["kind"], listed["apiVersion"]) == ("WidgetList", "example.com/v1")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]
    assert all(item["kind"] == "Widget" and item["metadata"]["resourceVersion"] for item in listed["items"])


async def test_pages_continue_where_the_last_one_ended(server: Server) -> None:
    for name in "abc":
        await server.client.create(widget(name))
    first = (await server.request("GET", f"{WIDGETS_PATH}?limit=2")).json
    assert first["metadata"]["remainingItemCount"] == 1
    rest = (await server.request("GET", f"{WIDGETS_PATH}?limit=2&continue={first['metadata']['continue']}")).json
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert rest["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


async def test_a_table_has_a_row_per_object_with_its_metadata(server: Server) -> None:
    await server.client.create(widget("a"))
    shown = (await server.request("GET", WIDGETS_PATH, accept=TABLE)).json
    assert (shown["kind"], shown["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert shown["columnDefinitions"][0]["format"] == "name"
    (row,) = shown["rows"]
    assert row["cells"][0] == "a"
    assert (row["object"]["kind"], row["object"]["metadata"]["namespace"]) == ("PartialObjectMetadata", "default")


@pytest.mark.parametrize(
    ("include", "kind"), [("None", None), ("Metadata", "PartialObjectMetadata"), ("Object", "Widget")]
)
async def test_rows_carry_as_much_of_their_object_as_was_asked_for(
    server: Server, include: str, kind: str | None
) -> None:
    await server.client.create(widget("a"))
    shown = (await server.request("GET", f"{WIDGETS_PATH}/a?includeObject={include}", accept=TABLE)).json
    assert shown["rows"][0].get("object", {}).get("kind") == kind


async def test_events_keep_their_own_columns(server: Server) -> None:
    shown = (await server.request("GET", "/api/v1/namespaces/default/events", accept=TABLE)).json
    names = [column["name"] for column in shown["columnDefinitions"]]
    assert names[:5] == ["Last Seen", "Type", "Reason", "Object", "Subobject"]
    assert names[-1] == "Name"


async def test_metadata_alone_can_be_had(server: Server) -> None:
    await server.client.create(widget("a"))
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    found = (await server.request("GET", f"{WIDGETS_PATH}/a", accept=accept)).json
    assert set(found) == {"kind", "apiVersion", "metadata"}
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = (await server.request("GET", WIDGETS_PATH, accept=accept)).json
    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"][0]["kind"] == "PartialObjectMetadata"


@pytest.mark.parametrize(
    ("accept", "code"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/vnd.kubernetes.protobuf,application/json", 200),
        ("application/vnd.kubernetes.protobuf", 406),
        ("application/cbor", 406),
        ("text/html", 406),
        ("application/json;as=Chart;v=v1;g=meta.k8s.io", 406),
    ],
)
async def test_what_cannot_be_served_is_406(server: Server, accept: str, code: int) -> None:
    assert (await server.request("GET", WIDGETS_PATH, accept=accept)).status == code


async def test_aggregated_discovery_repeats_its_content_type_and_lists_subresources(server: Server) -> None:
    reply = await server.request("GET", "/apis", accept=KUBECTL)
    assert reply.header("content-type") == AGGREGATED
    found = {item["metadata"]["name"]: item["versions"][0] for item in reply.json["items"]}
    (row,) = found["example.com"]["resources"]
    assert (row["resource"], row["scope"], row["responseKind"]["kind"]) == ("widgets", "Namespaced", "Widget")
    below = {sub["subresource"]: sub["responseKind"]["group"] for sub in row["subresources"]}
    assert below == {"status": "example.com", "scale": "autoscaling"}
    core = await server.request("GET", "/api", accept=KUBECTL)
    assert [item["metadata"]["name"] for item in core.json["items"]] == [""]


async def test_a_client_of_an_older_discovery_gets_plain_json(server: Server) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    reply = await server.request("GET", "/apis", accept=accept)
    assert (reply.header("content-type"), reply.json["kind"]) == ("application/json", "APIGroupList")


async def test_every_group_version_that_is_listed_can_be_read(server: Server) -> None:
    versions = [v["groupVersion"] for g in (await server.request("GET", "/apis")).json["groups"] for v in g["versions"]]
    for path in ["/api/v1", *(f"/apis/{version}/" for version in versions)]:
        rows = (await server.request("GET", path)).json["resources"]
        assert rows
        assert all(row["verbs"] and row["kind"] for row in rows)


async def test_a_new_kind_is_discovered_and_described_as_soon_as_it_exists(server: Server) -> None:
    before = (await server.request("GET", "/openapi/v3")).json["paths"]
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gears.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"plural": "gears", "kind": "Gear"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert (await server.request("POST", path, definition)).status == 201
    names = [row["name"] for row in (await server.request("GET", "/apis/example.com/v1")).json["resources"]]
    assert "gears" in names
    after = (await server.request("GET", "/openapi/v3")).json["paths"]
    assert {path for path in after if after[path] != before.get(path)} == {"apis/example.com/v1"}
    reply = await server.request("GET", after["apis/example.com/v1"]["serverRelativeURL"])
    assert "com.example.v1.Gear" in reply.json["components"]["schemas"]
    assert reply.header("cache-control") == "public, immutable"


async def test_every_reference_in_openapi_leads_somewhere(server: Server) -> None:
    v2 = (await server.request("GET", "/openapi/v2")).json
    assert _references(v2) <= {f"#/definitions/{name}" for name in v2["definitions"]}
    for entry in (await server.request("GET", "/openapi/v3")).json["paths"].values():
        document = (await server.request("GET", entry["serverRelativeURL"])).json
        assert _references(document) <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


async def test_openapi_v2_is_protobuf_for_those_who_ask(server: Server) -> None:
    reply = await server.request("GET", "/openapi/v2", accept=OPENAPI_V2)
    assert reply.header("content-type") == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert reply.body.startswith(b"\x0a\x032.0")
    assert b"com.example.v1.Widget" in reply.body


async def test_trailing_slashes_and_escaped_segments_make_no_difference(server: Server) -> None:
    await server.client.create(widget("a"))
    for path in ("/version/", "/api/", "/apis/", "/apis/example.com/", f"{WIDGETS_PATH}/", f"{WIDGETS_PATH}/%61"):
        assert (await server.request("GET", path)).status == 200, path


def _references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(item) for item in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(_references(item) for item in value))
    return set()
