"""May a model be called now, and if not, when? Calls at once, requests and tokens per minute, and pauses that it asked for.

One `Limiter` stands for one provider or one model, whoever calls it: all Runs of a process share it, in order of arrival.
What limits per minute is a sliding window, so that no minute, wherever it begins, sees more. A 429 closes the limiter for
everybody until the time that the provider named, or for a pause that doubles; then a single call tries, and only its
success opens it again. So a storm of refusals is met with one request per pause and not with one per Run. A provider that refuses
again as soon as it is open is one that admits a call every so often: then calls keep that distance, and only now and then one tries
whether half of it will do. Retries after
other failures draw on a budget that successes refill: a provider that is down isn't asked more often because it is down.

Counts only what this process does. Source: Retry-After of RFC 9110; retry budgets of Finagle and gRPC; circuit breakers.
Read next: `kastra.model.chain`, which asks.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from kastra.clock import Clock

from .interface import ModelError, ModelRequest, ModelResponse, compact

LONGEST_WAIT = 60.0
"""Seconds that a call waits for its turn; beyond that a fallback, or the step's own retry, is better."""
QUEUE = 20_000
"""Calls that may wait for one limiter, unless it is told otherwise."""
_WINDOW = 60.0
_FIRST_PAUSE = 0.5
_RETRIES_AT_FIRST = 20.0
_RETRIES_PER_CALL = 0.2
_STEADY = 4
"""Calls at a distance that was learned, before half of it is tried."""
_NO_DISTANCE = 0.05


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Limits to keep to; None is none.

    Args:
        requests_per_minute: calls begun in any 60 seconds.
        tokens_per_minute: tokens in any 60 seconds, sent and received; a call is counted by an estimate until it ends.
        max_concurrent: calls at the same time.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None

    @classmethod
    def of(cls, spec: Mapping[str, Any] | None) -> "RateLimits":
        """From `rateLimits` of a ModelProvider or a Model."""
        given = spec or {}
        return cls(given.get("requestsPerMinute"), given.get("tokensPerMinute"), given.get("maxConcurrent"))


NO_LIMITS = RateLimits()


class Spent:
    """One call's entry in the books of its limiter, to be corrected once it is known what was really used."""

    __slots__ = ("began", "counted", "tokens")

    def __init__(self, began: float, tokens: int) -> None:
        self.began = began
        self.tokens = tokens
        self.counted = False
        """Whether it is in the window. What began while there was no limit is not."""


class Limiter:
    """The gate before one provider or model.

    Args:
        name: for messages.
        limits: to keep to.
        clock: measures windows and pauses.
        queue: calls that may wait; one more is refused.
    """

    def __init__(self, name: str, limits: RateLimits, clock: Clock, queue: int = QUEUE) -> None:
        self.name = name
        self._queue = queue
        self.limits = limits
        self._clock = clock
        self._turn = anyio.Lock(fast_acquire=True)
        self._changed = anyio.Event()
        self._waiting = 0
        self._active = 0
        self._window: deque[Spent] = deque()
        self._tokens = 0
        self._closed_until = 0.0
        self._strikes = 0
        self._retries = _RETRIES_AT_FIRST
        self._distance = 0.0
        self._steady = 0
        self._begun = self._admitted = self._opened = float("-inf")

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return self._waiting

    @property
    def active(self) -> int:
        """Calls that are under way."""
        return self._active

    def adopt(self, limits: RateLimits) -> None:
        """Keep to other limits from now on."""
        if limits is not self.limits and limits != self.limits:
            self.limits = limits
            self._wake()

    async def enter(self, tokens: int) -> Spent:
        """Wait for this call's turn and count it; `leave` must follow.

        Args:
            tokens: that it will probably use.

        Raises:
            ModelError: of kind `rate_limit`: it would have to wait too long, or too many wait already.
        """
        if not self._waiting and self._wait(tokens, now := self._clock.monotonic()) is None:
            # Nobody is before it, and nothing keeps it.
            return self._count(tokens, now)
        if self._waiting >= self._queue:
            raise ModelError("rate_limit", f"{self.name}: {self._waiting} calls wait already", retry_after=LONGEST_WAIT)
        self._waiting += 1
        try:
            async with self._turn:
                began = now = self._clock.monotonic()
                while (wait := self._wait(tokens, now)) is not None:
                    if wait > 0 and now - began + wait > LONGEST_WAIT:
                        reason = (
                            "the provider asked to wait" if self._closed() else "its limit per minute is used up for"
                        )
                        raise ModelError("rate_limit", f"{self.name}: {reason} {wait:.3g}s", retry_after=wait)
                    await self._pause(wait)
                    now = self._clock.monotonic()
                return self._count(tokens, now)
        finally:
            self._waiting -= 1

    def leave(self, spent: Spent, tokens: int | None = None) -> None:
        """A call is over; `tokens` is what it used, if that is known."""
        self._active -= 1
        if tokens is not None and spent.counted and self.limits.tokens_per_minute is not None:
            if spent.began > self._clock.monotonic() - _WINDOW:
                self._tokens += tokens - spent.tokens
            spent.tokens = tokens
        if self._waiting:
            self._wake()

    def succeeded(self) -> None:
        """The provider answered: it is open to everybody again."""
        self._admitted = self._clock.monotonic()
        if self._distance:
            self._steady += 1
            if self._steady >= _STEADY:
                self._steady, self._distance = 0, self._distance / 2
                if self._distance < _NO_DISTANCE:
                    self._distance = 0.0
        if self._strikes:
            self._strikes, self._closed_until, self._opened = 0, 0.0, self._admitted
            self._wake()
        self._retries = min(_RETRIES_AT_FIRST, self._retries + _RETRIES_PER_CALL)

    def refused(self, retry_after: float | None) -> None:
        """The provider wants fewer calls (429), or none for a while (503 with Retry-After)."""
        now = self._clock.monotonic()
        if now < self._closed_until and retry_after is None:
            # Sent before the first refusal arrived: the same storm, not a further one.
            return
        self._strikes += 1
        pause = (
            min(LONGEST_WAIT, _FIRST_PAUSE * 2 ** min(self._strikes - 1, 10)) if retry_after is None else retry_after
        )
        self._closed_until = max(self._closed_until, now + pause)
        if now - self._opened <= max(pause, 2 * self._distance):
            # Hardly open, and it refuses: it admits one every so often, and not more because it is asked more often.
            self._distance, self._steady = min(LONGEST_WAIT, max(self._distance, now + pause - self._admitted)), 0

    def may_retry(self) -> bool:
        """Draw on the budget for retries; False if it is used up."""
        if self._retries < 1:
            return False
        self._retries -= 1
        return True

    def _closed(self) -> bool:
        return self._clock.monotonic() < self._closed_until

    def _wait(self, tokens: int, now: float) -> float | None:
        """Seconds until it may be this call's turn; 0 if another must end first; None if it is now."""
        if now < self._closed_until:
            return self._closed_until - now
        if self._distance and (left := self._begun + self._distance - now) > 0:
            return left
        limits = self.limits
        most = 1 if self._strikes else limits.max_concurrent
        if most is not None and self._active >= most:
            return 0.0
        per_minute, per_minute_tokens = limits.requests_per_minute, limits.tokens_per_minute
        if per_minute is None and per_minute_tokens is None:
            return None
        window = self._window
        while window and window[0].began <= now - _WINDOW:
            self._tokens -= window.popleft().tokens
        if per_minute is not None and len(window) >= per_minute:
            return window[len(window) - per_minute].began + _WINDOW - now
        if per_minute_tokens is not None:
            # One that is larger than the limit goes alone.
            excess = self._tokens + min(tokens, per_minute_tokens) - per_minute_tokens
            for spent in window:
                if excess <= 0:
                    break
                excess -= spent.tokens
                if excess <= 0:
                    return spent.began + _WINDOW - now
        return None

    def _count(self, tokens: int, now: float) -> Spent:
        self._active += 1
        self._begun = now
        spent = Spent(now, tokens)
        limits = self.limits
        if limits.requests_per_minute is not None or limits.tokens_per_minute is not None:
            spent.counted = True
            self._window.append(spent)
            self._tokens += tokens
        return spent

    async def _pause(self, wait: float) -> None:
        """Until `wait` seconds are over, or for 0 until something changes."""
        if wait > 0:
            # A little more, so that a clock of coarse steps doesn't bring it back too early.
            await self._clock.sleep(wait + 1e-6)
            return
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()


