"""Cron expressions: what they mean where clocks change, and how a wrong one is refused with its place."""

from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest

from kastra.runtime.schedules.cron import MACROS, CronError, parse_cron


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def coming(expression: str, zone: str, after: str, number: int = 3) -> list[str]:
    return [f"{moment:%m-%dT%H:%M}" for moment in islice(parse_cron(expression, zone).after(utc(after)), number)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/15 * * * *", ["01-31T00:15", "01-31T00:30", "01-31T00:45"]),
        ("0 9 * * MON-FRI", ["02-02T09:00", "02-03T09:00", "02-04T09:00"]),
        ("30 8,17 1 * *", ["02-01T08:30", "02-01T17:30", "03-01T08:30"]),
        ("0 0 L * *", ["02-28T00:00", "03-31T00:00", "04-30T00:00"]),
        ("0 0 * * FRI#2", ["02-13T00:00", "03-13T00:00", "04-10T00:00"]),
        ("0 0 13 * FRI", ["02-06T00:00", "02-13T00:00", "02-20T00:00"]),
        ("@daily", ["02-01T00:00", "02-02T00:00", "02-03T00:00"]),
        ("@Monthly", ["02-01T00:00", "03-01T00:00", "04-01T00:00"]),
        ("  0 0 29 feb * ", ["02-29T00:00"]),
    ],
)
def test_an_expression_names_moments(expression: str, expected: list[str]) -> None:
    assert coming(expression, "", "2026-01-31T00:00", len(expected)) == expected


def test_an_expression_is_read_in_its_time_zone() -> None:
    assert coming("0 9 * * *", "America/New_York", "2026-01-10T00:00", 2) == ["01-10T14:00", "01-11T14:00"]
    assert coming("0 9 * * *", "America/New_York", "2026-07-10T00:00", 2) == ["07-10T13:00", "07-11T13:00"]
    assert coming("0 9 * * *", "Asia/Kolkata", "2026-01-10T00:00", 1) == ["01-10T03:30"]


def test_a_daily_moment_in_the_hour_that_is_left_out_comes_right_after_it() -> None:
    # In Berlin the clock goes from 02:00 to 03:00 on 29 March 2026, at 01:00 UTC.
    assert coming("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00") == ["03-28T01:30", "03-29T01:00", "03-30T00:30"]


def test_a_daily_moment_in_the_hour_that_is_repeated_comes_once() -> None:
    # And from 03:00 back to 02:00 on 25 October, at 01:00 UTC.
    assert coming("30 2 * * *", "Europe/Berlin", "2026-10-24T01:00") == ["10-25T00:30", "10-26T01:30", "10-27T01:30"]
    in_the_second_of_the_two = "2026-10-25T01:10"
    assert coming("30 2 * * *", "Europe/Berlin", in_the_second_of_the_two, 1) == ["10-26T01:30"]


def test_what_goes_by_elapsed_time_is_neither_skipped_nor_doubled_where_clocks_change() -> None:
    spring = coming("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", 4)
    assert spring == ["03-29T00:00", "03-29T01:00", "03-29T02:00", "03-29T03:00"]
    autumn = coming("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00", 4)
    assert autumn == ["10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "15 0,1,2,3 * * *", "0 */6 * * *"])
def test_moments_only_go_forward_and_don_t_depend_on_where_one_begins(zone: str, expression: str) -> None:
    cron = parse_cron(expression, zone)
    moments = list(islice(cron.after(utc("2026-01-01T00:00")), 1200))
    assert all(earlier < later for earlier, later in pairwise(moments))
    for earlier, later in list(pairwise(moments))[::7]:
        assert next(cron.after(earlier)) == later


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("61 * * * *", 'column 1: "61" is no minute: 0-59'),
        ("0 9-17,25 * * *", 'column 8: "25" is no hour: 0-23'),
        ("0 0 ,1 * *", "column 5: an empty entry is no day of month"),
        ("0 0 1 JANUARY *", 'column 7: "JANUARY" is no month: 1-12 or JAN-DEC'),
        ("0 0 * * MON-8", 'column 9: "MON-8" is no day of week'),
        ("*/0 * * * *", 'column 1: "*/0" is no minute'),
        ("0 0 ² * *", 'column 5: "²" is no day of month'),
        ("0 0 LW/3-4 * *", "column 5"),
        ("* * * *", "has 4 fields, but cron has five"),
        ("* * * * * *", "seconds can't be given, write every: 10s instead"),
        ("", "has 0 fields"),
        ("0 0 31 2 *", "names a date that doesn't exist, so it never comes"),
        ("0 0 30 FEB *", "never comes"),
        ("@fortnightly", "unknown macro; there are @yearly"),
        ("@every 5m", "write every: 5m instead"),
        ("TZ=UTC 0 0 * * *", "given by timeZone"),
        ("1," * 200 + "1 * * * *", "at most 256 are allowed"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(expression: str, says: str) -> None:
    with pytest.raises(CronError) as refused:
        parse_cron(expression)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ("Europe/Berln", 'did you mean "Europe/Berlin"?'),
        ("europe", "write a name of the IANA database"),
        ("../../etc/passwd", "there is no time zone"),
        ("\0", "there is no time zone"),
        ("x" * 5000, "there is no time zone"),
    ],
    ids=["typo", "folder", "path", "nul", "long"],
)
def test_an_unknown_time_zone_is_refused(zone: str, says: str) -> None:
    with pytest.raises(CronError) as refused:
        parse_cron("@daily", zone)
    assert says in str(refused.value)


def test_every_macro_comes() -> None:
    for macro in MACROS:
        assert next(parse_cron(macro).after(utc("2026-01-01T00:00"))) > utc("2026-01-01T00:00")
