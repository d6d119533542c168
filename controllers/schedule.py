"""Schedule: Runs at given times.

How a Schedule is read, and the controller that creates a Run for every moment that is due. The schema is
`crds/schedules.yaml`. A moment is acted on once: the name of its Run follows from it, so a crash between the creation of the
Run and the note of it in the status leads to the same Run again. The status says up to which moment all are settled; what lies
between that and now is due. Nothing is executed here.

Source: CronJob of Kubernetes' batch/v1. Read next: `kastra.runtime.schedules.catching_up`, then `kastra.runtime.schedules.spec`.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, StrictInt, StrictStr

from kastra.api.durations import parse_duration
from kastra.api.errors import AlreadyExists, Cause, Invalid, NotFound
from kastra.api.meta import GROUP, ObjectRef
from kastra.api.object import Object
from kastra.api.types import Reference
from kastra.cel import CelError
from kastra.client.interface import PatchType, WriteOptions
from kastra.clock import parse_rfc3339, rfc3339
from kastra.failpoint import failpoint
from kastra.runtime.declarative import Context, controller
from kastra.runtime.manager import Manager
from kastra.runtime.predicates import came_went_or_ended
from kastra.runtime.readiness import EARLY, Dependencies, examine, suspended
from kastra.runtime.reconcile import Request, Result
from kastra.runtime.schedules import spec as schedules
from kastra.runtime.schedules.catching_up import due
from kastra.runtime.schedules.timing import Timing
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import invalid
from kastra.runtime.view_types import Duration

KIND = f"Schedule.{GROUP}"
RUN = f"Run.{GROUP}"
INDEX = "schedule"
"""Index of the Runs by `namespace/schedule`."""

TICK = 60.0
"""Seconds after which a Schedule is looked at again at the latest, because the clock may have been set."""
LONGEST_SETBACK = timedelta(days=1)
"""How far the clock may be behind what is settled before that is not believed any more."""
MOST_ACTIVE = 100
"""Runs that the status names."""

_SUCCESSFUL, _FAILED = 3, 1
_OPTIONS = WriteOptions(field_manager="kastra-schedule")


class Target(Fields):
    """What is run."""

    kind: Literal["Workflow", "Network", "Agent", "Tool"]
    name: str


class ScheduleSpec(Fields):
    """The normal form of a Schedule's spec."""

    target: Target
    cron: StrictStr | None = None
    every: Duration | None = None
    time_zone: StrictStr | None = None
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = "Allow"
    catch_up: Literal["None", "Latest", "All"] = "Latest"
    starting_deadline: Duration | None = None
    input: Any = None
    timeout: Duration | None = None
    ttl_after_finished: Duration | None = None
    durability: Literal["power", "process", "none"] | None = None
    successful_runs_limit: StrictInt = Field(default=_SUCCESSFUL, ge=0)
    failed_runs_limit: StrictInt = Field(default=_FAILED, ge=0)
    suspend: bool = False


class ScheduleView(View, kind="Schedule"):
    """A Schedule, read."""

    spec: ScheduleSpec

    def references(self) -> list[Reference]:
        """The target."""
        return [Reference("spec.target", self.spec.target.kind, self.spec.target.name)]

    def unsupported(self) -> list[str]:
        """Every field has an effect."""
        return []


def validate(view: ScheduleView) -> list[Cause]:
    """What is wrong with a Schedule beyond what its schema says."""
    found = list(schedules.schedule_findings(view.spec.plain(), "spec"))
    name = view.metadata.name
    if len(name) > schedules.LONGEST_NAME or "." in name:
        why = (
            f"must have at most {schedules.LONGEST_NAME} characters and no dots, since it stands in labels of its Runs"
        )
        found.append(invalid(name, why, "metadata.name"))
    return found


@dataclass(slots=True)
class _Memory:
    """What is so of a Schedule, for as long as its status or the caches may not show it.

    Args:
        timing: by which moments were counted last.
        settled: up to which moment all are.
        last: the newest moment for which a Run was started.
        missed: moments that were given up, and the newest of them.
        started: names of Runs that were created and may not be in the cache yet.
        waiting: the moment of which it was said that it waits.
    """

    timing: str | None
    settled: datetime
    last: str | None = None
    missed: int | None = None
    last_missed: str | None = None
    started: tuple[str, ...] = ()
    waiting: datetime | None = None


