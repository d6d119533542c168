"""How patiently is a routing model asked? Within a time, and again after failures that may pass.

All of it is one effect: what is journaled is the answer, or the last failure. Read next: `kastra.agent.router`, the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kastra.clock import Clock
from kastra.engine.retry import NO_RETRY, RetryPolicy
from kastra.engine.step import Effect
from kastra.model.chain import ModelEntry, answers
from kastra.model.interface import ModelError, ModelRequest, Restart, collected
from kastra.tool.timeout import within

from .calls import step_error
from .deltas import published
from .processors.asking import Ask


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often a routing model is asked.

    Args:
        timeout: seconds for one attempt; None for no limit.
        retry: of attempts that failed; those of the model itself come before.
    """

    timeout: float | None = None
    retry: RetryPolicy = NO_RETRY


AT_ONCE = Patience()
"""No limit of time, and no second attempt."""


def patiently(patience: Patience, clock: Clock) -> Ask | None:
    """What asks so; None where nothing is to be done about time or failures."""
    if patience == AT_ONCE:
        return None

    async def ask(effect: Effect, entries: Sequence[ModelEntry], request: ModelRequest) -> dict[str, Any]:
        watch, began, failures = published(effect), clock.monotonic(), 0
        while True:
            chunks = answers(entries, request, clock, f"{effect.idempotency_key}/{failures}")
            try:
                return (await within(clock, patience.timeout, partial(collected, chunks, watch))).plain()
            except TimeoutError:
                failure = ModelError("timeout", f"the routing model took longer than {patience.timeout:g}s")
            except ModelError as error:
                failure = error
            failures += 1
            seed = effect.idempotency_key
            wait = patience.retry.delay(failures, step_error(failure), clock.monotonic() - began, seed)
            if wait is None:
                raise failure
            watch(Restart(failure.message))
            await clock.sleep(wait)

    return ask
