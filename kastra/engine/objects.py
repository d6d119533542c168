"""What the engine needs of the control half: objects that it creates and waits for.

A `workflow` or `network` step is a Run of its own, made under a name that follows from the parent and the stepKey, so that a
second creation finds the first. The engine doesn't know what an API server is; `kastra.app` hands it an implementation over
a Client.

Source: ownerReferences and deterministic names, as of Jobs made by a CronJob. Read next: `kastra.engine.children`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object that was created."""

    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    """How a child ended.

    Args:
        phase: Succeeded, Failed or Cancelled; for an Approval Approved or Rejected.
        error: the child's problem object, if it failed.
        usage: what it consumed (`inputTokens`, `outputTokens`, `costUSD`, `calls`).
    """

    phase: str
    output: Any = None
    error: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None


class ChildObjects(Protocol):
    """Creates objects and waits for them."""

    async def create(
        self, kind: str, namespace: str, name: str, spec: Mapping[str, Any], owner: ObjectRef
    ) -> ObjectRef:
        """Create an object owned by `owner`; one of that name that exists already is the same one.

        Raises:
            StepError: it was refused.
        """
        ...

    async def wait(self, ref: ObjectRef) -> ChildOutcome:
        """Return when the object is finished. Safe to call again, also by another process.

        Raises:
            StepError: it is gone.
        """
        ...

    async def cancel(self, ref: ObjectRef) -> None:
        """Ask the object to stop; nothing happens if it has ended."""
        ...


def child_name(prefix: str, parent_uid: str, step_key: str) -> str:
    """The name of the child of a stepKey: equal for equal arguments, at most 63 characters, a valid object name.

    Args:
        prefix: an object name, kept as far as there is room.
    """
    digest = sha256(f"{parent_uid}/{step_key}".encode()).hexdigest()[:10]
    return f"{prefix[:52].rstrip('-.')}-{digest}"
