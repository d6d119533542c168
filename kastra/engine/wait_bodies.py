"""The steps that wait for the outside world, and the one that speaks to it, compiled.

    waitForEvent: {type, source?, subject?, filter?, correlate?, count?, timeout?, onTimeout?}
    suspend: {reason?, payload?, resumeSchema?, timeout?, onTimeout?}
    approve: {approvers?, message?, payload?, timeout?, onTimeout?, onReject?}
    emit: {type, subject?, data?}

Types are literal, so that it is known beforehand which events a workflow may ever wait for; everything else may hold
expressions. Part of the compiler. Read next: `kastra.engine.waiting`, which performs them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .compiler_names import Findings, Names
from .expressions import Condition, Template

WAITING_KINDS = ("waitForEvent", "suspend", "approve", "emit")
"""Step kinds that are compiled here."""

PATIENT_KINDS = frozenset({"sleep", "sleepUntil", "waitForEvent", "suspend", "approve"})
"""Step kinds whose purpose is to take long: a workflow's default limit of an attempt isn't meant for them."""


@dataclass(frozen=True, slots=True, eq=False)
class EventWait:
    """A wait for `count` events, or for one if None; `attributes` are templates of `source`, `subject`, `correlate`."""

    type: str
    attributes: Template
    filter: Condition | None
    count: int | None
    seconds: float | None
    on_timeout: str


@dataclass(frozen=True, slots=True, eq=False)
class Suspension:
    """A wait to be resumed; `shown` is a template of `reason` and `payload`."""

    shown: Template
    schema: Mapping[str, Any] | None
    seconds: float | None
    on_timeout: str


@dataclass(frozen=True, slots=True, eq=False)
class Consent:
    """A wait for people's decision; `asked` is a template of `message`, `payload` and `approvers`."""

    asked: Template
    seconds: float | None
    on_timeout: str
    on_reject: str


@dataclass(frozen=True, slots=True, eq=False)
class Emission:
    """An event to be delivered; `content` is a template of `subject` and `data`."""

    type: str
    content: Template


def wait_body(
    found: Findings, kind: str, body: Mapping[str, Any], path: str, names: Names
) -> EventWait | Suspension | Consent | Emission | None:
    """The body of a step of one of `WAITING_KINDS`; None if something is wrong with it, which `found` then says."""
    seconds = found.seconds(body.get("timeout"), f"{path}.timeout")
    given = {key: value for key, value in body.items() if value is not None}
    if kind == "suspend":
        shown = found.template(_part(given, "reason", "payload"), path, names)
        return (
            None
            if shown is None
            else Suspension(shown, given.get("resumeSchema"), seconds, given.get("onTimeout", "fail"))
        )
    if kind == "approve":
        asked = found.template(_part(given, "message", "payload", "approvers"), path, names)
        ends = (given.get("onTimeout", "fail"), given.get("onReject", "fail"))
        return None if asked is None else Consent(asked, seconds, *ends)
    event_type = str(given.get("type") or "")
    if "${{" in event_type:
        found.invalid("the type of an event is written out; what varies belongs into subject or data", f"{path}.type")
    if kind == "emit":
        content = found.template(_part(given, "subject", "data"), path, names)
        return None if content is None else Emission(event_type, content)
    inside = replace(names, variables=names.variables | {"event"})
    condition = found.condition(given.get("filter"), f"{path}.filter", inside)
    attributes = found.template(_part(given, "source", "subject", "correlate"), path, names)
    count = None if given.get("count") is None else int(given["count"])
    if attributes is None:
        return None
    return EventWait(event_type, attributes, condition, count, seconds, given.get("onTimeout", "fail"))


def _part(given: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: given[field] for field in fields if field in given}
