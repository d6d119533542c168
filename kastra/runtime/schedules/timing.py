"""Which moments are due? `cron` or `every` as one thing, and the newest due moments of a span of any length.

`every` counts from 1970-01-01T00:00Z, not from when the schedule was made: `every: 1h` is on the hour, and neither a restart
nor an edit moves it. All moments are whole seconds in UTC.

Read next: `kastra.runtime.schedules.catching_up`, which decides for which of them a Run is started.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Protocol

from kastra.api.durations import parse_duration

from .cron import CronError, parse_cron

SHORTEST = 1.0
"""Seconds between two moments of an interval, at least."""

LONGEST = 366 * 86400.0
"""Seconds between two moments of an interval, at most."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SPAN = timedelta(minutes=10)


class Moments(Protocol):
    """Endless moments, or nearly so."""

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Those later than `moment`, in order, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Moments at equal distances.

    Args:
        seconds: between two; whole.
    """

    seconds: int

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Those later than `moment`, in order, in UTC."""
        number = int((moment - _EPOCH).total_seconds() // self.seconds)
        while True:
            number += 1
            try:
                yield _EPOCH + timedelta(seconds=number * self.seconds)
            except OverflowError:
                return


@dataclass(frozen=True, slots=True)
class Timing:
    """When something is due.

    Args:
        text: for people, and to see whether a timing was changed: `0 9 * * * Europe/Berlin`, `every 10m`.
    """

    text: str
    moments: Moments

    def next(self, after: datetime) -> datetime | None:
        """The first moment later than `after`; None if there is none."""
        return next(self.moments.after(after), None)

    def newest(self, after: datetime, until: datetime, limit: int) -> tuple[list[datetime], bool]:
        """The last `limit` moments later than `after` and not later than `until`, oldest first, and whether there are more
        before them. Takes time for about `limit` moments, however long the span.
        """
        span = _FIRST_SPAN
        while True:
            start = max(after, until - span)
            kept: deque[datetime] = deque(maxlen=limit + 1)
            kept.extend(takewhile(lambda moment: moment <= until, self.moments.after(start)))
            if len(kept) > limit:
                return list(kept)[1:], True
            if start == after:
                return list(kept), False
            span *= 4


def timing_of(cron: str | None, every: str | None, zone: str | None) -> Timing:
    """The timing of a spec's fields, exactly one of `cron` and `every`.

    Raises:
        CronError: `cron` or `zone` is wrong.
        ValueError: `every` is wrong.
    """
    if cron is not None:
        return Timing(" ".join([*cron.split(), *([zone] if zone else [])]), parse_cron(cron, zone or ""))
    seconds = parse_duration(every or "")
    if seconds != int(seconds) or not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f'"{every}": must be whole seconds, at least 1s and at most 366d')
    return Timing(f"every {every}", Every(int(seconds)))


__all__ = ["CronError", "Every", "Moments", "Timing", "timing_of"]
