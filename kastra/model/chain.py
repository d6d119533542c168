"""Who answers a request? The first of several models that does, each tried as often as it may be.

    async with aclosing(answers(entries, request, clock, seed)) as chunks: ...
    response = await collected(answers(entries, request, clock, seed), watch)

Waits for the models' limiters, retries what may pass when it is tried again (a pause that the provider named is kept, others
double), goes on to the next model when one is used up, and puts the price on the response. If something of a response has
been handed on when it breaks off, a `Restart` says that it is void. By default there are no retries.

Keeps no conversation and journals nothing. Read next: `kastra.model.limits`; `kastra.agent.calls`, the caller.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from zlib import crc32

from kastra.clock import Clock

from .interface import End, Model, ModelError, ModelRequest, ModelResponse, ModelStream, Restart, Usage, stream
from .limits import LONGEST_WAIT, Limiter, Spent, estimate

_FIRST_WAIT = 0.5


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model and how often it is asked.

    Args:
        name: for messages and the journal, such as `openai/gpt-4o`.
        model: what answers.
        parameters: sent with every request.
        max_retries: further attempts after a failure that may pass.
        price: US dollars per million tokens: `in`, `out`, `cached`, `cacheWrite`.
        limiters: of the model itself, then of its provider.
    """

    name: str
    model: Model
    parameters: Mapping[str, object] = field(default_factory=dict)
    max_retries: int = 0
    price: Mapping[str, float] = field(default_factory=dict)
    limiters: Sequence[Limiter] = ()


async def answers(entries: Sequence[ModelEntry], request: ModelRequest, clock: Clock, seed: str) -> ModelStream:
    """The response of the first model that gives one, as it arrives; its usage has `costUSD` where prices are known.

    Args:
        entries: in the order in which they are asked.
        request: for each of them.
        clock: measures waits between attempts.
        seed: equal text gives equal jitter.

    Raises:
        ModelError: none does; the kind is the last one's, the message tells of all.
    """
    failures: list[ModelError] = []
    shown = False
    for entry in entries:
        asked = replace(request, parameters={**entry.parameters, **request.parameters}) if entry.parameters else request
        attempt = 1
        while True:
            try:
                async with aclosing(_attempt(entry, asked)) as chunks:
                    if shown:
                        yield Restart(failures[-1].message if failures else "another attempt begins")
                        shown = False
                    async for chunk in chunks:
                        if isinstance(chunk, End):
                            yield End(_finished(chunk.response, entry))
                            return
                        shown = True
                        yield chunk
                raise ModelError("malformed", f"{entry.name}: the stream ended without a response")
            except ModelError as error:
                wait = _wait(entry, error, attempt, f"{seed}/{entry.name}")
                failure = error
            if wait is None:
                failures.append(failure)
                break
            if shown:
                yield Restart(failure.message)
                shown = False
            await clock.sleep(wait)
            attempt += 1
    if not failures:
        raise ModelError("invalid_request", "there is no model to ask", retryable=False)
    last = failures[-1]
    if len(failures) == 1:
        raise last
    told = "; then ".join(failure.message for failure in failures)
    raise ModelError(last.kind, told, retryable=last.retryable, retry_after=last.retry_after)


async def _attempt(entry: ModelEntry, request: ModelRequest) -> ModelStream:
    """One call, counted by the limiters for as long as it takes."""
    limiters = entry.limiters
    if not limiters:
        async with aclosing(stream(entry.model, request)) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    tokens = estimate(request) if any(limiter.limits.tokens_per_minute for limiter in limiters) else 0
    entered: list[tuple[Limiter, Spent]] = []
    used: int | None = None
    try:
        for limiter in limiters:
            spent = await limiter.enter(tokens)
            entered.append((limiter, spent))
        try:
            async with aclosing(stream(entry.model, request)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, End):
                        usage = chunk.response.usage
                        used = usage.get("inputTokens", 0) + usage.get("outputTokens", 0)
                        for limiter in limiters:
                            limiter.succeeded()
                    yield chunk
        except ModelError as error:
            if error.kind == "rate_limit" or (error.kind == "unavailable" and error.retry_after is not None):
                # The model's own limiter: providers count by model, and others of the provider may still answer.
                limiters[0].refused(error.retry_after)
            raise
    finally:
        for limiter, spent in entered:
            limiter.leave(spent, used)


def _wait(entry: ModelEntry, error: ModelError, attempt: int, seed: str) -> float | None:
    """Seconds until the same model is asked again; None if it isn't."""
    if not error.retryable or attempt > entry.max_retries:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= LONGEST_WAIT else None
    if entry.limiters and error.kind != "rate_limit" and not entry.limiters[0].may_retry():
        return None
    wait = min(LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempt - 1, 16))
    # Drawn from the seed, so that a recovered Run waits as long as it would have anyway.
    return float(wait * (0.8 + 0.4 * (crc32(f"{seed}/{attempt}".encode()) / 0xFFFFFFFF)))


def _finished(response: ModelResponse, entry: ModelEntry) -> ModelResponse:
    return replace(
        response, usage=priced({"calls": 1, **response.usage}, entry.price), model=response.model or entry.name
    )


def priced(usage: Usage, price: Mapping[str, float]) -> Usage:
    """The usage with `costUSD`, if there are prices (US dollars per million tokens)."""
    if not price:
        return usage
    cached = usage.get("cachedInputTokens", 0) if "cached" in price else 0
    written = usage.get("cacheWriteInputTokens", 0) if "cacheWrite" in price else 0
    dollars = max(0, usage.get("inputTokens", 0) - cached - written) * price.get("in", 0.0)
    dollars += cached * price.get("cached", 0.0) + written * price.get("cacheWrite", 0.0)
    dollars += usage.get("outputTokens", 0) * price.get("out", 0.0)
    return {**usage, "costUSD": round(dollars / 1e6, 9)}
