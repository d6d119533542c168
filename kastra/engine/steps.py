"""How did each step of a Run go? A table made from its journal, one row a step.

    {key, kind, phase, attempt, startedAt, finishedAt, output | outputRef, error, usage}

Items of a forEach and iterations of a loop are many alike, so the steps in them share one row: `fan[*]/work` with `counts`
of its phases instead of an output. Nothing is stored: the fold runs when somebody asks.

Source: the step view of a Run's status, moved out of the object because it has no bound. Read next: `kastra.engine.records`.
"""

import re
from collections.abc import Iterable
from typing import Any

import orjson

from .frame import rfc3339_ms
from .records import TERMINAL, Record, RecordType, is_before

_SMALL = 1024
_INDEX = re.compile(r"(\[\d+\]|#\d+)(?=/|$)")
_KINDS = frozenset(
    {
        RecordType.STEP_SCHEDULED,
        RecordType.STEP_STARTED,
        RecordType.STEP_COMPLETED,
        RecordType.STEP_FAILED,
        RecordType.STEP_SKIPPED,
        RecordType.TIMER_SET,
        RecordType.EVENT_WAITING,
        RecordType.CHILD_STARTED,
        RecordType.SUSPENDED,
        RecordType.IN_DOUBT,
        RecordType.RESUMED,
        RecordType.TIMER_FIRED,
        RecordType.MODEL_TURN,
    }
)
_ATTEMPT = re.compile(r"~\d+$")
_TIMES = frozenset({"startedAt", "finishedAt"})
_ENDED = frozenset({"Succeeded", "Failed", "Skipped"})