class Scheduler:
    """Creates the Runs of Schedules."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    async def reconcile(self, schedule: ScheduleView, ctx: Context) -> Result:
        """Start what is due, clean up what has finished, and come back for the next moment."""
        found = await examine(schedule, ctx)
        if found.early:
            return ctx.look_later(EARLY)
        try:
            timing = schedules.timing(schedule.spec.plain())
        except ValueError as error:
            return ctx.not_ready("InvalidSchedule", f"spec: {error}", requeue_after=TICK)
        runs, now = _runs_of(schedule, ctx), ctx.clock.now()
        memory = self._remember(ctx, timing, now)
        active = await _active(memory, runs, ctx)
        await _trim(schedule, ctx, runs)
        paused = _paused(schedule, ctx, found)
        if paused is not None:
            del self._memories[ctx.object.uid]
            _report(ctx, memory, timing, active, runs)
            ctx.status.next_schedule_time = None
            return paused
        try:
            await _start(schedule, ctx, timing, memory, active, found, now)
        finally:
            # Also when it failed half-way: what was started is not started again.
            _report(ctx, memory, timing, active, runs)
        following = timing.next(max(now, memory.settled))
        ctx.status.next_schedule_time = rfc3339(following) if following is not None else None
        wait = TICK if following is None else min(TICK, max(0.0, (following - now).total_seconds()))
        if found.reason:
            ctx.not_ready(found.reason, found.message)
        else:
            ctx.ready(timing.text, "Scheduled")
        return Result(requeue_after=wait)

    def _remember(self, ctx: Context, timing: Timing, now: datetime) -> _Memory:
        """Up to where moments are settled: as noted, unless the time before now is none of this schedule's."""
        memory = self._memories.get(ctx.object.uid)
        if memory is None:
            memory = self._memories[ctx.object.uid] = _noted(ctx.object, now)
            self._forget(ctx)
            # Only in the first pass since: later ones may still be shown the old condition.
            resumed = (ctx.object.condition("Ready") or {}).get("reason") in ("Suspended", "TargetSuspended")
        else:
            resumed = False
        if memory.settled - now > LONGEST_SETBACK:
            settled, here = rfc3339(memory.settled), rfc3339(now)
            message = f"moments up to {settled} were settled, but it is {here}; beginning from now"
            ctx.event("ClockSetBack", message, "Warning")
            memory.settled = _whole(now)
        elif resumed or memory.timing not in (None, timing.text):
            memory.settled = max(memory.settled, _whole(now))
        memory.timing = timing.text
        return memory

    def _forget(self, ctx: Context) -> None:
        present = ctx.lister(KIND).list()
        if len(self._memories) > 2 * len(present) + 64:
            uids = {schedule.uid for schedule in present}
            self._memories = {uid: memory for uid, memory in self._memories.items() if uid in uids}


def _noted(schedule: Object, now: datetime) -> _Memory:
    """What the status says; for a new Schedule, that everything before its creation is settled."""
    status = schedule.status
    settled = status.get("handledUntil") or schedule.metadata.get("creationTimestamp")
    return _Memory(
        timing=status.get("timing"),
        settled=parse_rfc3339(settled) if settled else _whole(now),
        last=status.get("lastScheduleTime"),
        missed=status.get("missed"),
        last_missed=status.get("lastMissedTime"),
    )


async def _start(
    schedule: ScheduleView,
    ctx: Context,
    timing: Timing,
    memory: _Memory,
    active: list[Object],
    found: Dependencies,
    now: datetime,
) -> None:
    """Act on the moments that are due, as far as that is possible now; adds to `active`."""
    spec = schedule.spec
    deadline = parse_duration(spec.starting_deadline) if spec.starting_deadline is not None else None
    what = due(timing, memory.settled, now, spec.catch_up, deadline)
    if what.until is not None:
        memory.settled, memory.last_missed = what.until, rfc3339(what.until)
        memory.missed = (memory.missed or 0) + what.missed
        _tell_missed(ctx, what.missed, memory.last_missed, more=what.more)
    still = {run.name for run in active}
    memory.started = tuple(name for name in memory.started if name in still)
    for moment in what.startable:
        if found.reason or not await _may_start(schedule, ctx, active, memory, what.startable[-1]):
            return
        failpoint("schedule.before_create")
        run = await _create(schedule, ctx, moment)
        failpoint("schedule.after_create")
        memory.settled = moment
        if run is None:
            continue
        memory.last = rfc3339(moment)
        if not run.is_condition_true("Complete"):
            memory.started = (*memory.started, run.name)
            active.append(run)


async def _may_start(
    schedule: ScheduleView, ctx: Context, active: Sequence[Object], memory: _Memory, newest: datetime
) -> bool:
    """Whether one more Run may begin beside those that are active; if not, why is said once per moment."""
    policy = schedule.spec.concurrency_policy
    if policy == "Allow" or not active:
        return True
    if policy == "Forbid":
        if memory.waiting != newest:
            ctx.event("StillActive", f"Run {active[0].name} has not ended; the next one waits for that")
            memory.waiting = newest
        return False
    for run in active:
        if run.spec.get("desiredState") != "Cancelled":
            ctx.event("Replaced", f"cancelled Run {run.name} for a newer one, which follows when it has ended")
            with suppress(NotFound):
                await ctx.client.patch(run.ref, {"spec": {"desiredState": "Cancelled"}}, PatchType.MERGE, _OPTIONS)
    return False


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _paused(schedule: ScheduleView, ctx: Context, found: Dependencies) -> Result | None:
    """The end of the pass if nothing is to be started until somebody wishes so."""
    if schedule.spec.suspend:
        return suspended(ctx)
    target = found.resolution.resolved.get("spec.target")
    if target is not None and target.spec.get("suspend") is True:
        return ctx.not_ready("TargetSuspended", f"{target.kind} {target.name} is suspended, so nothing is started")
    return None


