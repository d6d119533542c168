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
from .records import TERMINAL, Record, RecordType

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
_ENDED = frozenset({"Succeeded", "Failed", "Skipped"})


class StepTable:
    """The steps of one Run. Feed it records in order, then read `rows`."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[str, Any]] = {}
        self._over = False

    def feed(self, records: Iterable[Record]) -> None:
        """Take records into account."""
        for record in records:
            if record.type in TERMINAL:
                self._over = True
            elif record.key is not None and record.type in _KINDS:
                self._apply(record, record.key)

    def rows(self) -> list[dict[str, Any]]:
        """A row a step in the order in which they began; steps in items and iterations are counted together."""
        found: dict[str, dict[str, Any]] = {}
        for key, step in self._steps.items():
            if self._over and step["phase"] not in _ENDED:
                step = {**step, "phase": "Abandoned"}
            pattern = _INDEX.sub(lambda match: "[*]" if match[0][0] == "[" else "#*", key)
            if pattern == key:
                found[key] = step
            else:
                _count(found.setdefault(pattern, {"key": pattern, "kind": step["kind"], "counts": {}}), step)
        return list(found.values())

    def _apply(self, record: Record, key: str) -> None:
        kind, body = record.type, record.body
        if kind == RecordType.MODEL_TURN:
            self._turn(key, body)
            return
        if kind in (RecordType.STEP_SCHEDULED, RecordType.STEP_SKIPPED):
            # Steps without effects are never said to start: they do so when it is their turn.
            begun = {"startedAt": rfc3339_ms(record.ts)} if kind == RecordType.STEP_SCHEDULED else {}
            self._steps[key] = {"key": key, "kind": body.get("kind", ""), "phase": "Pending", **begun}
        step = self._steps.get(key)
        if step is None:
            return  # a turn or a tool call inside an agent's step
        if record.attempt is not None:
            step["attempt"] = record.attempt
        if kind == RecordType.STEP_STARTED:
            if step["phase"] == "Pending":
                step["startedAt"] = rfc3339_ms(record.ts)
            step["phase"] = "Running"
        elif kind == RecordType.STEP_COMPLETED:
            step["phase"] = "Succeeded"
            step["finishedAt"] = rfc3339_ms(record.ts)
            if "usage" in body:
                step["usage"] = body["usage"]
            _put_output(step, record)
        elif kind == RecordType.STEP_FAILED:
            step["error"] = body.get("error")
            step["phase"] = "Failed" if body.get("final") else "Retrying"
            if body.get("final"):
                step["finishedAt"] = rfc3339_ms(record.ts)
        elif kind == RecordType.STEP_SKIPPED:
            step["phase"] = "Skipped"
            step["finishedAt"] = rfc3339_ms(record.ts)
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
    counts = row["counts"]
    counts[step["phase"]] = counts.get(step["phase"], 0) + 1
    if "startedAt" in step and ("startedAt" not in row or step["startedAt"] < row["startedAt"]):
        row["startedAt"] = step["startedAt"]
    if "finishedAt" in step and step["finishedAt"] > row.get("finishedAt", ""):
        row["finishedAt"] = step["finishedAt"]
    if step.get("error") and step["phase"] == "Failed":
        row.setdefault("error", step["error"])
