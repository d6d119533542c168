"""What do a Workflow's triggers and schedules say, once their expressions are compiled? Triggers, or everything wrong with them.

    event     a CloudEvent of a type, which may have to have a source, a subject, and attributes or data (`correlate`)
    webhook   a signed request to /webhooks/NAMESPACE/PATH, which is read as a CloudEvent
    cron      a schedule; like those in `spec.schedule` it becomes a Schedule of its own

Expressions see `event`, the CloudEvent in its structured JSON form. Nothing is started here. Read next:
`kastra.runtime.triggers.starting`, and `kastra.runtime.schedules.spec` for schedules.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from kastra.api.cloudevents import CloudEvent
from kastra.api.durations import parse_duration
from kastra.api.errors import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, Cause
from kastra.api.meta import API_VERSION
from kastra.cel import CelError, Program, Template, environment
from kastra.runtime.schedules.spec import child_name, cron_findings, input_findings, schedule_findings

MAX_TRIGGERS = 50
"""Triggers and schedules of one Workflow."""
TOLERANCE = 300.0
"""Seconds that the time of a signed webhook may differ from now, as Standard Webhooks recommends."""
LONGEST_TOLERANCE = 3600.0
BODIES = ("event", "cron", "webhook")

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PATH = re.compile(r"[A-Za-z0-9._~-]{1,64}(/[A-Za-z0-9._~-]{1,64}){0,7}")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Signing:
    """How requests to a webhook are signed.

    Args:
        type: `GitHub` or `StandardWebhooks`.
        secret: name of the Secret.
        key: in the Secret.
        tolerance: seconds that the signed time may differ from now.
    """

    type: str
    secret: str
    key: str
    tolerance: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts a Run.

    Args:
        name: as given, or its place in the list.
        type: of the events; empty for a webhook.
        path: of the webhook; empty for an event.
        wanted: what attributes of the event must be, by name.
        filter: what else must be so.
        input: of the Run; None for the whole event.
        key: makes events equal that give the same; None for what identifies the event.
    """

    name: str
    type: str = ""
    path: str = ""
    signing: Signing | None = None
    wanted: Mapping[str, str] | None = None
    filter: Program | None = None
    input: Template | None = None
    key: Program | None = None

    def fits(self, event: CloudEvent) -> bool:
        """Whether the event is one that starts a Run. Raises CelError."""
        value = event.to_json()
        for name, wanted in (self.wanted or {}).items():
            if _text(_find(value, name)) != wanted:
                return False
        return self.filter is None or self.filter.test({"event": value})

    def input_for(self, event: CloudEvent) -> Any:
        """The input of the Run. Raises CelError."""
        value = event.to_json()
        return value if self.input is None else self.input.evaluate({"event": value})

    def key_for(self, event: CloudEvent) -> str:
        """What is the same for events of which only one shall start a Run. Raises CelError."""
        if self.key is None:
            return f"{event.source}\0{event.id}"
        found = self.key.evaluate({"event": event.to_json()})
        if found is None or isinstance(found, dict | list) or found == "":
            raise CelError("an idempotency key must be a text, a number or a boolean, and not empty", self.key.text)
        return _text(found)


@dataclass(frozen=True, slots=True)
class Compiled:
    """The triggers of a Workflow by event and webhook, or why there are none."""

    triggers: tuple[Trigger, ...] = ()
    causes: tuple[Cause, ...] = ()


def compile_triggers(spec: Mapping[str, Any]) -> Compiled:
    """The triggers of a Workflow's spec in its normal form. Compiled once per list of triggers."""
    given = spec.get("triggers")
    return _compiled(orjson.dumps(given)) if given else Compiled()


