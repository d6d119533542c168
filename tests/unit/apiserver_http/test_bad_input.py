"""Malformed requests get the right Status, and never a 500."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kastra.apiserver.filters import Limits
from kastra.apiserver.http.protobuf import CONTENT_TYPE as PROTOBUF

from .conftest import WIDGETS_PATH, Server, serve, widget

ITEM = f"{WIDGETS_PATH}/a"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "code"),
    [
        ("POST", WIDGETS_PATH, b"{", "application/json", 400),
        ("POST", WIDGETS_PATH, b"", "application/json", 400),
        ("POST", WIDGETS_PATH, b"[]", "application/json", 400),
        ("POST", WIDGETS_PATH, b'"x"', None, 400),
        ("POST", WIDGETS_PATH, b'{"metadata":"x"}', None, 400),
        ("POST", WIDGETS_PATH, b'{"kind":7}', None, 400),
        ("POST", WIDGETS_PATH, b'{"kind":"Gadget","apiVersion":"example.com/v1"}', None, 400),
        ("POST", WIDGETS_PATH, b"\xff\xfe", None, 400),
        ("POST", WIDGETS_PATH, b"[" * 100 + b"]" * 100, None, 400),
        ("POST", WIDGETS_PATH, b"a: [", "application/yaml", 400),
        ("POST", WIDGETS_PATH, b"--- {}\n--- {}\n", "application/yaml", 400),
        ("POST", WIDGETS_PATH, b"<a/>", "text/xml", 415),
        ("POST", WIDGETS_PATH, b"nonsense", PROTOBUF, 400),
        ("POST", WIDGETS_PATH, b"k8s\x00", PROTOBUF, 415),
        ("POST", "/apis/example.com/v1/widgets", widget("a"), None, 400),
        ("POST", f"{WIDGETS_PATH}?fieldValidation=Perhaps", widget("a"), None, 422),
        ("POST", f"{WIDGETS_PATH}?dryRun=Some", widget("a"), None, 422),
        ("POST", f"{WIDGETS_PATH}?fieldManager=%01", widget("a"), None, 422),
        ("POST", f"{WIDGETS_PATH}?fieldManager={'m' * 200}", widget("a"), None, 422),
        ("POST", f"{WIDGETS_PATH}?timeout=soon", widget("a"), None, 400),
        ("POST", ITEM, b"{}", None, 405),
        ("PUT", ITEM, widget("b"), None, 400),
        ("PUT", ITEM, widget("a"), None, 422),
        ("PUT", f"{ITEM}/scale", b"[]", None, 400),
        ("PUT", WIDGETS_PATH, widget("a"), None, 405),
        ("PATCH", ITEM, b"[]", MERGE, 400),
        ("PATCH", ITEM, b"{}", JSON_PATCH, 400),
        ("PATCH", ITEM, b'[{"op":"test","path":"/spec/size","value":9}]', JSON_PATCH, 422),
        ("PATCH", ITEM, b'[{"op":"fly"}]', JSON_PATCH, 400),
        ("PATCH", ITEM, b"{}", STRATEGIC, 415),
        ("PATCH", ITEM, b"{}", "application/json", 415),
        ("PATCH", ITEM, b"{}", None, 415),
        ("PATCH", f"{ITEM}?force=true", b"{}", MERGE, 422),
        ("PATCH", ITEM, b"{}", APPLY, 422),
        ("PATCH", f"{ITEM}?fieldManager=m", b"a: [", APPLY, 400),
        ("PATCH", f"{ITEM}?fieldManager=m", b"[]", APPLY, 400),
        ("DELETE", ITEM, b"[]", None, 400),
        ("DELETE", ITEM, b'{"kind":"Widget"}', None, 400),
        ("DELETE", ITEM, b'{"propagationPolicy":"Later"}', None, 422),
        ("DELETE", ITEM, b'{"preconditions":[]}', None, 400),
        ("DELETE", ITEM, b'{"preconditions":{"uid":"x"}}', None, 409),
        ("DELETE", ITEM, b'{"dryRun":["x"]}', None, 422),
        ("DELETE", "/apis/example.com/v1/widgets", b"", None, 405),
        ("DELETE", "/api/v1/namespaces", b"", None, 405),
        ("GET", f"{WIDGETS_PATH}?labelSelector=a+b+c", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?fieldSelector=spec.x%3D1", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?limit=-1", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?limit=many", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?continue=nonsense", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?resourceVersion=x", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?resourceVersionMatch=Exact", b"", None, 422),
        ("GET", f"{WIDGETS_PATH}?resourceVersion=1&resourceVersionMatch=Near", b"", None, 422),
        ("GET", f"{WIDGETS_PATH}?watch=1&labelSelector=(((", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?watch=1&timeoutSeconds=x", b"", None, 400),
        ("GET", f"{WIDGETS_PATH}?watch=1&sendInitialEvents=true", b"", None, 422),
        ("GET", f"{WIDGETS_PATH}?watch=1&resourceVersionMatch=NotOlderThan", b"", None, 422),
        ("GET", f"{WIDGETS_PATH}/%ff", b"", None, 400),
        ("GET", f"{ITEM}/nothing", b"", None, 404),
        ("POST", f"{ITEM}/status", b"{}", None, 405),
        ("HEAD", ITEM, b"", None, 405),
        ("POST", "/version", b"{}", None, 405),
        ("POST", "/openapi/v3", b"{}", None, 405),
    ],
)  # fmt: skip
async def test_a_request_that_is_wrong_gets_the_right_status(
    server: Server, method: str, path: str, body: Any, content_type: str | None, code: int
) -> None:
    await server.client.create(widget("a"))
    reply = await server.request(method, path, body, content_type=content_type)
    assert reply.status == code, reply.body
    status = reply.json
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", code)
    assert status["message"]
    assert "Traceback" not in status["message"]
    assert reply.header("content-type") == "application/json"


@pytest.mark.parametrize("path", ["/x", "/api/v2", "/apis/a.b/v1", "/apis/example.com/v1/gadgets", "/apis/example.com/v2/widgets", "/livez/x", "/openapi/v4", "/openapi/v3/x"])  # fmt: skip
async def test_an_unknown_path_is_plain_text(server: Server, path: str) -> None:
    reply = await server.request("GET", path)
    assert (reply.status, reply.body) == (404, b"404 page not found\n")


async def test_a_body_beyond_the_limit_is_413_whether_or_not_it_says_so(server: Server) -> None:
    large = b'{"a":"' + b"x" * (3 * 1024 * 1024) + b'"}'
    assert (await server.request("POST", WIDGETS_PATH, large)).status == 413
    declared = await server.request("POST", WIDGETS_PATH, b"{}", headers={"content-length": "99999999"})
    assert (declared.status, declared.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_compressed_body_is_415(server: Server) -> None:
    reply = await server.request("POST", WIDGETS_PATH, b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert reply.status == 415


async def test_more_requests_than_the_limit_are_429_with_retry_after() -> None:
    async with serve(limits=Limits(in_flight=0)) as server:
        reply = await server.request("GET", WIDGETS_PATH)
        assert (reply.status, reply.header("retry-after")) == (429, "1")
        assert (await server.request("GET", "/livez")).status == 200


async def test_one_user_can_not_take_the_places_of_the_others() -> None:
    async with serve(limits=Limits(in_flight_per_user=0)) as server:
        reply = await server.request("GET", WIDGETS_PATH)
        assert (reply.status, reply.header("retry-after")) == (429, "1")
        assert "Too many requests of 'admin'" in reply.json["message"]
        assert (await server.request("GET", "/version")).status == 200


async def test_a_client_that_cannot_read_the_answer_changes_nothing(server: Server) -> None:
    reply = await server.request("POST", WIDGETS_PATH, widget("a"), accept=PROTOBUF)
    assert (reply.status, reply.json["reason"]) == (406, "NotAcceptable")
    assert (await server.request("GET", ITEM)).status == 404


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32))
async def test_no_body_and_no_query_makes_a_500(server: Server, data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    method = chance.choice(["POST", "PUT", "PATCH", "DELETE", "GET"])
    content_type = chance.choice(
        [MERGE, JSON_PATCH, STRATEGIC, APPLY, PROTOBUF, "application/json", "application/yaml"]
    )
    path = chance.choice(
        [WIDGETS_PATH, ITEM, f"{ITEM}/status", f"{ITEM}/scale", "/api/v1/namespaces/default/configmaps"]
    )
    name = chance.choice(
        ["labelSelector", "fieldSelector", "continue", "limit", "resourceVersion", "fieldManager", "dryRun"]
    )
    body = chance.choice([b"", b"k8s\x00"]) + data
    text = "".join(f"%{byte:02x}" for byte in data[:40])
    reply = await server.request(method, f"{path}?{name}={text}", body, content_type=content_type)
    assert 200 <= reply.status < 500, reply.body
