"""TokenBucket admits a burst at once, then a steady rate, whatever the clock does in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.runtime.token_bucket import TokenBucket


class ManualClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def test_a_burst_passes_at_once_and_the_next_event_waits_for_one_token() -> None:
    bucket = TokenBucket(rate=2, burst=3, clock=ManualClock())
    assert [bucket.reserve() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_waiting_callers_are_served_in_the_order_they_asked() -> None:
    bucket = TokenBucket(rate=1, burst=1, clock=ManualClock())
    assert [bucket.reserve() for _ in range(3)] == [0.0, 1.0, 2.0]


def test_taking_never_borrows_from_the_future() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=1, burst=2, clock=clock)
    assert [bucket.take() for _ in range(4)] == [True, True, False, False]
    clock.seconds = 1.0
    assert [bucket.take() for _ in range(2)] == [True, False]


@given(pauses=st.lists(st.floats(min_value=0, max_value=10), max_size=50))
def test_no_window_admits_more_than_burst_plus_rate_times_its_length(pauses: list[float]) -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=5, burst=4, clock=clock)
    admitted = []
    for pause in pauses:
        clock.seconds += pause
        admitted.append(clock.seconds + bucket.reserve())
    for start, first in enumerate(admitted):
        for count, last in enumerate(admitted[start:], start=1):
            assert count <= 4 + 5 * (last - first) + 1e-6


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_impossible_limits_are_refused_with_the_values_given(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match=f"rate={rate} burst={burst}"):
        TokenBucket(rate=rate, burst=burst, clock=ManualClock())
