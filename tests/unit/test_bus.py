"""The bus delivers in order, remembers a little, and never waits for a slow reader."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.bus import QUEUE, RING, RING_AGE, Bus, TooOld
from kastra.testing.clock import VirtualClock


def events(first: int, last: int) -> list[tuple[int, str]]:
    return [(number, f"e{number}") for number in range(first, last + 1)]


async def test_subscribers_see_what_is_published_after_they_came_in_order() -> None:
    bus = Bus(VirtualClock())
    bus.publish("t", events(1, 2))
    async with bus.subscribe("t") as one, bus.subscribe("t") as two:
        bus.publish("t", events(3, 4))
        bus.publish("other", events(5, 5))
        assert await one.batch() == await two.batch() == events(3, 4)


async def test_iterating_waits_for_events_and_gives_them_one_by_one() -> None:
    bus = Bus(VirtualClock())
    subscription = bus.subscribe("t")
    seen = []

    async def read() -> None:
        async for item in subscription:
            seen.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(0)
        bus.publish("t", events(1, 3))
        await anyio.sleep(0)
        bus.close("t")
    assert seen == events(1, 3)


async def test_the_ring_is_replayed_from_the_number_asked_for_without_gap_to_what_is_live() -> None:
    bus = Bus(VirtualClock())
    bus.publish("t", events(1, 5))
    subscription = bus.subscribe("t", since=3)
    bus.publish("t", events(6, 6))
    assert await subscription.batch() == events(4, 6)


async def test_a_number_before_the_ring_is_refused_with_the_lowest_possible() -> None:
    bus = Bus(VirtualClock(), ring=3)
    bus.publish("t", events(1, 5))
    with pytest.raises(TooOld) as caught:
        bus.subscribe("t", since=1)
    assert caught.value.floor == bus.floor("t") == 2
    assert await bus.subscribe("t", since=2).batch() == events(3, 5)


async def test_a_topic_opened_at_a_number_knows_nothing_before_it() -> None:
    bus = Bus(VirtualClock())
    bus.open("t", 100)
    with pytest.raises(TooOld):
        bus.subscribe("t", since=99)
    subscription = bus.subscribe("t", since=100)
    bus.publish("t", [(150, "x")])
    assert await subscription.batch() == [(150, "x")]
    assert bus.floor("t") == 100


async def test_a_topic_that_only_had_readers_begins_with_its_first_event() -> None:
    bus = Bus(VirtualClock())
    bus.subscribe("run/1", since=0)
    bus.publish("run/1", events(8, 8))
    with pytest.raises(TooOld):
        bus.subscribe("run/1", since=3)


async def test_events_are_forgotten_after_ten_minutes() -> None:
    clock = VirtualClock()
    bus = Bus(clock)
    bus.publish("t", events(1, 2))
    await clock.advance(RING_AGE + 1)
    bus.publish("t", events(3, 3))
    with pytest.raises(TooOld):
        bus.subscribe("t", since=1)
    assert await bus.subscribe("t", since=2).batch() == events(3, 3)


async def test_a_slow_reader_gets_what_fits_and_then_the_end_while_others_go_on() -> None:
    bus = Bus(VirtualClock())
    slow, quick = bus.subscribe("t", limit=10), bus.subscribe("t")
    for start in (1, 7, 13):
        bus.publish("t", events(start, start + 5))
    assert [item async for item in slow] == events(1, 10)
    assert slow.overflowed
    assert slow.ended
    assert await quick.batch() == events(1, 18)
    assert not quick.ended


async def test_what_is_replayed_does_not_count_against_the_limit() -> None:
    bus = Bus(VirtualClock())
    bus.publish("t", events(1, RING))
    subscription = bus.subscribe("t", since=0)
    bus.publish("t", events(RING + 1, RING + QUEUE))
    assert len(await subscription.batch()) == RING + QUEUE
    assert not subscription.ended


async def test_a_reader_may_accept_only_some_events() -> None:
    bus = Bus(VirtualClock())
    bus.publish("t", events(1, 4))
    subscription = bus.subscribe("t", since=0, limit=1, accept=lambda event: event in ("e2", "e6"))
    bus.publish("t", events(5, 8))
    assert await subscription.batch() == [(2, "e2"), (6, "e6")]
    assert not subscription.ended


async def test_wake_returns_an_empty_batch_once() -> None:
    bus = Bus(VirtualClock())
    subscription = bus.subscribe("t")
    batches: list[list[tuple[int, str]]] = []

    async def read() -> None:
        for _ in range(2):
            batches.append(await subscription.batch())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(0)
        subscription.wake()
        await anyio.sleep(0)
        assert batches == [[]]
        bus.publish("t", events(1, 1))
    assert batches == [[], events(1, 1)]


async def test_a_closed_subscription_drops_what_waits_and_is_not_published_to() -> None:
    bus = Bus(VirtualClock())
    subscription = bus.subscribe("t")
    bus.publish("t", events(1, 1))
    await subscription.aclose()
    bus.publish("t", events(2, 2))
    assert [item async for item in subscription] == []
    assert subscription.waiting == 0


async def test_a_reader_that_is_cancelled_can_read_again() -> None:
    bus = Bus(VirtualClock())
    subscription = bus.subscribe("t")
    with anyio.move_on_after(0):
        await subscription.batch()
    bus.publish("t", events(1, 1))
    assert await subscription.batch() == events(1, 1)


async def test_a_hundred_thousand_runs_leave_no_topics_behind() -> None:
    clock = VirtualClock()
    bus = Bus(clock)
    bus.publish("store/agents", events(1, 1))
    listened = bus.subscribe("run/listened")
    for number in range(100_000):
        bus.publish(f"run/{number}", [(1, "started")])
    assert len(bus) < 2000
    await clock.advance(61)
    for number in range(2000):
        bus.publish(f"run/late-{number}", [(1, "started")])
        bus.close(f"run/late-{number}")
    assert len(bus) == 2
    bus.publish("run/listened", events(1, 1))
    assert await listened.batch() == events(1, 1)


@given(
    sizes=st.lists(st.integers(1, 40), max_size=20),
    ring=st.integers(1, 100),
    limit=st.integers(1, 100),
    since=st.integers(0, 50),
    read_after=st.lists(st.booleans(), min_size=20, max_size=20),
)
async def test_a_reader_sees_a_run_of_consecutive_numbers_whatever_happens(
    sizes: list[int], ring: int, limit: int, since: int, read_after: list[bool]
) -> None:
    bus = Bus(VirtualClock(), ring=ring)
    bus.publish("t", events(1, 50))
    try:
        subscription = bus.subscribe("t", since=since, limit=limit)
    except TooOld as error:
        assert since < error.floor == 50 - ring
        return
    last, seen = 50, []
    for size, read in zip(sizes, read_after, strict=False):
        bus.publish("t", events(last + 1, last + size))
        last += size
        if read and not subscription.ended:
            seen += await subscription.batch()
    bus.close("t")
    seen += [item async for item in subscription]
    assert seen == events(since + 1, seen[-1][0] if seen else since)
    assert subscription.overflowed or (seen[-1][0] if seen else since) == last
