"""What those who follow a Run are told, record by record.

One event per record that concerns them, named as in the journal's documentation, carrying the record's `seq` so that a
reader who reconnects can go on from there by reading the journal. Outputs are in an event only when they are small and not
marked sensitive. Ephemeral events (`step.output.delta`, `step.progress`, `usage`) have no `seq` and aren't in any journal. Their
`id` is `SEQ.N`: the Nth one after record SEQ. So every event of a Run has a position, and positions rise:

    17      step.scheduled          17.1    step.output.delta       17.2    step.output.delta       18      step.completed

Source: CloudEvents for the shape, `Last-Event-ID` of SSE for resuming. Read next: `kastra.bus`.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from .frame import rfc3339_ms
from .records import Record, RecordType

_SMALL = 1024
_PARTS = 1 << 20

LAST = frozenset({"run.completed", "run.failed", "run.cancelled"})
"""Types of which one is the last event of every Run."""

_TYPES = {
    int(RecordType.RUN_STARTED): "run.started",
    int(RecordType.EVENT_WAITING): "run.waiting",
    int(RecordType.EVENT_RECEIVED): "event.received",
    int(RecordType.STEP_SCHEDULED): "step.scheduled",
    int(RecordType.STEP_STARTED): "step.started",
    int(RecordType.STEP_COMPLETED): "step.completed",
    int(RecordType.STEP_SKIPPED): "step.skipped",
    int(RecordType.TIMER_SET): "run.waiting",
    int(RecordType.CHILD_STARTED): "run.waiting",
    int(RecordType.SUSPENDED): "run.suspended",
    int(RecordType.RESUMED): "run.resumed",
    int(RecordType.MODEL_TURN): "model.turn",
    int(RecordType.TOOL_CALL): "tool.call",
    int(RecordType.TOOL_RESULT): "tool.result",
    int(RecordType.STATE_SET): "state.changed",
    int(RecordType.DECISION): "router.decision",
    int(RecordType.RUN_COMPLETED): "run.completed",
    int(RecordType.RUN_FAILED): "run.failed",
    int(RecordType.RUN_CANCELLED): "run.cancelled",
    int(RecordType.IN_DOUBT): "step.indoubt",
    int(RecordType.RECOVERED): "run.recovered",
    int(RecordType.BUDGET_EXCEEDED): "budget.exceeded",
    int(RecordType.COMPENSATION_STARTED): "run.compensating",
    int(RecordType.LOOP_CHECKPOINT): "loop.checkpoint",
}
_ENDINGS = {"finally": "run.finishing", "compensate": "run.compensated"}
"""Decisions about the Run as a whole, by their keys."""


def event_of(record: Record) -> dict[str, Any] | None:
    """The event of a record: `{type, seq, time, key?, attempt?, data}`; None for records that only recovery needs."""
    kind = _TYPES.get(record.type)
    if record.type == RecordType.STEP_FAILED:
        kind = "step.failed" if record.body.get("final") else "step.retrying"
    elif record.type == RecordType.DECISION and record.key in _ENDINGS:
        kind = _ENDINGS[record.key]
    elif record.type == RecordType.STEP_STARTED and record.body.get("interrupted"):
        kind = "step.reset"
    if kind is None:
        return None
    event: dict[str, Any] = {"type": kind, "seq": record.seq, "time": rfc3339_ms(record.ts), "data": _data(record)}
    if record.key is not None:
        event["key"] = record.key
    if record.attempt is not None:
        event["attempt"] = record.attempt
    return event


def ephemeral(kind: str, seq: int, part: int, time: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """An event that is in no journal: `{type, id, time, key?, data}`.

    Args:
        seq: of the last durable record before it.
        part: how many ephemeral events there were since, this one included.
        data: a `key` in it is the stepKey.
    """
    event: dict[str, Any] = {"type": kind, "id": f"{seq}.{part}", "time": time}
    if "key" in data:
        event["key"] = data["key"]
    event["data"] = {name: value for name, value in data.items() if name != "key"}
    return event


def position(seq: int, part: int = 0) -> int:
    """A place in a Run's stream of events as one number, by which topics and cursors are ordered."""
    return seq * _PARTS + min(part, _PARTS - 1)


def place(number: int) -> tuple[int, int]:
    """`(seq, part)` of a position."""
    return divmod(number, _PARTS)


def cursor(text: str) -> tuple[int, int]:
    """`(seq, part)` of an event's id, as a reader who reconnects sends it: `17`, or `17.2`.

    Raises:
        ValueError: it is no such id.
    """
    seq, dot, part = text.partition(".")
    if not (seq.isascii() and seq.isdigit() and len(seq) <= 15) or (
        dot and not (part.isascii() and part.isdigit() and len(part) <= 7)
    ):
        raise ValueError(f"{text[:64]!r} is no id of an event: a number, or two with a point between")
    return int(seq), int(part or 0)


def id_of(event: Mapping[str, Any]) -> str:
    """The id of an event, from which a reader can go on."""
    return str(event["seq"]) if event.get("seq") is not None else str(event.get("id", ""))


def _data(record: Record) -> dict[str, Any]:
    body = record.body
    if record.type == RecordType.RUN_STARTED:
        return {key: body[key] for key in ("namespace", "name", "kind")}
    if record.type == RecordType.STEP_SCHEDULED:
        return {"kind": body.get("kind", "")}
    if record.type in (RecordType.STEP_COMPLETED, RecordType.MODEL_TURN, RecordType.TOOL_RESULT):
        shown = {key: value for key, value in body.items() if key in ("usage", "stopReason")}
        if not body.get("sensitive") and _is_small(body.get("output")):
            shown["output"] = body.get("output")
        return shown
    if record.type == RecordType.DECISION and record.key in _ENDINGS:
        value = body["value"]
        return {"phase": value["phase"]} if record.key == "finally" else {"failed": [one["stepKey"] for one in value]}
    if record.type in (RecordType.EVENT_RECEIVED, RecordType.RESUMED) and body.get("sensitive"):
        return {key: value for key, value in body.items() if key not in ("event", "data")}
    if record.type == RecordType.LOOP_CHECKPOINT:
        return {"iteration": body["iteration"], "records": body["records"], "counts": body["counts"]}
    if record.type == RecordType.STATE_SET:
        return {"keys": sorted(body["values"])}
    if record.type == RecordType.RUN_COMPLETED and body.get("sensitive"):
        return {"stopReason": body.get("stopReason", "")}
    return dict(body) if _is_small(body) else {"large": True}


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _SMALL
    return len(orjson.dumps(value)) <= _SMALL
