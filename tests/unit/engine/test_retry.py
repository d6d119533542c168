"""A retry policy bounds attempts and waits; slots are given in the order of asking."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.engine.retry import DEFAULT_RETRY, NEVER, RetryPolicy
from kastra.engine.slots import FairSlots
from kastra.engine.step import StepError

FAILED = StepError("tool", "no")


def test_waits_double_up_to_the_longest_and_end_at_the_limit() -> None:
    policy = RetryPolicy(limit=4, initial=10, maximum=35, jitter=0)
    assert [policy.delay(n, FAILED, 0, "s") for n in range(1, 6)] == [10, 20, 35, 35, None]


def test_what_a_spec_does_not_say_is_taken_from_the_base() -> None:
    base = RetryPolicy.of({"limit": 7, "initialInterval": "2s", "nonRetryable": ["sold_out"]})
    assert RetryPolicy.of({"backoff": 3}, base) == RetryPolicy(7, 2.0, 3.0, non_retryable=frozenset({"sold_out"}))


@pytest.mark.parametrize("kind", sorted(NEVER))
def test_some_errors_are_final_whatever_the_limit(kind: str) -> None:
    assert DEFAULT_RETRY.delay(1, StepError(kind, "no"), 0, "s") is None


def test_an_error_that_says_so_is_final_and_so_is_one_that_the_policy_names() -> None:
    policy = RetryPolicy(non_retryable=frozenset({"sold_out"}))
    assert policy.delay(1, StepError("tool", "no", retryable=False), 0, "s") is None
    assert policy.delay(1, StepError("sold_out", "no"), 0, "s") is None


def test_nothing_is_tried_after_the_time_is_up() -> None:
    policy = RetryPolicy(initial=10, max_elapsed=15, jitter=0)
    assert policy.delay(1, FAILED, 4, "s") == 10
    assert policy.delay(1, FAILED, 6, "s") is None


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0.001, 100), st.floats(1, 10), st.text())
def test_a_wait_stays_within_its_jitter_and_is_the_same_for_the_same_step(
    failures: int, jitter: float, initial: float, backoff: float, seed: str
) -> None:
    policy = RetryPolicy(limit=200, initial=initial, backoff=backoff, maximum=60, jitter=jitter)
    wait = policy.delay(failures, FAILED, 0, seed)
    assert wait is not None
    assert 0 <= wait <= min(60, initial * backoff ** min(failures - 1, 64)) * (1 + jitter) * 1.000001
    assert wait == policy.delay(failures, FAILED, 0, seed)


@given(st.floats(0, 1000))
def test_a_wait_that_was_asked_for_is_a_lower_bound_unless_it_is_not_respected(asked: float) -> None:
    error = StepError("rate_limit", "busy", retry_after=asked)
    assert (DEFAULT_RETRY.delay(1, error, 0, "s") or 0) >= asked
    assert (RetryPolicy(respect_retry_after=False).delay(1, error, 0, "s") or 0) <= 1.2


@pytest.mark.parametrize("spec", [{"limit": -1}, {"backoff": 0.5}, {"jitter": 2}, {"initialInterval": "x"}])
def test_a_policy_that_makes_no_sense_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        RetryPolicy.of(spec)


async def test_places_are_given_in_the_order_of_asking_and_a_cancelled_wait_takes_none() -> None:
    slots, taken = FairSlots(1), list[int]()
    await slots.acquire()

    async def take(number: int) -> None:
        await slots.acquire()
        taken.append(number)

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(take, number)
        with anyio.move_on_after(0):
            await take(99)
        await anyio.lowlevel.checkpoint()
        for _ in range(3):
            slots.release()
            await anyio.lowlevel.checkpoint()
    assert taken == [0, 1, 2]


def test_a_pool_has_at_least_one_place() -> None:
    with pytest.raises(ValueError, match="at least one place, got 0"):
        FairSlots(0)
