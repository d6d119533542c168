"""One resource as it is served: its schema, its strategy, and how stored bytes become objects of this version.

Bytes written under an older schema lack the defaults that were added since, and objects are stored in one version of
several. Both are put right when they are read, in memory, at the revision they have; nothing is written because of a
read.

Read next: `kastra.apiserver.registry`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kastra.api.object import Object, encode_stored
from kastra.api.scheme import Resource
from kastra.api.topology import Node
from kastra.store.interface import Entry, Key

from .strategy import Strategy

if TYPE_CHECKING:
    # Loaded when it is first needed: it takes a fifth of the time of a command that only reads.
    from kastra.schema.compiled import CompiledSchema
    from kastra.schema.walker import Walker

_MEMO_LIMIT = 50_000


class Conversion(NamedTuple):
    """Between the form that is stored and the one that is served; both take and give whole objects."""

    from_stored: Callable[[Mapping[str, Any]], dict[str, Any]]
    to_stored: Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(slots=True, eq=False)
class Served:
    """A resource in one served version.

    Args:
        conversion: where more than the version differs from what is stored.
        stored_as: the kind in storage, where that is another one's; empty for its own.
        resource: its entry in the scheme.
        strategy: in what the kind differs.
        compile: gives the compiled schema, when it is first needed: who only reads needs none.
        fresh_after: entries with a higher revision were written under this schema and need no look on read.
        deprecation: the warning for whoever uses this version; empty for none.
    """

    resource: Resource
    strategy: Strategy
    compile: Callable[[], "CompiledSchema"]
    fresh_after: int = -1
    deprecation: str = ""
    conversion: Conversion | None = None
    stored_as: str = ""
    group_resource: str = field(init=False)
    _schema: "CompiledSchema | None" = field(init=False, default=None)
    _prune: "Walker | None" = field(init=False, default=None)
    _native: bool = field(init=False)
    _memo: dict[Key, tuple[bytes, bytes]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.group_resource = self.stored_as or self.resource.group_resource
        same = self.resource.version == (self.resource.storage_version or self.resource.version)
        self._native = same and self.conversion is None

    @property
    def schema(self) -> "CompiledSchema":
        """What objects of this kind are pruned, defaulted and validated by."""
        if self._schema is None:
            self._schema = self.compile()
        return self._schema

    @property
    def topology(self) -> Node:
        """How fields are owned."""
        return self.schema.topology

    def prune(self, obj: dict[str, Any]) -> Sequence[str]:
        """Drop what the schema doesn't have, in place and without defaults; returns the paths."""
        if self._prune is None:
            from kastra.schema.walker import Mode, Walker

            self._prune = Walker(self.schema.structural, Mode(default=False, validate=False))
        return self._prune(obj).unknown

    def key(self, namespace: str, name: str) -> Key:
        """Where an object of this kind is stored."""
        return Key(self.group_resource, namespace if self.resource.namespaced else "", name)

    def body(self, entry: Entry) -> bytes:
        """The stored form of an entry in this version, with all defaults; usually the entry's own bytes."""
        if self._native and entry.revision > self.fresh_after:
            return entry.body
        known = self._memo.get(entry.key)
        if known is not None and known[0] is entry.body:
            return known[1]
        body = self._converted(entry.body)
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        self._memo[entry.key] = (entry.body, body)
        return body

    def object(self, entry: Entry) -> Object:
        """An entry as clients get it."""
        return Object(self.body(entry), entry.revision)

    def parsed(self, entry: Entry) -> dict[str, Any]:
        """An entry as a plain object of the caller's own, with its resourceVersion."""
        data: dict[str, Any] = orjson.loads(self.body(entry))
        data["metadata"]["resourceVersion"] = str(entry.revision)
        return data

    def encode(self, obj: Mapping[str, Any]) -> bytes:
        """A plain object of this version in the form and version it is stored in."""
        if self._native:
            return encode_stored(obj)
        if self.conversion is not None:
            return encode_stored(self.conversion.to_stored(obj))
        version = self.resource.storage_version
        return encode_stored({**obj, "apiVersion": f"{self.resource.group}/{version}"})

    async def taken_from(self, other: "Served", obj: Mapping[str, Any]) -> dict[str, Any]:
        """An object of another version of this kind as one of this version, with all defaults."""
        data: dict[str, Any] = orjson.loads(self._converted(other.encode(obj)))
        return data

    def _converted(self, body: bytes) -> bytes:
        data: dict[str, Any] = orjson.loads(body)
        if self.conversion is not None:
            data = self.conversion.from_stored(data)
        data["apiVersion"] = self.resource.api_version
        self.schema.default(data)
        converted = encode_stored(data)
        return body if converted == body else converted
