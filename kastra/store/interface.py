"""Storage: objects as bytes, each at a revision, with watches. One global counter numbers every change.

The store knows keys, bytes and revisions; it never looks into an object beyond what a `Draft` tells it. Reads come from
memory and are synchronous; writes are durable when they return. Read next: `kastra.store.objects`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

NO_LABELS: Mapping[str, str] = MappingProxyType({})
"""What objects without labels share."""


class Key(NamedTuple):
    """Where an object lives: `resource` is `agents.mastra.ai`; `namespace` is empty for cluster-scoped kinds."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class SpecRevision:
    """A spec to keep in the history of its object (config kinds only)."""

    generation: int
    spec_hash: str
    spec: bytes
    actor: str = ""


class Draft(NamedTuple):
    """An object about to be written.

    Args:
        body: stored form (`kastra.api.object.encode_stored`): starts with `{"metadata":{`, no resourceVersion.
        uid: its metadata.uid.
        labels: for selectors without parsing.
        owners: uids of its ownerReferences.
        expires_at: milliseconds since the epoch after which the sweeper may delete it; None for never.
        spec_revision: to be kept in history, when this write starts a new generation.
    """

    body: bytes
    uid: str
    labels: Mapping[str, str] = NO_LABELS
    owners: tuple[str, ...] = ()
    expires_at: int | None = None
    spec_revision: SpecRevision | None = None


class Entry(NamedTuple):
    """A stored object at one revision. Immutable; shared by cache, ring and watchers."""

    key: Key
    uid: str
    revision: int
    create_revision: int
    body: bytes
    labels: Mapping[str, str]
    owners: tuple[str, ...] = ()
    expires_at: int | None = None


class Snapshot(NamedTuple):
    """All entries of a list as of one revision, sorted by namespace and name."""

    revision: int
    entries: Sequence[Entry]


class StoreEvent(NamedTuple):
    """A committed change of one key, as a watcher sees it. One object serves all watchers; encode it once.

    `entry` is the new state or, for DELETED, the last one; None for BOOKMARK. `revision` is that of the change, also of a
    deletion. `old` is what was there before: None for ADDED, and where the past isn't known any more.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    revision: int
    entry: Entry | None
    old: Entry | None = None


Predicate = Callable[[Entry], bool]


class StoreWatch(Protocol):
    """An open watch. Iterate it; `aclose()` frees it. Ends after the last event sent when its reader falls behind."""

    @property
    def revision(self) -> int:
        """Up to which everything was delivered; one can resume from here without missing anything."""
        ...

    def __aiter__(self) -> AsyncIterator[StoreEvent]: ...

    def take(self) -> StoreEvent | None:
        """The next event, if it is there already."""
        ...

    async def aclose(self) -> None:
        """Free the watch; nothing more is delivered."""
        ...


class Storage(Protocol):
    """The store behind the API. Errors are `kastra.api.errors.StatusError`."""

    @property
    def revision(self) -> int:
        """Of the last committed change."""
        ...

    @property
    def compact_revision(self) -> int:
        """Watches can't start below this."""
        ...

    def get(self, key: Key) -> Entry | None:
        """The object there, or None."""
        ...

    def list(self, resource: str, namespace: str = "") -> Snapshot:
        """The objects of a kind, atomically; `namespace=""` for all."""
        ...

    async def wait_for(self, revision: int) -> None:
        """Return when the store has reached `revision`. Raises ServerTimeout if that takes more than three seconds."""
        ...

    async def create(self, key: Key, draft: Draft) -> Entry:
        """Store a new object. Raises AlreadyExists."""
        ...

    async def update(self, key: Key, draft: Draft, expected_revision: int) -> Entry:
        """Replace an object that is still at `expected_revision`. Raises Conflict, NotFound."""
        ...

    async def delete(self, key: Key, expected_revision: int, final_body: bytes | None = None) -> Entry:
        """Remove it; the last state is kept as a tombstone. Returns the last entry with the deletion's revision."""
        ...

    def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        since: int | None = None,
        predicate: Predicate | None = None,
        bookmarks: bool = False,
        initial_events: bool = False,
    ) -> StoreWatch:
        """Changes after `since`; None: present objects first as ADDED, then live.

        An object that starts to satisfy `predicate` is ADDED, one that ceases to is DELETED. `bookmarks` asks for one
        about every 60 s; with `initial_events` one follows the initial ADDED events.

        Raises:
            Expired: `since` is below what can be replayed.
        """
        ...
