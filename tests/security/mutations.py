"""Bodies, queries and headers gone wrong, made from ones that are right.

Every strategy begins with something the server accepts, because what is nearly right gets furthest. Bytes that no JSON
library writes (duplicate keys, lone surrogates, NaN) are put in as text.
"""

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

JSON, YAML = "application/json", "application/yaml"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"

STAMP = "2024-01-01T00:00:00Z"
ODD: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -(2**63), -(2**63) - 1,
    1e308, -1e308, 5e-324, -0.0, 0.5, 1e100, "", " ", "x", "\x00", "\x1b[2J", "\ud800", "\u202e", "\ufeff", "é" * 9,
    "a" * 254, "a" * 5000, "../x", "a/b", "a/b/c", "/", "~", "~2", "%2e%2e", "1", "0", "00", "-1", "true", "null",
    STAMP, "9999-12-31T23:59:60Z", "0000-00-00T00:00:00Z", "Inf", "1e400", "١٢", "9" * 5000, [], {}, [[]], [{}], [None],
    {"": ""}, {"a": None}, {"$patch": "delete"}, {"$patch": "replace"}, {"$patch": 7}, {"$patch": {}}, [{"$patch": "replace"}],
    {"$retainKeys": "x"}, {"$retainKeys": [{}]}, {"$setElementOrder/finalizers": [{}]}, {"$deleteFromPrimitiveList/finalizers": 1},
    ["a", "a"], [1, "1"], [{"name": "a"}, {"name": "a"}], [{"name": None}], [{"name": {}}], [{"uid": []}], {"f:metadata": {}},
    {".": {}}, {"f:": 1}, {"k:{": {}}, {'k:{"name":[]}': {}}, {"v:": {}}, {"i:x": {}}, "()", "a(", "[", "(?R)", "self", "{{",
)  # fmt: skip
"""Values that some code somewhere doesn't expect."""

_LITERALS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999999", b"-", b"01", b"0x10", b"1.", b".5", b"+1", b"'x'", b'"\\ud800"', b'"\\udc00\\ud800"',
    b'"\\u0000"', b'"\\x41"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\x01"', b"nul", b"undefined", b"{]", b"[}", b"[" * 70 + b"]" * 70,
    b'{"a":' * 70 + b"1" + b"}" * 70, b"[" * 5000, b'{"a":1,"a":2}', b'{"":1,"":{}}', b"9" * 5000, b"-" + b"9" * 400 + b".5", b"1" + b"0" * 400,
    b'"' + b"k" * 100_000 + b'"', b'{"' + b"k" * 70_000 + b'":1}', b"// x\n1", b"/**/1", b"1,", b"", b'"\\', b"\x00",
)  # fmt: skip
"""JSON values, and what looks like them, as bytes."""

_KEYS = ("", "\x00", "a" * 300, "k" * 70_000, "__proto__", "__class__", "apiVersion", "kind", "metadata", "spec", "status", "items",
         "data", "name", "namespace", "generateName", "labels", "annotations", "ownerReferences", "finalizers", "managedFields",
         "resourceVersion", "uid", "generation", "creationTimestamp", "deletionTimestamp", "$patch", "$retainKeys", "\ud800", "a.b", "a/b/c")  # fmt: skip

odd = st.sampled_from(ODD).map(deepcopy)  # mutations of mutations must not reach the table
_number = st.integers(0, 2**30)


