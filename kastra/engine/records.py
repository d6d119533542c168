"""What is in a journal: the record types, a record, and JSON as it is written there.

A journal is a list of records in the order of `seq`, never changed. Each says what happened at one stepKey of one Run.
Numbers are part of the file format: a type is never renumbered. Bodies are JSON objects; their keys are listed beside the
types. This module never touches a database.

Source: event histories of Temporal, event sourcing at large. Read next: `kastra.engine.journal`, which stores them.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import orjson

from .step import StepError


class RecordType(IntEnum):
    """What a record says; the comment lists the keys of its body."""

    RUN_STARTED = 1  # namespace, name, kind, input, durability, origin, closure (sha256 of its blob), timeout, state
    STEP_SCHEDULED = 2  # kind, input | from (the stepKey whose output it is; "" for the Run's input)
    STEP_STARTED = 3  # the attempt's number is in the column
    STEP_COMPLETED = 4  # output, sensitive, usage, stopReason
    STEP_FAILED = 5  # error, retryAt (ms) | final
    STEP_SKIPPED = 6  # reason
    HEARTBEAT = 7
    TIMER_SET = 8  # due (ms)
    TIMER_FIRED = 9
    EVENT_WAITING = 10  # eventType, source, subject, correlate, count, until (ms)
    EVENT_RECEIVED = 11  # event, left (how many are still waited for)
    SUSPENDED = 12  # reason, until (ms); name (of an Approval) | payload, resumeSchema
    RESUMED = 13  # by, data
    MODEL_TURN = 14  # output
    TOOL_CALL = 15  # attempt and what the caller described
    TOOL_RESULT = 16  # output
    STATE_SET = 17  # values
    DECISION = 18  # value
    CANCEL_REQUESTED = 19  # by
    COMPENSATION_STARTED = 20
    FINALLY_DONE = 21
    RUN_COMPLETED = 22  # output, stopReason
    RUN_FAILED = 23  # error, stopReason
    RUN_CANCELLED = 24  # stopReason
    IN_DOUBT = 25  # onInDoubt
    LATE = 26  # output | error
    LOOP_CHECKPOINT = 27  # what `kastra.engine.folding` lists
    RECOVERED = 28  # holder, epoch
    CHILD_STARTED = 29  # kind, namespace, name
    RESERVED = 40  # amount (tokens, cost, model_calls, tool_calls)
    BUDGET_EXCEEDED = 41  # limit, of (stepKey; "" for the Run), max, spent, action


TERMINAL = frozenset({RecordType.RUN_COMPLETED, RecordType.RUN_FAILED, RecordType.RUN_CANCELLED})
"""Types after which a Run does nothing more."""

NAMES = {kind.value: "".join(part.capitalize() for part in kind.name.split("_")) for kind in RecordType}
"""`StepCompleted` and so on, as histories show a type."""


class Record(NamedTuple):
    """One line of a journal.

    Args:
        seq: position in its Run, from 1 without gaps.
        ts: milliseconds since the epoch.
        type: a `RecordType`, as the plain number.
        key: the stepKey it concerns; None for the Run as a whole.
        attempt: number of the attempt it concerns; None where that means nothing.
        body: its data; an encoded output in it is an `orjson.Fragment` until it is read back.
    """

    seq: int
    ts: int
    type: int
    key: str | None
    attempt: int | None
    body: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """As histories show it."""
        return {
            "seq": self.seq,
            "time": self.ts,
            "type": NAMES[self.type],
            "stepKey": self.key,
            "attempt": self.attempt,
            "body": self.body,
        }


def is_before(loop: str, iteration: int, key: str) -> bool:
    """Whether what happened at `key` is part of an iteration of `loop` (a stepKey) before number `iteration`."""
    if not key.startswith(loop) or key[len(loop) : len(loop) + 1] != "#":
        return False
    number = key[len(loop) + 1 :].partition("/")[0]
    return number.isdigit() and int(number) < iteration


def encode(value: Any) -> bytes:
    """`value` as JSON.

    Raises:
        StepError: it holds something that JSON can't say (type `output`).
    """
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise StepError("output", f"the value can't be journaled: {error}", retryable=False) from None


def decode(data: bytes) -> Any:
    """JSON back to plain data."""
    return orjson.loads(data)
