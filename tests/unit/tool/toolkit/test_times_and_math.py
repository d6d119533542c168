"""The tools of times and numbers."""

from typing import Any

import pytest

from tests.support.toolbox import Toolbox


async def test_now_is_what_the_clock_says(at_noon: Toolbox) -> None:
    now = at_noon.services.clock.now()
    found = await at_noon.call("time.now", {"zone": "Asia/Kolkata"})
    assert found["unix"] == now.timestamp()
    assert found["time"].endswith("+05:30")
    assert found["zone"] == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("arguments", "time"),
    [
        ({"text": "2026-03-01T09:30:00Z"}, "2026-03-01T09:30:00+00:00"),
        ({"text": "2026-03-01", "zone": "Europe/Berlin"}, "2026-03-01T00:00:00+01:00"),
        ({"text": "1.3.2026 9.30", "format": "%d.%m.%Y %H.%M"}, "2026-03-01T09:30:00+00:00"),
        ({"text": "Sun, 01 Mar 2026 09:30:00 +0200"}, "2026-03-01T09:30:00+02:00"),
        ({"text": "1772357400"}, "2026-03-01T09:30:00+00:00"),
        ({"text": "1772357400000"}, "2026-03-01T09:30:00+00:00"),
    ],
)
async def test_times_are_read_in_many_forms(arguments: dict[str, Any], time: str, box: Toolbox) -> None:
    assert (await box.call("time.parse", arguments))["time"] == time


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "99999999999999999999", "x" * 500])
async def test_what_is_no_time_is_refused_with_what_would_be(text: str, box: Toolbox) -> None:
    refused = await box.refused("time.parse", {"text": text})
    assert "time" in refused.message
    assert not refused.retryable


@pytest.mark.parametrize(
    ("arguments", "time"),
    [
        ({"moment": "2026-01-31T10:00:00Z", "months": 1}, "2026-02-28T10:00:00+00:00"),
        ({"moment": "2024-02-29T10:00:00Z", "months": -12}, "2023-02-28T10:00:00+00:00"),
        ({"moment": "2026-03-01T10:00:00Z", "duration": "1h30m"}, "2026-03-01T11:30:00+00:00"),
        ({"moment": "2026-03-01T10:00:00Z", "duration": "-7d"}, "2026-02-22T10:00:00+00:00"),
        # Clocks are put forward in that night: an hour is an hour all the same.
        ({"moment": "2026-03-29T01:30", "duration": "1h", "zone": "Europe/Berlin"}, "2026-03-29T03:30:00+02:00"),
    ],
)
async def test_durations_and_months_are_added(arguments: dict[str, Any], time: str, box: Toolbox) -> None:
    assert (await box.call("time.add", arguments))["time"] == time


@pytest.mark.parametrize(
    "arguments",
    [
        {"moment": "9999-12-31T00:00:00Z", "duration": "7d"},
        {"moment": "2026-01-01T00:00:00Z", "months": 10**9},
        {"moment": "2026-01-01T00:00:00Z", "duration": "a while"},
    ],
)
async def test_what_can_not_be_added_is_refused(arguments: dict[str, Any], box: Toolbox) -> None:
    assert (await box.refused("time.add", arguments)).type == "validation"


async def test_a_difference_is_told_in_several_ways(box: Toolbox) -> None:
    found = await box.call("time.difference", {"start": "2026-03-01T23:00:00Z", "end": "2026-03-03T01:30:05Z"})
    assert found == {"seconds": 95405.0, "days": pytest.approx(1.104224), "text": "1d 2h 30m 5s", "calendarDays": 2}
    assert (await box.call("time.difference", {"start": "2026-03-02", "end": "2026-03-01"}))["text"] == "-1d"


async def test_times_are_converted_and_written(box: Toolbox) -> None:
    there = await box.call(
        "time.convert", {"moment": "2026-07-01T12:00", "zone": "Europe/Berlin", "to": "America/New_York"}
    )
    assert there["time"] == "2026-07-01T06:00:00-04:00"
    written = await box.call(
        "time.format", {"moment": "2026-07-01T22:00:00Z", "format": "%d %B %Y, %H:%M", "zone": "Asia/Tokyo"}
    )
    assert written == "02 July 2026, 07:00"