def _runs_of(schedule: ScheduleView, ctx: Context) -> list[Object]:
    """The Runs of a Schedule, oldest moment first."""
    found = ctx.lister(RUN).by_index(INDEX, f"{schedule.metadata.namespace}/{schedule.metadata.name}")
    return sorted(found, key=lambda run: (run.annotations.get(schedules.MOMENT, ""), run.name))


async def _active(memory: _Memory, runs: Iterable[Object], ctx: Context) -> list[Object]:
    """The Runs that have not ended, those included that were created a moment ago and are in no cache yet."""
    shown = {run.name: run for run in runs}
    active = [run for run in shown.values() if not run.is_condition_true("Complete")]
    for name in memory.started:
        if name not in shown:
            with suppress(NotFound):
                run = await ctx.client.get(ObjectRef(RUN, name, ctx.object.namespace))
                if not run.is_condition_true("Complete"):
                    active.append(run)
    return active


async def _create(schedule: ScheduleView, ctx: Context, moment: datetime) -> Object | None:
    """The Run for a moment, which may be there already; None if there can be none, for which an Event says why."""
    metadata = schedule.metadata
    try:
        manifest = schedules.run_manifest(metadata.namespace, metadata.name, schedule.spec.plain(), moment)
        return await ctx.client.create(manifest, _OPTIONS)
    except AlreadyExists:
        run = await ctx.client.get(ObjectRef(RUN, schedules.run_name(metadata.name, moment), metadata.namespace))
        if run.labels.get(schedules.LABEL) == metadata.name:
            return run
        ctx.event("NameTaken", f"Run {run.name} is somebody else's, so none is started for that moment", "Warning")
    except (CelError, Invalid) as error:
        ctx.event("RunRefused", f"no Run for {rfc3339(moment)}: {error}", "Warning")
    return None


def _tell_missed(ctx: Context, count: int, newest: str, *, more: bool) -> None:
    number = f"more than {count}" if more else str(count)
    times = "moments" if count > 1 or more else "moment"
    ctx.event("Missed", f"{number} {times} up to {newest} passed without a Run; spec.catchUp says which do", "Warning")


def _report(ctx: Context, memory: _Memory, timing: Timing, active: Sequence[Object], runs: Sequence[Object]) -> None:
    ctx.status.timing = timing.text
    ctx.status.handled_until = rfc3339(memory.settled)
    ctx.status.last_schedule_time = memory.last
    ctx.status.missed, ctx.status.last_missed_time = memory.missed, memory.last_missed
    ctx.status.active_runs = len(active)
    ctx.status.active = [
        {"name": run.name, "scheduledTime": run.annotations.get(schedules.MOMENT, "")} for run in active[-MOST_ACTIVE:]
    ]
    succeeded = [str(run.status.get("completionTime", "")) for run in runs if run.is_condition_true("Succeeded")]
    if succeeded:
        ctx.status.last_successful_time = max([ctx.status.last_successful_time or "", *succeeded])


async def _trim(schedule: ScheduleView, ctx: Context, runs: Iterable[Object]) -> None:
    """Delete finished Runs beyond the limits; never one whose moment isn't noted as settled, since it would be made again."""
    noted = str(ctx.object.status.get("handledUntil") or "")
    finished = [run for run in runs if run.is_condition_true("Complete")]
    settled = [run for run in finished if run.annotations.get(schedules.MOMENT, "") <= noted]
    for good, limit in ((True, schedule.spec.successful_runs_limit), (False, schedule.spec.failed_runs_limit)):
        of_kind = [run for run in settled if run.is_condition_true("Succeeded") is good]
        for run in of_kind[: max(0, len(of_kind) - limit)]:
            with suppress(NotFound):
                await ctx.client.delete(run.ref, uid=run.uid)


def _labelled(run: Object) -> list[str]:
    name = run.labels.get(schedules.LABEL)
    return [f"{run.namespace}/{name}"] if name else []


def _schedule_of(run: Object) -> list[Request]:
    name = run.labels.get(schedules.LABEL)
    return [Request(run.namespace, name)] if name else []


def setup(manager: Manager) -> None:
    """The controller, which looks at a Schedule when its target, or a Run of it, changes."""
    manager.cache.informer(RUN).indexer.add_index(INDEX, _labelled)
    kinds = ("Workflow", "Network", "Agent", "Tool")
    made = manager.add(controller(ScheduleView, watches=kinds, concurrency=8)(Scheduler))
    made.watches(RUN, _schedule_of, came_went_or_ended)
