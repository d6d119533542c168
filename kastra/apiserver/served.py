"""One resource as it is served: its schema, its strategy, and how stored bytes become objects of this version.

Bytes written under an older schema lack the defaults that were added since, and objects are stored in one version of
several. Both are put right when they are read, in memory, at the revision they have; nothing is written because of a
read. Where somebody outside converts, that takes a call: `prepare` makes it beforehand, and everything else stays immediate.

Read next: `kastra.apiserver.registry`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from kastra.api.object import Object, encode_stored
from kastra.api.scheme import Resource
from kastra.api.topology import Node, root_of
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


class Converter(Protocol):
    """Converts between versions, and takes its time for it."""

    async def convert(self, objects: Sequence[Mapping[str, Any]], api_version: str) -> list[dict[str, Any]]:
        """The same objects in another version, in the same order. Raises InternalError."""
        ...


@dataclass(slots=True, eq=False)
class Served:
    """A resource in one served version.

    Args:
        conversion: where more than the version differs from what is stored.
        converter: where it takes a call to convert between versions.
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
    converter: Converter | None = None
    stored_as: str = ""
    group_resource: str = field(init=False)
    _schema: "CompiledSchema | None" = field(init=False, default=None)
    _prune: "Walker | None" = field(init=False, default=None)
    _topology: Node | None = field(init=False, default=None)
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
        """How the fields of whole objects are owned."""
        if self._topology is None:
            self._topology = root_of(self.schema.topology)
        return self._topology

    def prune(self, obj: dict[str, Any]) -> Sequence[str]:
        """Drop what the schema doesn't have, in place and without defaults; returns the paths."""
        if self._prune is None:
            from kastra.schema.walker import Mode, Walker

            self._prune = Walker(self.schema.structural, Mode(default=False, validate=False))
        return self._prune(obj).unknown

    def key(self, namespace: str, name: str) -> Key:
        """Where an object of this kind is stored."""
        return Key(self.group_resource, namespace if self.resource.namespaced else "", name)

    async def prepare(self, *entries: Entry) -> None:
        """Have converted what takes a call to convert. Needed before `body` and all that is made of it; usually does nothing.

        Raises:
            InternalError: whoever converts didn't.
        """
        if self.converter is not None:
            await self._prepare(self.converter, entries)

    async def _prepare(self, converter: Converter, entries: Iterable[Entry]) -> None:
        ready: dict[Key, tuple[bytes, bytes]] = {}
        waiting: list[tuple[Entry, dict[str, Any]]] = []
        for entry in entries:
            known = self._memo.get(entry.key)
            if known is not None and known[0] is entry.body:
                ready[entry.key] = known
                continue
            data: dict[str, Any] = orjson.loads(entry.body)
            if data["apiVersion"] != self.resource.api_version:
                waiting.append((entry, data))
        if not waiting:
            return
        converted = await converter.convert([data for _, data in waiting], self.resource.api_version)
        for (entry, _), data in zip(waiting, converted, strict=True):
            ready[entry.key] = (entry.body, self._completed(data))
        if len(self._memo) + len(ready) > _MEMO_LIMIT:
            self._memo.clear()
        self._memo |= ready

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

    def fields(self, entry: Entry) -> Mapping[str, Any]:
        """An entry for a look at its fields."""
        found: Mapping[str, Any] = orjson.loads(self.body(entry))
        return found

    def object(self, entry: Entry) -> Object:
        """An entry as clients get it."""
        return Object(self.body(entry), entry.revision)

    def parsed(self, entry: Entry) -> dict[str, Any]:
        """An entry as a plain object of the caller's own, with its resourceVersion."""
        data: dict[str, Any] = orjson.loads(self.body(entry))
        data["metadata"]["resourceVersion"] = str(entry.revision)
        return data

    async def encode(self, obj: Mapping[str, Any]) -> bytes:
        """A plain object of this version in the form and version it is stored in. Raises InternalError.

        Nothing in `obj` may be changed afterwards, except that its metadata may lose or get fields.
        """
        if self._native:
            return encode_stored(obj, remember=not self.resource.builtin)
        if self.conversion is not None:
            return encode_stored(self.conversion.to_stored(obj))
        version = f"{self.resource.group}/{self.resource.storage_version}"
        if self.converter is not None:
            (converted,) = await self.converter.convert([obj], version)
            return encode_stored(converted)
        return encode_stored({**obj, "apiVersion": version})

    async def taken_from(self, other: "Served", obj: Mapping[str, Any]) -> dict[str, Any]:
        """An object of another version of this kind as one of this version, with all defaults. Raises InternalError."""
        if self.converter is None:
            body = self._converted(await other.encode(obj))
        else:
            (converted,) = await self.converter.convert([obj], self.resource.api_version)
            body = self._completed(converted)
        data: dict[str, Any] = orjson.loads(body)
        return data

    def _converted(self, body: bytes) -> bytes:
        data: dict[str, Any] = orjson.loads(body)
        if self.conversion is not None:
            data = self.conversion.from_stored(data)
        elif self.converter is not None and data["apiVersion"] != self.resource.api_version:
            raise AssertionError("an object that takes a call to convert wasn't prepared")
        data["apiVersion"] = self.resource.api_version
        completed = self._completed(data)
        return body if completed == body else completed

    def _completed(self, data: dict[str, Any]) -> bytes:
        """What another version or an older schema left is pruned, and defaults are filled."""
        self.prune(data)
        self.schema.default(data)
        return encode_stored(data)
