"""What is wrong with a schedule, and what is the Run that it starts? The same for a Schedule, for a Workflow's own
`schedule`, and for a trigger by `cron`.

The name of a Run follows from the schedule and the moment, so a moment that is acted on twice has one Run. Nothing is
written here. Read next: `controllers/schedule.py`.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from kastra.api.durations import parse_duration
from kastra.api.errors import FORBIDDEN, INVALID, REQUIRED, Cause
from kastra.api.meta import API_VERSION, GROUP
from kastra.cel import CelError, Template, environment
from kastra.clock import rfc3339

from .cron import CronError, parse_zone
from .timing import Timing, timing_of

LABEL = f"{GROUP}/schedule"
"""On a Run: the Schedule that started it."""
MOMENT = f"{GROUP}/scheduled-time"
"""On a Run, as an annotation: the moment for which it was started."""
LONGEST_NAME = 47
"""Characters of a Schedule's name, so that the names of its Runs (16 more) fit into a label."""
RUN_FIELDS = ("timeout", "ttlAfterFinished", "durability")
"""Fields of a Schedule that are those of its Runs."""

_VARIABLE = "schedule"
_KEPT_OF_LONG_NAME = 38


def timing(spec: Mapping[str, Any]) -> Timing:
    """When a schedule's Runs are due. Raises ValueError."""
    return timing_of(spec.get("cron"), spec.get("every"), spec.get("timeZone"))


def schedule_findings(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """What is wrong with the fields of a schedule in its normal form that stands at `path`."""
    cron, every, zone = spec.get("cron"), spec.get("every"), spec.get("timeZone")
    if (cron is None) == (every is None):
        found = "both are given" if cron is not None else "none is given"
        yield Cause(REQUIRED, f"Required value: exactly one of cron and every; {found}", path)
    elif cron is not None:
        yield from cron_findings(cron, zone, path)
    else:
        try:
            timing_of(None, every, None)
        except ValueError as error:
            yield Cause(INVALID, f"Invalid value: {error}", f"{path}.every")
        if zone is not None:
            yield Cause(FORBIDDEN, "Forbidden: intervals have no time zone; use cron", f"{path}.timeZone")
    deadline = spec.get("startingDeadline")
    if deadline is not None and parse_duration(deadline) < 1:
        yield Cause(INVALID, f'Invalid value: "{deadline}": must be at least 1s', f"{path}.startingDeadline")
    yield from input_findings(spec.get("input"), f"{path}.input")


def cron_findings(cron: str, zone: str | None, path: str) -> Iterator[Cause]:
    """What is wrong with `cron` and `timeZone` at `path`."""
    try:
        parse_zone(zone or "")
    except CronError as error:
        yield Cause(INVALID, f"Invalid value: {_quoted(zone)}: {error}", f"{path}.timeZone")
        return
    try:
        timing_of(cron, None, zone)
    except CronError as error:
        yield Cause(INVALID, f"Invalid value: {_quoted(cron)}: {error}", f"{path}.cron")


def input_findings(value: Any, path: str) -> Iterator[Cause]:
    """What is wrong with the expressions in a schedule's input."""
    try:
        _template(orjson.dumps(value), path)
    except CelError as error:
        place = f"{error.line}:{error.column}: " if error.line else ""
        yield Cause(INVALID, f"Invalid value: {place}{error.reason}", error.path or path)


def run_name(schedule: str, moment: datetime) -> str:
    """The name of the Run for a moment: `report-20300131-090000`, in UTC."""
    return f"{schedule}-{moment.astimezone(UTC):%Y%m%d-%H%M%S}"


def child_name(workflow: str, schedule: str) -> str:
    """The name of the Schedule that a Workflow gets for one of its own: `workflow` or `workflow-name`, short enough."""
    name = f"{workflow}-{schedule}" if schedule else workflow
    if len(name) <= LONGEST_NAME and "." not in name:
        return name
    digest = blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[:_KEPT_OF_LONG_NAME].replace('.', '-').rstrip('-')}-{digest}"


def run_manifest(namespace: str, name: str, spec: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """The Run of a Schedule for a moment.

    Raises:
        CelError: its input can't be evaluated.
    """
    time = rfc3339(moment)
    body: dict[str, Any] = {"target": {**spec["target"], "namespace": namespace}}
    if spec.get("input") is not None:
        facts = {"name": name, "namespace": namespace, "time": time}
        body["input"] = _template(orjson.dumps(spec["input"]), "spec.input").evaluate({_VARIABLE: facts})
    body.update({field: spec[field] for field in RUN_FIELDS if spec.get(field) is not None})
    return {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": {
            "name": run_name(name, moment),
            "namespace": namespace,
            "labels": {LABEL: name},
            "annotations": {MOMENT: time},
        },
        "spec": body,
    }


@lru_cache(maxsize=1024)
def _template(value: bytes, path: str) -> Template:
    return Template.compile(orjson.loads(value), environment(_VARIABLE), path)


def _quoted(text: Any) -> str:
    shown = str(text)
    return orjson.dumps(shown if len(shown) <= 64 else shown[:61] + "...").decode()
