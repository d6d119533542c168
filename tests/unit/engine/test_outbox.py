"""How events get out: none is lost, each source's in order, and a sink that takes nothing is left alone ever longer."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from kastra.api.cloudevents import CloudEvent
from kastra.engine.outbox import NotTaken, Outbox, Sink, Unwanted
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import Engine, engine

SINK = Sink("s1", "default", "out", {}, retention=3600.0, at_once=2, first_pause=1.0, longest_pause=60.0)


class Receiver:
    """What a sink was sent, and what it does about it."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.tried: list[tuple[float, str]] = []
        self.judge: Callable[[CloudEvent], None] = lambda event: None
        self.clock: VirtualClock | None = None

    async def send(self, sink: Sink, event: CloudEvent) -> None:
        assert self.clock is not None
        self.tried.append((round(self.clock.monotonic(), 3), event.id))
        self.judge(event)
        self.got.append(event.id)


@pytest.fixture
async def e() -> AsyncIterator[Engine]:
    async with engine() as running:
        yield running


@pytest.fixture
async def receiver(e: Engine) -> Receiver:
    found = Receiver()
    assert isinstance(e.clock, VirtualClock)
    found.clock = e.clock
    return found


@pytest.fixture
async def outbox(e: Engine, receiver: Receiver) -> AsyncIterator[Outbox]:
    async with Outbox(e.writer, e.writer.query, e.clock, receiver.send) as made:
        yield made


def event(name: str, source: str = "/runs/a") -> CloudEvent:
    return CloudEvent(name, source, "paid", data={"name": name})


async def post(e: Engine, outbox: Outbox, *events: CloudEvent, uids: tuple[str, ...] = ("s1",)) -> None:
    at = int(e.clock.now().timestamp() * 1000)
    for one in events:
        await outbox.post(uids, one, at)


async def passes(e: Engine, seconds: float) -> None:
    """Let time pass, from moment to moment."""
    assert isinstance(e.clock, VirtualClock)
    end = e.clock.monotonic() + seconds
    while True:
        await e.settle()
        due = e.clock.next_due()
        if due is None or e.clock.monotonic() + due > end:
            break
        await e.clock.advance(due)
    await e.clock.advance(max(0.0, end - e.clock.monotonic()))
    await e.settle()


