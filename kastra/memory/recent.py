"""What was last read of a thread, so that whoever goes on with it needn't read it again.

One answer after the other in a thread sees what the last one saw and what was said since, which this process wrote itself. So the
newest messages of threads that were lately gone on with are kept here, as the bytes that they are stored as. Nothing is believed
blindly: what is added to a thread on the strength of it commits only if the thread ends where it does here
(`kastra.memory.rows.following`), and erasing anything voids it.

Never reads and never writes: that is `kastra.memory.threads`, which asks this first. Read next: `kastra.memory.threads`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MOST_BYTES = 8 << 20
"""Bytes of messages that are kept of all threads together."""

MOST_OF_ONE = 256 << 10
"""Bytes of messages beyond which nothing is kept of a thread."""

_OVERHEAD = 512


@dataclass(frozen=True, slots=True)
class Kept:
    """What a thread holds for an agent.

    Args:
        rows: the newest messages, oldest first: their numbers and their JSON.
        values: of the thread and of the resource, by scope and key.
        tail: the number after which the next message comes; -1 if that isn't known, or the thread has no row.
        most: so many messages were asked for; fewer are all there are.
        embedded: the model of which each message of the thread has a vector; empty if that isn't known.
    """

    rows: list[tuple[int, bytes]]
    values: Mapping[tuple[str, str], Any]
    tail: int = -1
    most: int = 0
    embedded: str = ""

    @property
    def messages(self) -> list[tuple[int, dict[str, Any]]]:
        """The messages with their numbers, oldest first, made anew each time."""
        return [(seq, orjson.loads(body)) for seq, body in self.rows]

    def followed(self, bodies: Sequence[bytes], embedded: str = "") -> "Kept":
        """This, once messages with this JSON follow it; then each has a vector of the model `embedded`."""
        rows = [*self.rows, *enumerate(bodies, self.tail + 1)]
        return Kept(rows[-self.most :], self.values, self.tail + len(bodies), self.most, embedded)


class Recent:
    """The newest messages of threads, by the uid of the thread; those that were used longest ago go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self._bytes = 0
        self.version = 0
        """Rises when something is voided: what was read before mustn't be kept."""

    def take(self, uid: str) -> Kept | None:
        """What is kept of a thread, and nothing more from then on: whoever takes it adds to the thread, or may."""
        found = self._kept.pop(uid, None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[0]

    def keep(self, uid: str, kept: Kept, version: int) -> None:
        """Keep it, unless something was voided since `version`."""
        self.take(uid)
        size = _OVERHEAD + sum(len(body) for _, body in kept.rows)
        if version != self.version or size > MOST_OF_ONE:
            return
        self._kept[uid] = kept, size
        self._bytes += size
        while self._bytes > MOST_BYTES:
            _, (_, gone) = self._kept.popitem(last=False)
            self._bytes -= gone

    def void(self, uid: str) -> None:
        """A thread is written or erased from elsewhere."""
        self.take(uid)
        self.version += 1
