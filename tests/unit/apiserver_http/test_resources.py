"""Methods on resources: codes, subresources, warnings, options of deletion, and bodies in three encodings."""

from typing import Any

import pytest

from kastra.apiserver.http.protobuf import CONTENT_TYPE as PROTOBUF

from .conftest import WIDGETS_PATH, Server, widget

ITEM = f"{WIDGETS_PATH}/a"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field of fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value


def protobuf(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, raw)


async def test_an_object_is_created_read_replaced_and_deleted(server: Server) -> None:
    created = await server.request("POST", WIDGETS_PATH, widget("a"))
    assert created.status == 201
    again = await server.request("POST", WIDGETS_PATH, widget("a"))
    assert (again.status, again.json["reason"]) == (409, "AlreadyExists")
    read = await server.request("GET", ITEM)
    assert read.json == created.json
    replaced = await server.request("PUT", ITEM, {**read.json, "spec": {"size": 2}})
    assert (replaced.status, replaced.json["spec"]["size"]) == (200, 2)
    stale = await server.request("PUT", ITEM, {**read.json, "spec": {"size": 3}})
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")
    deleted = await server.request("DELETE", ITEM)
    assert deleted.json["status"] == "Success"
    assert deleted.json["details"]["uid"] == created.json["metadata"]["uid"]
    assert (await server.request("GET", ITEM)).json["reason"] == "NotFound"


async def test_a_body_without_kind_and_without_content_type_is_of_the_kind_of_the_url(server: Server) -> None:
    body = {"metadata": {"name": "c", "labels": None}, "data": {"a": "b"}, "immutable": None}
    reply = await server.request("POST", CONFIG_MAPS, body, content_type=None)
    assert (reply.status, reply.json["kind"], reply.json["data"]) == (201, "ConfigMap", {"a": "b"})


async def test_yaml_bodies_are_taken(server: Server) -> None:
    body = b"apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\nspec: {size: 4}\n"
    reply = await server.request("POST", WIDGETS_PATH, body, content_type="application/yaml")
    assert (reply.status, reply.json["spec"]["size"]) == (201, 4)


async def test_protobuf_bodies_of_builtin_kinds_are_taken(server: Server) -> None:
    metadata = field(1, b"s") + field(11, field(1, b"team") + field(2, b"food"))
    raw = field(1, metadata) + field(2, field(1, b"k") + field(2, b"\x00\xff")) + field(3, b"Opaque")
    reply = await server.request(
        "POST", "/api/v1/namespaces/default/secrets", protobuf("v1", "Secret", raw), content_type=PROTOBUF
    )
    assert (reply.status, reply.json["data"]) == (201, {"k": "AP8="})
    assert reply.json["metadata"]["labels"] == {"team": "food"}


async def test_protobuf_delete_options_are_taken(server: Server) -> None:
    await server.client.create(widget("a"))
    options = protobuf("meta.k8s.io/v1", "DeleteOptions", field(2, field(1, b"other-uid")))
    assert (await server.request("DELETE", ITEM, options, content_type=PROTOBUF)).status == 409


@pytest.mark.parametrize("cut", range(4, 60, 5))
async def test_a_truncated_protobuf_body_is_refused(server: Server, cut: int) -> None:
    whole = protobuf("v1", "ConfigMap", field(1, field(1, b"name")) + field(2, field(1, b"k") + field(2, b"v")))
    reply = await server.request("POST", CONFIG_MAPS, whole[:cut], content_type=PROTOBUF)
    assert reply.status in (400, 415, 422) or cut >= len(whole)


async def test_unknown_and_duplicate_fields_warn_or_refuse_as_asked(server: Server) -> None:
    raw = b'{"metadata":{"name":"a"},"spec":{"size":1,"size":2,"bogus":1}}'
    warned = await server.request("POST", f"{WIDGETS_PATH}?dryRun=All", raw)
    texts = [value for key, value in warned.headers if key == "warning"]
    assert sorted(texts) == ['299 - "duplicate field \\"spec.size\\""', '299 - "unknown field \\"spec.bogus\\""']
    refused = await server.request("POST", f"{WIDGETS_PATH}?fieldValidation=Strict", raw)
    assert refused.status == 400
    assert 'strict decoding error: duplicate field "spec.size", unknown field "spec.bogus"' in refused.json["message"]
    ignored = await server.request("POST", f"{WIDGETS_PATH}?fieldValidation=Ignore", raw)
    assert (ignored.status, ignored.header("warning")) == (201, "")


