"""VirtualClock: time passes only when a test says so, and then in order."""

from datetime import timedelta

import anyio
import pytest

from kastra.testing.clock import VirtualClock


async def test_sleepers_wake_in_order_of_due_time_each_at_its_moment() -> None:
    clock, woken = VirtualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with anyio.create_task_group() as tasks:
        for seconds in (3.0, 1.0, 2.0, 9.0):
            tasks.start_soon(sleeper, seconds)
        await clock.advance(5)
        assert woken == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
        assert clock.monotonic() == 5.0
        assert clock.next_due() == 4.0
        tasks.cancel_scope.cancel()
    assert clock.next_due() is None


async def test_a_task_that_sleeps_again_when_woken_keeps_its_rhythm() -> None:
    clock, ticks = VirtualClock(), []

    async def ticker() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticker)
        await clock.advance(3.5)
        assert ticks == [1.0, 2.0, 3.0]
        tasks.cancel_scope.cancel()


async def test_wall_clock_and_monotonic_time_move_together_except_in_a_jump() -> None:
    clock = VirtualClock()
    start = clock.now()
    await clock.advance(90)
    clock.jump(-3600)
    assert clock.now() - start == timedelta(seconds=90 - 3600)
    assert clock.monotonic() == 90


async def test_not_sleeping_at_all_still_lets_others_run() -> None:
    clock, order = VirtualClock(), []

    async def other() -> None:
        order.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await clock.sleep(0)
        order.append("self")
    assert order == ["other", "self"]


async def test_time_never_goes_back() -> None:
    with pytest.raises(ValueError, match="can't go back by 1 s"):
        await VirtualClock().advance(-1)
