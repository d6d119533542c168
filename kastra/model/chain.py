"""Who answers a request? The first of several models that does, each tried as often as it may be.

    response = await answer(entries, request, clock, seed, watch)
    async with aclosing(answers(entries, request, clock, seed)) as chunks: ...

Waits for the models' limiters, retries what may pass when it is tried again (a pause that the provider named is kept, others
double), goes on to the next model when one is used up, and puts the price on the response. If something of a response has
been handed on when it breaks off, a `Restart` says that it is void. By default there are no retries.

Keeps no conversation and journals nothing. Read next: `kastra.model.limits`; `kastra.agent.calls`, the caller.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from zlib import crc32

from kastra.clock import Clock

from .interface import (
    End,
    Model,
    ModelChunk,
    ModelError,
    ModelPieces,
    ModelRequest,
    ModelResponse,
    ModelStream,
    Restart,
    Usage,
    collected_pieces,
    one_by_one,
    pieces,
)
from .limits import LONGEST_WAIT, Limiter, Turn

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


def answers(entries: Sequence[ModelEntry], request: ModelRequest, clock: Clock, seed: str) -> ModelStream:
    """The response of the first model that gives one, as it arrives; its usage has `costUSD` where prices are known.

    Args:
        entries: in the order in which they are asked.
        request: for each of them.
        clock: measures waits between attempts.
        seed: equal text gives equal jitter.

    Raises:
        ModelError: none does; the kind is the last one's, the message tells of all.
    """
    return one_by_one(_answered(entries, request, clock, seed))


async def answer(
    entries: Sequence[ModelEntry],
    request: ModelRequest,
    clock: Clock,
    seed: str,
    watch: Callable[[ModelChunk], None],
) -> ModelResponse:
    """As `answers`, of which only the end is wanted; `watch` is called with every chunk before it."""
    return await collected_pieces(_answered(entries, request, clock, seed), watch)


async def _answered(entries: Sequence[ModelEntry], request: ModelRequest, clock: Clock, seed: str) -> ModelPieces:
    failures: list[ModelError] = []
    shown = False
    for entry in entries:
        asked = replace(request, parameters={**entry.parameters, **request.parameters}) if entry.parameters else request
        attempt = 1
        while True:
            if shown:
                yield (Restart(failures[-1].message if failures else "another attempt begins"),)
                shown = False
            turn = Turn(entry.limiters)
            try:
                await turn.come(asked)
                async with aclosing(pieces(entry.model, asked)) as arriving:
                    async for piece in arriving:
                        if isinstance(end := piece[-1], End):
                            turn.succeeded(end.response)
                            yield (*piece[:-1], End(_finished(end.response, entry)))
                            return
                        shown = True
                        yield piece
                raise ModelError("malformed", f"{entry.name}: the stream ended without a response")
            except ModelError as error:
                turn.failed(error)
                wait = _wait(entry, error, attempt, f"{seed}/{entry.name}")
                failure = error
            finally:
                turn.over()
            if wait is None:
                failures.append(failure)
                break
            if shown:
                yield (Restart(failure.message),)
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
    usage = priced({"calls": 1, **response.usage}, entry.price)
    return ModelResponse(
        response.text,
        response.tool_calls,
        response.object,
        usage,
        response.finish_reason,
        response.model or entry.name,
        response.reasoning,
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
