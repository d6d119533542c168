"""Where events come in: each once, for every listener at least once, and for as long as somebody may want them."""

from collections.abc import AsyncIterator

import pytest

from kastra.api.cloudevents import CloudEvent
from kastra.engine.mailroom import KEPT, Mailroom
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import Engine, engine


@pytest.fixture
async def e() -> AsyncIterator[Engine]:
    async with engine() as running:
        yield running


def event(number: int, **fields: object) -> CloudEvent:
    return CloudEvent(f"e{number}", "/shop", "paid", **fields)  # type: ignore[arg-type]


async def heard(e: Engine, into: list[str], count: int) -> None:
    assert isinstance(e.clock, VirtualClock)
    for _ in range(200):
        if len(into) >= count:
            return
        await e.pass_time(e.clock)
    raise AssertionError(f"only {into} came")


async def test_a_listener_is_told_of_every_event_and_of_those_before_it_listened(e: Engine) -> None:
    told: list[str] = []

    async def listen(namespace: str, one: CloudEvent) -> None:
        told.append(f"{namespace} {one.id}")

    assert await e.pool.mailroom.deliver("shop", event(1))
    e.pool.mailroom.listen(listen)
    await e.pool.mailroom.deliver("other", event(2))
    assert not await e.pool.mailroom.deliver("shop", event(1))
    await heard(e, told, 2)
    assert sorted(told) == ["other e2", "shop e1"]
    await e.settle()
    assert await e.writer.query("SELECT 1 FROM inbox WHERE type = '@pending'") == []


async def test_a_listener_that_fails_is_told_again_and_holds_up_nobody(e: Engine) -> None:
    told: list[str] = []

    async def listen(namespace: str, one: CloudEvent) -> None:
        told.append(one.id)
        if one.id == "e1" and told.count("e1") < 3:
            raise RuntimeError("not yet")

    e.pool.mailroom.listen(listen)
    await e.pool.mailroom.deliver("shop", event(1))
    await e.pool.mailroom.deliver("shop", event(2))
    await heard(e, told, 4)
    assert (told.count("e1"), told.count("e2")) == (3, 1)


async def test_a_listener_that_fails_keeps_no_event_from_the_other_ones(e: Engine) -> None:
    told: list[str] = []

    async def fails(namespace: str, one: CloudEvent) -> None:
        if one.id == "e1":
            raise RuntimeError("never")

    async def listen(namespace: str, one: CloudEvent) -> None:
        if one.id not in told:
            told.append(one.id)

    e.pool.mailroom.listen(fails)
    e.pool.mailroom.listen(listen)
    await e.pool.mailroom.deliver("shop", event(1))
    await e.pool.mailroom.deliver("shop", event(2))
    await heard(e, told, 2)
    assert told == ["e1", "e2"]


async def test_what_no_listener_had_is_handed_over_by_the_next_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(tmp_path_factory.mktemp("mail") / "k.db")
    async with engine(path=path) as first:
        await first.pool.mailroom.deliver("shop", event(1, data={"n": 1}, subject="s"))
    told: list[CloudEvent] = []

    async def listen(namespace: str, one: CloudEvent) -> None:
        told.append(one)

    async with engine(path=path) as second:
        second.pool.mailroom.listen(listen)
        await second.settle()
    assert [(one.id, one.data, one.subject) for one in told] == [("e1", {"n": 1}, "s")]


async def test_an_event_without_a_time_gets_that_of_its_arrival(e: Engine) -> None:
    await e.pool.mailroom.deliver("shop", event(1))
    [arrived] = await e.pool.mailroom.since("shop", "paid", 0)
    assert arrived.event.time.endswith("Z")


async def test_old_events_are_forgotten_unless_a_run_may_still_want_them(e: Engine) -> None:
    assert isinstance(e.clock, VirtualClock)
    mailroom: Mailroom = e.pool.mailroom
    await mailroom.deliver("shop", event(1))
    await mailroom.deliver("other", event(2))
    mailroom.keep("run", "shop", ["paid"], 0)
    assert await mailroom.prune() == 0
    await e.clock.advance(KEPT + 1)
    assert await mailroom.prune() == 3  # the other event, and both notes for listeners
    assert [arrived.event.id for arrived in await mailroom.since("shop", "paid", 0)] == ["e1"]
    mailroom.release("run")
    assert await mailroom.prune() == 1
    assert await mailroom.deliver("shop", event(1)), "forgotten, so it counts as new"
