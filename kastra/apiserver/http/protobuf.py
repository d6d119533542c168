r"""Protobuf request bodies, which kubectl >= 1.32 and Go controllers send for built-in kinds, to the same plain objects.

A body is the magic `k8s\x00` and a `runtime.Unknown` that names apiVersion and kind; what it wraps is decoded by the field
numbers below. Unknown fields are skipped, as protobuf wants; kinds that aren't in the table get 415. Nothing is ever
answered in protobuf.

Source: the `generated.proto` files of k8s.io/api; the protobuf wire format. Read next: `kastra.apiserver.http.bodies`.
"""

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kastra.api.errors import BadRequest, UnsupportedMediaType
from kastra.clock import rfc3339, rfc3339_micro

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_DEPTH = 32

Message = Mapping[int, "Field"]


class Field(NamedTuple):
    """One field of a message: its JSON name, type (a message, or a word below), and whether it is a list or a map."""

    name: str
    type: Any = "string"
    form: str = "one"


def _strings(*names: str) -> dict[int, Field]:
    return {number: Field(name) for number, name in enumerate(names, 1)}


def _many(name: str, type_: Any = "string") -> Field:
    return Field(name, type_, "list")


def _map(name: str, type_: str = "string") -> Field:
    return Field(name, type_, "map")


_OWNER: Message = {
    1: Field("kind"), 3: Field("name"), 4: Field("uid"), 5: Field("apiVersion"), 6: Field("controller", "bool"),
    7: Field("blockOwnerDeletion", "bool"),
}  # fmt: skip
_META: Message = {
    1: Field("name"), 2: Field("generateName"), 3: Field("namespace"), 5: Field("uid"), 6: Field("resourceVersion"),
    7: Field("generation", "int"), 8: Field("creationTimestamp", "time"), 9: Field("deletionTimestamp", "time"),
    11: _map("labels"), 12: _map("annotations"), 13: _many("ownerReferences", _OWNER), 14: _many("finalizers"),
}  # fmt: skip
_METADATA = Field("metadata", _META)
_REFERENCE: Message = _strings("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_RULE: Message = {
    1: _many("verbs"), 2: _many("apiGroups"), 3: _many("resources"), 4: _many("resourceNames"),
    5: _many("nonResourceURLs"),
}  # fmt: skip
_BINDING: Message = {
    1: _METADATA,
    2: _many("subjects", _strings("kind", "apiGroup", "name", "namespace")),
    3: Field("roleRef", _strings("apiGroup", "kind", "name")),
}
_REQUIREMENT: Message = {1: Field("key"), 2: Field("operator"), 3: _many("values")}
_SELECTOR: Message = {1: _map("matchLabels"), 2: _many("matchExpressions", _REQUIREMENT)}
_ROLE: Message = {1: _METADATA, 2: _many("rules", _RULE)}
_RBAC = "rbac.authorization.k8s.io/v1"
_AUTHORIZATION, _AUTHENTICATION = "authorization.k8s.io/v1", "authentication.k8s.io/v1"
_ACCESS: Message = {
    1: Field(
        "resourceAttributes", _strings("namespace", "verb", "group", "version", "resource", "subresource", "name")
    ),
    2: Field("nonResourceAttributes", _strings("path", "verb")),
}
_SUBJECT_ACCESS: Message = {
    1: _METADATA,
    2: Field("spec", {
        **_ACCESS, 3: Field("user"), 4: _many("groups"), 5: _map("extra", "strings"), 6: Field("uid"),
    }),
}  # fmt: skip

