"""How is a Run told something from outside? Answers to the step that is held, and signals.

Both are written to the Run's inbox before they act, each with an id by which a second one is known. An answer is checked here,
against what the step asks for, so that whoever sends it learns which field is wrong. Read next: `kastra.engine.holds`.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from kastra.api.cloudevents import parse_event
from kastra.api.errors import INVALID, BadRequest, Cause, Conflict, invalid
from kastra.api.meta import GROUP
from kastra.apiserver.subresources import ConnectRequest
from kastra.clock import Clock, rfc3339
from kastra.engine.pool import Pool

SIGNAL_FIELDS = ("name", "type", "data", "id", "subject")
SIGNAL_SOURCE = "signal"
"""The `source` of the event that a signal is; a wait can ask for it."""

_TRIES = 100
_PAUSE = 0.05
_DECISIONS = ("retry", "fail", "complete")


async def answer(
    pool: Pool, clock: Clock, request: ConnectRequest, body: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Answer the step that is held, with `{stepKey?, data?}`; None if there is nothing but the whole Run to be resumed.

    Raises:
        BadRequest, Invalid: the answer isn't one.
        Conflict: nothing waits for one.
    """
    run, key = request.object, body.get("stepKey")
    bare = "data" not in body and key is None
    if key is not None and (not isinstance(key, str) or not key):
        raise BadRequest("stepKey: must be the key of the step that is held, as in status.waitingFor")
    if bare and (run.spec.get("desiredState") == "Suspended" or not _is_held(run.status)):
        return None
    data = {} if body.get("data") is None else body["data"]
    if run.is_condition_true("InDoubt") and (not isinstance(data, dict) or data.get("action") not in _DECISIONS):
        raise BadRequest(f"data.action: a step in doubt takes one of {', '.join(_DECISIONS)}")
    for _ in range(_TRIES):
        # A Run that was just taken up by this process needs a moment until it can be told.
        holds = pool.holds(run.uid)
        if holds is not None:
            if key is None and len(holds.keys) > 1:
                raise BadRequest(f"stepKey: several steps are held, say which one: {', '.join(holds.keys)}")
            if key is not None and "data" not in body and key not in holds.keys:
                raise BadRequest("data: an object is needed, the answer to the step that waits")
            to = key if key is not None else holds.keys[0] if holds.keys else ""
            if not to or to in holds.coming:
                # What it asks is known in a moment, and an answer is looked at before it is sent.
                await clock.sleep(_PAUSE)
                continue
            problems = holds.problems(to, data)
            if problems:
                raise invalid("Run", GROUP, run.name, [_cause(problem) for problem in problems])
            if problems is None and not isinstance(data, dict):
                raise BadRequest("data: an object is needed, the answer to the step that waits")
            if await pool.resume(run.uid, key=key, data=data, by=request.user.name):
                return run.data
        await clock.sleep(_PAUSE)
    raise Conflict(f"run {run.name} is not under way here, or nothing in it waits for an answer")


async def signal(pool: Pool, clock: Clock, request: ConnectRequest, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send a Run the event that `{name | type, data?, id?, subject?}` describes.

    Raises:
        BadRequest: it is no event.
        Conflict: the Run is not under way here.
    """
    run = request.object
    if ("name" in body) == ("type" in body):
        raise BadRequest("a signal has a name: exactly one of name and type")
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": body.get("id", str(uuid.uuid4())),
        "source": SIGNAL_SOURCE,
        "type": body.get("name", body.get("type")),
        "time": rfc3339(clock.now()),
        # Told by the server, so that a filter can ask who it was.
        "actor": request.user.name,
    }
    event |= {field: body[field] for field in ("data", "subject") if body.get(field) is not None}
    parsed = parse_event(event)
    for _ in range(_TRIES):
        if await pool.signal(run.uid, parsed, by=request.user.name):
            return run.data
        await clock.sleep(_PAUSE)
    raise Conflict(f"run {run.name} is not under way here, so nothing can be sent to it")


def _is_held(status: Mapping[str, Any]) -> bool:
    return any(wait.get("kind") == "Resume" for wait in status.get("waitingFor") or ())


def _cause(problem: str) -> Cause:
    """`path: message`, as JSON Schema problems are said, with the path below `data`."""
    path, _, message = problem.partition(": ")
    where = "data" if path == "value" else f"data{path}" if path.startswith("[") else f"data.{path}"
    return Cause(INVALID, f"Invalid value: {message}", where)
