"""What is to be looked at next? A queue of keys that dedupes, delays and backs off.

An item that is added while it waits is there once; added while it is being worked on, it comes again afterwards, never at
the same time. Items leave in the order of arrival, and one that is added again goes to the end, so that a busy object
can't keep the others waiting. Delays are promises to look *no later than*: when an item leaves the queue for any reason,
its pending delay is forgotten, because whoever works on it decides anew. The queue never calls anybody and knows nothing
of objects; it is the only place of the control half that delays.

Source: Kubernetes' client-go (util/workqueue). Read next: `kastra.runtime.controller`, whose workers take from it.
"""

from collections import deque
from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

import anyio

from kastra.clock import Clock

from .token_bucket import TokenBucket

Item = TypeVar("Item", bound=Hashable)


class ShutDown(Exception):
    """Raised by `get` once the queue is shut down."""


class Workqueue(Generic[Item]):
    """A queue for one controller. Not thread-safe: it belongs to one event loop.

    Args:
        clock: source of time for delays.
        base_delay: seconds before the first retry of an item; doubles with each further failure.
        max_delay: seconds that a retry is delayed at most by backoff.
        retry_bucket: limits retries over all items, and over all queues that share it.
        on_idle: called when the last item in work is done and none waits (delayed ones don't count).
    """

    def __init__(
        self,
        clock: Clock,
        *,
        base_delay: float = 0.005,
        max_delay: float = 300.0,
        retry_bucket: TokenBucket | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self._clock = clock
        self._base_delay = base_delay
        self._max_delay = max_delay
        self._retry_bucket = retry_bucket
        self._on_idle = on_idle
        self._ready: deque[Item] = deque()
        self._dirty: set[Item] = set()
        self._processing: set[Item] = set()
        self._failures: dict[Item, int] = {}
        self._waiters: deque[anyio.Event] = deque()
        # The heap may hold entries that are no longer true; `_due` says which are.
        self._due: dict[Item, float] = {}
        self._heap: list[tuple[float, int, Item]] = []
        self._pushes = 0
        self._timer: anyio.CancelScope | None = None
        self._stopped = False
        self.adds = 0
        """Items accepted so far, not counting those that were waiting already."""
        self.retries = 0
        """Items delayed by backoff so far."""

    def __len__(self) -> int:
        """Items that wait to be taken now; neither those in work nor those delayed."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing waits to be taken and nothing is in work; delayed items may exist."""
        return not self._ready and not self._processing

    @property
    def in_work(self) -> int:
        """Items taken and not yet done."""
        return len(self._processing)

    def next_due(self) -> float | None:
        """Seconds until the earliest delayed item is due (0.0 if it is overdue); None without any."""
        self._drop_stale()
        return max(0.0, self._heap[0][0] - self._clock.monotonic()) if self._heap else None

    def next_retry(self) -> float | None:
        """Seconds until the earliest delayed item that failed before is due; None without any."""
        dues = [due for item in self._failures if (due := self._due.get(item)) is not None]
        return max(0.0, min(dues) - self._clock.monotonic()) if dues else None

    def add(self, item: Item) -> None:
        """Queue `item` for now. After shutdown nothing happens."""
        if self._stopped or item in self._dirty:
            return
        self.adds += 1
        self._dirty.add(item)
        if item not in self._processing:
            self._ready.append(item)
            self._wake_one()

    def add_after(self, item: Item, delay: float) -> None:
        """Queue `item` in `delay` seconds; an earlier promise for it stands."""
        if delay <= 0:
            self.add(item)
            return
        due = self._clock.monotonic() + delay
        known = self._due.get(item)
        if self._stopped or (known is not None and known <= due):
            return
        self._due[item] = due
        self._pushes += 1
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapify(self._heap)
        entry = (due, self._pushes, item)
        heappush(self._heap, entry)
        if self._heap[0] is entry and self._timer is not None:
            self._timer.cancel()

    def add_rate_limited(
        self, item: Item, at_least: float = 0.0, *, base: float | None = None, most: float | None = None
    ) -> float:
        """Queue `item` after its backoff, and count one more failure of it.

        Args:
            item: what failed.
            at_least: seconds that someone asked to wait (Retry-After), if longer than the backoff.
            base: instead of `base_delay`.
            most: instead of `max_delay`.

        Returns:
            The delay in seconds.
        """
        failures = self._failures.get(item, 0)
        self._failures[item] = failures + 1
        # 2 ** 60 is beyond any sensible limit, and large exponents would overflow a float.
        base = self._base_delay if base is None else base
        most = self._max_delay if most is None else most
        delay = max(at_least, min(base * 2.0 ** min(failures, 60), most))
        if self._retry_bucket is not None:
            delay = max(delay, self._retry_bucket.reserve())
        self.retries += 1
        self.add_after(item, delay)
        return delay

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for an item."""
        return bool(self._waiters)

    def failures(self, item: Item) -> int:
        """Failures of `item` since it was last forgotten."""
        return self._failures.get(item, 0)

    def forget(self, item: Item) -> None:
        """Start the backoff of `item` anew: it succeeded, or is given up."""
        self._failures.pop(item, None)

    async def get(self) -> Item:
        """The next item, waiting for one; call `done` with it afterwards.

        Raises:
            ShutDown: the queue is shut down. Items still waiting are dropped: whoever starts next lists everything.
        """
        while True:
            if self._stopped:
                raise ShutDown
            if self._ready:
                break
            waiter = anyio.Event()
            self._waiters.append(waiter)
            try:
                await waiter.wait()
            except BaseException:
                if waiter.is_set():
                    self._wake_one()
                else:
                    self._waiters.remove(waiter)
                raise
        item = self._ready.popleft()
        self._dirty.discard(item)
        self._due.pop(item, None)
        self._processing.add(item)
        return item

    def done(self, item: Item) -> None:
        """Work on `item` has ended; if it was added meanwhile, it waits again now."""
        self._processing.discard(item)
        if item in self._dirty and not self._stopped:
            self._ready.append(item)
            self._wake_one()
        elif not self._ready and not self._processing and self._on_idle is not None:
            self._on_idle()

    async def run(self) -> None:
        """Release delayed items when they are due, until shutdown. One task per queue runs this."""
        while not self._stopped:
            # One scope for many sleeps: it is used up only when something is due earlier than what is slept for.
            with anyio.CancelScope() as self._timer:
                while not self._stopped:
                    self._release_due()
                    if self._heap:
                        await self._clock.sleep(self._heap[0][0] - self._clock.monotonic())
                    else:
                        await anyio.sleep_forever()
        self._timer = None

    def shut_down(self) -> None:
        """Accept and hand out nothing more. Items in work end with `done` as usual."""
        self._stopped = True
        self._ready.clear()
        self._dirty.clear()
        self._due.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            self._waiters.popleft().set()

    def _wake_one(self) -> None:
        if self._waiters and self._ready:
            self._waiters.popleft().set()

    def _release_due(self) -> None:
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            due, _, item = heappop(self._heap)
            if self._due.get(item) == due:
                del self._due[item]
                self.add(item)
        self._drop_stale()

    def _drop_stale(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