MESSAGES: Mapping[tuple[str, str], Message] = {
    ("v1", "Namespace"): {
        1: _METADATA,
        2: Field("spec", {1: _many("finalizers")}),
        3: Field("status", {1: Field("phase")}),
    },
    ("v1", "ConfigMap"): {1: _METADATA, 2: _map("data"), 3: _map("binaryData", "bytes"), 4: Field("immutable", "bool")},
    ("v1", "Secret"): {
        1: _METADATA, 2: _map("data", "bytes"), 3: Field("type"), 4: _map("stringData"), 5: Field("immutable", "bool"),
    },
    ("v1", "ServiceAccount"): {
        1: _METADATA, 2: _many("secrets", _REFERENCE), 3: _many("imagePullSecrets", {1: Field("name")}),
        4: Field("automountServiceAccountToken", "bool"),
    },
    ("v1", "Event"): {
        1: _METADATA, 2: Field("involvedObject", _REFERENCE), 3: Field("reason"), 4: Field("message"),
        5: Field("source", _strings("component", "host")), 6: Field("firstTimestamp", "time"),
        7: Field("lastTimestamp", "time"), 8: Field("count", "int"), 9: Field("type"), 10: Field("eventTime", "micro"),
        11: Field("series", {1: Field("count", "int"), 2: Field("lastObservedTime", "micro")}), 12: Field("action"),
        13: Field("related", _REFERENCE), 14: Field("reportingComponent"), 15: Field("reportingInstance"),
    },
    ("events.k8s.io/v1", "Event"): {
        1: _METADATA, 2: Field("eventTime", "micro"),
        3: Field("series", {1: Field("count", "int"), 2: Field("lastObservedTime", "micro")}),
        4: Field("reportingController"), 5: Field("reportingInstance"), 6: Field("action"), 7: Field("reason"),
        8: Field("regarding", _REFERENCE), 9: Field("related", _REFERENCE), 10: Field("note"), 11: Field("type"),
        12: Field("deprecatedSource", _strings("component", "host")), 13: Field("deprecatedFirstTimestamp", "time"),
        14: Field("deprecatedLastTimestamp", "time"), 15: Field("deprecatedCount", "int"),
    },
    ("coordination.k8s.io/v1", "Lease"): {
        1: _METADATA,
        2: Field("spec", {
            1: Field("holderIdentity"), 2: Field("leaseDurationSeconds", "int"), 3: Field("acquireTime", "micro"),
            4: Field("renewTime", "micro"), 5: Field("leaseTransitions", "int"), 6: Field("strategy"),
            7: Field("preferredHolder"),
        }),
    },
    (_RBAC, "Role"): _ROLE,
    (_RBAC, "ClusterRole"): {**_ROLE, 3: Field("aggregationRule", {1: _many("clusterRoleSelectors", _SELECTOR)})},
    (_RBAC, "RoleBinding"): _BINDING,
    (_RBAC, "ClusterRoleBinding"): _BINDING,
    (_AUTHORIZATION, "SelfSubjectAccessReview"): {1: _METADATA, 2: Field("spec", _ACCESS)},
    (_AUTHORIZATION, "SelfSubjectRulesReview"): {1: _METADATA, 2: Field("spec", {1: Field("namespace")})},
    (_AUTHORIZATION, "SubjectAccessReview"): _SUBJECT_ACCESS,
    (_AUTHORIZATION, "LocalSubjectAccessReview"): _SUBJECT_ACCESS,
    (_AUTHENTICATION, "SelfSubjectReview"): {1: _METADATA},
    (_AUTHENTICATION, "TokenReview"): {1: _METADATA, 2: Field("spec", {1: Field("token"), 2: _many("audiences")})},
    (_AUTHENTICATION, "TokenRequest"): {
        1: _METADATA,
        2: Field("spec", {
            1: _many("audiences"), 3: Field("boundObjectRef", _strings("kind", "apiVersion", "name", "uid")),
            4: Field("expirationSeconds", "int"),
        }),
    },
}  # fmt: skip
_DELETE_OPTIONS: Message = {
    1: Field("gracePeriodSeconds", "int"), 2: Field("preconditions", _strings("uid", "resourceVersion")),
    3: Field("orphanDependents", "bool"), 4: Field("propagationPolicy"), 5: _many("dryRun"),
}  # fmt: skip
_UNKNOWN: Message = {1: Field("typeMeta", _strings("apiVersion", "kind")), 2: Field("raw", "raw")}


