"""A provider is called no more often than it may be, whoever calls, and a storm of refusals is met with patience. Virtual time."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from kastra.model.chain import ModelEntry, answers
from kastra.model.interface import ModelError, ModelRequest, ModelResponse, Usage, collected
from kastra.model.limits import Limiter, Limiters, RateLimits, estimate
from kastra.testing import VirtualClock

ASK = ModelRequest([{"role": "user", "content": "Hi"}])


class Provider:
    """Answers after `seconds`, or refuses, as `judge` says of the number of the call; notes when it was called."""

    def __init__(
        self, clock: VirtualClock, judge: Callable[[int], ModelError | None] = lambda _: None, seconds: float = 0.0
    ) -> None:
        self.clock, self.judge, self.seconds = clock, judge, seconds
        self.called: list[float] = []
        self.active = self.most = 0

    async def generate(self, request: ModelRequest) -> ModelResponse:
        self.called.append(self.clock.monotonic())
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            if self.seconds:
                await self.clock.sleep(self.seconds)
            if (error := self.judge(len(self.called))) is not None:
                raise error
            return ModelResponse("ok", usage=Usage(inputTokens=10, outputTokens=10, calls=1))
        finally:
            self.active -= 1


async def everybody(clock: VirtualClock, count: int, entry: ModelEntry, seconds: float = 3600) -> list[str]:
    """`count` callers at once; what became of each."""
    outcomes: list[str] = []

    async def one(number: int) -> None:
        try:
            outcomes.append((await collected(answers([entry], ASK, clock, str(number)))).text)
        except ModelError as error:
            outcomes.append(error.kind)

    async def pass_time() -> None:
        passed = 0.0
        while passed < seconds and len(outcomes) < count:
            await anyio.wait_all_tasks_blocked()
            await clock.advance(0.5)
            passed += 0.5
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
        tasks.start_soon(pass_time)
    return outcomes


def entry(provider: Provider, limits: RateLimits, retries: int = 0, **parameters: Any) -> ModelEntry:
    return ModelEntry("m", provider, parameters, retries, {}, [Limiter("Model m", limits, provider.clock)])


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    clock = VirtualClock()
    provider = Provider(clock, seconds=1)
    assert await everybody(clock, 20, entry(provider, RateLimits(max_concurrent=3))) == ["ok"] * 20
    assert provider.most == 3


async def test_no_minute_sees_more_requests_than_allowed_wherever_it_begins() -> None:
    clock = VirtualClock()
    provider = Provider(clock)
    limiter = entry(provider, RateLimits(requests_per_minute=10), retries=50)
    assert await everybody(clock, 35, limiter) == ["ok"] * 35
    for start in provider.called:
        assert sum(start <= at < start + 60 for at in provider.called) <= 10
    assert provider.called[-1] - provider.called[0] < 60 * 4 + 2


async def test_no_minute_sees_more_tokens_than_allowed() -> None:
    clock = VirtualClock()
    provider = Provider(clock)
    limited = entry(provider, RateLimits(tokens_per_minute=100), retries=50, maxTokens=20)
    assert await everybody(clock, 12, limited) == ["ok"] * 12
    for start in provider.called:
        assert sum(20 for at in provider.called if start <= at < start + 60) <= 100


async def test_a_request_larger_than_the_limit_goes_alone_instead_of_never() -> None:
    clock = VirtualClock()
    limiter = Limiter("m", RateLimits(tokens_per_minute=10), clock)
    with anyio.fail_after(1):
        spent = await limiter.enter(1000)
    limiter.leave(spent, 1000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.enter, 1)
        await anyio.wait_all_tasks_blocked()
        assert limiter.waiting == 1
        await clock.advance(61)
        assert (limiter.waiting, limiter.active) == (0, 1)


@pytest.mark.parametrize(("kind", "retry_after"), [("rate_limit", 5.0), ("rate_limit", None), ("unavailable", 5.0)])
async def test_a_storm_of_refusals_is_met_with_one_request_per_pause(kind: Any, retry_after: float | None) -> None:
    clock = VirtualClock()
    # Refuses whatever comes in the first 30 seconds.
    provider = Provider(
        clock, lambda _: ModelError(kind, "no", retry_after=retry_after) if clock.monotonic() < 30 else None
    )
    outcomes = await everybody(clock, 50, entry(provider, RateLimits(max_concurrent=1), retries=10))
    assert outcomes == ["ok"] * 50
    refused = [at for at in provider.called if at < 30]
    assert len(refused) <= 9
    assert max(Counter(int(at) for at in refused).values()) <= 1 + (retry_after is None)


async def test_most_of_a_storm_of_refusals_leaves_few_requests_more_than_needed() -> None:
    clock = VirtualClock()
    # 19 of 20 are refused, as a provider does that admits three calls a minute.
    admitted: list[float] = []

    def judge(_: int) -> ModelError | None:
        now = clock.monotonic()
        if admitted and now - admitted[-1] < 20:
            return ModelError("rate_limit", "no", retry_after=20 - (now - admitted[-1]))
        admitted.append(now)
        return None

    provider = Provider(clock, judge)
    outcomes = await everybody(clock, 50, entry(provider, RateLimits(), retries=100), seconds=7200)
    assert outcomes == ["ok"] * 50
    assert len(provider.called) <= 50 * 1.5
    # Nobody asks before the time that it named, nor much later.
    assert provider.called[-1] <= 49 * 20 * 1.1


async def test_a_provider_that_has_recovered_is_soon_called_as_fast_as_it_may_be_again() -> None:
    clock = VirtualClock()
    admitted: list[float] = []

    def judge(_: int) -> ModelError | None:
        now = clock.monotonic()
        if now < 60 and admitted and now - admitted[-1] < 5:
            return ModelError("rate_limit", "no", retry_after=5 - (now - admitted[-1]))
        admitted.append(now)
        return None

    provider = Provider(clock, judge)
    assert await everybody(clock, 300, entry(provider, RateLimits(), retries=100)) == ["ok"] * 300
    assert provider.called[-1] < 60 + 2 * 4 * 5 + 5


async def test_who_would_have_to_wait_for_more_than_a_minute_is_told_so_at_once() -> None:
    clock = VirtualClock()
    provider = Provider(clock, lambda _: ModelError("rate_limit", "no", retry_after=600))
    limited = entry(provider, RateLimits(), retries=5)
    assert await everybody(clock, 5, limited, seconds=5) == ["rate_limit"] * 5
    assert len(provider.called) <= 5
    with pytest.raises(ModelError, match="asked to wait") as caught:
        await collected(answers([limited], ASK, clock, ""))
    assert 590 < (caught.value.retry_after or 0) <= 600


async def test_a_provider_that_is_down_is_not_asked_more_often_because_it_is_down() -> None:
    clock = VirtualClock()
    provider = Provider(clock, lambda _: ModelError("unavailable", "down"))
    outcomes = await everybody(clock, 100, entry(provider, RateLimits(), retries=5))
    assert outcomes == ["unavailable"] * 100
    # 100 first attempts and the budget of 20 retries, instead of 500.
    assert len(provider.called) <= 121


async def test_cancelled_callers_leave_their_places_free() -> None:
    clock = VirtualClock()
    limiter = Limiter("m", RateLimits(max_concurrent=1), clock)
    spent = await limiter.enter(0)
    with anyio.move_on_after(0.01):
        await limiter.enter(0)
    assert (limiter.waiting, limiter.active) == (0, 1)
    limiter.leave(spent)
    with anyio.fail_after(1):
        limiter.leave(await limiter.enter(0))
    assert limiter.active == 0


async def test_the_queue_is_bounded() -> None:
    limiter = Limiter("m", RateLimits(max_concurrent=1), VirtualClock(), queue=50)
    await limiter.enter(0)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(limiter.enter, 0)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ModelError, match="wait already"):
            await limiter.enter(0)
        tasks.cancel_scope.cancel()


async def test_limits_that_change_hold_from_then_on_for_everybody() -> None:
    clock = VirtualClock()
    limiters = Limiters(clock)
    first = limiters.of("ModelProvider default/p", RateLimits(max_concurrent=1))
    await first.enter(0)
    second = limiters.of("ModelProvider default/p", RateLimits(max_concurrent=2))
    assert second is first
    with anyio.fail_after(1):
        await second.enter(0)


async def test_a_call_that_began_without_a_limit_takes_nothing_from_one_that_came_meanwhile() -> None:
    clock = VirtualClock()
    limiter = Limiter("m", RateLimits(), clock)
    early = await limiter.enter(0)
    limiter.adopt(RateLimits(tokens_per_minute=1000))
    limiter.leave(early, 900)
    began = clock.monotonic()
    with anyio.fail_after(5):
        for _ in range(2):
            limiter.leave(await limiter.enter(100), 100)
    assert clock.monotonic() == began


def test_the_estimate_counts_what_is_sent_and_what_may_come_back() -> None:
    request = ModelRequest([{"role": "user", "content": "x" * 400}], parameters={"maxTokens": 50})
    assert estimate(request) == 150