class StepTable:
    """The steps of one Run. Feed it records in order, then read `rows`.

    Args:
        over: whether what has no outcome in these records has none at all.
    """

    def __init__(self, over: bool = False) -> None:
        self._steps: dict[str, dict[str, Any]] = {}
        self._folded: dict[str, list[dict[str, Any]]] = {}
        self._over = over

    def feed(self, records: Iterable[Record]) -> None:
        """Take records into account."""
        for record in records:
            if record.type in TERMINAL:
                self._over = True
            elif record.type == RecordType.LOOP_CHECKPOINT and record.key is not None:
                self._restore(record.key, record.body)
            elif record.key is not None and record.type in _KINDS:
                self._apply(record, record.key)

    def rows(self) -> list[dict[str, Any]]:
        """A row a step in the order in which they began; steps in items and iterations are counted together."""
        return [
            {key: rfc3339_ms(value) if key in _TIMES else value for key, value in row.items()} for row in self.counted()
        ]

    def counted(self) -> list[dict[str, Any]]:
        """The rows, with times in milliseconds."""
        found: dict[str, dict[str, Any]] = {}
        folded: dict[str, list[dict[str, Any]]] = {}
        for loop, rows in self._folded.items():
            # A later attempt at a loop stands in the loop's own row.
            bare = _ATTEMPT.sub("", loop)
            folded.setdefault(bare if bare in self._steps else "", []).extend(rows)
        for row in folded.get("", ()):
            _merge(found, row)
        for key, step in self._steps.items():
            if self._over and step["phase"] not in _ENDED:
                step = {**step, "phase": "Abandoned"}
            pattern = _INDEX.sub(lambda match: "[*]" if match[0][0] == "[" else "#*", key)
            if pattern == key:
                found[key] = step
            else:
                _count(found.setdefault(pattern, {"key": pattern, "kind": step["kind"], "counts": {}}), step)
            for row in folded.get(key, ()):
                _merge(found, row)
        return list(found.values())

    def _restore(self, loop: str, body: dict[str, Any]) -> None:
        """Put what a checkpoint says of iterations in the place of their steps, which may have been seen before."""
        first = body["iteration"]
        for key in [key for key in self._steps if is_before(loop, first, key)]:
            del self._steps[key]
        for key in [key for key in self._folded if is_before(loop, first, key)]:
            del self._folded[key]
        self._folded[loop] = body["steps"]

    def _apply(self, record: Record, key: str) -> None:
        kind, body = record.type, record.body
        if kind == RecordType.MODEL_TURN:
            self._turn(key, body)
            return
        if kind in (RecordType.STEP_SCHEDULED, RecordType.STEP_SKIPPED):
            # Steps without effects are never said to start: they do so when it is their turn.
            begun = {"startedAt": record.ts} if kind == RecordType.STEP_SCHEDULED else {}
            self._steps[key] = {"key": key, "kind": body.get("kind", ""), "phase": "Pending", **begun}
        step = self._steps.get(key)
        if step is None:
            return  # a turn or a tool call inside an agent's step
        if record.attempt is not None:
            step["attempt"] = record.attempt
        if kind == RecordType.STEP_STARTED:
            if step["phase"] == "Pending":
                step["startedAt"] = record.ts
            step["phase"] = "Running"
        elif kind == RecordType.STEP_COMPLETED:
            step["phase"] = "Succeeded"
            step["finishedAt"] = record.ts
            if "usage" in body:
                step["usage"] = body["usage"]
            _put_output(step, record)
        elif kind == RecordType.STEP_FAILED:
            step["error"] = body.get("error")
            step["phase"] = "Failed" if body.get("final") else "Retrying"
            if body.get("final"):
                step["finishedAt"] = record.ts
        elif kind == RecordType.STEP_SKIPPED:
            step["phase"] = "Skipped"
            step["finishedAt"] = record.ts
            step["reason"] = body.get("reason", "")
        elif kind == RecordType.IN_DOUBT:
            step["phase"] = "InDoubt"
        elif kind == RecordType.SUSPENDED:
            step["phase"] = "Suspended"
        elif kind in (RecordType.TIMER_SET, RecordType.CHILD_STARTED, RecordType.EVENT_WAITING):
            step["phase"] = "Waiting"
        else:
            step["phase"] = "Running"

    def _turn(self, key: str, body: dict[str, Any]) -> None:
        """Add what a model's turn consumed to the step in which it happened."""
        usage = body.get("usage")
        place = key
        while usage and place:
            step = self._steps.get(place)
            if step is not None:
                total = step.setdefault("usage", {})
                for name, value in usage.items():
                    if isinstance(value, int | float):
                        total[name] = total.get(name, 0) + value
                return
            place = place.rpartition("/")[0]


def _put_output(step: dict[str, Any], record: Record) -> None:
    output = record.body.get("output")
    if record.body.get("sensitive"):
        step["outputRef"] = "sensitive"
    elif output is None or len(orjson.dumps(output)) <= _SMALL:
        step["output"] = output
    else:
        step["outputRef"] = f"history/{record.seq}"


def _count(row: dict[str, Any], step: dict[str, Any]) -> None:
    rest = {name: step[name] for name in _TIMES if name in step}
    if step.get("error") and step["phase"] == "Failed":
        rest["error"] = step["error"]
    _add(row, {step["phase"]: 1}, rest)


def _merge(found: dict[str, dict[str, Any]], row: dict[str, Any]) -> None:
    """Add a row of a checkpoint to the one of the same steps."""
    made = found.setdefault(row["key"], {"key": row["key"], "kind": row["kind"], "counts": {}})
    _add(made, row["counts"], row)


def _add(row: dict[str, Any], counts: dict[str, int], rest: dict[str, Any]) -> None:
    for phase, number in counts.items():
        row["counts"][phase] = row["counts"].get(phase, 0) + number
    if "startedAt" in rest and ("startedAt" not in row or rest["startedAt"] < row["startedAt"]):
        row["startedAt"] = rest["startedAt"]
    if "finishedAt" in rest and rest["finishedAt"] > row.get("finishedAt", 0):
        row["finishedAt"] = rest["finishedAt"]
    if "error" in rest:
        row.setdefault("error", rest["error"])