def trigger_findings(spec: Mapping[str, Any], *, unlisted: bool = False) -> Iterator[Cause]:
    """What is wrong with `triggers` and `schedule` of a Workflow's spec in its normal form.

    Args:
        unlisted: the one schedule was written without a list around it.
    """
    yield from compile_triggers(spec).causes
    names: dict[str, str] = {}
    for index, schedule in enumerate(spec.get("schedule") or ()):
        path = "spec.schedule" if unlisted else f"spec.schedule[{index}]"
        yield from schedule_findings(schedule, path)
        given = str(schedule.get("name") or "")
        if given and not _NAME.fullmatch(given):
            yield Cause(INVALID, _bad_name(given), f"{path}.name")
        if given in names:
            what = (
                f"Duplicate value: {_quoted(given)}" if given else f"Required value: {names[given]} has no name either"
            )
            yield Cause(DUPLICATE if given else REQUIRED, what, f"{path}.name")
        names.setdefault(given, path)
    for index, trigger in enumerate(spec.get("triggers") or ()):
        if trigger.get("cron") is not None and str(trigger.get("name") or index) in names:
            yield Cause(DUPLICATE, "Duplicate value: a schedule has that name", f"spec.triggers[{index}].name")


def child_schedules(name: str, spec: Mapping[str, Any], *, held: bool) -> list[dict[str, Any]]:
    """The Schedules, without a namespace, that the Workflow called `name` gets for its own schedules and cron triggers.

    Args:
        held: they are to be made suspended.
    """
    found = [(str(schedule.get("name") or ""), schedule) for schedule in spec.get("schedule") or ()]
    for index, trigger in enumerate(spec.get("triggers") or ()):
        if trigger.get("cron") is not None:
            fields = {key: trigger[key] for key in ("cron", "timeZone", "input") if trigger.get(key) is not None}
            found.append((str(trigger.get("name") or index), fields))
    history = spec.get("history") or {}
    limits = {key: history[key] for key in ("successfulRunsLimit", "failedRunsLimit") if history.get(key) is not None}
    made = []
    for own, schedule in found:
        body = {key: value for key, value in schedule.items() if key != "name" and value is not None}
        body |= {"target": {"kind": "Workflow", "name": name}, **limits, **({"suspend": True} if held else {})}
        made.append(
            {
                "apiVersion": API_VERSION,
                "kind": "Schedule",
                "metadata": {"name": child_name(name, own)},
                "spec": body,
            }
        )
    return made


@lru_cache(maxsize=1024)
def _compiled(raw: bytes) -> Compiled:
    compiler = _Compiler()
    triggers = compiler.triggers(orjson.loads(raw))
    return Compiled((), tuple(compiler.causes)) if compiler.causes else Compiled(tuple(triggers))


