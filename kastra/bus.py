"""Who is told what happened? Topics with a ring of recent events and bounded subscribers.

A publisher numbers its events, never waits and never fails because of a subscriber. A subscriber reads at its own pace from
a queue; when it falls behind by more than its limit, its stream ends after the last event that it was given, and it starts
anew from the number it has seen. A ring keeps what happened last, so that one can begin in the past.

Knows nothing of what it carries. Everything here happens on one event loop; other threads hop there first, as the writer
does once per batch. Published to by the store (commits), the engine (events of Runs) and the runtime (outcomes of
reconciles), and by nobody else.

Source: the watch cache of kube-apiserver, and kine's broadcaster. Read next: `kastra.store.watch`, the first user.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from kastra.clock import Clock, SystemClock

RING = 4096
"""Events that a topic remembers."""

RING_AGE = 600.0
"""Seconds after which it forgets them in any case."""

QUEUE = 1024
"""Live events that may wait for a subscriber."""

PASSING = "run/"
"""Topics of this prefix go away when nobody listens and nothing happens; all others stay."""

_PASSING_RING = 1024
_PASSING_AGE = 60.0
_PASSING_KEPT = 1024

Item = tuple[int, Any]
"""A sequence number, rising within its topic, and an event."""


class TooOld(Exception):
    """The ring doesn't reach back to the number asked for; `floor` is the lowest one that can be asked for."""

    def __init__(self, topic: str, since: int, floor: int) -> None:
        super().__init__(f"{topic}: {since} is older than what is kept (from {floor})")
        self.floor = floor


