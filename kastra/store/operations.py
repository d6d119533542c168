"""Create, update, delete: how each becomes SQL, once the batch it is part of is known.

Prepared on the writer thread against what is committed plus what precedes in the batch, so compare-and-swap costs no
query; revisions are numbered here, inside the committing transaction. Every UPDATE and DELETE also names the revision it
expects to find, as a second guard. Nothing is visible before it is durable.

Read next: `kastra.store.cache`, `kastra.sql.writer`.
"""

from collections.abc import Callable, Sequence

from kastra.api.errors import AlreadyExists, Conflict, NotFound, already_exists, conflict, not_found
from kastra.failpoint import failpoint
from kastra.sql.interface import Durability, Overlay, Statement

from .cache import Cache
from .encryption import Codec
from .interface import Draft, Entry, Key, SpecRevision, StoreEvent

_INSERT = "INSERT INTO objects(gr, ns, name, uid, rv, create_rv, expires_at, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# A revision belongs to one object, so the one expected both finds the row and guards it. Most updates change nothing else,
# and libsql, which prepares a statement for every row, takes a tenth less time for the short one.
_UPDATE = "UPDATE objects SET rv = ?, body = ? WHERE rv = ?"
_UPDATE_ALL = "UPDATE objects SET rv = ?, body = ?, uid = ?, expires_at = ? WHERE rv = ?"
_DELETE = "DELETE FROM objects WHERE rv = ?"
_TOMBSTONE = "INSERT INTO tombstones(rv, gr, ns, name, uid, create_rv, ts, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SPEC = (
    "INSERT INTO revisions(uid, generation, spec_hash, rv, ts, actor, spec) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(uid, generation) DO NOTHING"
)
_REVISION = "UPDATE meta SET i = ? WHERE k = 'rev'"
_FORGET = "DELETE FROM tombstones WHERE rv <= ?"
_COMPACT = "UPDATE meta SET i = max(i, ?) WHERE k = 'compact_rev'"

_OVERLAY_KEY = ("kastra.store.operations",)


class Target:
    """What the operations of one store share.

    Args:
        cache: to prepare against.
        codec: between bodies and rows.
        now: milliseconds since the epoch.
        apply: called on the event loop with each batch of changes that was committed, and its last revision.
    """

    __slots__ = ("apply", "cache", "codec", "now")

    def __init__(
        self, cache: Cache, codec: Codec, now: Callable[[], int], apply: Callable[[Sequence[StoreEvent], int], None]
    ) -> None:
        self.cache = cache
        self.codec = codec
        self.now = now
        self.apply = apply


