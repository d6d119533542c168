"""How does the journal of a loop that goes on and on stay small? By a checkpoint every thousand records of it.

One commit appends a LoopCheckpoint and deletes what it stands for: the records of iterations that ended a while ago, and the
checkpoint before. The last thousand records stay, with the iterations that they belong to as a whole, so a recovered Run
goes on from the first iteration that is there. Completions that can be undone are kept one by one. Like every append it is conditional on the lease, and a deletion that finds other records than those that
were folded fails the commit.

A loop whose own steps jump back (`next`) isn't folded: how often they did so is counted over all of it, and limited by
`maxStepExecutions`. Read next: `kastra.engine.folding`, what a checkpoint says.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from kastra.failpoint import failpoint
from kastra.sql.interface import Statement

from .folding import Fold
from .graph import Loop
from .history import History
from .records import Record, RecordType

if TYPE_CHECKING:
    from .executor import Executor

EVERY = 1000
"""Records of its iterations after which a loop takes a checkpoint."""

_PAGE = 250
_LONGEST = 8
_COMPLETIONS = frozenset({RecordType.STEP_COMPLETED, RecordType.MODEL_TURN, RecordType.TOOL_RESULT})
_DELETE = "DELETE FROM journal WHERE run = ? AND seq BETWEEN ? AND ?"
_DELETE_BLOB = "DELETE FROM blobs WHERE sha256 = ? AND NOT EXISTS (SELECT 1 FROM journal WHERE blob = sha256)"


class LoopCheckpoints:
    """The checkpoints of one loop.

    Args:
        executor: of its Run.
        key: its stepKey, with the number of its attempt.
    """

    def __init__(self, executor: "Executor", history: History, key: str, body: Loop) -> None:
        past = executor.past
        self._history = history
        self._journal = executor.journal
        self._past = past
        self._key = key
        self._body = body
        self._last = past.checkpoints.get(key)
        self._through = 0 if self._last is None else int(self._last.body["through"])
        # The first iteration of those that the next checkpoint leaves; None after a recovery, where it isn't known.
        self._boundary = None if past.steps else 1
        self._mark = self._through if past.steps else self._journal.last_seq
        self._next = self._mark + EVERY
        self._completions = 0
        self._counted = self.first - 1

    @property
    def first(self) -> int:
        """The first iteration whose records are there."""
        return 1 if self._last is None else int(self._last.body["iteration"])

    async def ended(self, iteration: int) -> None:
        """An iteration has ended, and the loop goes on: take a checkpoint if it is time."""
        if self._journal.last_seq < self._next or self._replayed(iteration):
            return
        # Also for a body that has no effects, so that nothing else ever flushes what it notes.
        await self._journal.flush()
        known = self._journal.last_seq
        completions = await self._history.completions(self._journal.run, self._key)
        # At least so many of the new records are of this loop: each completion was scheduled, each iteration decided.
        own = 2 * (completions - self._completions) + iteration - self._counted
        if own < EVERY // 2:
            # Most of what was written is of other branches; look again when there may be enough.
            self._next = known + min(max(EVERY - own, known - self._mark), _LONGEST * EVERY)
            return
        first, self._boundary = self._boundary or iteration, iteration + 1
        self._completions, self._counted = completions, iteration
        self._mark, self._next = known, known + EVERY
        if first > self.first:
            await self._take(first)

    def _replayed(self, iteration: int) -> bool:
        """Whether an iteration had begun before this process took the Run up."""
        steps = self._past.steps
        return bool(steps) and any(f"{self._key}#{iteration}/{step.id}" in steps for step in self._body.scope.steps)

    async def _take(self, first: int) -> None:
        """Fold the iterations before number `first`."""
        journal, last = self._journal, self._last
        fold, ranges, blobs = Fold(self._key, first), list[list[int]](), set[str]()
        if last is not None:
            fold.add((last,))
            ranges.append([last.seq, last.seq])
            if (blob := await self._history.blob_of(journal.run, last.seq)) is not None:
                blobs.add(blob)
        kept = await self._undoable(first)
        async for page in self._pages(first):
            folded = [one for one in page if one[0].key not in kept] if kept else page
            fold.add([record for record, _ in folded])
            self._completions -= sum(record.type in _COMPLETIONS for record, _ in folded)
            for record, blob in folded:
                if blob is not None:
                    blobs.add(blob)
                if ranges and ranges[-1][1] == record.seq - 1:
                    ranges[-1][1] = record.seq
                else:
                    ranges.append([record.seq, record.seq])
        if not fold.records:
            return
        writes = [Statement(_DELETE, (journal.run, low, high), high - low + 1) for low, high in ranges]
        writes += [Statement(_DELETE_BLOB, (name,)) for name in sorted(blobs)]
        failpoint("loop.before_checkpoint")
        body = fold.body()
        journal.add(RecordType.LOOP_CHECKPOINT, self._key, body=body, writes=writes)
        self._last = Record(journal.last_seq, journal.now(), RecordType.LOOP_CHECKPOINT, self._key, None, body)
        self._through = int(body["through"])
        await journal.flush()
        failpoint("loop.after_checkpoint")

    async def _pages(self, first: int) -> AsyncIterator[list[tuple[Record, str | None]]]:
        """The records of iterations before number `first` that aren't folded, and the blobs of their bodies."""
        after, bound = self._through, f"{self._key}#{first}"
        while True:
            page = await self._history.iterations(self._journal.run, self._key, after, _PAGE)
            for index, (record, _) in enumerate(page):
                key = record.key or ""
                # Iterations follow one another, so the first that is left is met first.
                if key.startswith(bound) and (key == bound or key[len(bound)] == "/"):
                    yield page[:index]
                    return
            yield page
            if len(page) < _PAGE:
                return
            after = page[-1][0].seq

    async def _undoable(self, first: int) -> set[str]:
        """The stepKeys of completions that can be undone: what they need for that is in their records."""
        if all(step.compensate is None for step in self._body.scope.walk()):
            return set()
        found: set[str] = set()
        async for page in self._pages(first):
            found.update(str(record.key) for record, _ in page if "compensate" in record.body)
        return found


def checkpoints_of(executor: "Executor", key: str, body: Loop) -> LoopCheckpoints | None:
    """The checkpoints of the loop at `key`; None for one that takes none."""
    if executor.history is None or body.scope.cyclic:
        return None
    return LoopCheckpoints(executor, executor.history, key, body)
