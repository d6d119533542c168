"""What is an event? CloudEvents 1.0, read from and written to its three forms over HTTP.

    structured   `application/cloudevents+json`: one JSON object holds attributes and data
    batched      `application/cloudevents-batch+json`: a list of these
    binary       any other content type: attributes are `ce-` headers, the body is the data

An event is plain data here, checked attribute by attribute; nothing is fetched, verified or delivered. Data that is JSON is
kept as a value and data that is text as a string; anything else stays base64 text, and `binary` says so. Who may send events
is decided where they arrive. Two events are the same if their `source` and `id` are.

Source: CloudEvents 1.0.2, its JSON format and HTTP protocol binding. Read next: `kastra.engine.mailroom`, which delivers them.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson

from kastra.clock import parse_rfc3339

from . import strict
from .errors import (
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    TYPE_INVALID,
    BadRequest,
    Cause,
    RequestEntityTooLarge,
    StatusError,
    UnsupportedMediaType,
)

SPECVERSION = "1.0"
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
JSON = "application/json"

MAX_EVENT = 256 * 1024
"""Bytes of an event in its JSON form; four times what every CloudEvents intermediary must forward."""
MAX_BATCH = 100
"""Events of one batch."""
MAX_ATTRIBUTE = 1024
"""Characters of an attribute's value."""
MAX_EXTENSIONS = 32
"""Extension attributes of one event."""

