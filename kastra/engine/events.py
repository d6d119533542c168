"""What those who follow a Run are told, record by record.

One event per record that concerns them, named as in the journal's documentation, carrying the record's `seq` so that a
reader who reconnects can go on from there by reading the journal. Outputs are in an event only when they are small and not
marked sensitive. Ephemeral events (`step.output.delta`, `step.progress`) have no `seq` and aren't in any journal.

Source: CloudEvents for the shape, `Last-Event-ID` of SSE for resuming. Read next: `kastra.bus`.
"""

from typing import Any

import orjson

from .frame import rfc3339_ms
from .records import Record, RecordType

_SMALL = 1024

_TYPES = {
    int(RecordType.RUN_STARTED): "run.started",
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
}


def event_of(record: Record) -> dict[str, Any] | None:
    """The event of a record: `{type, seq, time, key?, attempt?, data}`; None for records that only recovery needs."""
    kind = _TYPES.get(record.type)
    if record.type == RecordType.STEP_FAILED:
        kind = "step.failed" if record.body.get("final") else "step.retrying"
    if kind is None:
        return None
    event: dict[str, Any] = {"type": kind, "seq": record.seq, "time": rfc3339_ms(record.ts), "data": _data(record)}
    if record.key is not None:
        event["key"] = record.key
    if record.attempt is not None:
        event["attempt"] = record.attempt
    return event


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
    if record.type == RecordType.STATE_SET:
        return {"keys": sorted(body["values"])}
    if record.type == RecordType.RUN_COMPLETED and body.get("sensitive"):
        return {"stopReason": body.get("stopReason", "")}
    return dict(body) if _is_small(body) else {"large": True}


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _SMALL
    return len(orjson.dumps(value)) <= _SMALL
