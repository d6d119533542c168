"""In which form does the client want the answer? Accept headers, read as Kubernetes reads them.

Clauses are tried in their order; the first that can be served wins. JSON is the only encoding; an object can be had as
itself, as a row of a Table, or as its metadata alone. Protobuf and CBOR are never answered: clients that send them also
list JSON, and one that doesn't gets 406.

Source: apiserver/pkg/endpoints/handlers/negotiation. Read next: `kastra.apiserver.http.table`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kastra.api.errors import NotAcceptable

_JSON_TYPES = frozenset({"application/json", "application/*", "*/*"})
_FORMS = {
    "Table": "table",
    "PartialObjectMetadata": "partial",
    "PartialObjectMetadataList": "partial",
}
_META_VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True, slots=True)
class Form:
    """What to make of objects: themselves, a Table, or metadata alone; `version` is that of meta.k8s.io."""

    kind: Literal["object", "table", "partial"] = "object"
    version: str = "v1"


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of an Accept header; parameter names in lower case."""

    media_type: str
    parameters: dict[str, str]


OBJECT = Form()


@lru_cache(maxsize=512)
def clauses(accept: bytes) -> tuple[Clause, ...]:
    """The clauses of a header, in order. No header means anything."""
    found = []
    for part in accept.decode("latin-1").split(","):
        media_type, *parameters = part.split(";")
        if media_type.strip():
            pairs = (parameter.partition("=") for parameter in parameters)
            found.append(
                Clause(media_type.strip().lower(), {k.strip().lower(): v.strip().strip('"') for k, _, v in pairs})
            )
    return tuple(found) or (Clause("*/*", {}),)


@lru_cache(maxsize=512)
def negotiate(accept: bytes, *, tables: bool = True, streamed: bool = False) -> Form:
    """The form of an answer.

    Args:
        accept: the header's value; empty for none.
        tables: whether what is asked for can be shown as a Table, and has metadata.
        streamed: whether it is a list as a stream of events, whose end a Table can't tell.

    Raises:
        NotAcceptable: nothing that is listed can be served.
    """
    for clause in clauses(accept):
        if clause.media_type not in _JSON_TYPES:
            continue
        wanted = clause.parameters.get("as")
        if wanted is None:
            return OBJECT
        version = clause.parameters.get("v", "")
        kind = _FORMS.get(wanted)
        if kind == "table" and streamed:
            continue
        if tables and kind and clause.parameters.get("g") == "meta.k8s.io" and version in _META_VERSIONS:
            return Form("table" if kind == "table" else "partial", version)
    raise not_acceptable()


def not_acceptable(types: str = "application/json") -> NotAcceptable:
    """406 with the types that are."""
    return NotAcceptable(f"only the following media types are accepted: {types}")
