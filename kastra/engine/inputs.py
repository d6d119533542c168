"""Where does a step's input come from, and how is it recorded?

An input is worked out once, when its step is scheduled; every attempt and every recovery uses what was recorded then. What
another record holds already is named there, not written again.

Read next: `kastra.engine.executor`.
"""

from collections.abc import Mapping
from typing import Any

from .expressions import Template
from .frame import Entry, Frame, Sight, Status
from .graph import Flow, Step
from .past import Past
from .step import StepError


def sight(frame: Frame, now: int, entry: Entry | None, **extra: Any) -> Sight:
    """What the expressions of a step see before it runs."""
    return Sight(frame, now, extra if entry is None else {"prev": entry.value, **extra})


def sight_within(frame: Frame, now: int, value: Any) -> Sight:
    """What the expressions in a step's body see; `value` is its input, which comes before it where there is no order."""
    return Sight(frame, now, None if frame.scope.flow is Flow.SEQUENCE else {"prev": value})


def input_of(step: Step, frame: Frame, now: int, entry: Entry | None) -> tuple[Any, dict[str, Any]]:
    """The input of a step, and the body of its StepScheduled record.

    Raises:
        StepError: it can't be worked out (type `expression`).
    """
    body: dict[str, Any] = {"kind": step.kind}
    if step.memory is not None:
        body["memory"] = step.memory.evaluate(sight(frame, now, entry))
    plan = step.input
    if plan is None:
        value, source = (frame.last, frame.last_source) if entry is None else entry
        if source is not None and step.prompt is None:
            # Exactly what another record holds: name it instead of writing the bytes again.
            body["from"] = source
            if step.idempotency_key is None:
                return value, body
    elif isinstance(plan, Template):
        value = plan.evaluate(sight(frame, now, entry))
    else:
        values = {source.name: _sourced(source.kind, source.name, frame) for source in plan}
        value = next(iter(values.values())) if len(values) == 1 else values
    if step.prompt is not None:
        value = step.prompt.evaluate(sight(frame, now, entry, value=value))
    if step.idempotency_key is not None:
        given = step.idempotency_key.evaluate(sight(frame, now, entry, value=value))
        body["idempotencyKey"] = given if isinstance(given, str) else str(given)
    if "from" not in body:
        body["input"] = value
    return value, body


def _sourced(kind: str, name: str, frame: Frame) -> Any:
    if kind == "input":
        return frame.facts.input
    if kind == "name":
        return frame.named(name)
    result = frame.find(name)
    if result is None or result.status is not Status.SUCCEEDED:
        how = "has not run" if result is None else f"is {result.status.value}"
        raise StepError("expression", f"the input comes from {name}, which {how}", retryable=False)
    return result.output


def recorded_input(past: Past, body: Mapping[str, Any], frame: Frame) -> Any:
    """The input that a StepScheduled record holds or names."""
    if "from" not in body:
        return body.get("input")
    source = body["from"]
    if source == "":
        return frame.facts.input
    done = past.steps[source].done
    assert done is not None, "an input is recorded by reference only after its source's record"
    return done["output"]