@pytest.mark.parametrize(
    ("zone", "hint"),
    [("Europe/Berln", "did you mean 'Europe/Berlin'"), ("../../etc/passwd", "no time zone"), ("Nowhere", "")],
)
async def test_a_zone_that_is_not_there_is_named(zone: str, hint: str, box: Toolbox) -> None:
    refused = await box.refused("time.now", {"zone": zone})
    assert "zone: there is no time zone" in refused.message
    assert hint in refused.message


async def test_zones_are_listed(box: Toolbox) -> None:
    assert (await box.call("time.zones", {"contains": "berlin"}))["zones"] == ["Europe/Berlin"]


async def test_a_schedule_tells_its_next_times(box: Toolbox) -> None:
    found = await box.call(
        "time.next", {"schedule": "30 9 * * 1", "zone": "Europe/Berlin", "after": "2026-03-25T00:00:00Z", "count": 2}
    )
    assert found["times"] == ["2026-03-30T09:30:00+02:00", "2026-04-06T09:30:00+02:00"]
    assert "schedule" in (await box.refused("time.next", {"schedule": "61 * * * *"})).message


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4 ** 2", 80),
        ("10 // 3 + 10 % 3", 4),
        ("sqrt(16) + abs(-2) + max(1, 2, 3)", 9.0),
        ("round(2.675, 2)", 2.67),
        ("1 < 2 <= 2", True),
        ("a * 1.5 if a > 1 else 0", 3.0),
        ("not (1 > 2 or 2 > 3)", True),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("gcd(12, 18) + factorial(5) + comb(5, 2)", 136),
        ("sin(pi / 2) + log(e) + mean(1, 2, 3) + median(3, 1, 2)", 6.0),
    ],
)
async def test_arithmetic_is_exact(expression: str, result: Any, box: Toolbox) -> None:
    assert (await box.call("math.evaluate", {"expression": expression, "variables": {"a": 2}}))["result"] == result


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("1 / 0", "divides by zero"),
        ("2 ^ 3", "write **"),
        ("b + 1", "there is no 'b'"),
        ("(1 + ", "at character"),
        ("sqrt(-1)", "expression"),
        ("1e308 * 10", "the result is inf"),
        ("'a' * 3", "only numbers"),
        ("open('x')", "no function 'open'"),
        ("(1).__class__", "only numbers"),
        ("[1, 2]", "only numbers"),
        ("lambda: 1", "only numbers"),
        ("(-8) ** 0.5", "the result is"),
    ],
)
async def test_what_is_no_arithmetic_is_refused_with_its_place(expression: str, words: str, box: Toolbox) -> None:
    assert words in (await box.refused("math.evaluate", {"expression": expression})).message


async def test_numbers_are_described(box: Toolbox) -> None:
    found = await box.call("math.statistics", {"numbers": [1, 2, 3, 4], "percentiles": [50, 90]})
    assert found == {
        "count": 4,
        "sum": 10.0,
        "mean": 2.5,
        "median": 2.5,
        "min": 1.0,
        "max": 4.0,
        "deviation": pytest.approx(1.290994),
        "percentiles": {"50": 2.5, "90": pytest.approx(3.7)},
    }
    assert "numbers" in (await box.refused("math.statistics", {"numbers": []})).message


@pytest.mark.parametrize(
    ("value", "unit", "to", "result"),
    [
        (1, "mi", "km", 1.609344),
        (100, "C", "F", 212),
        (0, "K", "C", -273.15),
        (1, "GiB", "MiB", 1024),
        (36, "km/h", "m/s", 10),
        (2, "cup", "ml", 473.176473),
    ],
)
async def test_units_are_converted(value: float, unit: str, to: str, result: float, box: Toolbox) -> None:
    assert (await box.call("math.convert", {"value": value, "unit": unit, "to": to}))["value"] == result


async def test_units_that_do_not_go_together_are_refused_with_those_that_are_known(box: Toolbox) -> None:
    assert "length: mm, cm" in (await box.refused("math.convert", {"value": 1, "unit": "m", "to": "kg"})).message


async def test_numbers_are_rounded_as_people_do(box: Toolbox) -> None:
    assert await box.call("math.round", {"value": 2.675, "digits": 2}) == 2.68
    assert await box.call("math.round", {"value": 2.5, "mode": "half-even"}) == 2
    assert await box.call("math.round", {"value": 1234, "digits": -2}) == 1200
