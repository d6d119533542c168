"""A Run's events as lines for people: what `kastra run` shows while it waits, `kastra logs` and `runs/log` afterwards.

    0.0s  run started (Workflow)
    0.1s  find-recipes: started
    0.3s  find-recipes/tool/0: call recipe-finder {"ingredients":["eggs"]}
    0.4s  run completed

Read next: `kastra.engine.events`, where events are made.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

_LONGEST = 200
_RED, _GREEN, _DIM, _END = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[0m"
_BAD = frozenset({"run.failed", "run.cancelled", "step.failed", "step.indoubt"})
_QUIET = frozenset({"step.scheduled", "step.output.delta", "step.progress", "usage"})
"""Events that say nothing to somebody who only waits."""


class EventLines:
    """Formats events one after the other.

    Args:
        timestamps: show the time of each event instead of the seconds since the first.
        everything: show also what is of interest only when something went wrong.
        color: for a terminal.
    """

    def __init__(self, *, timestamps: bool = False, everything: bool = False, color: bool = False) -> None:
        self._timestamps = timestamps
        self._everything = everything
        self._color = color
        self._first = 0.0

    def line(self, event: Mapping[str, Any]) -> str | None:
        """The event as a line; None for one that isn't shown."""
        kind = event.get("type", "")
        if kind in _QUIET and not (self._everything and event.get("seq")):
            return None
        # Names and outputs are those of strangers: nothing in them may steer a terminal.
        text = "".join(char if char.isprintable() else "?" for char in _text(kind, event))
        if self._color:
            text = (
                f"{_RED}{text}{_END}" if kind in _BAD else f"{_GREEN}{text}{_END}" if kind == "run.completed" else text
            )
        when = self._when(event.get("time") or "")
        return f"{_DIM}{when}{_END}  {text}" if self._color else f"{when}  {text}"

    def _when(self, time: str) -> str:
        if self._timestamps or not time:
            return time
        from kastra.clock import parse_rfc3339

        seconds = parse_rfc3339(time).timestamp()
        self._first = self._first or seconds
        return f"{max(0.0, seconds - self._first):.1f}s".rjust(6)


def _text(kind: str, event: Mapping[str, Any]) -> str:
    data: Mapping[str, Any] = event.get("data") or {}
    key = event.get("key") or ""
    attempt = event.get("attempt") or 1
    subject, _, verb = kind.partition(".")
    write = _FORMS.get(kind)
    said = write(data) if write is not None else " ".join(filter(None, (verb or kind, _shown(data))))
    if kind in ("step.started", "step.reset", "step.retrying", "step.failed") and attempt > 1:
        said += f" (attempt {attempt})"
    return f"{key}: {said}" if key else f"{subject} {said}"


def _with(word: str, value: Any) -> str:
    shown = _shown(value)
    return f"{word}: {shown}" if shown else word


def _error(word: str) -> Callable[[Mapping[str, Any]], str]:
    def write(data: Mapping[str, Any]) -> str:
        error = data.get("error")
        if not isinstance(error, Mapping):
            return _with(word, error)
        kind = f"{error['type']}: " if error.get("type") else ""
        return f"{word}: {kind}{error.get('title') or error.get('detail') or _shown(error)}"

    return write


def _started(data: Mapping[str, Any]) -> str:
    return f"started ({data.get('kind', '')})"


def _waiting(data: Mapping[str, Any]) -> str:
    if data.get("name"):
        return f"waiting for {data.get('kind', '')} {data.get('namespace', '')}/{data['name']}"
    if data.get("eventType"):
        return f"waiting for an event {data['eventType']}"
    return "waiting for a timer" if "due" in data else _with("waiting", data)


def _suspended(data: Mapping[str, Any]) -> str:
    if data.get("reason") == "Approval" and data.get("name"):
        return f"suspended: waits for approval/{data['name']}"
    return _with("suspended", data.get("reason"))


def _received(data: Mapping[str, Any]) -> str:
    event = data.get("event")
    if not isinstance(event, Mapping):
        return "received an event"
    return f"received {event.get('type', '')} {event.get('id', '')} of {event.get('source', '')}"


def _tool_call(data: Mapping[str, Any]) -> str:
    named = data.get("tool") or data.get("name")
    rest = data.get("arguments", data.get("args", {}))
    return f"call {named} {_shown(rest)}".rstrip() if named else _with("call", data)


_FORMS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "run.started": _started,
    "run.waiting": _waiting,
    "run.suspended": _suspended,
    "event.received": _received,
    "run.resumed": lambda data: _with("resumed by", data.get("by")),
    "run.completed": lambda data: "completed",
    "run.failed": _error("failed"),
    "run.cancelled": lambda data: "cancelled",
    "run.recovered": lambda data: "recovered after its process ended",
    "step.scheduled": lambda data: f"scheduled ({data.get('kind') or 'step'})",
    "step.started": lambda data: "started",
    "step.reset": lambda data: "begins again after its process ended",
    "step.completed": lambda data: _with("completed", data.get("output")),
    "step.failed": _error("failed"),
    "step.retrying": _error("will be tried again"),
    "step.skipped": lambda data: _with("skipped", data.get("reason")),
    "step.indoubt": lambda data: "in doubt: a crash left the outcome of the call unknown",
    "model.turn": lambda data: _with("model", _said(data.get("output"))),
    "tool.call": _tool_call,
    "tool.result": lambda data: _with("result", data.get("output")),
    "state.changed": lambda data: _with("state", data.get("values", data.get("keys"))),
    "budget.exceeded": lambda data: f"{data.get('limit')} of {data.get('max')} reached",
    "run.finishing": lambda data: f"has {str(data.get('phase', '')).lower()}, to be concluded",
    "run.compensating": lambda data: f"undoes {len(data.get('steps', ()))} completed steps",
    "run.compensated": lambda data: (
        _with("undone, except", ", ".join(data["failed"])) if data.get("failed") else "undone"
    ),
    "loop.checkpoint": lambda data: (
        f"iterations 1 to {int(data.get('iteration', 1)) - 1} are kept as counts only ({data.get('records')} records)"
    ),
    "router.decision": lambda data: _with("decided", data.get("value", data)),
}


def _said(turn: Any) -> Any:
    """What a model's turn comes to: its text, or the calls it asks for."""
    if not isinstance(turn, Mapping):
        return turn
    calls = turn.get("toolCalls") or turn.get("calls")
    if calls:
        names = [call.get("tool") or call.get("name") or "" for call in calls if isinstance(call, Mapping)]
        return f"asks for {', '.join(filter(None, names)) or 'tools'}"
    return turn.get("text") or turn


def _shown(value: Any) -> str:
    if value in (None, {}, [], ""):
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
