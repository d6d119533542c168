"""Of all candidates at most one holds the Lease, whatever their clocks say, and a holder that can't renew gives up."""

from datetime import timedelta

import anyio
import pytest

from kastra.api.errors import ServiceUnavailable
from kastra.api.meta import ObjectRef
from kastra.runtime.leader import Election, LeaderElector, LeadershipLost
from kastra.testing.clock import VirtualClock

from .memory import MemoryClient

LEASE = ObjectRef("leases", "kastra-controllers", "kastra-system")


def elector(client: MemoryClient, clock: VirtualClock, identity: str) -> LeaderElector:
    return LeaderElector(client, clock, Election(identity))


async def holder(client: MemoryClient) -> str:
    return str((await client.get(LEASE)).spec["holderIdentity"])


async def test_the_first_candidate_takes_the_lease_and_renews_it() -> None:
    client, clock = MemoryClient(), VirtualClock()
    first, second = elector(client, clock, "a"), elector(client, clock, "b")
    await first.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.hold)
        tasks.start_soon(second.acquire)
        await clock.advance(120)
        assert (first.leading, second.leading) == (True, False)
        tasks.cancel_scope.cancel()
    lease = await client.get(LEASE)
    assert lease.spec["holderIdentity"] == "a"
    assert lease.spec["renewTime"] == "2026-01-01T00:02:00.000000Z"
    assert lease.spec["leaseTransitions"] == 0


async def test_a_lease_that_is_not_renewed_is_taken_over_after_its_duration() -> None:
    client, clock = MemoryClient(), VirtualClock()
    await elector(client, clock, "dead").acquire()
    heir = elector(client, clock, "heir")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heir.acquire)
        await clock.advance(14)
        assert not heir.leading
        await clock.advance(4)
        assert heir.leading
    lease = await client.get(LEASE)
    assert (lease.spec["holderIdentity"], lease.spec["leaseTransitions"]) == ("heir", 1)


async def test_a_wall_clock_that_is_wrong_makes_no_difference() -> None:
    client, clock, wrong = MemoryClient(), VirtualClock(), VirtualClock()
    wrong.jump(timedelta(days=365).total_seconds())
    holding, other = elector(client, clock, "a"), elector(client, wrong, "b")
    await holding.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(holding.hold)
        tasks.start_soon(other.acquire)
        for _ in range(30):
            await clock.advance(2)
            await wrong.advance(2)
        assert not other.leading
        tasks.cancel_scope.cancel()


async def test_a_holder_that_can_not_renew_gives_up_before_others_may_take_over() -> None:
    client, clock = MemoryClient(), VirtualClock()
    leader = elector(client, clock, "a")
    await leader.acquire()
    client.fail["get"] = [ServiceUnavailable("away") for _ in range(100)]

    async def holds() -> None:
        with pytest.raises(LeadershipLost, match="was not renewed for 10 s"):
            await leader.hold()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(holds)
        await clock.advance(9)
        assert leader.leading
        await clock.advance(5)
    assert not leader.leading


async def test_a_server_that_restarts_costs_no_leadership() -> None:
    client, clock = MemoryClient(), VirtualClock()
    leader = elector(client, clock, "a")
    await leader.acquire()
    client.fail["get"] = [ConnectionError("can't reach it") for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leader.hold)
        await clock.advance(30)
        assert leader.leading
        tasks.cancel_scope.cancel()


async def test_a_server_that_does_not_answer_costs_the_leadership_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = MemoryClient(), VirtualClock()
    leader = elector(client, clock, "a")
    await leader.acquire()
    monkeypatch.setattr(client, "get", lambda *_, **__: anyio.sleep_forever())

    async def holds() -> None:
        with pytest.raises(LeadershipLost):
            await leader.hold()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(holds)
        await clock.advance(13)
    assert not leader.leading


async def test_a_released_lease_is_free_at_once() -> None:
    client, clock = MemoryClient(), VirtualClock()
    first, second = elector(client, clock, "a"), elector(client, clock, "b")
    await first.acquire()
    await first.release()
    await second.acquire()
    assert await holder(client) == "b"


async def test_two_candidates_that_write_at_once_do_not_both_win() -> None:
    client, clock = MemoryClient(), VirtualClock()
    candidates = [elector(client, clock, str(number)) for number in range(5)]
    async with anyio.create_task_group() as tasks:
        for candidate in candidates:
            tasks.start_soon(candidate.acquire)
        await clock.advance(1)
        assert [c.leading for c in candidates].count(True) == 1
        tasks.cancel_scope.cancel()


def test_periods_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="retry_period < renew_deadline < duration"):
        LeaderElector(MemoryClient(), VirtualClock(), Election("a", duration=5))
