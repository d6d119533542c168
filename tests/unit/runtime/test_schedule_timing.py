"""Which of the moments that have come are acted on: by catchUp, by the deadline, for spans of any length."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from kastra.runtime.schedules.catching_up import MAX_BACKLOG, CatchUp, due
from kastra.runtime.schedules.spec import LONGEST_NAME, child_name, run_name
from kastra.runtime.schedules.timing import timing_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOURLY = timing_of("@hourly", None, None)


def ago(**span: float) -> datetime:
    return NOON - timedelta(**span)


def hours(found: tuple[datetime, ...]) -> list[int]:
    return [moment.hour for moment in found]


def test_intervals_are_counted_from_1970_so_that_nothing_moves_them() -> None:
    timing = timing_of(None, "90m", None)
    first = timing.next(datetime(1970, 1, 1, tzinfo=UTC))
    assert first == datetime(1970, 1, 1, 1, 30, tzinfo=UTC)
    assert timing.next(NOON) == NOON + timedelta(minutes=90)
    assert timing.next(NOON - timedelta(seconds=1)) == NOON


@pytest.mark.parametrize("every", ["0s", "500ms", "1.5s", "400d", "never"])
def test_an_interval_is_whole_seconds_up_to_a_year(every: str) -> None:
    with pytest.raises(ValueError, match=r"must be whole seconds|is no duration"):
        timing_of(None, every, None)


@pytest.mark.parametrize(
    ("catch_up", "deadline", "startable", "missed"),
    [
        ("Latest", None, [12], 3),
        ("Latest", 60.0, [12], 3),
        ("All", None, [9, 10, 11, 12], 0),
        ("All", 7200.0, [10, 11, 12], 1),
        ("None", None, [12], 3),
        ("None", 3600.0, [12], 3),
    ],
)
def test_what_is_started_of_the_moments_since_half_past_eight(
    catch_up: CatchUp, deadline: float | None, startable: list[int], missed: int
) -> None:
    found = due(HOURLY, ago(hours=3.5), NOON, catch_up, deadline)
    assert (hours(found.startable), found.missed) == (startable, missed)


def test_a_moment_is_given_up_after_its_deadline() -> None:
    late = NOON + timedelta(seconds=61)
    assert due(HOURLY, ago(minutes=5), late, "None", None).startable == ()
    assert due(HOURLY, ago(minutes=5), late, "Latest", 60.0).startable == ()
    found = due(HOURLY, ago(minutes=5), late, "Latest", 61.0)
    assert (found.startable, found.until) == ((NOON,), None)


def test_nothing_is_due_where_no_moment_came_and_when_the_clock_went_back() -> None:
    assert due(HOURLY, NOON, NOON + timedelta(minutes=59), "All", None).startable == ()
    assert due(HOURLY, NOON + timedelta(hours=5), NOON, "All", None) == due(HOURLY, NOON, NOON, "All", None)


def test_a_backlog_is_bounded_and_years_cost_no_more_than_minutes() -> None:
    minutely = timing_of("* * * * *", None, "Europe/Berlin")
    begun = time.process_time()
    found = due(minutely, ago(days=3650), NOON, "All", None)
    assert time.process_time() - begun < 1.0
    assert len(found.startable) == MAX_BACKLOG
    assert found.startable[-1] == NOON
    assert (found.missed, found.more) == (1000 - MAX_BACKLOG, True)


def test_the_newest_moments_are_found_however_rare_they_are() -> None:
    leap_days = timing_of("0 0 29 2 *", None, None)
    found = due(leap_days, ago(days=3650), NOON, "All", None)
    assert [moment.year for moment in found.startable] == [2016, 2020, 2024]


def test_names_of_runs_follow_from_the_moment_and_fit_into_labels() -> None:
    assert run_name("report", NOON) == "report-20260101-120000"
    longest = child_name("w" * 200, "nightly")
    assert len(longest) == LONGEST_NAME
    assert len(run_name(longest, NOON)) == 63
    assert child_name("report", "") == "report"
    assert child_name("report", "nightly") == "report-nightly"
    assert child_name("w" * 200, "nightly") != child_name("w" * 200, "daily")
    assert "." not in child_name("my.report", "nightly")
