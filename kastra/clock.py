"""What time is it, and how does one wait? The only module that asks the operating system.

Everything that needs time is handed a `Clock`, so that tests run in virtual time (`kastra.testing.VirtualClock`) and are
exact and instant. Never reads time zones: wall-clock time is UTC throughout.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import anyio


class Clock(Protocol):
    """The three questions about time."""

    def now(self) -> datetime:
        """Wall-clock time, aware, in UTC. May jump; use it for timestamps and due times only."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary origin; never goes back. Use it for durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after at least `seconds`; at once if not positive, but still let other tasks run."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await anyio.sleep(max(0.0, seconds))


def milliseconds(moment: datetime) -> int:
    """`moment` as integer milliseconds since the epoch, the unit of every time in the store."""
    return int(moment.timestamp() * 1000)


def rfc3339(moment: datetime) -> str:
    """`moment` as Kubernetes writes it in metadata: UTC, whole seconds, `Z`."""
    return _of_second(int(moment.timestamp() // 1))


@lru_cache(maxsize=64)
def _of_second(seconds: int) -> str:
    """Most times that are written are of the current second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """`moment` as Kubernetes' MicroTime: UTC with six digits of a second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 time with an offset.

    Raises:
        ValueError: `text` is not a time or has no offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no offset; write it with Z or +hh:mm")
    return moment.astimezone(UTC)