class Subscription:
    """A reader of one topic: `async for number, event in subscription`, or `batch()` for all that waits at once."""

    def __init__(
        self, topic: "_Topic", replay: Iterable[Item], limit: int, accept: Callable[[Any], bool] | None
    ) -> None:
        self._topic = topic
        # What is replayed doesn't count against the limit: the reader hasn't had a chance yet.
        self._replay: deque[Item] = deque(replay)
        self._live: deque[Item] = deque()
        self._limit = limit
        self._accept = accept
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._woken = False
        self.overflowed = False
        """Whether the reader fell behind and was cut off."""

    async def batch(self) -> list[Item]:
        """All that waits, at least one event; empty when the stream has ended, or after `wake`."""
        while not (self._replay or self._live):
            if self._ended or self._woken:
                self._woken = False
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._woken = False
        items = [*self._replay, *self._live]
        self._replay.clear()
        self._live.clear()
        return items

    @property
    def ended(self) -> bool:
        """Whether no event will come any more, after those that wait."""
        return self._ended

    @property
    def waiting(self) -> int:
        """How many events wait to be read."""
        return len(self._replay) + len(self._live)

    @property
    def upcoming(self) -> int | None:
        """The number of the event that is read next; None while none waits."""
        for queue in (self._replay, self._live):
            if queue:
                return queue[0][0]
        return None

    def wake(self) -> None:
        """Let a `batch` that waits return empty-handed."""
        self._woken = True
        self._notify()

    def close(self) -> None:
        """Stop; what waits is dropped."""
        self._replay.clear()
        self._live.clear()
        self._end()

    async def aclose(self) -> None:
        """Stop; what waits is dropped."""
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while True:
            if self._replay:
                return self._replay.popleft()
            if self._live:
                return self._live.popleft()
            items = await self.batch()
            if items:
                self._replay.extend(items)
            elif self._ended:
                raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _push(self, items: Sequence[Item]) -> None:
        if self._accept is not None:
            accept = self._accept
            items = [item for item in items if accept(item[1])]
            if not items:
                return
        room = self._limit - len(self._live)
        if len(items) > room:
            self._live.extend(items[:room])
            self.overflowed = True
            self._end()
            return
        self._live.extend(items)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._topic.subscribers.pop(self, None)
            self._notify()

    def _notify(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Topic:
    __slots__ = ("floor", "kept", "known", "passing", "ring", "stamps", "subscribers", "touched")

    def __init__(self, floor: int, now: float, known: bool, kept: int, passing: bool) -> None:
        self.floor = floor
        self.kept = kept
        self.passing = passing
        # False while there were only subscribers: then nobody knows yet where its events begin.
        self.known = known
        self.ring: deque[Item] = deque()
        self.stamps: deque[tuple[float, int]] = deque()
        self.subscribers: dict[Subscription, None] = {}
        self.touched = now


class Bus:
    """All topics of a process.

    Args:
        clock: tells how old events are.
        ring: events that a topic remembers.
    """

    def __init__(self, clock: Clock | None = None, *, ring: int = RING) -> None:
        self._clock = clock or SystemClock()
        self._ring = ring
        self._topics: dict[str, _Topic] = {}
        self._passing: OrderedDict[str, _Topic] = OrderedDict()

    def publish(self, topic: str, items: Sequence[Item]) -> None:
        """Add events to a topic's ring and to its subscribers' queues. Numbers must rise."""
        if not items:
            return
        found = self._topics.get(topic)
        now = self._clock.monotonic()
        if found is None:
            found = self._make(topic, items[0][0] - 1)
        elif not found.known:
            found.floor, found.known = items[0][0] - 1, True
        ring = found.ring
        ring.extend(items)
        found.stamps.append((now, items[-1][0]))
        found.touched = now
        while len(ring) > found.kept:
            found.floor = ring.popleft()[0]
        stamps = found.stamps
        while stamps and stamps[0][1] <= found.floor:
            stamps.popleft()
        if stamps and stamps[0][0] < now - RING_AGE:
            self._forget(found, now)
        if found.subscribers:
            for subscriber in tuple(found.subscribers):
                subscriber._push(items)
        if found.passing:
            self._passing.move_to_end(topic)
            self._sweep(now)

    def subscribe(
        self,
        topic: str,
        since: int | None = None,
        limit: int = QUEUE,
        accept: Callable[[Any], bool] | None = None,
    ) -> Subscription:
        """Read a topic, which needn't exist yet: its events after number `since`, or only new ones.

        Args:
            limit: how many live events may wait before the stream is cut off.
            accept: keep only events for which this is true; called by the publisher, so it must be quick.

        Raises:
            TooOld: `since` precedes the ring.
        """
        found = self._topics.get(topic)
        if found is None:
            found = self._make(topic, 0, known=False)
        replay: list[Item] = []
        if since is not None:
            if since < found.floor:
                raise TooOld(topic, since, found.floor)
            replay = [item for item in found.ring if item[0] > since and (accept is None or accept(item[1]))]
        subscription = Subscription(found, replay, limit, accept)
        found.subscribers[subscription] = None
        return subscription

    def open(self, topic: str, floor: int) -> None:
        """Make a topic about which nothing is known before number `floor`, unless it exists."""
        if topic not in self._topics:
            self._make(topic, floor)

    def floor(self, topic: str) -> int | None:
        """The lowest number that `subscribe` accepts; None for a topic that doesn't exist."""
        found = self._topics.get(topic)
        return found.floor if found is not None else None

    def close(self, topic: str) -> None:
        """End a topic: its subscribers' streams end after what waits for them, and its ring is forgotten."""
        found = self._topics.pop(topic, None)
        self._passing.pop(topic, None)
        if found is not None:
            for subscriber in tuple(found.subscribers):
                subscriber._end()

    def __len__(self) -> int:
        return len(self._topics)

    def _make(self, name: str, floor: int, known: bool = True) -> _Topic:
        passing = name.startswith(PASSING)
        kept = min(self._ring, _PASSING_RING) if passing else self._ring
        topic = self._topics[name] = _Topic(floor, self._clock.monotonic(), known, kept, passing)
        if passing:
            self._passing[name] = topic
            self._sweep(topic.touched)
        return topic

    def _forget(self, topic: _Topic, now: float) -> None:
        stamps, ring = topic.stamps, topic.ring
        while stamps and stamps[0][0] < now - RING_AGE:
            _, last = stamps.popleft()
            while ring and ring[0][0] <= last:
                topic.floor = ring.popleft()[0]
        while stamps and stamps[0][1] <= topic.floor:
            stamps.popleft()

    def _sweep(self, now: float) -> None:
        """Drop passing topics nobody listens to: old ones, and the oldest when there are many. Looks at few per call."""
        for _ in range(2):
            if not self._passing:
                return
            name, topic = next(iter(self._passing.items()))
            if topic.subscribers:
                self._passing.move_to_end(name)
            elif now - topic.touched > _PASSING_AGE or len(self._passing) > _PASSING_KEPT:
                del self._passing[name]
                del self._topics[name]
            else:
                return
