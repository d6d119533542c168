"""How does one follow a resource from a revision on? The past, joined without a gap to what is live.

Where the past comes from depends on how far back it lies:

    now (no revision given)     the present objects, as ADDED
    within the topic's ring     the ring
    further back                present objects and tombstones newer than the revision: what happened to a key in between
                                is merged into one event; with a selector it can't be told who left it, so 410
    below the compact revision  410 Expired
    in the future               wait a little, then 504 'Too large resource version'

The subscription is made in the same turn of the event loop in which the past is taken, so nothing falls between them. A
watcher that falls behind is cut off by the bus and its stream ends after the last event delivered. Never blocks a
publisher, never filters by anything but namespace and the predicate it was given.

Source: watch cache of kube-apiserver, resourceVersion semantics of the Kubernetes API. Read next: `kastra.bus`.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol, Self

from kastra.api.errors import Expired, expired
from kastra.bus import Bus, Subscription, TooOld

from .interface import Entry, Predicate, Snapshot, StoreEvent


class Source(Protocol):
    """What a watch needs of its store."""

    bus: Bus

    @property
    def revision(self) -> int:
        """Of the last change applied."""
        ...

    @property
    def compact_revision(self) -> int:
        """Below which the past is gone."""
        ...

    def list(self, resource: str, namespace: str = "") -> Snapshot:
        """The present objects."""
        ...

    def topic(self, resource: str) -> str:
        """The bus topic of a resource, which exists."""
        ...

    async def deletions(self, resource: str, after: int, until: int) -> Sequence[Entry]:
        """Last states of what was deleted after one revision and up to another, in order."""
        ...

    async def wait_for(self, revision: int) -> None:
        """Return when the store has reached `revision`. Raises ServerTimeout if that takes too long."""
        ...

    def forget(self, watch: "Watch") -> None:
        """The watch is closed."""
        ...


class Watch:
    """An open watch; see `kastra.store.interface.Storage.watch` for its arguments.

    Raises:
        Expired: `since` is below what can be replayed.
    """

    def __init__(
        self,
        source: Source,
        resource: str,
        namespace: str,
        since: int | None,
        predicate: Predicate | None,
        bookmarks: bool,
        initial_events: bool,
    ) -> None:
        self._source = source
        self._resource = resource
        self._namespace = namespace
        self._predicate = predicate
        self._bookmarks = bookmarks
        self._initial_events = initial_events
        self._ready: deque[StoreEvent] = deque()
        self._subscription: Subscription | None = None
        self._behind: tuple[int, int, Sequence[Entry]] | None = None
        self._awaited: int | None = None
        self._delivered = since or 0
        self._closed = False
        self._bookmark_due = False
        if since is not None and since > source.revision:
            self._awaited = since
        else:
            self._begin(since)

    @property
    def revision(self) -> int:
        """Up to which everything was delivered; one can resume from here without missing anything."""
        live = self._subscription
        if live is None or self._behind is not None or self._ready or live.waiting or live.ended:
            return self._delivered
        return max(self._delivered, self._source.revision)

    def request_bookmark(self) -> None:
        """Deliver a bookmark when everything before it is delivered, if bookmarks were asked for."""
        if self._bookmarks and self._subscription is not None:
            self._bookmark_due = True
            self._subscription.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoreEvent:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            await self._fill()
        event = self._ready.popleft()
        self._delivered = event.revision
        return event

    def take(self) -> StoreEvent | None:
        """The next event, if it is there already."""
        if not self._ready:
            return None
        event = self._ready.popleft()
        self._delivered = event.revision
        return event

    async def aclose(self) -> None:
        """Free the watch."""
        self._end()
        self._ready.clear()

    def _end(self) -> None:
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()
        self._source.forget(self)

    def _begin(self, since: int | None) -> None:
        """Take the past and subscribe to what follows, at once."""
        source = self._source
        topic = source.topic(self._resource)
        accept = self._accepts if self._namespace else None
        if since is None or self._initial_events:
            snapshot = source.list(self._resource, self._namespace)
            self._subscription = source.bus.subscribe(topic, accept=accept)
            self._present(snapshot)
            return
        if since < source.compact_revision:
            raise _too_old(since, source.compact_revision)
        try:
            self._subscription = source.bus.subscribe(topic, since, accept=accept)
        except TooOld as error:
            if self._predicate is not None:
                raise _too_old(since, error.floor) from None
            snapshot = source.list(self._resource, self._namespace)
            newer = [entry for entry in snapshot.entries if entry.revision > since]
            self._behind = (since, snapshot.revision, newer)
            self._subscription = source.bus.subscribe(topic, accept=accept)

    def _accepts(self, event: StoreEvent) -> bool:
        return event.entry is not None and event.entry.key.namespace == self._namespace

    def _present(self, snapshot: Snapshot) -> None:
        predicate = self._predicate
        # In order of revision, so that `revision` is right in the midst of them too.
        for entry in sorted(snapshot.entries, key=lambda entry: entry.revision):
            if predicate is None or predicate(entry):
                self._ready.append(StoreEvent("ADDED", entry.revision, entry))
        if self._initial_events:
            self._ready.append(StoreEvent("BOOKMARK", snapshot.revision, None))
        elif not self._ready:
            self._delivered = max(self._delivered, snapshot.revision)

    async def _fill(self) -> None:
        """Put what comes next into `_ready`; nothing after a mere wake-up."""
        if self._awaited is not None:
            await self._source.wait_for(self._awaited)
            since, self._awaited = self._awaited, None
            self._begin(since)
            return
        if self._behind is not None:
            await self._catch_up(*self._behind)
            return
        assert self._subscription is not None
        for _, change in await self._subscription.batch():
            event = self._seen(change)
            if event is not None:
                self._ready.append(event)
        if self._ready:
            return
        if self._subscription.ended and not self._subscription.waiting:
            self._end()
        elif self._bookmark_due:
            self._bookmark_due = False
            self._ready.append(StoreEvent("BOOKMARK", self.revision, None))

    async def _catch_up(self, since: int, until: int, newer: Sequence[Entry]) -> None:
        gone = await self._source.deletions(self._resource, since, until)
        if since < self._source.compact_revision:
            # Tombstones may have gone while they were being read.
            self._end()
            raise _too_old(since, self._source.compact_revision)
        events = [
            StoreEvent("ADDED" if entry.create_revision > since else "MODIFIED", entry.revision, entry)
            for entry in newer
        ]
        events += [
            StoreEvent("DELETED", entry.revision, entry)
            for entry in gone
            # What came and went in between was never seen.
            if entry.create_revision <= since and (not self._namespace or entry.key.namespace == self._namespace)
        ]
        events.sort(key=lambda event: event.revision)
        self._behind = None
        self._ready.extend(events)

    def _seen(self, change: StoreEvent) -> StoreEvent | None:
        """The event that a change is for this watcher; None if it concerns objects it doesn't see."""
        predicate = self._predicate
        if predicate is None:
            return change
        new = None if change.type == "DELETED" else change.entry
        return as_seen(change, change.old is not None and predicate(change.old), new is not None and predicate(new))


def as_seen(change: StoreEvent, before: bool, after: bool) -> StoreEvent | None:
    """The event that a change is for a watcher with a selector; None for none.

    Args:
        before: whether the selector selects the old state.
        after: whether it selects the new one; false for a deletion.
    """
    if after:
        return change if before or change.type == "ADDED" else StoreEvent("ADDED", change.revision, change.entry)
    if not before:
        return None
    # Of what left the selector the watcher is shown the last state in it, as by kube-apiserver.
    return change if change.type == "DELETED" else StoreEvent("DELETED", change.revision, change.old)


def _too_old(since: int, oldest: int) -> Expired:
    return expired(f"too old resource version: {since} ({oldest})")
