"""Which objects are there? The cache behind an informer: by key, by namespace, by owner, by any named index.

Objects are kept unparsed, as bytes shared with whoever delivered them, because a cache of ten thousand parsed objects
would weigh many times what their bytes do; what a reader gets is parsed when it is first looked into. Never fetches
anything: the informer fills it, everybody else only reads.

Source: Kubernetes' client-go (tools/cache Indexer, Lister). Read next: `kastra.runtime.informer`.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from kastra.api.object import Object

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped kinds."""
IndexFunction = Callable[[Object], Iterable[str]]
"""The values under which an object is found; must depend on nothing but the object."""
Version = tuple[str, int]
"""The uid and the revision of an object."""
Unchanged = Callable[[Object, Object], bool]
"""Whether an object's index values are surely the same in its old and its new state, so that they needn't be computed."""

OWNER = "owner"
"""The index by uid of an object's owners; always there."""


class Lister(Protocol):
    """The reading side of a cache. What it returns is shared: read it, don't change it."""

    def get(self, namespace: str, name: str) -> Object | None:
        """The object of that name, or None."""
        ...

    def list(self, namespace: str | None = None) -> Sequence[Object]:
        """All objects, or those of a namespace, in no particular order."""
        ...

    def by_index(self, name: str, value: str) -> Sequence[Object]:
        """The objects that index `name` has under `value`. Raises KeyError: there is no such index."""
        ...

    def owned_by(self, uid: str) -> Sequence[Object]:
        """The objects with an ownerReference to `uid`."""
        ...


def _owner_uids(obj: Object) -> Iterable[str]:
    return [owner.get("uid", "") for owner in obj.owner_references]


class _Index:
    __slots__ = ("buckets", "function", "unchanged", "values")

    def __init__(self, function: IndexFunction, unchanged: Unchanged | None) -> None:
        self.function = function
        self.unchanged = unchanged
        self.values: dict[Key, tuple[str, ...]] = {}
        self.buckets: dict[str, dict[Key, None]] = {}

    def update(self, name: str, key: Key, old: Object | None, new: Object) -> None:
        if old is not None and self.unchanged is not None and self.unchanged(old, new):
            return
        try:
            found = self.function(new)
            values = tuple(dict.fromkeys(found)) if found else ()
        except Exception:
            # One object that an index function can't read must not hide the others.
            logger.exception("index function failed", extra={"index": name, "object": str(new.ref)})
            values = ()
        if values != self.values.get(key, ()):
            self.remove(key)
            if values:
                self.values[key] = values
            for value in values:
                self.buckets.setdefault(value, {})[key] = None

    def remove(self, key: Key) -> None:
        for value in self.values.pop(key, ()):
            bucket = self.buckets[value]
            del bucket[key]
            if not bucket:
                del self.buckets[value]


def key_and_version(obj: Object) -> tuple[Key, Version]:
    """Where an object belongs and which state of it this is, from one look into it. Revision 0 stands for no number."""
    metadata = obj.metadata
    revision = metadata.get("resourceVersion", "")
    return (
        (metadata.get("namespace", ""), metadata.get("name", "")),
        (metadata.get("uid", ""), int(revision) if revision.isdecimal() else 0),
    )


class Indexer:
    """A Lister that its informer fills."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {}
        self._versions: dict[Key, Version] = {}
        self._indices: dict[str, _Index] = {}
        self.add_index(OWNER, _owner_uids)

    def __len__(self) -> int:
        return len(self._versions)

    def add_index(self, name: str, function: IndexFunction, unchanged: Unchanged | None = None) -> None:
        """Keep an index from now on, over present objects too.

        Raises:
            ValueError: another function has that name.
        """
        known = self._indices.get(name)
        if known is not None:
            if known.function is not function:
                raise ValueError(f"index {name!r} exists with another function; give this one another name")
            return
        index = self._indices[name] = _Index(function, unchanged)
        for namespace, objects in self._objects.items():
            for object_name, obj in objects.items():
                index.update(name, (namespace, object_name), None, obj.unparsed())

    def replace_index(self, name: str, function: IndexFunction, unchanged: Unchanged | None = None) -> None:
        """As `add_index`, but another function may have that name so far."""
        self._indices.pop(name, None)
        self.add_index(name, function, unchanged)

    def has_index(self, name: str) -> bool:
        """Whether there is an index of that name."""
        return name in self._indices

    def get(self, namespace: str, name: str) -> Object | None:
        """The object of that name, or None."""
        objects = self._objects.get(namespace)
        found = objects.get(name) if objects is not None else None
        return found.unparsed() if found is not None else None

    def list(self, namespace: str | None = None) -> Sequence[Object]:
        """All objects, or those of a namespace, in no particular order."""
        groups = self._objects.values() if namespace is None else (self._objects.get(namespace, {}),)
        return [obj.unparsed() for group in groups for obj in group.values()]

    def by_index(self, name: str, value: str) -> Sequence[Object]:
        """The objects that index `name` has under `value`. Raises KeyError: there is no such index."""
        keys = self._indices[name].buckets.get(value, ())
        return [self._objects[namespace][object_name].unparsed() for namespace, object_name in keys]

    def owned_by(self, uid: str) -> Sequence[Object]:
        """The objects with an ownerReference to `uid`."""
        return self.by_index(OWNER, uid)

    def all_keys(self) -> set[Key]:
        """The keys of all objects."""
        return set(self._versions)

    def version(self, key: Key) -> Version | None:
        """The uid and revision of the object at `key`, without parsing it; None without an object."""
        return self._versions.get(key)

    def put(self, obj: Object, known: tuple[Key, Version] | None = None) -> Object | None:
        """Store an object; returns the state it replaces.

        Args:
            known: its `key_and_version`, of a caller who has asked already.
        """
        key, version = known or key_and_version(obj)
        objects = self._objects.get(key[0])
        if objects is None:
            objects = self._objects[key[0]] = {}
        old = objects.get(key[1])
        objects[key[1]] = obj.unparsed()
        self._versions[key] = version
        previous = old.unparsed() if old is not None else None
        for name, index in self._indices.items():
            index.update(name, key, previous, obj)
        return previous

    def remove(self, key: Key) -> Object | None:
        """Forget an object; returns its last known state."""
        objects = self._objects.get(key[0], {})
        old = objects.pop(key[1], None)
        if old is None:
            return None
        if not objects:
            del self._objects[key[0]]
        del self._versions[key]
        for index in self._indices.values():
            index.remove(key)
        return old.unparsed()
