"""What changes from here on? A watch of one kind as clients see it.

Opens a watch of the store with the selectors as its test, and turns entries into objects of the served version. Where it
takes a call to see the fields of that version, the test is made here, and the store's watch is of everything. Never buffers:
the store bounds what a slow reader can hold back, and ends its stream.

Source: the API concepts 'Efficient detection of changes'. Read next: `kastra.store.watch`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio

from kastra.api.errors import Cause, invalid
from kastra.api.object import Object
from kastra.client.interface import WatchEvent
from kastra.clock import Clock
from kastra.store.interface import Key, Predicate, Storage, StoreEvent, StoreWatch
from kastra.store.watch import as_seen

from .listing import read_revision
from .selection import Selection
from .served import Served

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to watch, from when, and for how long.

    Args:
        resource_version: changes after it; empty or `0` for present objects first.
        send_initial_events: present objects first, then a bookmark that says so.
        resource_version_match: must be `NotOlderThan` with `send_initial_events`, when given over HTTP.
        timeout: seconds after which the watch ends cleanly, with a last bookmark if these are allowed; None for never.
    """

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    allow_bookmarks: bool = False
    send_initial_events: bool = False
    timeout: float | None = None


class ObjectWatch:
    """An open watch of objects. Iterate it; `aclose()` frees it.

    Raises:
        ServerTimeout: while iterating, when the revision to start from lies in the future and stays there.
    """

    def __init__(
        self, served: Served, events: StoreWatch, clock: Clock, options: WatchOptions, selects: Predicate | None = None
    ) -> None:
        self._served = served
        self._events = events
        self._iterator = aiter(events)
        self._clock = clock
        self._until = None if options.timeout is None else clock.monotonic() + options.timeout
        self._in_initial_events = options.send_initial_events
        self._last_bookmark = options.allow_bookmarks
        self._selects = selects
        # Whether the last state seen of an object was selected, so that nothing is converted to tell it again.
        self._selected: dict[Key, tuple[int, bool]] = {}
        self._taken: StoreEvent | None = None

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self

    def take(self) -> WatchEvent | None:
        """The next event, if it is there already and takes no call to convert."""
        if self._taken is not None or self._selects is not None or self._served.converter is not None:
            return None
        change = self._events.take()
        return None if change is None else self._told(change)

    async def __anext__(self) -> WatchEvent:
        ready = self.take()
        if ready is not None:
            return ready
        if self._until is None:
            return await self._next()
        with anyio.move_on_after(max(0.0, self._until - self._clock.monotonic())):
            return await self._next()
        if not self._last_bookmark or self._in_initial_events or self._taken is not None:
            raise StopAsyncIteration
        # So that whoever watches again doesn't begin where the last event was, long ago perhaps.
        self._last_bookmark = False
        return WatchEvent("BOOKMARK", self._bookmark(self._events.revision))

    async def aclose(self) -> None:
        """Free the watch."""
        await self._events.aclose()

    async def _next(self) -> WatchEvent:
        while True:
            # Kept until it is converted: when time is up meanwhile, no bookmark may say that it was delivered.
            if self._taken is None:
                self._taken = await anext(self._iterator)
            change = self._taken
            seen = change if self._selects is None else await self._seen(change, self._selects)
            found = None if seen is None else await self._event(seen)
            self._taken = None
            if found is not None:
                return found

    async def _seen(self, change: StoreEvent, selects: Predicate) -> StoreEvent | None:
        entry, old = change.entry, change.old
        if entry is None:
            return change
        revision, before = self._selected.pop(entry.key, (0, False))
        if old is not None and old.revision != revision:
            await self._served.prepare(old)
            before = selects(old)
        after = False
        if change.type != "DELETED":
            await self._served.prepare(entry)
            after = selects(entry)
            self._selected[entry.key] = (entry.revision, after)
        return as_seen(change, before, after)

    async def _event(self, event: StoreEvent) -> WatchEvent:
        if event.entry is not None:
            await self._served.prepare(event.entry)
        return self._told(event)

    def _told(self, event: StoreEvent) -> WatchEvent:
        entry = event.entry
        if entry is None:
            return WatchEvent("BOOKMARK", self._bookmark(event.revision))
        return WatchEvent(event.type, Object(self._served.body(entry), event.revision))

    def _bookmark(self, revision: int) -> Object:
        resource = self._served.resource
        metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if self._in_initial_events:
            # The store sends its first bookmark where the present objects end.
            self._in_initial_events = False
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        return Object.of({"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})


def open_watch(served: Served, storage: Storage, clock: Clock, namespace: str, options: WatchOptions) -> ObjectWatch:
    """Start watching.

    Raises:
        BadRequest: a selector or the resourceVersion can't be read.
        Invalid: `resource_version_match` without, or other than `NotOlderThan` with, `send_initial_events`.
        Expired: changes since `resource_version` are no longer known.
    """
    _check_match(options)
    selection = Selection.parse(served, options.label_selector, options.field_selector)
    here = selection.matches if selection.inside and served.converter is not None else None
    events = storage.watch(
        served.group_resource,
        namespace if served.resource.namespaced else "",
        since=_since(options.resource_version),
        # Even a test that all pass: it has the store refuse to begin where it can't tell what was there before.
        predicate=selection.matches if here is None else lambda entry: True,
        bookmarks=options.allow_bookmarks,
        initial_events=options.send_initial_events,
    )
    return ObjectWatch(served, events, clock, options, here)


def _since(text: str) -> int | None:
    return read_revision(text) or None


def _check_match(options: WatchOptions) -> None:
    match = options.resource_version_match
    if not match:
        return
    if not options.send_initial_events:
        why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    elif match != "NotOlderThan":
        why = 'Forbidden: sendInitialEvents requires setting resourceVersionMatch to "NotOlderThan"'
    else:
        return
    raise invalid("ListOptions", "meta.k8s.io", "", [Cause("FieldValueForbidden", why, "resourceVersionMatch")])