async def test_a_dry_run_stores_nothing(server: Server) -> None:
    assert (await server.request("POST", f"{WIDGETS_PATH}?dryRun=All", widget("a"))).status == 201
    assert (await server.request("GET", ITEM)).status == 404


async def test_server_side_apply_creates_then_merges_and_needs_a_manager(server: Server) -> None:
    body = b"spec: {size: 7}"
    assert (await server.request("PATCH", ITEM, body, content_type=APPLY)).status == 422
    first = await server.request("PATCH", f"{ITEM}?fieldManager=m", body, content_type=APPLY)
    assert (first.status, first.json["spec"]["size"]) == (201, 7)
    same = await server.request("PATCH", f"{ITEM}?fieldManager=m", body, content_type=APPLY)
    assert (same.status, same.json) == (200, first.json)
    other = await server.request("PATCH", f"{ITEM}?fieldManager=n", b"spec: {size: 8}", content_type=APPLY)
    assert (other.status, other.json["details"]["causes"][0]["reason"]) == (409, "FieldManagerConflict")
    forced = await server.request("PATCH", f"{ITEM}?fieldManager=n&force=true", b"spec: {size: 8}", content_type=APPLY)
    assert forced.json["spec"]["size"] == 8


async def test_status_and_scale_are_documents_of_their_own(server: Server) -> None:
    await server.client.create(widget("a"))
    scaled = await server.request("PATCH", f"{ITEM}/scale", {"spec": {"replicas": 3}}, content_type=MERGE)
    assert (scaled.json["kind"], scaled.json["spec"]["replicas"]) == ("Scale", 3)
    put = await server.request("PUT", f"{ITEM}/scale", {**scaled.json, "spec": {"replicas": 4}})
    assert put.json["spec"]["replicas"] == 4
    patched = await server.request(
        "PATCH", f"{ITEM}/status", {"spec": {"size": 9}, "status": {"replicas": 2}}, content_type=MERGE
    )
    assert (patched.json["spec"]["size"], patched.json["status"]["replicas"]) == (1, 2)


async def test_the_status_of_a_namespace_is_no_namespaced_resource(server: Server) -> None:
    reply = await server.request("GET", "/api/v1/namespaces/default/status")
    assert (reply.status, reply.json["kind"]) == (200, "Namespace")


async def test_the_field_manager_falls_back_to_the_user_agent(server: Server) -> None:
    reply = await server.request("POST", WIDGETS_PATH, widget("a"), headers={"user-agent": "lens/1.2 (x)"})
    assert [entry["manager"] for entry in reply.json["metadata"]["managedFields"]] == ["lens"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"propagationPolicy":"Background"}', b'{"kind":"DeleteOptions"}'])
async def test_every_usual_body_of_a_deletion_is_taken(server: Server, body: bytes) -> None:
    await server.client.create(widget("a"))
    assert (await server.request("DELETE", ITEM, body)).status == 200


async def test_an_object_that_finalizers_hold_is_answered_instead_of_success(server: Server) -> None:
    held: dict[str, Any] = widget("a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await server.client.create(held)
    reply = await server.request("DELETE", ITEM)
    assert (reply.status, reply.json["kind"]) == (200, "Widget")
    assert reply.json["metadata"]["deletionTimestamp"]


async def test_a_collection_is_deleted_by_selector_and_answered_as_a_list(server: Server) -> None:
    for name in "ab":
        body: dict[str, Any] = widget(name)
        body["metadata"]["labels"] = {"name": name}
        await server.client.create(body)
    reply = await server.request("DELETE", f"{WIDGETS_PATH}?labelSelector=name%3Da")
    assert (reply.json["kind"], [item["metadata"]["name"] for item in reply.json["items"]]) == ("WidgetList", ["a"])
    assert (await server.request("GET", f"{WIDGETS_PATH}/b")).status == 200


async def test_every_answer_has_an_audit_id_and_a_given_one_is_kept(server: Server) -> None:
    assert len((await server.request("GET", WIDGETS_PATH)).header("audit-id")) == 36
    assert (await server.request("GET", "/x", headers={"audit-id": "my-id"})).header("audit-id") == "my-id"
    assert (await server.request("GET", "/x", headers={"audit-id": "bad id\n"})).header("audit-id") != "bad id\n"