_NAME = re.compile(r"[a-z0-9]{1,40}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(\s*;.*)?")
_STRINGS = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
_KNOWN = frozenset((*_STRINGS, "specversion", "data", "data_base64"))
_INT32 = 2**31


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event.

    Args:
        id: unique among the events of its source.
        source: where it happened, a URI reference such as `/orders`.
        type: what happened, such as `order.created`.
        subject: what it happened to; empty for none.
        time: when it happened, RFC 3339; empty for unknown.
        data: a JSON value, or base64 text if `binary`; None for none.
        datacontenttype: media type of the data; empty means JSON.
        dataschema: URI of the data's schema; empty for none.
        binary: `data` is base64 text of bytes that are neither JSON nor text.
        specversion: of CloudEvents; always `1.0`.
        extensions: further attributes: text, booleans and 32-bit integers.
    """

    id: str
    source: str
    type: str
    subject: str = ""
    time: str = ""
    data: Any = None
    datacontenttype: str = ""
    dataschema: str = ""
    binary: bool = False
    specversion: str = SPECVERSION
    extensions: Mapping[str, str | bool | int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same as another: source and id."""
        return self.source, self.id

    def to_json(self) -> dict[str, Any]:
        """The structured form, with only the attributes that it has. `parse_event` reads it back."""
        found: dict[str, Any] = {"specversion": self.specversion, "id": self.id, "source": self.source}
        found["type"] = self.type
        for name in ("subject", "time", "datacontenttype", "dataschema"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        found.update(self.extensions)
        if self.binary:
            found["data_base64"] = self.data
        elif self.data is not None:
            found["data"] = self.data
        return found

    def to_bytes(self) -> bytes:
        """The structured form as JSON text."""
        return orjson.dumps(self.to_json())


def parse_event(value: Any, path: str = "") -> CloudEvent:
    """The event of a JSON object in the structured form.

    Args:
        value: the decoded object.
        path: where it stands, such as `[2]`; fields of errors begin with it.

    Raises:
        BadRequest: it is no event; the causes say which fields are wrong and how.
        RequestEntityTooLarge: it has more than `MAX_EVENT` bytes.
    """
    if not isinstance(value, Mapping):
        raise _refused([Cause(TYPE_INVALID, "Invalid value: an event is a JSON object", path)])
    causes = list(_findings(value, path))
    data, binary = value.get("data"), False
    if "data_base64" in value:
        if value.get("data") is not None:
            causes.append(Cause(INVALID, "Invalid value: give data or data_base64, not both", _at(path, "data_base64")))
        try:
            raw = base64.b64decode(value["data_base64"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            causes.append(Cause(INVALID, "Invalid value: must be base64 text", _at(path, "data_base64")))
        else:
            data, binary = _data(raw, str(value.get("datacontenttype") or ""), strictly=False)
    if causes:
        raise _refused(causes)
    event = CloudEvent(
        **{name: value[name] for name in _STRINGS if value.get(name) is not None},
        data=data,
        binary=binary,
        extensions={name: item for name, item in value.items() if name not in _KNOWN and item is not None},
    )
    _check_size(event, path)
    return event


def parse_batch(value: Any, path: str = "") -> list[CloudEvent]:
    """The events of a decoded batch, at least one.

    Raises:
        BadRequest: it is no list of events; all or none are taken. The causes name each that is wrong.
        RequestEntityTooLarge: one of them is too large.
    """
    if not isinstance(value, list) or not value:
        raise _refused([Cause(TYPE_INVALID, "Invalid value: a batch is a list of at least one event", path)])
    if len(value) > MAX_BATCH:
        raise _refused([Cause(TOO_MANY, f"Too many: {len(value)}: must have at most {MAX_BATCH} events", path)])
    events: list[CloudEvent] = []
    causes: list[Cause] = []
    for index, item in enumerate(value):
        try:
            events.append(parse_event(item, f"{path}[{index}]"))
        except BadRequest as error:
            causes += error.causes
    if causes:
        raise _refused(causes)
    return events


def read_http(headers: Iterable[tuple[str, str]], body: bytes) -> list[CloudEvent]:
    """The events of an HTTP request, in any of the three forms.

    Args:
        headers: pairs of name and value; names in any case.
        body: of the request, whole.

    Raises:
        BadRequest: the body is no JSON, or holds what is no event; the causes name fields, of headers as `ce-type`.
        UnsupportedMediaType: another `application/cloudevents` format than JSON.
        RequestEntityTooLarge: an event is too large.
    """
    given = {name.lower(): value for name, value in headers}
    media = given.get("content-type", "").split(";")[0].strip().lower()
    if media == STRUCTURED:
        return [parse_event(strict.decode(body))]
    if media == BATCHED:
        return parse_batch(strict.decode(body))
    if media.startswith("application/cloudevents"):
        raise UnsupportedMediaType(f"the event format {media} is not read here; send {STRUCTURED}, {BATCHED} or binary")
    if "ce-specversion" not in given and "ce-id" not in given and "ce-type" not in given:
        raise BadRequest(
            f"the request holds no event: its content type is neither {STRUCTURED} nor {BATCHED}, and it has no ce- headers"
        )
    return [_binary_mode(given, body)]


def _binary_mode(given: Mapping[str, str], body: bytes) -> CloudEvent:
    attributes: dict[str, Any] = {
        name[3:]: unquote(value.strip().strip('"'), errors="replace")
        for name, value in given.items()
        if name.startswith("ce-")
    }
    content_type = given.get("content-type", "").strip()
    attributes.pop("data", None)
    attributes.pop("data_base64", None)
    if content_type:
        attributes["datacontenttype"] = content_type
    causes = [
        Cause(cause.reason, cause.message, f"ce-{cause.field}" if cause.field else "")
        for cause in _findings(attributes, "")
    ]
    if causes:
        raise _refused(causes)
    if len(body) > MAX_EVENT:
        raise _too_large("")
    data, binary = _data(body, content_type, strictly=True) if body else (None, False)
    event = CloudEvent(
        **{name: attributes[name] for name in _STRINGS if name in attributes},
        data=data,
        binary=binary,
        extensions={name: item for name, item in attributes.items() if name not in _KNOWN},
    )
    _check_size(event, "")
    return event


def _data(raw: bytes, content_type: str, *, strictly: bool) -> tuple[Any, bool]:
    """What `raw` says, and whether it had to stay base64. With `strictly`, a body that calls itself JSON must be that."""
    media = content_type.split(";")[0].strip().lower() or JSON
    if media == JSON or media.endswith("+json") or media == "text/json":
        try:
            return strict.decode(raw), False
        except BadRequest:
            if strictly:
                raise
    elif media.startswith("text/"):
        try:
            return raw.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(raw).decode(), True


def _findings(value: Mapping[str, Any], path: str) -> Iterator[Cause]:
    version = value.get("specversion")
    if version is None:
        yield Cause(REQUIRED, "Required value", _at(path, "specversion"))
    elif version != SPECVERSION:
        yield Cause(
            NOT_SUPPORTED, f'Unsupported value: {_quoted(version)}: supported values: "1.0"', _at(path, "specversion")
        )
    for name in _STRINGS:
        yield from _string_findings(value.get(name), name, _at(path, name))
    extensions = [name for name in value if name not in _KNOWN]
    if len(extensions) > MAX_EXTENSIONS:
        yield Cause(TOO_MANY, f"Too many: {len(extensions)}: must have at most {MAX_EXTENSIONS} extensions", path)
        return
    for name in extensions:
        yield from _extension_findings(str(name), value[name], path)


def _string_findings(value: Any, name: str, path: str) -> Iterator[Cause]:
    if value is None:
        if name in ("id", "source", "type"):
            yield Cause(REQUIRED, "Required value", path)
        return
    if not isinstance(value, str):
        yield Cause(TYPE_INVALID, f"Invalid value: must be a string, not {_kind(value)}", path)
    elif not value:
        yield Cause(INVALID, 'Invalid value: "": must not be empty', path)
    elif len(value) > MAX_ATTRIBUTE:
        yield Cause(TOO_LONG, f"Too long: may not be more than {MAX_ATTRIBUTE} characters", path)
    elif _CONTROL.search(value):
        yield Cause(INVALID, f"Invalid value: {_quoted(value)}: must not hold control characters", path)
    elif name == "time" and not _is_time(value):
        yield Cause(INVALID, f'Invalid value: {_quoted(value)}: must be a time such as "2030-01-31T09:00:00Z"', path)
    elif name == "datacontenttype" and not _MEDIA_TYPE.fullmatch(value):
        yield Cause(INVALID, f'Invalid value: {_quoted(value)}: must be a media type such as "application/json"', path)


def _extension_findings(name: str, value: Any, path: str) -> Iterator[Cause]:
    where = _at(path, name[:64])
    if not _NAME.fullmatch(name):
        yield Cause(
            INVALID,
            f"Invalid value: {_quoted(name)}: names of attributes are up to 40 lower-case letters and digits; "
            "anything else belongs into data",
            where,
        )
    elif isinstance(value, str):
        if len(value) > MAX_ATTRIBUTE:
            yield Cause(TOO_LONG, f"Too long: may not be more than {MAX_ATTRIBUTE} characters", where)
        elif _CONTROL.search(value):
            yield Cause(INVALID, f"Invalid value: {_quoted(value)}: must not hold control characters", where)
    elif isinstance(value, int):
        if not -_INT32 <= value < _INT32:
            yield Cause(INVALID, f"Invalid value: {value}: must fit into 32 bits; write a longer number as text", where)
    elif value is not None:
        yield Cause(
            TYPE_INVALID,
            f"Invalid value: must be a string, boolean or integer, not {_kind(value)}; anything else belongs into data",
            where,
        )


def _is_time(value: str) -> bool:
    try:
        parse_rfc3339(value)
    except ValueError:
        return False
    return True


def _check_size(event: CloudEvent, path: str) -> None:
    if len(event.to_bytes()) > MAX_EVENT:
        raise _too_large(path)


def _too_large(path: str) -> StatusError:
    where = f"{path}: " if path else ""
    return RequestEntityTooLarge(f"{where}the event is larger than {MAX_EVENT} bytes; send a reference to its data")


def _refused(causes: list[Cause]) -> BadRequest:
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes[:10]]
    more = f", and {len(causes) - 10} more" if len(causes) > 10 else ""
    return BadRequest(f"not a CloudEvent: {', '.join(texts)}{more}", causes=tuple(causes))


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list"


def _quoted(value: Any) -> str:
    text = str(value)
    return orjson.dumps(text if len(text) <= 64 else text[:61] + "...").decode()
