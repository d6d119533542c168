"""CloudEvents are read from their three forms over HTTP, and refused field by field."""

import base64
from typing import Any

import orjson
import pytest

from kastra.api.cloudevents import MAX_BATCH, MAX_EVENT, CloudEvent, parse_batch, parse_event, read_http
from kastra.api.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

ORDER: dict[str, Any] = {
    "specversion": "1.0",
    "id": "A-1",
    "source": "/orders",
    "type": "order.created",
    "subject": "o-17",
    "time": "2030-01-31T09:00:00Z",
    "datacontenttype": "application/json",
    "tenant": "acme",
    "attempt": 2,
    "data": {"total": 120},
}


def structured(**changes: Any) -> dict[str, Any]:
    return {**ORDER, **changes}


def test_an_event_in_the_structured_form_is_read_and_written_back_unchanged() -> None:
    event = parse_event(ORDER)
    assert (event.id, event.source, event.type, event.subject) == ("A-1", "/orders", "order.created", "o-17")
    assert event.data == {"total": 120}
    assert event.extensions == {"tenant": "acme", "attempt": 2}
    assert event.to_json() == ORDER
    assert parse_event(orjson.loads(event.to_bytes())) == event


def test_an_event_needs_no_more_than_four_attributes() -> None:
    event = parse_event({"specversion": "1.0", "id": "1", "source": "s", "type": "t"})
    assert event == CloudEvent("1", "s", "t")
    assert event.to_json() == {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


def test_null_attributes_are_as_good_as_absent() -> None:
    assert parse_event(structured(subject=None, tenant=None)).subject == ""


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"specversion": None}, "specversion", "Required value"),
        ({"specversion": "0.3"}, "specversion", 'supported values: "1.0"'),
        ({"id": None}, "id", "Required value"),
        ({"id": ""}, "id", "must not be empty"),
        ({"id": 7}, "id", "must be a string, not a number"),
        ({"type": ["t"]}, "type", "must be a string, not a list"),
        ({"source": "x" * 1025}, "source", "Too long"),
        ({"subject": "a\nb"}, "subject", "control characters"),
        ({"time": "yesterday"}, "time", "must be a time such as"),
        ({"time": "2030-01-31T09:00:00"}, "time", "must be a time such as"),
        ({"datacontenttype": "json"}, "datacontenttype", "must be a media type"),
        ({"Tenant": "acme"}, "Tenant", "lower-case letters and digits"),
        ({"tenant": {"a": 1}}, "tenant", "must be a string, boolean or integer, not an object"),
        ({"attempt": 2**31}, "attempt", "32 bits"),
        ({"attempt": 1.5}, "attempt", "not a number"),
        ({"data_base64": "AA=="}, "data_base64", "not both"),
        ({"data": None, "data_base64": "%%"}, "data_base64", "must be base64"),
    ],
    ids=lambda value: str(value)[:32] if isinstance(value, dict) else None,
)
def test_a_wrong_attribute_is_refused_with_its_name(changes: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_event(structured(**changes))
    assert [cause.field for cause in refused.value.causes] == [field]
    assert says in str(refused.value)


def test_everything_wrong_with_an_event_is_told_at_once() -> None:
    with pytest.raises(BadRequest) as refused:
        parse_event({"specversion": "1.0", "source": 1, "Bad": "x"})
    assert {cause.field for cause in refused.value.causes} == {"id", "source", "type", "Bad"}


@pytest.mark.parametrize("value", [None, [], "event", 3])
def test_what_is_no_object_is_no_event(value: Any) -> None:
    with pytest.raises(BadRequest, match="an event is a JSON object"):
        parse_event(value)


def test_base64_data_of_json_becomes_its_value_and_other_bytes_stay_base64() -> None:
    value = structured(data=None, data_base64=base64.b64encode(b'{"a":1}').decode())
    assert parse_event(value).data == {"a": 1}
    raw = base64.b64encode(b"\xff\xd8").decode()
    picture = parse_event(structured(data=None, data_base64=raw, datacontenttype="image/jpeg"))
    assert (picture.data, picture.binary) == (raw, True)
    assert picture.to_json()["data_base64"] == raw


def test_an_event_that_is_too_large_is_refused_as_such() -> None:
    with pytest.raises(RequestEntityTooLarge, match="send a reference"):
        parse_event(structured(data="x" * MAX_EVENT))


def test_a_batch_is_taken_whole_or_not_at_all() -> None:
    assert [event.id for event in parse_batch([structured(id="1"), structured(id="2")])] == ["1", "2"]
    with pytest.raises(BadRequest) as refused:
        parse_batch([structured(), structured(id=None), structured(time="x")])
    assert [cause.field for cause in refused.value.causes] == ["[1].id", "[2].time"]


@pytest.mark.parametrize(
    "value", [[], {}, None, [structured()] * (MAX_BATCH + 1)], ids=["empty", "map", "null", "many"]
)
def test_what_is_no_batch_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest):
        parse_batch(value)


def test_the_binary_form_has_attributes_in_headers_and_data_in_the_body() -> None:
    headers = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("CE-SpecVersion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/or%20ders"),
        ("ce-type", "t"),
        ("ce-tenant", '"acme"'),
        ("accept", "*/*"),
    ]
    (event,) = read_http(headers, b'{"a": 1}')
    assert (event.source, event.data, event.extensions) == ("/or ders", {"a": 1}, {"tenant": "acme"})
    assert event.datacontenttype == "application/json; charset=utf-8"


def test_text_and_bytes_can_be_sent_in_the_binary_form() -> None:
    attributes = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")]
    (text,) = read_http([*attributes, ("content-type", "text/plain")], "grün".encode())
    assert (text.data, text.binary) == ("grün", False)
    (raw,) = read_http([*attributes, ("content-type", "image/png")], b"\x89PNG")
    assert (raw.data, raw.binary) == (base64.b64encode(b"\x89PNG").decode(), True)
    (empty,) = read_http(attributes, b"")
    assert empty.data is None


def test_a_wrong_header_is_named_as_it_was_sent() -> None:
    with pytest.raises(BadRequest) as refused:
        read_http([("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s")], b"{}")
    assert [cause.field for cause in refused.value.causes] == ["ce-type"]


def test_structured_and_batched_bodies_are_told_apart_by_their_content_type() -> None:
    one = read_http([("content-type", "application/cloudevents+json; charset=utf-8")], orjson.dumps(ORDER))
    two = read_http([("content-type", "application/cloudevents-batch+json")], orjson.dumps([ORDER, ORDER]))
    assert (len(one), len(two)) == (1, 2)


@pytest.mark.parametrize(
    ("content_type", "body", "error"),
    [
        ("application/cloudevents+json", b"{", BadRequest),
        ("application/cloudevents+json", b"[" * 200, BadRequest),
        ("application/cloudevents+avro", b"", UnsupportedMediaType),
        ("application/json", b"{}", BadRequest),
        ("", b"", BadRequest),
    ],
    ids=["cut-off", "too-deep", "avro", "no-attributes", "nothing"],
)
def test_a_request_without_an_event_is_refused(content_type: str, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_http([("content-type", content_type)], body)


def test_a_body_that_calls_itself_json_must_be_json() -> None:
    attributes = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")]
    with pytest.raises(BadRequest, match="json parse error"):
        read_http([*attributes, ("content-type", "application/json")], b"{")
