"""What do records say that aren't kept any more? The body of the LoopCheckpoint that takes their place.

    iteration    the first iteration whose records are all there; those before it are folded
    records      how many records are folded, in all
    through      number of the last of them
    since, until when the first and the last of them happened (milliseconds)
    counts       {total, succeeded, failed, skipped} of their steps
    usage        what they consumed, as status shows it; amount as budgets count it
    state        [[seq, values], ...]: what they set in the Run's state, with the record that set it last
    taken        [[source, id], ...] of the events that they took
    steps        rows of `kastra.engine.steps`, with times in milliseconds

So nothing is lost that a Run, its status, its table of steps or a Run that repeats it is made of; what is lost are inputs
and outputs of single iterations. A fold of folds is a fold: a later checkpoint takes an earlier one in, and that of a loop
those of the loops in its body.

Source: snapshots of event-sourced aggregates. Read next: `kastra.engine.checkpoints`, which takes them.
"""

from collections.abc import Sequence
from typing import Any

from .consumption import CONSUMING, Amount, Consumption
from .progress import Tally
from .records import Record, RecordType
from .steps import StepTable


class Fold:
    """Feed it records in order, then read `body`.

    Args:
        loop: stepKey of the loop whose iterations they are of.
        iteration: the first one that isn't folded.
    """

    def __init__(self, loop: str, iteration: int) -> None:
        self._loop = loop
        self._iteration = iteration
        self.records = 0
        """How many were folded."""
        self._through = 0
        self._since: int | None = None
        self._until = 0
        self._tally = Tally("")
        self._steps = StepTable(over=True)
        self._consumption = Consumption()
        self._state: dict[str, tuple[int, Any]] = {}
        self._taken: dict[tuple[str, str], None] = {}

    def add(self, records: Sequence[Record]) -> None:
        """Take records in, which may be checkpoints themselves."""
        self._tally.feed(records)
        self._steps.feed(records)
        for record in records:
            kind = record.type
            if kind in CONSUMING:
                self._consumption.apply(record)
            elif kind == RecordType.LOOP_CHECKPOINT:
                self._include(record)
                continue
            elif kind == RecordType.STATE_SET:
                self._set(record.seq, record.body["values"])
            elif kind == RecordType.EVENT_RECEIVED:
                self._taken[(record.body["event"]["source"], record.body["event"]["id"])] = None
            self._note(record.seq, 1, record.ts, record.ts)

    def _include(self, record: Record) -> None:
        body = record.body
        # One of a loop in an iteration is a record of that iteration.
        through = body["through"] if record.key == self._loop else record.seq
        self._note(through, body["records"], body["since"], body["until"])
        self._consumption.add(self._loop, Amount(**body["amount"]))
        for seq, values in body["state"]:
            self._set(seq, values)
        self._taken.update(((source, number), None) for source, number in body["taken"])

    def _note(self, through: int, records: int, since: int, until: int) -> None:
        self.records += records
        if through > self._through:
            self._through = through
        if self._since is None or since < self._since:
            self._since = since
        if until > self._until:
            self._until = until

    def _set(self, seq: int, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if name not in self._state or self._state[name][0] <= seq:
                self._state[name] = (seq, value)

    def body(self) -> dict[str, Any]:
        """The body of the checkpoint."""
        state: dict[int, dict[str, Any]] = {}
        for name, (seq, value) in self._state.items():
            state.setdefault(seq, {})[name] = value
        progress = self._tally.snapshot()
        found: dict[str, Any] = {
            "iteration": self._iteration,
            "records": self.records,
            "through": self._through,
            "since": self._since or 0,
            "until": self._until,
            "counts": {name: progress.counts[name] for name in ("total", "succeeded", "failed", "skipped")},
            "amount": self._consumption.below("").plain(),
            "state": [[seq, state[seq]] for seq in sorted(state)],
            "taken": [list(identity) for identity in self._taken],
            "steps": self._steps.counted(),
        }
        if progress.usage.calls:
            found["usage"] = progress.usage.plain()
        return found
