"""What is a controller, in three names: `Request`, `Result`, `Reconciler`.

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
