"""What is stored now, in memory: bytes by key, per resource, at one revision.

Changed only on the event loop, a whole batch at a time, so whoever reads there sees a state that was committed as one. The
writer thread, which runs ahead of the loop, reads through `head`: it puts each committed batch into `ahead` before it
prepares the next, and the loop takes it out after applying it.

Read next: `kastra.store.operations`, which changes it.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappush

from .interface import Entry, Key, Snapshot, StoreEvent


class Resource:
    """The objects of one resource."""

    __slots__ = ("_keys", "_listed", "_stale", "entries")

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self._keys: list[Key] = []
        self._stale = False
        self._listed: Sequence[Entry] | None = None

    def apply(self, key: Key, new: Entry | None) -> None:
        """Set the entry at `key`, or remove it."""
        self._listed = None
        if new is None:
            if self.entries.pop(key, None) is not None:
                self._stale = True
            return
        if key not in self.entries:
            # Appended now, sorted when somebody lists: sorting a nearly sorted list is cheap, keeping it sorted isn't.
            self._keys.append(key)
            self._stale = True
        self.entries[key] = new

    def listed(self, namespace: str) -> Sequence[Entry]:
        """The entries in order; do not change the result, it is shared."""
        if self._stale:
            if len(self._keys) != len(self.entries):
                self._keys = [*self.entries]
            self._keys.sort()
            self._stale = False
        entries = self.entries
        if namespace:
            keys = self._keys
            start = bisect_left(keys, namespace, key=lambda key: key.namespace)
            found = []
            for index in range(start, len(keys)):
                if keys[index].namespace != namespace:
                    break
                found.append(entries[keys[index]])
            return found
        if self._listed is None:
            self._listed = [entries[key] for key in self._keys]
        return self._listed


class Cache:
    """All resources at `revision`.

    Args:
        revision: of the last change applied.
        compact_revision: below which deletions are forgotten.
        entries: that were stored at that revision.
    """

    def __init__(self, revision: int, compact_revision: int, entries: Iterable[Entry]) -> None:
        self.revision = revision
        self.compact_revision = compact_revision
        self.written = revision
        """Of the last change committed; read and set on the writer thread."""
        self.ahead: deque[dict[Key, Entry | None]] = deque()
        """Batches that are committed and not yet applied, oldest first."""
        self.resources: dict[str, Resource] = {}
        self.expiring: list[tuple[int, Key]] = []
        """A heap of when objects may go, in milliseconds; items of objects that changed since are void."""
        for entry in entries:
            self._set(entry.key, entry)

    def get(self, key: Key) -> Entry | None:
        """The entry at `key`."""
        found = self.resources.get(key[0])
        return found.entries.get(key) if found is not None else None

    def snapshot(self, resource: str, namespace: str) -> Snapshot:
        """The entries of a resource, in all namespaces if `namespace` is empty."""
        found = self.resources.get(resource)
        return Snapshot(self.revision, found.listed(namespace) if found is not None else ())

    def head(self, key: Key) -> Entry | None:
        """The entry at `key` as last committed; for the writer thread."""
        # The loop applies a batch before it takes it out of `ahead`, so looking there first misses nothing.
        if self.ahead:
            for batch in reversed(tuple(self.ahead)):
                if key in batch:
                    return batch[key]
        return self.get(key)

    def apply(self, events: Sequence[StoreEvent], revision: int) -> dict[str, list[tuple[int, StoreEvent]]]:
        """Apply committed changes; returns what to publish, by resource."""
        published: dict[str, list[tuple[int, StoreEvent]]] = {}
        for event in events:
            entry = event.entry
            assert entry is not None
            key = entry.key
            self._set(key, None if event.type == "DELETED" else entry)
            items = published.get(key.resource)
            if items is None:
                items = published[key.resource] = []
            items.append((event.revision, event))
        self.revision = revision
        return published

    def _set(self, key: Key, new: Entry | None) -> None:
        found = self.resources.get(key[0])
        if found is None:
            found = self.resources[key[0]] = Resource()
        found.apply(key, new)
        if new is not None and new.expires_at is not None:
            heappush(self.expiring, (new.expires_at, key))
