"""Durations read the forms that manifests use, and refuse everything else with a hint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.api.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), (".5s", 0.5), ("2d", 172800), ("1d2h3m4s5ms", 93784.005),
        ("0", 0), ("0s", 0), ("500us", 0.0005), ("PT1H", 3600), ("PT1H30M5S", 5405), ("P1DT12H", 129600), ("P2W", 1209600),
        ("PT0.5S", 0.5), ("PT0,5S", 0.5), (30, 30), (0.25, 0.25), (0, 0),
    ],
)  # fmt: skip
def test_every_accepted_form_is_read_as_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("30", 'write "30s"'), ("", "no duration"), ("soon", "1h30m"), ("1h 30m", "no duration"), ("-5s", "negative"),
        (-1, "0 or more"), ("1x", "no duration"), ("P1Y", "no fixed length"), ("P1M", "no fixed length"), ("P", "ISO 8601"),
        ("PT", "ISO 8601"), ("P1DT", "ISO 8601"), ("99999999d", "longer"), (float("nan"), "0 or more"), ("1h" * 60, "no duration"),
        ("1..5s", "no duration"), (True, "not bool"), ([1], "not list"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_what_to_write(text: object, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_duration(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (5400, "1h30m"), (0.25, "250ms"), (1.5, "1.5s"), (172800, "2d"), (0.0005, "500us"), (60, "1m"), (10, "10s"), (-30, "-30s")],
)  # fmt: skip
def test_durations_are_written_in_their_shortest_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**12))
def test_what_is_written_reads_back_to_the_microsecond(micros: int) -> None:
    assert parse_duration(format_duration(micros / 1e6)) == pytest.approx(micros / 1e6, abs=2e-6)
