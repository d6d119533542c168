"""How is an event sent over HTTP? Headers and body of the structured and the binary mode.

    structured   `application/cloudevents+json`: the body is the event
    binary       attributes are `ce-` headers, percent-encoded where HTTP wants it; the body is the data

`kastra.api.cloudevents.read_http` reads both back. Nothing is sent here. Source: CloudEvents 1.0.2, its HTTP protocol binding.
Read next: `kastra.app.event_sinks`, which sends.
"""

import base64
from typing import Any

import orjson

from .cloudevents import JSON, STRUCTURED, CloudEvent

STRUCTURED_MODE, BINARY_MODE = "structured", "binary"
MODES = (STRUCTURED_MODE, BINARY_MODE)


def write_http(event: CloudEvent, mode: str) -> tuple[dict[str, str], bytes]:
    """Headers by lower-case name, and body, of a request that carries `event` in one of `MODES`."""
    if mode == STRUCTURED_MODE:
        return {"content-type": f"{STRUCTURED}; charset=utf-8"}, event.to_bytes()
    attributes = event.to_json()
    attributes.pop("data", None)
    attributes.pop("data_base64", None)
    content_type = str(attributes.pop("datacontenttype", ""))
    headers = {f"ce-{name}": _encoded(value) for name, value in attributes.items()}
    body = _body(event, content_type or JSON)
    if content_type or body:
        headers["content-type"] = content_type or JSON
    return headers, body


def _body(event: CloudEvent, content_type: str) -> bytes:
    if event.data is None:
        return b""
    if event.binary:
        return base64.b64decode(event.data)
    media = content_type.split(";")[0].strip().lower()
    if isinstance(event.data, str) and media.startswith("text/") and media != "text/json":
        return event.data.encode()
    return orjson.dumps(event.data)


def _encoded(value: Any) -> str:
    """An attribute as a header: everything but printable ASCII is percent-encoded, and so are space, quote and percent."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte not in b'"%' else f"%{byte:02X}" for byte in str(value).encode()
    )
