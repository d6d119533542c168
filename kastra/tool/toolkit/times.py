"""Group `time`: moments, durations, zones and schedules.

A moment is RFC 3339 text with an offset. The present comes from the injected clock, so a test decides what time it is.

Source: RFC 3339, ISO 8601, the IANA time zone database, crontab(5) as `cronsim` reads it. Read next: `kastra.clock`.
"""

import email.utils
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from itertools import islice
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from kastra.api.durations import parse_duration
from kastra.api.names import closest
from kastra.tool.toolkit.builtin import Builtin, Effect, unfit
from kastra.tool.toolkit.kit import Kit

Moment = Annotated[str, "A time such as 2026-03-01T09:30:00Z; without an offset, in zone."]
Zone = Annotated[str, "IANA time zone, such as Europe/Berlin."]
_NOW = Effect("reads", idempotent=True)


def now(kit: Kit, zone: Zone = "UTC") -> dict[str, Any]:
    """Tell the present date and time in a time zone."""
    return _described(kit.clock.now().astimezone(_zone(zone)))


def parse(
    text: Annotated[str, "RFC 3339 or ISO 8601, an e-mail date, seconds since 1970, or anything that format says."],
    zone: Zone = "UTC",
    format: Annotated[str, "Like Python's strptime, such as %d.%m.%Y; found out when empty."] = "",  # noqa: A002
) -> dict[str, Any]:
    """Read a date or time in one of many forms."""
    return _described(_moment(text, zone, format))


def add(
    moment: Moment,
    duration: Annotated[str, "Such as 1h30m, 7d or PT1H; with a minus in front it is subtracted."] = "0",
    months: Annotated[int, "Calendar months to add; the day is kept where the month has it."] = 0,
    zone: Zone = "UTC",
) -> dict[str, Any]:
    """Add a duration or calendar months to a time."""
    start = _moment(moment, zone)
    sign = -1 if duration.startswith("-") else 1
    try:
        seconds = parse_duration(duration.lstrip("+-"))
    except ValueError as error:
        raise unfit(f"duration: {error}") from None
    try:
        moved = _months_later(start, months)
        # A duration is elapsed time, so it is added in UTC: an hour stays an hour where clocks are put forward.
        return _described((moved.astimezone(UTC) + timedelta(seconds=sign * seconds)).astimezone(start.tzinfo))
    except (OverflowError, ValueError):
        raise unfit("the result lies outside the years 1 to 9999") from None


def _months_later(moment: datetime, months: int) -> datetime:
    if not months:
        return moment
    if abs(months) > 120_000:
        raise unfit("months: at most 120000")
    index = moment.year * 12 + moment.month - 1 + months
    year, month = index // 12, index % 12 + 1
    following = date(year + month // 12, month % 12 + 1, 1)
    last = (following - timedelta(days=1)).day
    return moment.replace(year=year, month=month, day=min(moment.day, last))


def difference(start: Moment, end: Moment, zone: Zone = "UTC") -> dict[str, Any]:
    """Tell how much time lies between two times."""
    first, second = _moment(start, zone), _moment(end, zone)
    seconds = (second.astimezone(UTC) - first.astimezone(UTC)).total_seconds()
    days, rest = divmod(abs(int(seconds)), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (left, "s"))
    words = " ".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
    return {
        "seconds": seconds,
        "days": seconds / 86400,
        "text": f"-{words}" if seconds < 0 else words,
        "calendarDays": (second.astimezone(first.tzinfo).date() - first.date()).days,
    }


def convert(
    moment: Moment, to: Zone, zone: Annotated[str, "Zone of moment, if it has no offset."] = "UTC"
) -> dict[str, Any]:
    """Tell what time it is elsewhere at a given time."""
    return _described(_moment(moment, zone).astimezone(_zone(to)))


def format_moment(
    moment: Moment,
    format: Annotated[str, "Like Python's strftime, such as %A, %d %B %Y at %H:%M."],  # noqa: A002
    zone: Zone = "UTC",
) -> str:
    """Write a time in a given form, in a given zone."""
    if len(format) > 200 or not all(character.isprintable() for character in format):
        raise unfit("format: at most 200 printable characters")
    try:
        return _moment(moment, zone).astimezone(_zone(zone)).strftime(format)
    except ValueError as error:
        raise unfit(f"format: {error}") from None


def next_times(
    kit: Kit,
    schedule: Annotated[str, "Five fields as in crontab: minute hour day month weekday."],
    zone: Zone = "UTC",
    after: Annotated[str, "From when on; now when empty."] = "",
    count: Annotated[int, "How many, at most 50."] = 5,
) -> dict[str, Any]:
    """Tell when a cron schedule fires next."""
    from cronsim import CronSim, CronSimError

    start = _moment(after, zone) if after else kit.clock.now()
    if not 1 <= count <= 50 or len(schedule) > 200:
        raise unfit("count must be from 1 to 50, schedule at most 200 characters long")
    try:
        times = islice(CronSim(schedule, start.astimezone(_zone(zone)).replace(microsecond=0)), count)
        return {"times": [moment.isoformat() for moment in times]}
    except CronSimError as error:
        raise unfit(f"schedule: {error}") from None


def zones(contains: Annotated[str, "Part of the name, such as Europe or Berlin."] = "") -> dict[str, Any]:
    """List time zones by a part of their name."""
    found = sorted(name for name in _zones() if contains.lower().replace(" ", "_") in name.lower())
    return {"zones": found[:200], **({"truncated": f"the first 200 of {len(found)}"} if len(found) > 200 else {})}


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> tzinfo:
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = closest(name[:100], _zones())
        hint = f"; did you mean {near!r}?" if near else "; time.zones lists them"
        raise unfit(f"zone: there is no time zone {name[:100]!r}{hint}") from None


def _moment(text: str, zone: str, format: str = "") -> datetime:  # noqa: A002
    plain = text.strip()
    if not plain or len(plain) > 200:
        raise unfit("time: must be a text of at most 200 characters")
    try:
        found = _read(plain, format)
        return found if found.tzinfo is not None else found.replace(tzinfo=_zone(zone))
    except (ValueError, OverflowError, OSError, TypeError) as error:
        why = f" in the form {format[:100]!r}" if format else "; write it such as 2026-03-01T09:30:00Z, or give format"
        raise unfit(f"time {plain[:100]!r} can't be read{why}") from error


def _read(text: str, format: str) -> datetime:  # noqa: A002
    if format:
        return datetime.strptime(text, format)  # noqa: DTZ007 - the caller gives the zone
    digits = text.lstrip("-").replace(".", "", 1)
    if digits.isdecimal() and (len(digits) > 8 or text.startswith("-")):
        number = float(text)
        return datetime.fromtimestamp(number / 1000 if abs(number) >= 1e11 else number, UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return email.utils.parsedate_to_datetime(text)


def _described(moment: datetime) -> dict[str, Any]:
    return {
        "time": moment.isoformat(),
        "date": moment.date().isoformat(),
        "weekday": moment.strftime("%A"),
        "week": moment.isocalendar().week,
        "unix": moment.timestamp(),
        "zone": str(moment.tzinfo),
    }


TOOLS = (
    Builtin("time.now", now, _NOW),
    Builtin("time.parse", parse),
    Builtin("time.add", add),
    Builtin("time.difference", difference),
    Builtin("time.convert", convert),
    Builtin("time.format", format_moment),
    Builtin("time.next", next_times, _NOW),
    Builtin("time.zones", zones),
)