def meta(name: str = "a", **more: Any) -> dict[str, Any]:
    """Metadata with a bit of everything."""
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "b",
        "uid": "u-1",
        "controller": False,
        "blockOwnerDeletion": False,
    }
    entry = {"manager": "m", "operation": "Update", "apiVersion": "v1", "time": STAMP, "fieldsType": "FieldsV1",
             "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}, ".": {}}}}}  # fmt: skip
    return {"name": name, "namespace": "default", "labels": {"x": "y"}, "annotations": {"n": "m"}, "ownerReferences": [owner],
            "managedFields": [entry], "creationTimestamp": STAMP, **more}  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with one to three of its parts replaced, dropped, doubled or moved."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            return draw(odd)
        parent, key = places[draw(_number) % len(places)]
        match draw(st.sampled_from(("odd", "odd", "odd", "wrap", "drop", "key", "swap", "same"))):
            case "odd":
                parent[key] = draw(odd)
            case "wrap":
                parent[key] = draw(st.sampled_from(([parent[key]], {"a": parent[key]}, str(parent[key])[:200])))
            case "drop":
                del parent[key]
            case "key" if isinstance(parent, dict):
                parent[draw(st.sampled_from(_KEYS))] = draw(odd)
            case "key" | "same" if isinstance(parent, list):
                parent.append(parent[key])
            case "swap":
                other, at = places[draw(_number) % len(places)]
                taken = json.loads(json.dumps(other[at])) if at in range(len(other)) or at in other else None
                parent[key] = taken
    return value


def _places(value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


@st.composite
def json_bytes(draw: st.DrawFn, value: Any) -> bytes:
    """Mutations as text: of the value, and then maybe of the bytes."""
    text = json.dumps(draw(mutated(value)), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    how = draw(st.sampled_from(("as it is",) * 14 + ("literal", "cut", "bytes", "before", "after", "double")))
    if how == "literal":
        ends = [at for at, byte in enumerate(text) if byte in b":[,"]
        at = ends[draw(_number) % len(ends)] + 1 if ends else 0
        rest = text[at:]
        stop = next((index for index, byte in enumerate(rest) if byte in b",}]"), len(rest))
        return text[:at] + draw(st.sampled_from(_LITERALS)) + rest[stop:]
    if how == "cut":
        return text[: draw(_number) % (len(text) + 1)]
    if how == "bytes":
        at = draw(_number) % (len(text) + 1)
        return text[:at] + draw(st.binary(min_size=1, max_size=4)) + text[at + draw(st.integers(0, 3)) :]
    if how == "before":
        return (
            draw(st.sampled_from((b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b" " * 1000, b"\x1f\x8b", b")]}'\n", b"--- ")))
            + text
        )
    if how == "after":
        return text + draw(st.sampled_from((b"\x00", b"{}", b" \n", b"}", b",", b"\xff", b"\n---\n{}")))
    if how == "double":
        return text.replace(b'"name":', b'"name":"z","name":', 1)
    return text


@st.composite
def yaml_bytes(draw: st.DrawFn, value: Any) -> bytes:
    """JSON, which is YAML too, or YAML with the things that only YAML has."""
    text = draw(json_bytes(value))
    if draw(st.booleans()):
        return text
    extra = st.sampled_from((b"", b"&a ", b"*a ", b"!!binary ", b"!!python/object:os.system ", b"!!int ", b"<<: ", b"? ", b"|\n", b"%YAML 9.9\n---\n",
                             b"&a [*a]", b"\t", b"'", b"# ", b"\x85", b"\xe2\x80\xa8", b"=\n", b"1_000", b".nan", b"-.inf", b"0o17", b"1:30:00"))  # fmt: skip
    at = draw(_number) % (len(text) + 1)
    return text[:at] + draw(extra) + text[at:]


_POINTERS = ("", "/", "/metadata", "/metadata/name", "/metadata/labels/x", "/metadata/labels/-", "/metadata/finalizers/-", "/metadata/finalizers/0",
             "/metadata/ownerReferences/0/uid", "/metadata/ownerReferences/-1", "/metadata/ownerReferences/00", "/metadata/ownerReferences/9999999999999999999999",
             "/metadata/ownerReferences/١", "/metadata/managedFields", "/metadata/managedFields/0/fieldsV1", "/metadata/resourceVersion", "/metadata/uid",
             "/metadata/namespace", "/metadata/creationTimestamp", "/metadata/deletionTimestamp", "/metadata/annotations/n", "/spec", "/spec/size",
             "/spec/parts/-", "/spec/parts/0/name", "/data", "/data/k", "/data/k/x", "/kind", "/apiVersion", "/status", "/status/phase", "/a~1b", "/~", "x", "/" * 200,
             "/" + "k" * 5000, "/metadata/labels/" + "9" * 5000)  # fmt: skip


@st.composite
def json_patch(draw: st.DrawFn) -> bytes:
    """Operations, most of them well-formed."""
    pointer = st.sampled_from(_POINTERS)
    operations = []
    for _ in range(draw(st.integers(0, 4))):
        operation: dict[str, Any] = {"op": draw(st.sampled_from(("add", "remove", "replace", "move", "copy", "test") * 3 + ("ADD", 7))),
                                     "path": draw(pointer) if draw(st.integers(0, 9)) else draw(odd), "value": draw(odd), "from": draw(pointer)}  # fmt: skip
        if draw(st.integers(0, 5)) == 0:
            operation.pop(draw(st.sampled_from(sorted(operation))))
        operations.append(operation)
    if draw(st.integers(0, 9)) == 0:
        return draw(json_bytes(operations))
    return json.dumps(operations).encode()


_TEXTS = ("", "a", "a=b", "a==b", "a!=b", "!a", "a in (b,c)", "a notin (b)", "a>1", "a<1", "a>" + "9" * 400, "a in ()", "a in (", "a,,b", "x=" + "y" * 64, "a=b=c",
          "metadata.name=a", "metadata.namespace=default", "metadata.name!=a", "spec.x=1", "spec.color=red", "type=Opaque", "source=x", "a\\=b=c\\,d", "\\", "=", "!=", "(" * 500,
          "a in (" + "b," * 1200 + "c)", ",".join(f"a{n}" for n in range(1200)), "a" * 33_000, "x" * 254 + "/y", "\x00", "é=é", "١",
          "All", "Strict", "Warn", "Ignore", "strict", "true", "false", "0", "1", "-1", "+1", "1.5", "1e3", "9" * 30, "9" * 5000, "18446744073709551616", "9223372036854775807",
          "٣", "²", " 1", "1 ", "1_0", "0x1", "NaN", "inf", "None", "Metadata", "Object", "Exact", "NotOlderThan", "Orphan", "Foreground", "Background", "30s", "-5s", "1h1h", "1e9h",
          "9" * 400 + "s", "0s", ".5s", "eyJ2Ijoia2FzdHJhLzEiLCJydiI6LTEsIm5zIjoiIiwibmFtZSI6IiJ9", "eyJ2Ijoia2FzdHJhLzEiLCJydiI6MSwibnMiOltdLCJuYW1lIjp7fX0",
          "eyJ2Ijoia2FzdHJhLzEiLCJydiI6MTg0NDY3NDQwNzM3MDk1NTE2MTYsIm5zIjoiIiwibmFtZSI6IiJ9", "W10", "bnVsbA", "=", "====", "e30", "MQ", "InYi")  # fmt: skip
_PARAMETERS = ("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "timeout", "watch",
               "allowWatchBookmarks", "sendInitialEvents", "includeObject", "dryRun", "fieldManager", "fieldValidation", "force", "pretty", "propagationPolicy",
               "orphanDependents", "gracePeriodSeconds", "since", "follow", "verbose", "", "x")  # fmt: skip


@st.composite
def query(draw: st.DrawFn, names: Sequence[str] = _PARAMETERS) -> str:
    """A query, percent-encoded, sometimes badly."""
    pairs = []
    for _ in range(draw(st.integers(0, 3))):
        value = draw(st.sampled_from(_TEXTS) | st.text(max_size=8))
        encoded = "".join(f"%{byte:02x}" for byte in value.encode("utf-8", "surrogatepass"))
        broken = draw(
            st.sampled_from((encoded,) * 12 + ("%", "%zz", "%ff", "%c0%ae", "%ed%a0%80", "%00", "a=b&c", ";", "#"))
        )
        pairs.append(f"{draw(st.sampled_from(tuple(names)))}={broken}")
    return "&".join(pairs)


_MEDIA = (JSON, YAML, MERGE, JSON_PATCH, STRATEGIC, APPLY, PROTOBUF, "", "*/*", "text/plain", "application/cbor", "application/json; charset=latin-1",
          "APPLICATION/JSON", "application/json;", ";", "/", "\xff", "application/" + "x" * 5000, "multipart/form-data; boundary=x", "application/x-www-form-urlencoded")  # fmt: skip
_ACCEPTS = (JSON, "*/*", "", "application/*", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "application/json;as=Table;v=v9;g=meta.k8s.io", "application/json;as=Table", "application/json;as", "application/json;as=;v=;g=", "application/json;q=0",
            "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", PROTOBUF, "text/html", ",", ";;;", "," * 5000, "\xff\xfe", 'application/json;as="Table"')  # fmt: skip
_OTHER_HEADERS = (("content-encoding", "gzip"), ("content-encoding", "identity"), ("content-encoding", ""), ("content-encoding", "br, gzip"), ("content-length", "-1"),
                  ("content-length", "9" * 30), ("content-length", "²"), ("audit-id", "x" * 500), ("audit-id", "\xff"), ("user-agent", "\x01/\xff"), ("user-agent", "é" * 400),
                  ("if-match", "*"), ("if-none-match", "\xff"), ("impersonate-user", "jo"), ("impersonate-user", ""), ("impersonate-user", "\xff"), ("impersonate-group", "g"),
                  ("impersonate-extra-", "x"), ("impersonate-extra-%zz", "x"), ("impersonate-uid", "1"), ("authorization", "Bearer "), ("authorization", "Basic x"),
                  ("authorization", "Bearer \xff"), ("authorization", "Bearer a.b.c"), ("authorization", "bearer  " + "x" * 9000), ("expect", "100-continue"),
                  ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."), ("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"), ("origin", "null"), ("range", "bytes=0-1"))  # fmt: skip


@st.composite
def headers(draw: st.DrawFn) -> dict[str, str]:
    """Headers beside the content type, most often none."""
    found = {"accept": draw(st.sampled_from((JSON,) * 10 + _ACCEPTS))}
    if draw(st.integers(0, 5)) == 0:
        found |= dict([draw(st.sampled_from(_OTHER_HEADERS))])
    return found


media_types = st.sampled_from(_MEDIA)


# Protobuf


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def message(fields: Sequence[tuple[int, Any]]) -> bytes:
    """A message of numbers, texts, bytes and messages (lists of such pairs)."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        raw = message(value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
        out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return out


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    """What goes over the wire: the magic and a `runtime.Unknown`."""
    return b"k8s\x00" + message([(1, [(1, api_version), (2, kind)]), (2, raw)])


def proto_meta(name: str = "p", namespace: str = "default") -> list[tuple[int, Any]]:
    """ObjectMeta with a bit of everything that a client may set."""
    owner = [(5, "v1"), (1, "ConfigMap"), (3, "b"), (4, "u-1"), (6, 1)]
    return [(1, name), (2, "p-"), (3, namespace), (7, 3), (8, [(1, 1_700_000_000), (2, 5)]), (11, [(1, "x"), (2, "y")]),
            (12, [(1, "n"), (2, "m")]), (13, owner), (14, "example.com/f")]  # fmt: skip


_PROTO_ODD = (0, 1, 2**31, 2**63, 2**64 - 1, b"", b"\xff", b"\x00", b"\xed\xa0\x80", "x", "é" * 9, "a" * 5000, "../x", [], [(1, 1)], [(1, "x")],
              [(1, 2**62), (2, 2**62)], [(1, 2**63), (2, 5)], [(2, 2**31)], [(1, b"\xff"), (2, [(1, 1)])], [(0, 1)], [(536870911, "x")])  # fmt: skip


@st.composite
def proto_message(draw: st.DrawFn, fields: Sequence[tuple[int, Any]]) -> bytes:
    """A message of which up to three fields, however deep, have another value or number."""
    tree = deepcopy(list(fields))
    for _ in range(draw(st.integers(0, 3))):
        places = list(_fields(tree))
        if not places:
            break
        parent, at = places[draw(_number) % len(places)]
        number, value = parent[at]
        match draw(st.sampled_from(("value", "value", "number", "double", "drop"))):
            case "value":
                parent[at] = (number, deepcopy(draw(st.sampled_from(_PROTO_ODD))))
            case "number":
                parent[at] = (draw(st.integers(0, 20)), value)
            case "double":
                parent.append((number, deepcopy(draw(st.sampled_from((value, *_PROTO_ODD))))))
            case "drop":
                del parent[at]
    return message(tree)


def _fields(tree: list[tuple[int, Any]]) -> Any:
    for at, (_, value) in enumerate(tree):
        yield tree, at
        if isinstance(value, list):
            yield from _fields(value)


@st.composite
def garbled(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes of protobuf, some of them changed: tags, lengths and values alike."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(_number) % (len(data) + 1)
        match draw(st.sampled_from(("set", "insert", "cut", "drop", "repeat", "huge"))):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=12))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 8))]
            case "repeat":
                data += data[4:at]
            case "huge":
                data[at:at] = b"\xff" * draw(st.integers(1, 12))
    return bytes(data)
