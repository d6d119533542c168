"""Whatever is sent, the answer is a Status that says what is wrong, nothing changes, and nobody else notices.

Bodies, patches, queries, headers and paths are made wrong by chance, beginning with right ones. The default run takes a
few seconds and is the same each time; `make fuzz` takes as many as KASTRA_FUZZ_EXAMPLES says, and others each time.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kastra.manifest.loader import load

from .mutations import (
    APPLY,
    JSON,
    JSON_PATCH,
    MERGE,
    PROTOBUF,
    STAMP,
    STRATEGIC,
    YAML,
    envelope,
    garbled,
    headers,
    json_bytes,
    json_patch,
    media_types,
    message,
    mutated,
    proto_message,
    proto_meta,
    query,
    yaml_bytes,
)
from .wire import REVIEWS, BlockingWire, blocking_server, gadgets, objects

VOLUME = int(os.environ.get("KASTRA_FUZZ_EXAMPLES", "0"))
OBJECTS = objects()
OBJECTS_BY_PATH = dict(OBJECTS.values())
NAMES = sorted(OBJECTS)
CORE = "/api/v1/namespaces/default"
REST = [
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]

fuzz = settings(
    max_examples=VOLUME or 150,
    derandomize=not VOLUME,
    deadline=None,
    database=None,
    suppress_health_check=REST,
    phases=(Phase.generate, Phase.shrink),
)
pytestmark = pytest.mark.timeout(3600 if VOLUME else 60)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[BlockingWire]:
    with blocking_server(tmp_path) as running:
        yield running
    assert (running.seen.get(400, 0) or running.seen.get(422, 0)) > 0, "nothing was refused, so nothing was tried"


def target(data: st.DataObject) -> tuple[str, str, dict]:
    """A kind by chance: the path of its collection, of its object, and the object."""
    collection, obj = OBJECTS[data.draw(st.sampled_from(NAMES))]
    return collection, f"{collection}/{obj['metadata']['name']}", obj


def options(data: st.DataObject, names: Sequence[str] = ("fieldManager", "fieldValidation", "dryRun")) -> str:
    """A query, wrong now and then: what is refused because of it never gets to the body."""
    chosen = data.draw(st.sampled_from(("", "", "", "", "fieldValidation=Strict", "dryRun=All", "any")))
    return data.draw(query(names)) if chosen == "any" else chosen


def marked(path: str, text: str) -> str:
    return f"{path}?{text}" if text else path


SCALE = {
    "apiVersion": "autoscaling/v1",
    "kind": "Scale",
    "metadata": {"name": "a", "namespace": "default", "resourceVersion": "@rv"},
    "spec": {"replicas": 2},
}


WITH_STATUS = ("widgets", "agents", "workflows", "namespaces", "customresourcedefinitions")


def below(data: st.DataObject, *, patch: str = "") -> tuple[str, str, str, dict[str, Any]]:
    """A place that takes writes: its collection, object and path, and something right to send there.

    Args:
        patch: the type of patch that it shall take; empty for PUT.
    """
    places = (
        ("object",) * 12 + ("status",) * 5 + ("scale",) * 3 + ("nothing",) + (("finalize",) * 2 if not patch else ())
    )
    place = data.draw(st.sampled_from(places))
    names = {"scale": ("widgets",), "finalize": ("namespaces",), "status": WITH_STATUS}.get(place, NAMES)
    if patch == STRATEGIC and place in ("object", "status"):
        names = [
            name for name in names if "/mastra.ai" not in OBJECTS[name][0] and "/example.com" not in OBJECTS[name][0]
        ]
    collection, obj = OBJECTS[data.draw(st.sampled_from(names))]
    # What the server sets itself would be refused before all else.
    obj = {
        **obj,
        "metadata": {
            key: value for key, value in obj["metadata"].items() if key not in ("creationTimestamp", "managedFields")
        },
    }
    item = f"{collection}/{obj['metadata']['name']}"
    if place == "object":
        return collection, item, item, obj
    if place == "status":
        phase: dict[str, Any] = {
            "phase": "Active",
            "replicas": 1,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": STAMP}],
        }
        obj = {**obj, "status": phase}
    return collection, item, f"{item}/{place}", SCALE if place == "scale" else obj


def with_revision(wire: BlockingWire, item: str, body: bytes) -> bytes:
    """The body with the present resourceVersion and uid where it has marks for them."""
    if b'"@rv"' not in body and b'"@uid"' not in body:
        return body
    found = wire.send("GET", item)
    meta = orjson.loads(found.body)["metadata"] if found.status == 200 else {"resourceVersion": "1", "uid": "u"}
    return body.replace(b"@rv", meta["resourceVersion"].encode()).replace(b"@uid", meta["uid"].encode())


@fuzz
@given(data=st.data())
def test_no_body_breaks_a_creation(wire: BlockingWire, data: st.DataObject) -> None:
    collection, item, obj = target(data)
    content_type = data.draw(st.sampled_from((JSON, JSON, YAML)))
    fresh = orjson.loads(orjson.dumps(obj).replace(b"gadget", b"gizmo").replace(b"Gadget", b"Gizmo"))
    if obj["kind"] != "CustomResourceDefinition":
        fresh["metadata"]["name"] = "new"
    body = data.draw(json_bytes(fresh) if content_type == JSON else yaml_bytes(fresh))
    text = options(data)
    reply = wire.refused_or_done("POST", marked(collection, text), body, {"content-type": content_type}, unchanged=item)
    if reply.status == 201:
        wire.send("DELETE", f"{collection}/{fresh['metadata']['name']}")


@fuzz
@given(data=st.data())
def test_no_body_breaks_an_update(wire: BlockingWire, data: st.DataObject) -> None:
    collection, item, path, obj = below(data)
    content_type = data.draw(st.sampled_from((JSON, JSON, YAML)))
    present = {**obj, "metadata": {**obj["metadata"], "resourceVersion": "@rv", "uid": "@uid"}}
    body = with_revision(wire, item, data.draw(json_bytes(present) if content_type == JSON else yaml_bytes(present)))
    text = options(data)
    reply = wire.refused_or_done("PUT", marked(path, text), body, {"content-type": content_type}, unchanged=item)
    if reply.status < 300:
        wire.reset(collection, OBJECTS_BY_PATH[collection])


@fuzz
@given(data=st.data())
def test_no_patch_breaks_an_object(wire: BlockingWire, data: st.DataObject) -> None:
    content_type = data.draw(st.sampled_from((MERGE, JSON_PATCH, STRATEGIC, APPLY)))
    collection, item, path, obj = below(data, patch=content_type)
    if content_type == JSON_PATCH:
        body = data.draw(json_patch())
    else:
        body = with_revision(wire, item, data.draw(yaml_bytes(obj) if content_type == APPLY else json_bytes(obj)))
    text = "fieldManager=m&force=true" if content_type == APPLY else options(data)
    reply = wire.refused_or_done("PATCH", marked(path, text), body, {"content-type": content_type}, unchanged=item)
    if reply.status < 300:
        wire.reset(collection, OBJECTS_BY_PATH[collection])


ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = [
    manifest.object
    for manifest in load([ROOT / "manifests"]).manifests
    if manifest.object["apiVersion"] == "mastra.ai/v1"
]


@fuzz
@given(data=st.data())
def test_no_example_gone_wrong_breaks_admission(wire: BlockingWire, data: st.DataObject) -> None:
    example = data.draw(st.sampled_from(EXAMPLES))
    fresh = {**example, "metadata": {**example["metadata"], "namespace": "default"}}
    path = f"/apis/mastra.ai/v1/namespaces/default/{example['kind'].lower()}s?dryRun=All"
    wire.refused_or_done("POST", path, data.draw(json_bytes(fresh)), {"content-type": JSON})


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@fuzz
@given(data=st.data())
def test_no_definition_that_was_accepted_breaks_what_is_made_of_it(wire: BlockingWire, data: st.DataObject) -> None:
    collection, item = OBJECTS["customresourcedefinitions"][0], "gadgets.example.com"
    present = gadgets()
    present["spec"] = data.draw(mutated(present["spec"]))
    present["metadata"]["resourceVersion"] = "@rv"
    body = with_revision(wire, f"{collection}/{item}", json.dumps(present).encode("utf-8", "surrogatepass"))
    if wire.refused_or_done("PUT", f"{collection}/{item}", body, {"content-type": JSON}).status != 200:
        return
    wire.refused_or_done(
        "GET", "/openapi/v2", b"", {"accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    )
    for path in (
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/apis/example.com/v1",
        "/apis/example.com",
        "/apis/example.com/v1",
    ):
        wire.refused_or_done("GET", path, b"", {})
    gadget = {
        "apiVersion": "example.com/v1",
        "kind": "Gadget",
        "metadata": {"name": "g"},
        "spec": {"color": "red"},
        "more": {"text": "a", "list": ["x"]},
    }
    kind = "/apis/example.com/v1/namespaces/default/gadgets"
    wire.refused_or_done("POST", kind, orjson.dumps(gadget), {"content-type": JSON})
    wire.refused_or_done(
        "PATCH",
        f"{kind}/g?fieldManager=m&force=true",
        orjson.dumps({**gadget, "spec": {"size": 3}}),
        {"content-type": APPLY},
    )
    wire.refused_or_done("PUT", f"{kind}/g/scale", orjson.dumps({"spec": {"replicas": 2}}), {"content-type": JSON})
    wire.refused_or_done("GET", f"{kind}?fieldSelector=spec.color%3Dred", b"", {"accept": TABLE})
    wire.refused_or_done("DELETE", f"{kind}/g", b"", {})
    wire.reset(collection, gadgets())


META = (1, proto_meta())
CLUSTER_META = (1, proto_meta(namespace=""))
RULE = [(1, "get"), (2, ""), (3, "pods"), (5, "/x")]
RBAC = "rbac.authorization.k8s.io/v1"
SAR = [(2, [(1, [(2, "get"), (4, "pods")]), (3, "jo"), (4, "g"), (5, [(1, "k"), (2, [(1, "v")])])])]
PROTOBUFS: dict[str, tuple[str, str, list[tuple[int, Any]]]] = {
    "/api/v1/namespaces": ("v1", "Namespace", [CLUSTER_META, (2, [(1, "kubernetes")]), (3, [(1, "Active")])]),
    f"{CORE}/configmaps": ("v1", "ConfigMap", [META, (2, [(1, "k"), (2, "v")]), (3, [(1, "b"), (2, b"\x00")]), (4, 0)]),
    f"{CORE}/secrets": ("v1", "Secret", [META, (2, [(1, "k"), (2, b"v")]), (3, "Opaque"), (4, [(1, "s"), (2, "t")])]),
    f"{CORE}/serviceaccounts": ("v1", "ServiceAccount", [META, (2, [(3, "s")]), (3, [(1, "s")]), (4, 1)]),
    f"{CORE}/events": ("v1", "Event", [META, (2, [(1, "Widget"), (2, "default"), (3, "a")]), (3, "R"), (6, [(1, 1)]), (8, 2),
                                       (10, [(1, 1), (2, 1000)]), (11, [(1, 2), (2, [(1, 5)])])]),
    "/apis/events.k8s.io/v1/namespaces/default/events": ("events.k8s.io/v1", "Event", [META, (2, [(1, 1)]), (4, "c/d"), (5, "i"), (6, "A"), (7, "R"),
                                                         (8, [(1, "Widget"), (2, "default"), (3, "a")]), (11, "Normal")]),
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": ("coordination.k8s.io/v1", "Lease", [META, (2, [(1, "me"), (2, 5), (4, [(1, 9), (2, 1000)])])]),
    f"/apis/{RBAC}/namespaces/default/roles": (RBAC, "Role", [META, (2, RULE[:3])]),
    f"/apis/{RBAC}/clusterroles": (RBAC, "ClusterRole", [CLUSTER_META, (2, RULE), (3, [(1, [(1, [(1, "a"), (2, "b")]), (2, [(1, "k"), (2, "Exists")])])])]),
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": ("authorization.k8s.io/v1", "SubjectAccessReview", SAR),
    "/apis/authentication.k8s.io/v1/tokenreviews": ("authentication.k8s.io/v1", "TokenReview", [(2, [(1, "t"), (2, "a")])]),
    f"{CORE}/serviceaccounts/a/token": ("authentication.k8s.io/v1", "TokenRequest", [(2, [(1, "a"), (4, 600)])]),
}  # fmt: skip


@fuzz
@given(data=st.data())
def test_no_protobuf_body_breaks_a_write(wire: BlockingWire, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(PROTOBUFS)))
    api_version, kind, fields = PROTOBUFS[path]
    raw = data.draw(proto_message(fields))
    if data.draw(st.integers(0, 3)) == 0:
        raw = data.draw(garbled(raw))
    body = envelope(api_version, kind, raw)
    if data.draw(st.integers(0, 5)) == 0:
        body = data.draw(garbled(body))
    method, target = ("POST", path)
    if not path.endswith(("reviews", "token")) and data.draw(st.booleans()):
        method, target = "PUT", f"{path}/p"
    wire.refused_or_done(method, target, body, {"content-type": PROTOBUF})


@fuzz
@given(data=st.data())
def test_no_delete_options_break_a_deletion(wire: BlockingWire, data: st.DataObject) -> None:
    collection, item, obj = target(data)
    wanted = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Background", "orphanDependents": None,
               "dryRun": ["All"], "preconditions": {"uid": "u", "resourceVersion": "1"}}  # fmt: skip
    content_type = data.draw(st.sampled_from((JSON, YAML, PROTOBUF)))
    if content_type == PROTOBUF:
        raw = message([(1, 0), (2, [(1, "u"), (2, "1")]), (3, 1), (4, "Background"), (5, "All")])
        body = data.draw(garbled(envelope("v1", "DeleteOptions", raw)))
    else:
        body = data.draw(json_bytes(wanted) if content_type == JSON else yaml_bytes(wanted))
    text = options(data, ("propagationPolicy", "orphanDependents", "gracePeriodSeconds", "dryRun", "timeout"))
    reply = wire.refused_or_done("DELETE", marked(item, text), body, {"content-type": content_type}, unchanged=item)
    if reply.status < 300:
        wire.reset(collection, obj)


@fuzz
@given(data=st.data())
def test_no_question_breaks_a_review(wire: BlockingWire, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(REVIEWS)))
    body = data.draw(json_bytes(REVIEWS[path]))
    wire.refused_or_done(
        "POST", marked(path, data.draw(query(("dryRun", "fieldValidation", "pretty")))), body, {"content-type": JSON}
    )


@fuzz
@given(data=st.data())
def test_no_query_and_no_header_breaks_a_read(wire: BlockingWire, data: st.DataObject) -> None:
    collection, item, _ = target(data)
    everywhere = collection.replace("/namespaces/default", "")
    path = data.draw(st.sampled_from((collection, everywhere, item)))
    text = data.draw(query())
    wire.refused_or_done("GET", marked(path, text), b"", data.draw(headers()), unchanged=item)


@fuzz
@given(data=st.data())
def test_no_content_type_and_no_encoding_breaks_a_write(wire: BlockingWire, data: st.DataObject) -> None:
    collection, item, obj = target(data)
    body = data.draw(json_bytes(obj) | st.binary(max_size=60))
    sent = {**data.draw(headers()), "content-type": data.draw(media_types)}
    method, path = data.draw(st.sampled_from((("POST", collection), ("PUT", item), ("PATCH", item), ("DELETE", item))))
    reply = wire.refused_or_done(
        method, marked(path, data.draw(query(("dryRun", "timeout", "fieldManager")))), body, sent, unchanged=item
    )
    if reply.status < 300:
        wire.reset(collection, obj)


ODD_PARTS = ("", ".", "..", "%2e%2e", "%2F", "%00", "%ff", "%", "%zz", "%25", "a%2Fb", "~", "*", "\x7f", "é", "%ed%a0%80", "%F0%9F%98%80", "a" * 300, "x" * 9000,
             "namespaces", "status", "scale", "finalize", "token", "watch", "proxy", "default", "a", "api", "apis", "v1", "openapi", "v2", "v3", "metrics")  # fmt: skip


@fuzz
@given(data=st.data())
def test_no_path_breaks_the_server(wire: BlockingWire, data: st.DataObject) -> None:
    collection, item, _ = target(data)
    parts = data.draw(
        st.sampled_from(
            (
                item,
                collection,
                "/openapi/v3/api/v1",
                "/openapi/v2",
                "/apis/example.com/v1",
                "/api",
                "/version",
                "/readyz",
            )
        )
    ).split("/")[1:]
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(parts)))
        parts[at : at + data.draw(st.integers(0, 1))] = [
            data.draw(
                st.sampled_from(ODD_PARTS)
                | st.text(max_size=4).map(lambda t: quote(t.encode("utf-8", "surrogatepass")))
            )
        ]
    method = data.draw(
        st.sampled_from(
            ("GET", "GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "é", "X" * 100)
        )
    )
    wire.refused_or_done(
        method, marked("/" + "/".join(parts), data.draw(query())), b"", data.draw(headers()), unchanged=item
    )
