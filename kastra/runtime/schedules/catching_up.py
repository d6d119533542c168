"""Of the moments that have come, which are still to be acted on?

    catchUp: None     the newest, if it came within `startingDeadline` (60 s when absent)
             Latest   the newest, however long ago, or within `startingDeadline`
             All      each, oldest first, at most 100, within `startingDeadline`

A moment that came while nobody was there to act is treated like one that had to wait because the Run before it was still
active: it can be acted on until its deadline, or until a newer one takes its place. What is given up is counted, once.

Source: CronJob's startingDeadlineSeconds, Temporal's catch-up window. Read next: `controllers/schedule.py`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from .timing import Timing

CatchUp = Literal["None", "Latest", "All"]
MAX_BACKLOG = 100
"""Moments that are acted on one after the other with `catchUp: All`; older ones are given up."""

PUNCTUAL = 60.0
"""Seconds in which a moment counts as being acted on in time with `catchUp: None`."""

_COUNTED = 1000


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done about the moments that have come.

    Args:
        startable: to be acted on, oldest first.
        missed: how many are given up; at most 1,000 are counted.
        more: whether it is more than `missed`.
        until: the newest of those given up; None without any.
    """

    startable: tuple[datetime, ...] = ()
    missed: int = 0
    more: bool = False
    until: datetime | None = None


def due(timing: Timing, after: datetime, now: datetime, catch_up: CatchUp, deadline: float | None) -> Due:
    """What is to be done about the moments later than `after` and not later than `now`.

    Args:
        deadline: seconds for which a moment can be acted on; None for the default of `catch_up`.
    """
    passed, more = timing.newest(after, now, _COUNTED)
    if not passed:
        return Due()
    if deadline is None and catch_up == "None":
        deadline = PUNCTUAL
    fresh = passed
    if deadline is not None:
        earliest = now - timedelta(seconds=deadline)
        fresh = [moment for moment in passed if moment >= earliest]
    startable = fresh[-MAX_BACKLOG:] if catch_up == "All" else fresh[-1:]
    missed = len(passed) - len(startable)
    return Due(tuple(startable), missed, more, passed[missed - 1] if missed else None)
