"""Token bucket: may this happen now, and if not, when?

A steady `rate` with room for a `burst`. The bucket only computes: it never sleeps, so the caller decides whether to wait,
refuse, or queue. Time comes from the injected clock, which makes tests exact and instant.

Source: the rate limiter of Kubernetes' client-go (util/flowcontrol). Read next: `kastra.runtime.workqueue`, its first user.
"""

from dataclasses import dataclass, field

from kastra.clock import Clock


@dataclass(slots=True)
class TokenBucket:
    """Tokens accrue at `rate` per second up to `burst`; each event takes one.

    Args:
        rate: sustained events per second; greater than 0.
        burst: events that may happen at once after a pause; at least 1.
        clock: source of monotonic seconds.

    Raises:
        ValueError: `rate` or `burst` is out of range.
    """

    rate: float
    burst: int
    clock: Clock
    _tokens: float = field(init=False)
    _updated: float = field(init=False)

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burst < 1:
            raise ValueError(f"need rate > 0 and burst >= 1, got rate={self.rate} burst={self.burst}")
        self._tokens = float(self.burst)
        self._updated = self.clock.monotonic()

    def reserve(self) -> float:
        """Take one token and return the seconds to wait before using it; 0.0 means now.

        Reservations are kept even when they lie in the future, so that callers who wait are served in order.
        """
        self._accrue()
        self._tokens -= 1
        # Below zero means that this token is borrowed from the future; the debt is the wait.
        return max(0.0, -self._tokens / self.rate)

    def take(self) -> bool:
        """Take one token if there is one now; otherwise leave the bucket as it is and return False."""
        self._accrue()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _accrue(self) -> None:
        now = self.clock.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._updated) * self.rate)
        self._updated = now
