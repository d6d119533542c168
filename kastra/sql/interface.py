"""What the writer thread accepts: operations that know how to become SQL.

`kastra.sql.writer` runs every write of the process on one thread and commits many at once. It knows nothing of objects,
revisions or journals: whoever writes implements `Operation`. The store's objects and the engine's journal both do, so a
step's record and an object's update can share one durable commit. Read next: `kastra.sql.writer`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

Durability = Literal["power", "process"]
"""`power`: on disk before acknowledged (synchronous=FULL). `process`: survives kill -9, not power loss (NORMAL)."""


class Statement(NamedTuple):
    """One SQL statement with its parameters.

    Args:
        sql: a constant text; those of equal text are executed together where that makes no difference (`kastra.sql.grouping`).
        parameters: int, float, str, bytes or None. Never bytearray or memoryview; text without NUL.
        expect: number of rows that must be changed, else the operation fails with `GuardFailed`; None for any.
    """

    sql: str
    parameters: Sequence[Any] = ()
    expect: int | None = None


class GuardFailed(Exception):
    """A statement changed another number of rows than it must: somebody else owns the row now (fencing)."""


class Overlay(dict[Any, Any]):
    """State of the batch being prepared, shared by its operations: what earlier ones will have changed when it commits.

    Each operation keeps its own keys (a tuple whose first item names its module). The writer discards the overlay after
    the batch, whatever its outcome.
    """

    __slots__ = ("closing", "landed")

    def __init__(self) -> None:
        super().__init__()
        self.closing: list[Callable[[], Sequence[Statement]]] = []
        self.landed: list[Callable[[], None]] = []

    def at_end(self, statements: Callable[[], Sequence[Statement]]) -> None:
        """Ask for statements once more when all operations are prepared; they run after all others of the batch."""
        self.closing.append(statements)

    def on_loop(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop once the batch is durable, before any of its callers resumes."""
        self.landed.append(callback)


class Operation(Protocol):
    """A write in four steps, all called on the writer thread."""

    @property
    def durability(self) -> Durability:
        """How safe the write must be before it is acknowledged."""
        ...

    def prepare(self, overlay: Overlay) -> Sequence[Statement]:
        """The statements of this write, given what precedes it in the batch. May be called again after a failed batch.

        Raises:
            Exception: any, before the overlay is changed; the item it belongs to fails with it, its neighbours commit.
        """
        ...

    def committed(self) -> None:
        """The statements are durable."""
        ...

    def failed(self, error: BaseException) -> None:
        """They are not, and never will be."""
        ...
