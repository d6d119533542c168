"""What is a controller, in three names: `Request`, `Result`, `Reconciler`; and when to try again, `Retry`.

A reconciler is told which object to look at, never what happened to it: it compares the world with the object's spec and
acts on the difference (level-triggered). It may be called at any time, any number of times, and never twice at once for
the same object. Source: controller-runtime's pkg/reconcile. Read next: `kastra.runtime.controller`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Request(NamedTuple):
    """The object to look at; `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Result:
    """When to look again without a change: `requeue_after` seconds from now, or only on events (None)."""

    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """How to try again after a kind of failure.

    Args:
        base: seconds before the first attempt more; doubles with each further failure.
        most: seconds at most.
        attempts: after so many failures in a row the object is left alone until it changes; None for never.
    """

    base: float = 0.005
    most: float = 300.0
    attempts: int | None = None

    def __post_init__(self) -> None:
        if self.base <= 0 or self.most < self.base or (self.attempts is not None and self.attempts < 1):
            raise ValueError("a Retry needs 0 < base <= most, and attempts of 1 or more")


class TerminalError(Exception):
    """Trying again can't help; the request is dropped until its object changes. Any other exception means backoff."""


class Reconciler(Protocol):
    """Makes one object's world match its spec."""

    async def reconcile(self, request: Request) -> Result:
        """Look at the object named by `request` and act. An object that is gone needs nothing.

        Raises:
            TerminalError: don't retry.
            Exception: retry with backoff.
        """
        ...
