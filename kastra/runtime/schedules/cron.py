"""Which moments does `0 9 * * MON-FRI` in `Europe/Berlin` mean? Cron expressions with time zones.

Five fields (minute, hour, day of month, month, day of week) or a macro such as `@daily`. Names of months and days, lists,
ranges, steps, `L` (last day), `LW` (last weekday), `FRI#2` (second Friday) and `FRIL` (last Friday) are understood. A wrong
expression is refused with the place in it. Where clocks change, Debian cron's rules hold: an expression whose minute and hour
are both given names one moment a day, so what would fall into the hour that is left out comes right after it, and what falls
into the hour that is repeated comes in the first of the two; anything with `*` goes by elapsed time.

Source: cronsim, which was chosen because it follows Debian cron's tests for these rules, and croniter has no maintainer.
Read next: `kastra.runtime.schedules.timing`.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from kastra.api.names import closest

MACROS: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_LENGTH = 256
"""Characters of an expression."""

_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L or LW"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT, where 0 and 7 are Sunday"),
)
_SOME_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


class CronError(ValueError):
    """An expression or a time zone is wrong; the message says where in it and what would be right."""


class Cron:
    """A cron expression in a time zone. Immutable. Take it from `parse_cron`."""

    __slots__ = ("_expression", "_zone")

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._expression = expression
        self._zone = zone

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The moments later than `moment`, in order, in UTC; ends when there are none for 50 years."""
        last = moment.astimezone(UTC)
        try:
            for local in CronSim(self._expression, last.astimezone(self._zone)):
                found = local.astimezone(UTC)
                # In the second of two equal hours the library begins again with the first.
                if found > last:
                    yield found
                    last = found
        except OverflowError:
            return  # after the year 9999


@lru_cache(maxsize=4096)
def parse_cron(text: str, zone: str = "") -> Cron:
    """The expression `text` in the time zone `zone`, UTC when that is empty.

    Raises:
        CronError: either is wrong.
    """
    place = parse_zone(zone)
    expression = _expression(text)
    words = expression.split()
    if len(words) != len(_FIELDS):
        names = ", ".join(name for name, _ in _FIELDS)
        hint = "; seconds can't be given, write every: 10s instead" if len(words) == len(_FIELDS) + 1 else ""
        raise CronError(f"has {len(words)} fields, but cron has five: {names}{hint}")
    _check_fields(expression, words)
    cron = Cron(expression, place)
    if next(cron.after(_SOME_MOMENT), None) is None:
        raise CronError("names a date that doesn't exist, so it never comes")
    return cron


def parse_zone(name: str) -> tzinfo:
    """The time zone of an IANA name such as `Europe/Berlin`; UTC when it is empty.

    Raises:
        CronError: there is none of that name.
    """
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = closest(name, sorted(available_timezones()))
        hint = f'did you mean "{near}"?' if near else "write a name of the IANA database such as Europe/Berlin"
        raise CronError(f'there is no time zone "{name[:64]}"; {hint}') from None


def _expression(text: str) -> str:
    if len(text) > MAX_LENGTH:
        raise CronError(f"has {len(text)} characters, at most {MAX_LENGTH} are allowed")
    stripped = text.strip()
    if stripped.startswith("@"):
        known = MACROS.get(stripped.lower())
        if known is None:
            hint = "write every: 5m instead" if stripped.startswith("@every") else f"there are {', '.join(MACROS)}"
            raise CronError(f"unknown macro; {hint}")
        return known
    if stripped.upper().startswith(("TZ=", "CRON_TZ=")):
        raise CronError("the time zone is given by timeZone")
    return text


def _check_fields(expression: str, words: list[str]) -> None:
    """Try each part of each field by itself, to find the place of what is wrong."""
    end = 0
    for index, (word, (name, allowed)) in enumerate(zip(words, _FIELDS, strict=True)):
        start = expression.index(word, end)
        end = start + len(word)
        column = start + 1
        for part in word.split(","):
            others = ["*"] * len(_FIELDS)
            others[index] = part
            try:
                CronSim(" ".join(others), _SOME_MOMENT)
            except (CronSimError, AssertionError):
                shown = f'"{part}" ' if part else "an empty entry "
                raise CronError(f"column {column}: {shown}is no {name}: {allowed}") from None
            column += len(part) + 1
    try:
        CronSim(" ".join(words), _SOME_MOMENT)
    except CronSimError:
        raise CronError("names a date that doesn't exist, so it never comes") from None