async def test_events_of_one_source_are_sent_in_the_order_of_their_coming(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    await post(e, outbox, *(event(str(number)) for number in range(5)))
    outbox.open(SINK)
    await passes(e, 0)
    assert receiver.got == ["0", "1", "2", "3", "4"]
    assert (await outbox.report("s1")).pending == 0


async def test_each_sink_gets_an_event_once_however_often_it_is_posted(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    other = replace(SINK, uid="s2", name="other")
    outbox.open(SINK)
    outbox.open(other)
    for _ in range(3):
        await post(e, outbox, event("a"), uids=("s1", "s2"))
        await passes(e, 0)
    assert receiver.got == ["a", "a"]


async def test_what_is_not_taken_is_sent_again_later_each_time_and_before_what_follows_it(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def refuse(_: CloudEvent) -> None:
        raise NotTaken("BadAnswer", "the sink answers with 500")

    receiver.judge = refuse
    outbox.open(SINK)
    begin = e.clock.monotonic()
    await post(e, outbox, event("a"), event("b"))
    await passes(e, 16)
    assert [(round(at - begin), name) for at, name in receiver.tried] == [(n, "a") for n in (0, 1, 3, 7, 15)]
    report = await outbox.report("s1")
    assert (report.pending, report.failures, report.reason) == (2, 5, "BadAnswer")
    receiver.judge = lambda _: None
    await passes(e, 16)
    assert receiver.got == ["a", "b"]
    report = await outbox.report("s1")
    assert (report.pending, report.failing_since, report.failures) == (0, 0, 0)


async def test_pauses_have_an_upper_bound(e: Engine, outbox: Outbox, receiver: Receiver) -> None:
    def refuse(_: CloudEvent) -> None:
        raise NotTaken("BadAnswer", "no")

    receiver.judge = refuse
    outbox.open(replace(SINK, longest_pause=4.0))
    await post(e, outbox, event("a"))
    await passes(e, 100)
    times = [at for at, _ in receiver.tried]
    assert max(later - at for at, later in pairwise(times)) == pytest.approx(4.0)


async def test_a_sink_that_asks_to_be_left_alone_is_left_alone_for_that_long(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def later(_: CloudEvent) -> None:
        if len(receiver.tried) == 1:
            raise NotTaken("Throttled", "429", after=30.0)

    receiver.judge = later
    outbox.open(replace(SINK, at_once=1))
    begin = e.clock.monotonic()
    await post(e, outbox, event("a"), event("x", "/runs/b"))
    await passes(e, 29)
    await post(e, outbox, event("y", "/runs/c"))
    assert len(receiver.tried) == 1
    await passes(e, 2)
    assert sorted(receiver.got) == ["a", "x", "y"]
    assert receiver.tried[1][0] - begin == pytest.approx(30.0, abs=0.01)


async def test_one_event_that_is_not_taken_holds_up_only_its_own_source(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def poison(one: CloudEvent) -> None:
        if one.id == "bad":
            raise NotTaken("BadAnswer", "500")

    receiver.judge = poison
    outbox.open(SINK)
    await post(e, outbox, event("bad"), event("after"), event("x", "/runs/b"))
    await passes(e, 3)
    await post(e, outbox, event("y", "/runs/b"))
    await passes(e, 0)
    assert receiver.got == ["x", "y"]


async def test_an_event_that_the_sink_refuses_as_such_is_given_up_and_counted(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def poison(one: CloudEvent) -> None:
        if one.id == "bad":
            raise Unwanted("the sink refuses it with 422")

    receiver.judge = poison
    outbox.open(SINK)
    await post(e, outbox, event("bad"), event("next"))
    await passes(e, 0)
    assert receiver.got == ["next"]
    report = await outbox.report("s1")
    assert (report.pending, report.lost) == (0, 1)
    assert report.given_up == ("event bad of /runs/a: the sink refuses it with 422",)
    await post(e, outbox, event("bad"))
    await passes(e, 0)
    assert receiver.got == ["next"], "it is known, and not sent once more"


async def test_an_event_that_is_not_taken_in_time_is_given_up_with_the_reason(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def refuse(_: CloudEvent) -> None:
        raise NotTaken("ConnectionFailed", "no connection")

    receiver.judge = refuse
    outbox.open(replace(SINK, retention=60.0))
    await post(e, outbox, event("a"))
    await passes(e, 300)
    report = await outbox.report("s1")
    assert (report.pending, report.lost) == (0, 1)
    assert report.given_up == ("event a of /runs/a: not taken within 60 s; no connection",)


async def test_events_wait_while_a_sink_is_closed_and_go_out_when_it_is_opened(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    outbox.open(SINK)
    outbox.close("s1")
    await post(e, outbox, event("a"))
    await passes(e, 100)
    assert receiver.got == []
    outbox.open(SINK)
    await passes(e, 0)
    assert receiver.got == ["a"]


async def test_a_changed_sink_and_a_changed_secret_are_tried_at_once(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def refuse(_: CloudEvent) -> None:
        raise NotTaken("Unauthorized", "401")

    receiver.judge = refuse
    outbox.open(SINK)
    await post(e, outbox, event("a"))
    await passes(e, 20)
    before = len(receiver.tried)
    outbox.retry("s1")
    await passes(e, 0)
    assert len(receiver.tried) == before + 1
    receiver.judge = lambda _: None
    outbox.open(replace(SINK, address={"uri": "elsewhere"}))
    await passes(e, 0)
    assert receiver.got == ["a"]


async def test_what_is_queued_outlives_the_process_and_what_was_taken_is_not_sent_again(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    receiver = Receiver()
    for number in range(2):
        async with engine(path=path) as running:
            assert isinstance(running.clock, VirtualClock)
            receiver.clock = running.clock
            async with Outbox(running.writer, running.writer.query, running.clock, receiver.send) as outbox:
                if number == 0:
                    outbox.open(SINK)
                    await post(running, outbox, event("a"))
                    await passes(running, 0)
                    outbox.close("s1")
                    await post(running, outbox, event("b"))
                else:
                    assert await outbox.known() == ["s1"]
                    await post(running, outbox, event("a"))
                    outbox.open(SINK)
                    await passes(running, 0)
    assert receiver.got == ["a", "b"]


async def test_a_sink_that_is_gone_leaves_nothing_behind(e: Engine, outbox: Outbox, receiver: Receiver) -> None:
    await post(e, outbox, event("a"))
    await outbox.drop("s1")
    await e.settle()
    assert await outbox.known() == []
    outbox.open(SINK)
    await passes(e, 0)
    assert receiver.got == []


async def test_nothing_is_lost_while_the_store_can_not_be_written(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    from kastra.sql.errors import SqlError

    await post(e, outbox, event("a"), event("b"))
    e.writer.broken = SqlError("disk full")
    outbox.open(SINK)
    await passes(e, 1)
    e.writer.broken = None
    await passes(e, 30)
    # The first was sent and could not be noted: at least once, in order.
    assert receiver.got[-2:] == ["a", "b"]
    assert (await outbox.report("s1")).pending == 0


async def test_sources_whose_event_is_never_taken_do_not_keep_the_others_from_being_tried(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def refuse_some(one: CloudEvent) -> None:
        if one.source.startswith("/runs/bad"):
            raise NotTaken("BadAnswer", "the sink answers with 500")

    receiver.judge = refuse_some
    # As many as are sent at the same time, and they came first.
    await post(e, outbox, event("x", "/runs/bad1"), event("y", "/runs/bad2"), event("z", "/runs/good"))
    outbox.open(SINK)
    await passes(e, 3)
    assert receiver.got == ["z"]


async def test_a_sink_that_takes_nothing_is_not_asked_for_every_source_in_each_round(
    e: Engine, outbox: Outbox, receiver: Receiver
) -> None:
    def refuse(_: CloudEvent) -> None:
        raise NotTaken("BadAnswer", "the sink answers with 500")

    receiver.judge = refuse
    begin = e.clock.monotonic()
    await post(e, outbox, *(event(f"{number}", f"/runs/{number}") for number in range(10)))
    outbox.open(SINK)
    await passes(e, 3.5)
    # As many as are sent at the same time, after 0, 1 and 3 seconds.
    assert [round(at - begin) for at, _ in receiver.tried] == [0, 0, 1, 1, 3, 3]
