"""The immutable object: bytes, parsed on first access.

Bytes are what the store keeps, what the wire sends and what informers share; most objects pass through a process without
anyone reading a field. What was parsed last is remembered by its bytes for a while, since a state of an object passes through
several hands at about the same time: the writer's, the watches', those of whoever looks at it then. The stored form is JSON
that starts with `{"metadata":{` and has no resourceVersion; the revision is spliced in when the object is served, so that it
can be assigned without encoding again.

Read next: `kastra.client.interface`, which hands these out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import orjson

from .meta import ObjectRef, find_condition

_PREFIX = b'{"metadata":{'
_NOTHING: Mapping[str, Any] = {}

_LARGEST_KEPT = 8192
"""Bytes of an object that is remembered parsed; larger ones are rare, and weigh too much."""
_PLACES = 1021
"""A prime, since addresses of bytes of one length lie at regular steps."""
_UNASSIGNED = -2
"""In the place of a revision: the object is about to be stored, and gets one then."""
_Parsed = tuple[bytes, int, dict[str, Any]]
# A place per address, not a map: whoever comes later takes it over, so that nothing need be thrown out, from any thread.
_parsed_last: list[_Parsed | None] = [None] * _PLACES


def encode_stored(data: Mapping[str, Any], *, remember: bool = False) -> bytes:
    """`data` in stored form: `metadata` first, no resourceVersion. The result is an exact-size copy.

    Args:
        remember: whoever looks at the object next sees what is in `data`, which is plain JSON and never changed any more.

    Raises:
        ValueError: there is no metadata with a name, or a value that JSON can't hold.
    """
    metadata = {**data["metadata"]}
    metadata.pop("resourceVersion", None)
    if not metadata.get("name"):
        raise ValueError("an object without metadata.name can't be stored")
    # A key keeps its first place, whatever is given for it later.
    ordered = {"metadata": metadata, "apiVersion": data["apiVersion"], "kind": data["kind"], **data}
    ordered["metadata"] = metadata
    # orjson over-allocates its result; a copy of exact size is what a cache of many should hold.
    stored = bytes(bytearray(orjson.dumps(ordered)))
    if remember and len(stored) <= _LARGEST_KEPT:
        _parsed_last[(id(stored) >> 4) % _PLACES] = (stored, _UNASSIGNED, ordered)
    return stored


def with_revision(stored: bytes, revision: int) -> bytes:
    """Stored form to served form: the resourceVersion spliced in as the first key of metadata."""
    return b'%b"resourceVersion":"%d",%b' % (_PREFIX, revision, stored[len(_PREFIX) :])


class Object:
    """One object at one revision, immutable. Attribute access parses once and caches.

    Never change what `data`, `spec` or `status` return: they are shared. `to_dict()` gives a copy to change.
    """

    __slots__ = ("_data", "_raw", "_revision", "_stored")

    def __init__(self, stored: bytes, revision: int) -> None:
        self._stored: bytes | None = stored
        self._revision = revision
        self._raw: bytes | None = None
        self._data: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """An object from its served form, as a remote server sends it."""
        self = cls.__new__(cls)
        self._stored, self._revision, self._raw, self._data = None, -1, raw, None
        return self

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """An object from parsed form; `data` is encoded at once, so later changes to it don't show."""
        return cls.from_json(orjson.dumps(data))

    def unparsed(self) -> "Object":
        """The same object over the same bytes, not yet parsed: what a cache of many should hold."""
        bare = Object.__new__(Object)
        bare._stored, bare._revision, bare._raw, bare._data = self._stored, self._revision, self._raw, None
        return bare

    @property
    def raw(self) -> bytes:
        """The object as JSON, with its resourceVersion."""
        if self._raw is None:
            assert self._stored is not None
            return with_revision(self._stored, self._revision)
        return self._raw

    @property
    def data(self) -> Mapping[str, Any]:
        """The parsed object; shared, not to be changed."""
        return self._data or self._parse()

    def _parse(self) -> dict[str, Any]:
        source = self._stored if self._stored is not None else self._raw or b"{}"
        place = (id(source) >> 4) % _PLACES
        known = _parsed_last[place]
        if known is not None and known[0] is source and known[1] in (self._revision, _UNASSIGNED):
            data: dict[str, Any] = known[2]
            if known[1] == _UNASSIGNED:
                data["metadata"]["resourceVersion"] = str(self._revision)
                _parsed_last[place] = (source, self._revision, data)
            self._data = data
            return data
        data = orjson.loads(source)
        if self._stored is not None:
            data["metadata"]["resourceVersion"] = str(self._revision)
        if len(source) <= _LARGEST_KEPT:
            _parsed_last[place] = (source, self._revision, data)
        self._data = data
        return data

    def to_dict(self) -> dict[str, Any]:
        """A fresh parse, the caller's own to change."""
        parsed: dict[str, Any] = orjson.loads(self.raw)
        return parsed

    @property
    def api_version(self) -> str:
        """`group/version`."""
        api_version: str = (self._data or self._parse()).get("apiVersion", "")
        return api_version

    @property
    def kind(self) -> str:
        """The kind, as in the manifest."""
        kind: str = (self._data or self._parse()).get("kind", "")
        return kind

    @property
    def metadata(self) -> Mapping[str, Any]:
        """ObjectMeta."""
        # The most read of all: the slot directly, here and in many others.
        metadata: Mapping[str, Any] = (self._data or self._parse()).get("metadata") or _NOTHING
        return metadata

    @property
    def name(self) -> str:
        """metadata.name."""
        name: str = ((self._data or self._parse()).get("metadata") or _NOTHING).get("name", "")
        return name

    @property
    def namespace(self) -> str:
        """metadata.namespace; empty for cluster-scoped objects."""
        namespace: str = ((self._data or self._parse()).get("metadata") or _NOTHING).get("namespace", "")
        return namespace

    @property
    def uid(self) -> str:
        """metadata.uid."""
        uid: str = ((self._data or self._parse()).get("metadata") or _NOTHING).get("uid", "")
        return uid

    @property
    def resource_version(self) -> str:
        """metadata.resourceVersion, a decimal."""
        resource_version: str = ((self._data or self._parse()).get("metadata") or _NOTHING).get("resourceVersion", "")
        return resource_version

    @property
    def generation(self) -> int:
        """metadata.generation; 0 for kinds that have none."""
        generation: int = ((self._data or self._parse()).get("metadata") or _NOTHING).get("generation", 0)
        return generation

    @property
    def labels(self) -> Mapping[str, str]:
        """metadata.labels."""
        return ((self._data or self._parse()).get("metadata") or _NOTHING).get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """metadata.annotations."""
        return self.metadata.get("annotations") or {}

    @property
    def owner_references(self) -> Sequence[Mapping[str, Any]]:
        """metadata.ownerReferences."""
        return ((self._data or self._parse()).get("metadata") or _NOTHING).get("ownerReferences") or ()

    @property
    def finalizers(self) -> Sequence[str]:
        """metadata.finalizers."""
        return self.metadata.get("finalizers") or ()

    @property
    def deleting(self) -> bool:
        """Whether deletion was asked for and finalizers still hold the object."""
        return "deletionTimestamp" in ((self._data or self._parse()).get("metadata") or _NOTHING)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The desired state."""
        return (self._data or self._parse()).get("spec") or {}

    @property
    def status(self) -> Mapping[str, Any]:
        """The observed state."""
        return (self._data or self._parse()).get("status") or {}

    @property
    def ref(self) -> ObjectRef:
        """This object's address. The kind carries its group, so that it is unambiguous."""
        metadata = self.metadata
        return ObjectRef(self.qualified_kind, metadata.get("name", ""), metadata.get("namespace", ""))

    @property
    def qualified_kind(self) -> str:
        """The kind with its group: `Agent.mastra.ai`; the kind alone in the group without a name."""
        data = self._data or self._parse()
        kind: str = data.get("kind", "")
        group = data.get("apiVersion", "").rpartition("/")[0]
        return f"{kind}.{group}" if group else kind

    def condition(self, type_: str) -> Mapping[str, Any] | None:
        """The status condition of that type, or None."""
        return find_condition(((self._data or self._parse()).get("status") or _NOTHING).get("conditions"), type_)

    def is_condition_true(self, type_: str) -> bool:
        """Whether that condition is there and True."""
        # Asked of every state of a Run by many: without `condition` and what that calls.
        conditions = ((self._data or self._parse()).get("status") or _NOTHING).get("conditions")
        for condition in conditions or ():
            if condition.get("type") == type_:
                status: str | None = condition.get("status")
                return status == "True"
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Object) and self.data == other.data

    def __hash__(self) -> int:
        return hash((self.uid, self.resource_version))

    def __repr__(self) -> str:
        return (
            f"<Object {self.kind} {self.namespace + '/' if self.namespace else ''}{self.name} @{self.resource_version}>"
        )