class Turn:
    """One call's turn at all the limiters of its model.

    Args:
        limiters: in the order in which they are passed; the first is the model's own.
    """

    __slots__ = ("_limiters", "_passed", "_under_way", "_used")

    def __init__(self, limiters: Sequence[Limiter]) -> None:
        self._limiters = limiters
        self._passed: list[Spent] = []
        self._under_way = False
        self._used: int | None = None

    async def come(self, request: ModelRequest) -> None:
        """Wait until the call may be made; `over` must follow in any case. Raises ModelError as `Limiter.enter` does."""
        if self._limiters:
            counted = any(limiter.limits.tokens_per_minute for limiter in self._limiters)
            tokens = estimate(request) if counted else 0
            for limiter in self._limiters:
                self._passed.append(await limiter.enter(tokens))
        self._under_way = True

    def succeeded(self, response: ModelResponse) -> None:
        """The model answered."""
        self._used = response.usage.get("inputTokens", 0) + response.usage.get("outputTokens", 0)
        for limiter in self._limiters:
            limiter.succeeded()

    def failed(self, error: ModelError) -> None:
        """It did not."""
        wants_fewer = error.kind == "rate_limit" or (error.kind == "unavailable" and error.retry_after is not None)
        if wants_fewer and self._under_way and self._limiters:
            # The model's own limiter: providers count by model, and others of the provider may still answer.
            self._limiters[0].refused(error.retry_after)

    def over(self) -> None:
        """The call has ended, however it did."""
        for limiter, spent in zip(self._limiters, self._passed, strict=False):
            limiter.leave(spent, self._used)


class Limiters:
    """The limiters of a process, by what they stand for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Limiter] = {}

    def of(self, identity: str, limits: RateLimits) -> Limiter:
        """The one limiter of a provider or model, with its newest limits.

        Args:
            identity: what it stands for, such as `ModelProvider default/openai`.
            limits: as its spec has them now.
        """
        known = self._known.get(identity)
        if known is None:
            known = self._known[identity] = Limiter(identity, limits, self._clock)
        else:
            known.adopt(limits)
        return known


def estimate(request: ModelRequest) -> int:
    """Tokens that a request will probably use: a quarter of its characters, and what it asks for at most."""
    characters = sum(len(message.get("content", "")) for message in request.messages)
    characters += sum(len(compact(message["result"])) for message in request.messages if "result" in message)
    characters += sum(len(compact(tool.parameters)) + len(tool.description) for tool in request.tools)
    asked = request.parameters.get("maxTokens") or request.parameters.get("maxOutputTokens") or 0
    return characters // 4 + (asked if isinstance(asked, int) else 0)