def decode_body(body: bytes, kind: str = "") -> dict[str, Any]:
    """The object in a protobuf body.

    Args:
        kind: `DeleteOptions` where these are expected, whatever API version they name; else empty.

    Raises:
        BadRequest: it is malformed.
        UnsupportedMediaType: its kind can't be decoded.
    """
    if not body.startswith(_MAGIC):
        raise BadRequest("the protobuf body doesn't begin with the magic number k8s\\x00")
    envelope = _decode(body[len(_MAGIC) :], _UNKNOWN)
    types = envelope.get("typeMeta") or {}
    api_version, sent = types.get("apiVersion", ""), types.get("kind", "")
    if kind and sent in {"", kind}:
        return {**types, **_decode(envelope.get("raw", b""), _DELETE_OPTIONS)}
    message = MESSAGES.get((api_version, sent))
    if message is None:
        raise UnsupportedMediaType(
            f"{api_version[:128]} {sent[:128]} can't be read as {CONTENT_TYPE}; send application/json"
        )
    return {"apiVersion": api_version, "kind": sent, **_decode(envelope.get("raw", b""), message)}


def _decode(data: bytes, message: Message, depth: int = 0) -> dict[str, Any]:
    if depth > _DEPTH:
        raise _malformed("nested too deeply")
    out: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        field = message.get(number)
        if field is None:
            continue
        if (wire == 0) != (field.type in ("int", "bool")):
            raise _malformed(f"field {field.name} has another type")
        if field.form == "map":
            entry = _decode(value, {1: Field("key"), 2: Field("value", field.type)}, depth + 1)
            empty = "" if field.type in ("string", "bytes") else None
            out.setdefault(field.name, {})[entry.get("key", "")] = entry.get("value", empty)
            continue
        decoded = _value(value, field, depth)
        if field.form == "list":
            out.setdefault(field.name, []).append(decoded)
        elif isinstance(decoded, dict) and field.name in out:
            out[field.name].update(decoded)  # a message in two parts is merged
        elif decoded or field.type in ("int", "bool"):
            out[field.name] = decoded
    return out


def _value(value: Any, field: Field, depth: int) -> Any:
    match field.type:
        case "string":
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise _malformed(f"field {field.name} is not UTF-8") from None
        case "bytes":
            return base64.b64encode(value).decode()
        case "raw":
            return value
        case "strings":
            return _decode(value, {1: _many("items")}, depth + 1).get("items", [])
        case "bool":
            return bool(value)
        case "int":
            return value - (1 << 64) if value >> 63 else value
        case "time" | "micro":
            return _time(value, field, depth)
        case message:
            return _decode(value, message, depth + 1)


def _time(value: bytes, field: Field, depth: int) -> str | None:
    parts = _decode(value, {1: Field("seconds", "int"), 2: Field("nanos", "int")}, depth + 1)
    seconds, nanos = parts.get("seconds", 0), parts.get("nanos", 0)
    if not parts or seconds == _ZERO_TIME:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanos // 1000)
    except (ValueError, OverflowError, OSError):
        raise _malformed(f"field {field.name} is no time") from None
    return rfc3339(moment) if field.type == "time" else rfc3339_micro(moment)


_ZERO_TIME = -62135596800
"""Seconds of Go's zero time, which means that none is set."""


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of each field: an int for wire type 0, bytes for the others."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _malformed(f"wire type {wire}")
        if number == 0 or at + length > end:
            raise _malformed("it ends in the middle of a field")
        yield number, wire, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
    raise _malformed("it ends in the middle of a number")


def _malformed(why: str) -> BadRequest:
    return BadRequest(f"the protobuf body is malformed: {why}")
