"""Before an object goes: a Run of the workflow that `finalize` names, again and again while it fails, for a limited time.

These Runs have no owner, since what belongs to an object that is deleted in the foreground goes before it; they go by
themselves an hour after they ended. Their names are numbered, so that after a restart the last one is found again. In a
namespace that is being deleted nothing new can be made: the object is let go at once, and an Event says so.

Read next: `kastra.runtime.declared.passes`, which removes the finalizer afterwards.
"""

from datetime import datetime

from kastra.api.errors import NAMESPACE_TERMINATING, NotFound, StatusError, has_cause
from kastra.api.meta import GROUP
from kastra.api.object import Object
from kastra.cel import CelError
from kastra.clock import parse_rfc3339
from kastra.runtime.context import Host

from .plan import Plan, RunPlan
from .runs import cancel_run, create_run, find_run, input_of, place_of, run_manifest, run_name

FINALIZER = f"{GROUP}/reconciler"
OBJECT = f"{GROUP}/finalizes"
"""Annotation of a clean-up Run: namespace and name of the object, separated by a slash."""

_KEPT = "1h"
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0


class Cleanup:
    """The clean-up Runs of a Reconciler's objects.

    Args:
        host: the manager.
        name: of the Reconciler.
        plan: with a `finalize`.
        body: what is run.
    """

    def __init__(self, host: Host, name: str, plan: Plan, body: RunPlan) -> None:
        self._host = host
        self._name = name
        self._plan = plan
        self._body = body
        self._started: dict[str, datetime] = {}

    async def advance(self, obj: Object) -> float | None:
        """Go on cleaning up; None when the object may go, else seconds until something is due.

        Raises:
            StatusError: a Run could not be made for a reason that may pass.
        """
        now = self._host.clock.now()
        number, run, before = await self._last(obj)
        started = self._started.setdefault(obj.uid, _created(before or run) or now)
        left = self._plan.finalize_seconds - (now - started).total_seconds()
        if run is not None and run.is_condition_true("Succeeded"):
            self._started.pop(obj.uid, None)
            return None
        if left <= 0:
            if run is not None and not run.is_condition_true("Complete"):
                await cancel_run(self._host, run)
            self._give_up(obj, self._what_happened(run))
            return None
        if run is not None and not run.is_condition_true("Complete"):
            return left
        if run is not None:
            pause = min(_FIRST_PAUSE * 2.0 ** min(number, 16), _LONGEST_PAUSE)
            since = (now - parse_rfc3339(str(run.status.get("completionTime")))).total_seconds()
            if since < pause:
                return min(pause - since, left)
            number += 1
        return await self._start(obj, number, left)

    async def _start(self, obj: Object, number: int, left: float) -> float | None:
        try:
            given = input_of(self._body, obj)
        except CelError as error:
            self._give_up(obj, f"its input can't be evaluated: {error}")
            return None
        manifest = run_manifest(self._name, self._body, obj, run_name(obj, f"finalize-{number}"), given)
        manifest["metadata"]["annotations"] = {OBJECT: f"{obj.namespace}/{obj.name}"}
        manifest["spec"]["ttlAfterFinished"] = _KEPT
        try:
            await create_run(self._host, manifest)
        except StatusError as error:
            if isinstance(error, NotFound) or has_cause(error, NAMESPACE_TERMINATING):
                self._give_up(obj, error.message)
                return None
            raise
        return left

    async def _last(self, obj: Object) -> tuple[int, Object | None, Object | None]:
        """The number of the last Run so far, that Run, and the first one."""
        place = place_of(obj, self._body)
        first = last = None
        number = 0
        while (run := await find_run(self._host, place, run_name(obj, f"finalize-{number}"))) is not None:
            first, last = first or run, run
            number += 1
        return max(0, number - 1), last, first

    def _give_up(self, obj: Object, why: str) -> None:
        message = f"clean-up did not succeed within {self._plan.finalize_seconds:g} s and was given up: {why}"
        self._host.recorder.event(obj, "Warning", "FinalizerTimeout", message)
        self._started.pop(obj.uid, None)

    def _what_happened(self, run: Object | None) -> str:
        if run is None:
            return "it never began"
        if not run.is_condition_true("Complete"):
            return f"Run {run.name} was still in progress"
        return f"Run {run.name} failed: {(run.status.get('error') or {}).get('title') or run.status.get('phase')}"


def _created(run: Object | None) -> datetime | None:
    text = run.metadata.get("creationTimestamp") if run is not None else None
    return parse_rfc3339(text) if text else None
