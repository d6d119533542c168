"""How does a process know all objects of a kind without asking again and again? List once, then watch, for ever.

    Listing    all objects are read, page by page, and compared with the cache; differences go to the handlers
    Watching   each change goes to the cache, then to the handlers; a stream that ends is resumed where it ended, and when
               what it would resume from is no longer kept (410 Expired), everything is listed again
    Absent     the server doesn't have the kind (yet); counts as synced and empty, tried again with backoff or on `poke`

Changes may be merged on the way (two edits during a reconnection are one update), but none is lost: whatever differs from
the cache is reported. Handlers are plain functions `(old, new)`: an addition has no old, a deletion no new. They run at
once, in the order of changes, and must not block; one that fails is logged and doesn't stop the others. Those that want
to hear of some changes only say so by a predicate; it is asked once per change for all that name the same one. One informer
per kind serves every controller of a manager.

Source: client-go's Reflector and SharedIndexInformer; kube-rs' watcher. Read next: `kastra.runtime.indexer`.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import anyio
import anyio.lowlevel

from kastra.api.errors import Expired, NotFound
from kastra.api.object import Object
from kastra.client.interface import Client
from kastra.clock import Clock

from .indexer import Indexer, Key, Lister, Version, key_and_version
from .predicates import Predicate, always

logger = logging.getLogger(__name__)

Handler = Callable[[Object | None, Object | None], None]
"""`(old, new)`: old is None for an addition, new is None for a deletion."""

_YIELD_EVERY = 128


class State(Enum):
    """Where an informer is; the module's docstring says what each means."""

    LISTING = "Listing"
    WATCHING = "Watching"
    ABSENT = "Absent"


