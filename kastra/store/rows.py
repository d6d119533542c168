"""How do rows become entries? Loading the store, and what happened after a revision that the ring has forgotten.

Only SELECTs. Labels and owners aren't columns; they are read from the body, and most bodies needn't be parsed to know that
they have none. Read next: `kastra.store.objects`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from kastra.sql.driver import Rows

from .cache import Cache
from .encryption import Codec
from .interface import NO_LABELS, Entry, Key, StoreEvent

Query = Callable[[str, Sequence[Any]], Rows]

_META = "SELECT k, i FROM meta WHERE k IN ('rev', 'compact_rev')"
_OBJECTS = "SELECT gr, ns, name, uid, rv, create_rv, expires_at, body FROM objects WHERE rv > ? ORDER BY gr, ns, name"
TOMBSTONES = "SELECT gr, ns, name, uid, rv, create_rv, NULL, body FROM tombstones WHERE gr = ? AND rv > ? AND rv <= ? ORDER BY rv"
"""Deletions of one resource after a revision and up to another."""

_ALL_TOMBSTONES = "SELECT gr, ns, name, uid, rv, create_rv, NULL, body FROM tombstones WHERE rv > ? ORDER BY rv"


def load(query: Query, codec: Codec) -> Cache:
    """The whole store; `query` must see one state of it (a transaction, or nobody writing)."""
    revision, compacted = revisions(query)
    return Cache(revision, compacted, (entry_of(row, codec) for row in query(_OBJECTS, (-1,))))


def revisions(query: Query) -> tuple[int, int]:
    """Revision and compact revision, as the file has them."""
    meta: dict[str, int] = {name: value for name, value in query(_META, ())}  # noqa: C416
    return int(meta["rev"]), int(meta["compact_rev"])


def events_after(query: Query, codec: Codec, cache: Cache) -> list[StoreEvent]:
    """What happened after the cache's revision, ordered; several changes of one key may have become one."""
    events: list[StoreEvent] = []
    for row in query(_OBJECTS, (cache.revision,)):
        entry = entry_of(row, codec)
        old = cache.get(entry.key)
        # A different creation means that it was deleted in between, which the tombstone tells.
        if old is not None and old.create_revision == entry.create_revision:
            events.append(StoreEvent("MODIFIED", entry.revision, entry, old))
        else:
            events.append(StoreEvent("ADDED", entry.revision, entry))
    for row in query(_ALL_TOMBSTONES, (cache.revision,)):
        last = entry_of(row, codec)
        if last.create_revision <= cache.revision:
            events.append(StoreEvent("DELETED", last.revision, last, cache.get(last.key)))
    events.sort(key=lambda event: event.revision)
    return events


def entry_of(row: Sequence[Any], codec: Codec) -> Entry:
    """The entry in a row of `objects`, or of `tombstones` in the same columns."""
    resource, namespace, name, uid, revision, create_revision, expires_at, stored = row
    key = Key(sys.intern(resource), sys.intern(namespace), name)
    body = codec.decode(key, stored)
    labels: Mapping[str, str] = NO_LABELS
    owners: tuple[str, ...] = ()
    if b'"labels":' in body or b'"ownerReferences":' in body:
        metadata = orjson.loads(body)["metadata"]
        labels = metadata.get("labels") or NO_LABELS
        owners = tuple(owner.get("uid", "") for owner in metadata.get("ownerReferences") or ())
    return Entry(key, uid, revision, create_revision, body, labels, owners, expires_at)