class _Batch:
    """The changes to objects in one batch of the writer."""

    __slots__ = ("cache", "events", "heads", "landed", "revision", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.cache = target.cache
        self.revision = target.cache.written
        self.heads: dict[Key, Entry | None] = {}
        self.events: list[StoreEvent] = []
        self.landed = False

    def head(self, key: Key) -> Entry | None:
        heads = self.heads
        return heads[key] if key in heads else self.cache.head(key)

    def closing(self) -> Sequence[Statement]:
        return (Statement(_REVISION, (self.revision,), 1),) if self.events else ()

    def commit(self) -> None:
        if not self.landed:
            self.landed = True
            self.cache.ahead.append(self.heads)
            self.cache.written = self.revision

    def apply(self) -> None:
        if self.landed:
            self.target.apply(self.events, self.revision)
            self.cache.ahead.popleft()


class _Write:
    """What all three have in common. `entry` is the result, once the operation is committed."""

    __slots__ = ("batch", "entry", "key", "target")
    durability: Durability = "power"

    target: Target
    key: Key
    entry: Entry
    batch: _Batch

    def committed(self) -> None:
        """Let the batches that follow see this one."""
        if not self.batch.landed:
            failpoint("store.before_landing")
            self.batch.commit()

    def failed(self, error: BaseException) -> None:
        """Nothing was changed, so there is nothing to undo."""

    def _join(self, overlay: Overlay) -> _Batch:
        batch: _Batch | None = overlay.get(_OVERLAY_KEY)
        if batch is None:
            failpoint("store.before_prepare")
            batch = overlay[_OVERLAY_KEY] = _Batch(self.target)
            overlay.at_end(batch.closing)
            overlay.on_loop(batch.apply)
        self.batch = batch
        return batch

    def _keep(self, first: Statement, spec: SpecRevision, entry: Entry) -> Sequence[Statement]:
        """`first`, and what adds the new spec to the object's history."""
        at = self.target.now()
        values = (entry.uid, spec.generation, spec.spec_hash, entry.revision, at, spec.actor, spec.spec)
        return (first, Statement(_SPEC, values))


class Create(_Write):
    """Store a new object."""

    __slots__ = ("draft",)

    def __init__(self, target: Target, key: Key, draft: Draft) -> None:
        self.target = target
        self.key = key
        self.draft = draft

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        """Raises AlreadyExists."""
        batch = self._join(overlay)
        key, draft = self.key, self.draft
        if batch.head(key) is not None:
            raise exists_error(key)
        row = self.target.codec.encode(key, draft.body)
        batch.revision = revision = batch.revision + 1
        entry = Entry(key, draft.uid, revision, revision, draft.body, draft.labels, draft.owners, draft.expires_at)
        batch.heads[key] = entry
        batch.events.append(StoreEvent("ADDED", revision, entry))
        self.entry = entry
        values = (key[0], key[1], key[2], draft.uid, revision, revision, draft.expires_at, row)
        first = Statement(_INSERT, values, 1)
        spec = draft.spec_revision
        return (first,) if spec is None else self._keep(first, spec, entry)


class Update(_Write):
    """Replace an object that is still at the revision expected."""

    __slots__ = ("draft", "expected")

    def __init__(self, target: Target, key: Key, draft: Draft, expected: int) -> None:
        self.target = target
        self.key = key
        self.draft = draft
        self.expected = expected

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        """Raises NotFound, Conflict."""
        batch = self._join(overlay)
        key, draft = self.key, self.draft
        old = _current(batch, key, self.expected)
        row = self.target.codec.encode(key, draft.body)
        batch.revision = revision = batch.revision + 1
        entry = Entry(
            key, draft.uid, revision, old.create_revision, draft.body, draft.labels, draft.owners, draft.expires_at
        )
        batch.heads[key] = entry
        batch.events.append(StoreEvent("MODIFIED", revision, entry, old))
        self.entry = entry
        if draft.expires_at == old.expires_at and draft.uid == old.uid:
            first = Statement(_UPDATE, (revision, row, old.revision), 1)
        else:
            first = Statement(_UPDATE_ALL, (revision, row, draft.uid, draft.expires_at, old.revision), 1)
        spec = draft.spec_revision
        return (first,) if spec is None else self._keep(first, spec, entry)


class Delete(_Write):
    """Remove an object that is still at the revision expected; its last state becomes a tombstone."""

    __slots__ = ("expected", "final_body")

    def __init__(self, target: Target, key: Key, expected: int, final_body: bytes | None) -> None:
        self.target = target
        self.key = key
        self.expected = expected
        self.final_body = final_body

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        """Raises NotFound, Conflict."""
        batch = self._join(overlay)
        key = self.key
        old = _current(batch, key, self.expected)
        body = old.body if self.final_body is None else self.final_body
        row = self.target.codec.encode(key, body)
        batch.revision = revision = batch.revision + 1
        last = Entry(key, old.uid, revision, old.create_revision, body, old.labels, old.owners, old.expires_at)
        self.entry = last
        batch.heads[key] = None
        batch.events.append(StoreEvent("DELETED", revision, last, old))
        stone = (revision, key[0], key[1], key[2], old.uid, old.create_revision, self.target.now(), row)
        return (
            Statement(_DELETE, (old.revision,), 1),
            Statement(_TOMBSTONE, stone, 1),
        )


class Compact:
    """Forget deletions up to a revision, so that watches can't start below it any more."""

    __slots__ = ("cache", "revision")
    durability: Durability = "power"

    def __init__(self, cache: Cache, revision: int) -> None:
        self.cache = cache
        self.revision = revision

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        """Never beyond what is committed."""
        self.revision = min(self.revision, self.cache.written)
        overlay.on_loop(self._apply)
        return (Statement(_FORGET, (self.revision,)), Statement(_COMPACT, (self.revision,), 1))

    def committed(self) -> None:
        """The loop is told by the batch."""

    def failed(self, error: BaseException) -> None:
        """Nothing was changed."""

    def _apply(self) -> None:
        self.cache.compact_revision = max(self.cache.compact_revision, self.revision)


def exists_error(key: Key) -> AlreadyExists:
    """There is an object at `key`."""
    resource, _, group = key.resource.partition(".")
    return already_exists(resource, group, key.name)


def missing_error(key: Key) -> NotFound:
    """There is no object at `key`."""
    resource, _, group = key.resource.partition(".")
    return not_found(resource, group, key.name)


def conflict_error(key: Key) -> Conflict:
    """The object at `key` changed meanwhile."""
    resource, _, group = key.resource.partition(".")
    return conflict(resource, group, key.name)


def _current(batch: _Batch, key: Key, expected: int) -> Entry:
    old = batch.head(key)
    if old is None:
        raise missing_error(key)
    if old.revision != expected:
        raise conflict_error(key)
    return old