class Informer:
    """The objects of one kind, kept current. `run` does the work, in one task.

    Args:
        client: where objects come from.
        kind: any name the client's scheme understands.
        clock: for the pauses between attempts.
        namespace: restricts it to one namespace; None for all.
        page_size: objects per list request.
        base_delay: seconds to wait after a first failed attempt; doubles up to `max_delay`, with jitter.
        on_progress: called after each change, list and bookmark.
        hint: nobody depends on it, so that its failures aren't worth a line in the log.
    """

    def __init__(
        self,
        client: Client,
        kind: str,
        clock: Clock,
        *,
        namespace: str | None = None,
        page_size: int = 500,
        base_delay: float = 0.1,
        max_delay: float = 30.0,
        on_progress: Callable[[], None] | None = None,
        hint: bool = False,
    ) -> None:
        self.kind = kind
        self.state = State.LISTING
        self.position = 0
        """The revision up to which this informer has seen every change of its kind."""
        self.relists = 0
        """How often it listed after the first time."""
        self.problem: Exception | None = None
        """What the last attempt to list or to watch failed with; None while all is well or the kind isn't there."""
        self._log_level = logging.DEBUG if hint else logging.WARNING
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._page_size = page_size
        self._base_delay = base_delay
        self._max_delay = max_delay
        self._on_progress = on_progress
        self._cache = Indexer()
        # Replaced, never changed: one that comes or goes while the others are called changes nothing for these.
        self._handlers: dict[Predicate, tuple[Handler, ...]] = {}
        self._synced = anyio.Event()
        self._resume_from = ""
        self._moved = False
        self._pause: anyio.CancelScope | None = None

    @property
    def indexer(self) -> Indexer:
        """The cache; others read it and add indices."""
        return self._cache

    @property
    def lister(self) -> Lister:
        """The cache, to be read."""
        return self._cache

    @property
    def has_synced(self) -> bool:
        """Whether the first list has reached the cache and the handlers, or the server doesn't have the kind."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once `has_synced`."""
        await self._synced.wait()

    def add_handler(self, handler: Handler, predicate: Predicate = always) -> None:
        """Call `handler` for every change from now on, after calling it once for each object that is there.

        Args:
            predicate: which changes it is called for, objects that are there included.
        """
        self._handlers = {**self._handlers, predicate: (*self._handlers.get(predicate, ()), handler)}
        for obj in self._cache.list():
            self._tell({predicate: (handler,)}, None, obj)

    def remove_handler(self, handler: Handler) -> None:
        """Call `handler` no more."""
        for predicate, handlers in self._handlers.items():
            if handler in handlers:
                at = handlers.index(handler)
                left = {**self._handlers, predicate: (*handlers[:at], *handlers[at + 1 :])}
                self._handlers = {known: its for known, its in left.items() if its}
                return

    def observe(self, obj: Object, identity: tuple[Key, Version] | None = None) -> None:
        """Take in the answer to a write of this process, which can be here before the watch tells of it.

        Only a newer state of an object that the cache has is taken, so that a late answer can't bring back what a later
        watch event removed.

        Args:
            identity: its `key_and_version`, of a caller who has asked already.
        """
        key, (uid, revision) = identity or key_and_version(obj)
        known = self._cache.version(key)
        if known is not None and known[0] == uid and revision > known[1]:
            self._put(obj, key, (uid, revision), known)

    def covers(self, namespace: str) -> bool:
        """Whether objects of that namespace come into this cache."""
        return self._namespace in (None, namespace)

    def reached(self, revision: int) -> bool:
        """Whether it has seen every change of its kind up to `revision`, which is that of a change of this kind."""
        return self.position >= revision

    def poke(self) -> None:
        """End the pause after a failed attempt, if there is one: the reason for it may be gone."""
        if self._pause is not None:
            self._pause.cancel()

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        while True:
            self._moved = False
            try:
                if not self._resume_from:
                    await self._list()
                await self._watch()
            except Expired:
                self._resume_from = ""
                self.state = State.LISTING
            except NotFound:
                self.problem = None
                self._become_absent()
            except Exception as error:  # noqa: BLE001 - whatever a client can raise, an informer must outlive it
                self.problem = error
                if failures in (0, 5) or failures % 50 == 0:
                    logger.log(self._log_level, "watch of %s failed, trying again: %s", self.kind, error)
            # A stream that ends or breaks after it brought something is resumed at once; one that brings nothing is not
            # asked again and again.
            failures = 0 if self._moved else failures + 1
            if failures:
                await self._wait(min(self._base_delay * 2.0 ** min(failures - 1, 30), self._max_delay))
            else:
                await anyio.lowlevel.checkpoint()

    async def _list(self) -> None:
        self.state = State.LISTING
        found: set[Key] = set()
        token, count, first = "", 0, ""
        while True:
            page = await self._client.list(self.kind, self._namespace, limit=self._page_size, continue_token=token)
            # A later page may be newer than the first; watching from the first misses nothing, and repeats are recognised.
            first = first or page.resource_version
            for obj in page.items:
                count += 1
                key, version = key_and_version(obj)
                found.add(key)
                self._put_if_newer(obj, key, version)
                if count % _YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()
            token = page.continue_token
            if not token:
                break
        for key in self._cache.all_keys() - found:
            self._remove(key, None)
        if self._synced.is_set():
            self.relists += 1
        self._resume_from = first
        self._advance(int(first) if first.isdecimal() else 0)
        self._moved = True
        self.problem = None
        self._synced.set()

    async def _watch(self) -> None:
        self.state = State.WATCHING
        count = 0
        async with self._client.watch(
            self.kind, self._namespace, resource_version=self._resume_from, allow_bookmarks=True
        ) as events:
            self.problem = None
            async for event in events:
                obj = event.object
                key, version = key_and_version(obj)
                if event.type == "DELETED":
                    known = self._cache.version(key)
                    # The deletion of a predecessor must not remove its successor, which a list may have brought already.
                    if known is None or known[0] == version[0] or known[1] < version[1]:
                        self._remove(key, obj)
                elif event.type != "BOOKMARK":
                    self._put_if_newer(obj, key, version)
                self._resume_from = obj.resource_version
                self._moved = True
                self._advance(version[1])
                count += 1
                if count % _YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()

    def _become_absent(self) -> None:
        self.state = State.ABSENT
        self._resume_from = ""
        for key in self._cache.all_keys():
            self._remove(key, None)
        self._synced.set()
        self._advance(0)

    async def _wait(self, seconds: float) -> None:
        with anyio.CancelScope() as self._pause:
            await self._clock.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        self._pause = None

    def _put_if_newer(self, obj: Object, key: Key, version: Version) -> None:
        known = self._cache.version(key)
        if known is None or known[0] != version[0] or version[1] > known[1]:
            self._put(obj, key, version, known)

    def _put(self, obj: Object, key: Key, version: Version, known: Version | None) -> None:
        old = self._cache.put(obj, (key, version))
        if known is not None and known[0] != version[0]:
            # Deleted and created again while nobody looked: for a controller these are two objects.
            self._tell(self._handlers, old, None)
            old = None
        self._tell(self._handlers, old, obj)

    def _remove(self, key: Key, last: Object | None) -> None:
        old = self._cache.remove(key)
        if old is not None:
            self._tell(self._handlers, last or old, None)

    def _tell(self, handlers: Mapping[Predicate, Sequence[Handler]], old: Object | None, new: Object | None) -> None:
        for predicate, concerned in handlers.items():
            try:
                if predicate is not always and not predicate(old, new):
                    continue
            except Exception:
                logger.exception("predicate failed", extra=self._subject(old, new))
                continue
            for handler in concerned:
                try:
                    handler(old, new)
                except Exception:
                    logger.exception("handler failed", extra=self._subject(old, new))

    def _subject(self, old: Object | None, new: Object | None) -> dict[str, str]:
        subject = new or old
        return {"kind": self.kind, "object": str(subject.ref) if subject else ""}

    def _advance(self, revision: int) -> None:
        if revision > self.position:
            self.position = revision
        if self._on_progress is not None:
            self._on_progress()
