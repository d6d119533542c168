"""A Workqueue hands out each key once, one at a time, in order, after its delay, and never while it is in work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.runtime.token_bucket import TokenBucket
from kastra.runtime.workqueue import ShutDown, Workqueue
from kastra.testing.clock import VirtualClock


@asynccontextmanager
async def running(queue: Workqueue[str]) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        yield
        queue.shut_down()


async def drain(queue: Workqueue[str]) -> list[str]:
    taken = []
    while len(queue):
        item = await queue.get()
        queue.done(item)
        taken.append(item)
    return taken


async def test_an_item_added_twice_is_there_once() -> None:
    queue = Workqueue[str](VirtualClock())
    for item in ("a", "b", "a"):
        queue.add(item)
    assert await drain(queue) == ["a", "b"]
    assert queue.adds == 2


async def test_an_item_added_while_in_work_comes_again_after_it_is_done() -> None:
    queue = Workqueue[str](VirtualClock())
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_an_item_that_is_added_again_goes_behind_those_that_wait() -> None:
    queue = Workqueue[str](VirtualClock())
    queue.add("busy")
    first = await queue.get()
    for item in ("b", "busy", "c"):
        queue.add(item)
    queue.done(first)
    assert await drain(queue) == ["b", "c", "busy"]


async def test_waiting_workers_are_woken_one_per_item() -> None:
    queue, taken = Workqueue[str](VirtualClock()), []

    async def worker() -> None:
        try:
            while True:
                item = await queue.get()
                taken.append(item)
                queue.done(item)
        except ShutDown:
            return

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(worker)
        await anyio.wait_all_tasks_blocked()
        for item in ("a", "b", "c", "d"):
            queue.add(item)
        await anyio.wait_all_tasks_blocked()
        queue.shut_down()
    assert sorted(taken) == ["a", "b", "c", "d"]


async def test_an_item_is_not_lost_when_the_worker_it_woke_is_cancelled() -> None:
    queue, taken = Workqueue[str](VirtualClock()), []

    async def worker(scope: anyio.CancelScope) -> None:
        with scope:
            taken.append(await queue.get())

    first, second = anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker, first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(worker, second)
        await anyio.wait_all_tasks_blocked()
        queue.add("a")
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        assert taken == ["a"]
        second.cancel()


async def test_a_delayed_item_comes_when_it_is_due_and_not_before() -> None:
    clock = VirtualClock()
    queue = Workqueue[str](clock)
    async with running(queue):
        queue.add_after("late", 10)
        queue.add_after("soon", 2)
        await clock.advance(1.9)
        assert len(queue) == 0
        assert queue.next_due() == pytest.approx(0.1)
        await clock.advance(0.2)
        assert await drain(queue) == ["soon"]
        await clock.advance(8)
        assert await drain(queue) == ["late"]
        assert queue.next_due() is None


async def test_of_two_delays_the_earlier_stands() -> None:
    clock = VirtualClock()
    queue = Workqueue[str](clock)
    async with running(queue):
        queue.add_after("a", 5)
        queue.add_after("a", 9)
        queue.add_after("a", 2)
        await clock.advance(2)
        assert await drain(queue) == ["a"]
        await clock.advance(100)
        assert len(queue) == 0


async def test_a_delay_is_forgotten_once_the_item_is_taken_for_another_reason() -> None:
    clock = VirtualClock()
    queue = Workqueue[str](clock)
    async with running(queue):
        queue.add_after("a", 5)
        queue.add("a")
        assert await drain(queue) == ["a"]
        await clock.advance(10)
        assert len(queue) == 0


async def test_retries_back_off_exponentially_to_a_limit_and_start_anew_after_success() -> None:
    queue = Workqueue[str](VirtualClock())
    delays = [queue.add_rate_limited("a") for _ in range(20)]
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[-1] == 300.0
    assert queue.add_rate_limited("b") == 0.005
    queue.forget("a")
    assert queue.add_rate_limited("a") == 0.005
    assert queue.retries == 22


async def test_a_longer_wait_that_the_other_side_asked_for_is_kept() -> None:
    queue = Workqueue[str](VirtualClock())
    assert queue.add_rate_limited("a", at_least=7) == 7


async def test_queues_that_share_a_bucket_share_its_limit_on_retries() -> None:
    clock = VirtualClock()
    bucket = TokenBucket(rate=1, burst=2, clock=clock)
    one, two = Workqueue[str](clock, retry_bucket=bucket), Workqueue[str](clock, retry_bucket=bucket)
    assert [one.add_rate_limited("a"), two.add_rate_limited("b")] == [0.005, 0.005]
    assert [one.add_rate_limited("c"), two.add_rate_limited("d")] == [1.0, 2.0]


async def test_the_next_retry_is_told_apart_from_other_delays() -> None:
    queue = Workqueue[str](VirtualClock())
    queue.add_after("poll", 0.001)
    assert queue.next_retry() is None
    queue.add_rate_limited("failed")
    assert queue.next_retry() == pytest.approx(0.005)


async def test_shutdown_ends_every_waiting_worker_and_accepts_nothing_more() -> None:
    queue, ended = Workqueue[str](VirtualClock()), []

    async def worker(number: int) -> None:
        with pytest.raises(ShutDown):
            await queue.get()
        ended.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        for number in range(3):
            tasks.start_soon(worker, number)
        await anyio.wait_all_tasks_blocked()
        queue.shut_down()
    queue.add("a")
    queue.add_after("b", 1)
    assert (sorted(ended), len(queue), queue.next_due()) == ([0, 1, 2], 0, None)


async def test_the_last_item_done_is_reported_as_idle() -> None:
    reports = []
    queue = Workqueue[str](VirtualClock(), on_idle=lambda: reports.append(len(queue)))
    queue.add("a")
    queue.add("b")
    assert not queue.idle
    await drain(queue)
    assert queue.idle
    assert reports == [0]


_actions = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("abc")),
    st.tuples(st.just("after"), st.sampled_from("abc")),
    st.tuples(st.just("get"), st.just("")),
    st.tuples(st.just("done"), st.sampled_from("abc")),
    st.tuples(st.just("pass"), st.just("")),
)


@given(actions=st.lists(_actions, max_size=60))
def test_whatever_happens_no_item_is_lost_and_none_is_in_work_twice(actions: list[tuple[str, str]]) -> None:
    async def scenario() -> None:
        clock = VirtualClock()
        queue = Workqueue[str](clock)
        in_work: set[str] = set()
        wanted: set[str] = set()
        async with running(queue):
            for action, item in actions:
                if action == "add":
                    queue.add(item)
                    wanted.add(item)
                elif action == "after":
                    queue.add_after(item, 1)
                    wanted.add(item)
                elif action == "get" and len(queue):
                    taken = await queue.get()
                    assert taken not in in_work
                    in_work.add(taken)
                    wanted.discard(taken)
                elif action == "done" and item in in_work:
                    in_work.remove(item)
                    queue.done(item)
                elif action == "pass":
                    await clock.advance(1)
            for item in in_work:
                queue.done(item)
            await clock.advance(1)
            assert set(await drain(queue)) >= wanted

    anyio.run(scenario)