class _Compiler:
    def __init__(self) -> None:
        self.causes: list[Cause] = []

    def triggers(self, given: Sequence[Mapping[str, Any]]) -> list[Trigger]:
        if len(given) > MAX_TRIGGERS:
            self._say(INVALID, f"Too many: {len(given)}: must have at most {MAX_TRIGGERS} items", "spec.triggers")
            return []
        names: set[str] = set()
        found = []
        for index, trigger in enumerate(given):
            path = f"spec.triggers[{index}]"
            name = str(trigger.get("name") or index)
            if not _NAME.fullmatch(name):
                self._say(INVALID, _bad_name(name), f"{path}.name")
            if name in names:
                self._say(DUPLICATE, f"Duplicate value: {_quoted(name)}", f"{path}.name")
            names.add(name)
            made = self._trigger(trigger, name, path)
            if made is not None:
                found.append(made)
        return found

    def _trigger(self, trigger: Mapping[str, Any], name: str, path: str) -> Trigger | None:
        bodies = [body for body in BODIES if trigger.get(body) is not None]
        if len(bodies) != 1:
            which = f"these are given: {', '.join(bodies)}" if bodies else "none is given"
            self._say(REQUIRED, f"Required value: exactly one of {', '.join(BODIES)}; {which}", path)
            return None
        if bodies == ["cron"]:
            self.causes += cron_findings(trigger["cron"], trigger.get("timeZone"), path)
            self.causes += input_findings(trigger.get("input"), f"{path}.input")
            if trigger.get("idempotencyKey") is not None:
                why = "Forbidden: the moment identifies a Run that is started by cron"
                self._say(FORBIDDEN, why, f"{path}.idempotencyKey")
            return None
        if trigger.get("timeZone") is not None:
            self._say(FORBIDDEN, "Forbidden: only cron has a time zone", f"{path}.timeZone")
        body = trigger[bodies[0]]
        made = Trigger(
            name,
            filter=self._program(body.get("filter"), f"{path}.{bodies[0]}.filter"),
            key=self._program(trigger.get("idempotencyKey"), f"{path}.idempotencyKey"),
            input=self._input(trigger.get("input"), f"{path}.input"),
        )
        if bodies == ["webhook"]:
            return replace(made, path=body["path"], signing=self._signing(body, f"{path}.webhook"))
        if not body.get("type"):
            self._say(REQUIRED, "Required value", f"{path}.event.type")
        wanted = {key: str(body[key]) for key in ("source", "subject") if body.get(key) is not None}
        for key, value in (body.get("correlate") or {}).items():
            if not _ATTRIBUTE.fullmatch(key):
                why = f"Invalid value: {_quoted(key)}: must be an attribute of the event such as subject or data.id"
                self._say(INVALID, why, f"{path}.event.correlate")
            wanted[key] = str(value)
        return replace(made, type=str(body.get("type") or ""), wanted=wanted)

    def _signing(self, webhook: Mapping[str, Any], path: str) -> Signing | None:
        if not _PATH.fullmatch(webhook["path"]) or ".." in webhook["path"].split("/"):
            why = (
                f"Invalid value: {_quoted(webhook['path'])}: must be up to 8 segments of letters, digits, -, _, . and ~"
            )
            self._say(INVALID, f"{why}, such as orders or github/push", f"{path}.path")
        signature = webhook.get("signature")
        if signature is None:
            why = "Required value: anybody can call a webhook, so it must be signed; give {type, secretKeyRef}"
            self._say(REQUIRED, why, f"{path}.signature")
            return None
        tolerance = signature.get("tolerance")
        seconds = TOLERANCE if tolerance is None else parse_duration(tolerance)
        if tolerance is not None and signature["type"] == "GitHub":
            self._say(FORBIDDEN, "Forbidden: GitHub signs no time", f"{path}.signature.tolerance")
        elif not 1 <= seconds <= LONGEST_TOLERANCE:
            why = f'Invalid value: "{tolerance}": must be at least 1s and at most 1h'
            self._say(INVALID, why, f"{path}.signature.tolerance")
        reference = signature["secretKeyRef"]
        return Signing(signature["type"], reference["name"], reference["key"], seconds)

    def _program(self, text: str | None, path: str) -> Program | None:
        if text is None:
            return None
        inner = text.strip()
        if inner.startswith("${{") and inner.endswith("}}"):
            inner = inner[3:-2].strip()
        try:
            return environment("event").compile(inner)
        except CelError as error:
            self._refuse(error, path)
            return None

    def _input(self, value: Any, path: str) -> Template | None:
        if value is None:
            return None
        try:
            return Template.compile(value, environment("event"), path)
        except CelError as error:
            self._refuse(error, error.path or path)
            return None

    def _refuse(self, error: CelError, path: str) -> None:
        place = f"{error.line}:{error.column}: " if error.line else ""
        self._say(INVALID, f"Invalid value: {place}{error.reason}", path)

    def _say(self, reason: str, message: str, path: str) -> None:
        self.causes.append(Cause(reason, message, path))


def _find(value: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _bad_name(name: str) -> str:
    return f"Invalid value: {_quoted(name)}: must be up to 63 lower-case letters, digits and -, as in a label"


def _quoted(text: str) -> str:
    return orjson.dumps(text if len(text) <= 64 else text[:61] + "...").decode()
