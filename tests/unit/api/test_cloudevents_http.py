"""An event as an HTTP request: what is written is what is read back, in either mode."""

from typing import Any

import orjson
import pytest

from kastra.api.cloudevents import CloudEvent, parse_event, read_http
from kastra.api.cloudevents_http import MODES, write_http

EVENT: dict[str, Any] = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "paid"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="bare"),
        pytest.param({"data": {"total": 3}}, id="object"),
        pytest.param({"data": "text", "datacontenttype": "text/plain"}, id="text"),
        pytest.param({"data": "quoted", "datacontenttype": "application/json"}, id="json-text"),
        pytest.param({"data": 0, "time": "2030-01-31T09:00:00Z", "subject": "o-1"}, id="attributes"),
        pytest.param({"data_base64": "/wA=", "datacontenttype": "image/png"}, id="bytes"),
        pytest.param({"subject": 'Größe "XL" 100% ☃', "tenant": "a b"}, id="odd-characters"),
    ],
)
def test_what_is_written_is_read_back(mode: str, fields: dict[str, Any]) -> None:
    event = parse_event({**EVENT, **fields})
    headers, body = write_http(event, mode)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    [back] = read_http(headers.items(), body)
    # Data without a type is JSON, and a body has to say so.
    assert {"datacontenttype": "application/json", **back.to_json()} == {
        "datacontenttype": "application/json",
        **event.to_json(),
    }


def test_the_structured_mode_has_everything_in_the_body() -> None:
    headers, body = write_http(parse_event({**EVENT, "data": [1]}), "structured")
    assert headers == {"content-type": "application/cloudevents+json; charset=utf-8"}
    assert orjson.loads(body) == {**EVENT, "data": [1]}


def test_the_binary_mode_has_the_attributes_in_headers() -> None:
    headers, body = write_http(CloudEvent("7", "/shop", "paid", data=[1], extensions={"late": True, "n": 2}), "binary")
    assert (headers["ce-id"], headers["ce-type"], headers["ce-specversion"]) == ("7", "paid", "1.0")
    assert (headers["ce-late"], headers["ce-n"], headers["content-type"]) == ("true", "2", "application/json")
    assert body == b"[1]"
