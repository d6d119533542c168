"""May a failed step be tried again, and when?

A policy only computes; the executor journals the failure with the time of the next attempt and waits. Jitter is derived
from the Run and the stepKey, not drawn, so that a recovered Run waits as long as it would have anyway and tests are exact.

Source: AWS' "Exponential backoff and jitter"; retryStrategy of Argo Workflows. Read next: `kastra.engine.executor`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from kastra.api.durations import parse_duration

from .step import StepError

NEVER = frozenset({"validation", "authorization", "expression", "budget", "cancelled", "in_doubt"})
"""Error types that another attempt can't help."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when.

    Args:
        limit: attempts after the first.
        initial: seconds before the first retry.
        backoff: factor from each wait to the next.
        maximum: longest wait in seconds.
        max_elapsed: seconds since the first attempt after which there is no further; None for no such limit.
        jitter: share of the wait by which it may be longer or shorter, 0 to 1.
        non_retryable: further error types that are final.
        respect_retry_after: whether a wait asked for by the other side is honoured.
    """

    limit: int = 3
    initial: float = 1.0
    backoff: float = 2.0
    maximum: float = 60.0
    max_elapsed: float | None = None
    jitter: float = 0.2
    non_retryable: frozenset[str] = frozenset()
    respect_retry_after: bool = True

    @classmethod
    def of(cls, spec: Mapping[str, Any], base: "RetryPolicy | None" = None) -> "RetryPolicy":
        """The policy that `spec` describes; what it doesn't say is taken from `base`.

        Raises:
            ValueError: a duration or a number in it makes no sense.
        """
        base = base or cls()

        def seconds(key: str, default: float | None) -> float | None:
            return default if spec.get(key) is None else parse_duration(spec[key])

        policy = cls(
            limit=int(spec.get("limit", base.limit)),
            initial=seconds("initialInterval", base.initial) or 0.0,
            backoff=float(spec.get("backoff", base.backoff)),
            maximum=seconds("maxInterval", base.maximum) or 0.0,
            max_elapsed=seconds("maxElapsed", base.max_elapsed),
            jitter=float(spec.get("jitter", base.jitter)),
            non_retryable=frozenset(spec.get("nonRetryable", base.non_retryable)),
            respect_retry_after=bool(spec.get("respectRetryAfter", base.respect_retry_after)),
        )
        if policy.limit < 0 or policy.backoff < 1 or not 0 <= policy.jitter <= 1:
            raise ValueError("needs limit >= 0, backoff >= 1 and jitter from 0 to 1")
        return policy

    def delay(self, failures: int, error: StepError, elapsed: float, seed: str) -> float | None:
        """Seconds until the next attempt, or None if there is none.

        Args:
            failures: attempts that have failed, this one included.
            error: why the last one did.
            elapsed: seconds since the first attempt began.
            seed: equal text gives equal jitter.
        """
        final = not error.retryable or error.type in NEVER or error.type in self.non_retryable
        if final or failures > self.limit:
            return None
        # The exponent is bounded because a float overflows long before a patient policy runs out of attempts.
        wait = min(self.maximum, self.initial * self.backoff ** min(failures - 1, 64))
        wait *= 1 + self.jitter * (crc32(f"{seed}/{failures}".encode()) / 0x7FFFFFFF - 1)
        if self.respect_retry_after and error.retry_after is not None:
            wait = max(wait, error.retry_after)
        if self.max_elapsed is not None and elapsed + wait > self.max_elapsed:
            return None
        return wait


DEFAULT_RETRY = RetryPolicy()
NO_RETRY = RetryPolicy(limit=0)
