"""What runs of an Agent, Workflow or Network right now, and what became of it: the columns RUNS, ACTIVE and LAST RUN.

A controller of its own per kind, beside the one that makes the object Ready: it looks at Runs only, and writes at most once
a second per object however many Runs begin and end. When the Runs of thousands of objects begin at once, it takes its time, and begins
ten seconds later, so that the Runs get theirs. For Workflows it also deletes finished Runs beyond `spec.history`.

Source: status.active and the history limits of Kubernetes' CronJob. Read next: `controllers/run.py`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kastra.api.errors import NotFound
from kastra.api.meta import GROUP
from kastra.api.object import Object
from kastra.client.interface import PatchType, WriteOptions
from kastra.runtime.manager import Manager
from kastra.runtime.predicates import any_of, came_went_or_ended, deleted
from kastra.runtime.reconcile import Request, Result
from kastra.runtime.run_owners import is_needed
from kastra.runtime.token_bucket import TokenBucket

KINDS = ("Agent", "Workflow", "Network")
RUN = f"Run.{GROUP}"
EVERY = 1.0
"""Seconds between two writes to one object."""

RATE, BURST = 100.0, 300
"""How many objects of a kind are looked at per second because of Runs, and how many at once after a pause."""

LATE = 10.0
"""Seconds by which objects are looked at later while very many Runs wait to be looked at."""

MOST_NAMED = 100
"""Unfinished Runs that a Workflow's status names."""

_INDEX = "target"
"""Index of Runs by what they execute and whether they have ended."""
_UNFINISHED, _FINISHED = "unfinished", "finished"
_OPTIONS = WriteOptions(field_manager="kastra-activity")
_LIMITS = (("Succeeded", "successfulRunsLimit"), ("Failed", "failedRunsLimit"))


class Activity:
    """Copies what Runs do into the status of their targets of one kind."""

    def __init__(self, manager: Manager, kind: str) -> None:
        self._manager = manager
        self._client = manager.client
        self._clock = manager.clock
        self._kind = kind
        self._targets = manager.cache.lister(f"{kind}.{GROUP}")
        self._runs = manager.cache.lister(RUN)
        self._latest: dict[Request, tuple[str, str, str]] = {}
        self._written: dict[Request, float] = {}
        self._due: dict[Request, float] = {}
        self.missing: set[Request] = set()
        """Targets of unfinished Runs that aren't there, or weren't when they were looked for last."""
        self._looks = TokenBucket(RATE, BURST, manager.clock)
        self._controller = manager.controller(
            f"{kind}.{GROUP}", self, name=f"activity/{kind.lower()}", predicate=deleted
        )

    def heard(self, run: Object, request: Request) -> None:
        """A Run of the object that `request` names began or ended: it is looked at, in a while if it has to be."""
        this = (run.metadata.get("creationTimestamp") or "", run.namespace, run.name)
        if this > self._latest.get(request, ("", "", "")):
            self._latest[request] = this
        # One that is looked at in a moment anyway needn't be now.
        if request in self._due:
            return
        now = self._clock.monotonic()
        late = LATE if self._manager.crowded("run") else 0.0
        wait = max(self._looks.reserve() + late, self._written.get(request, now - EVERY) + EVERY - now)
        self._due[request] = now + max(0.0, wait)
        if wait <= 0:
            self._controller.enqueue(request, f"Run/{run.name}")
        else:
            self._controller.queue.add_after(request, wait)

    async def reconcile(self, request: Request) -> Result:
        """One pass over one object."""
        target = self._targets.get(request.namespace, request.name)
        if target is None:
            for known in (self._latest, self._written, self._due):
                known.pop(request, None)
            if self._runs.by_index(_INDEX, _key(_UNFINISHED, self._kind, request)):
                self.missing.add(request)
            else:
                self.missing.discard(request)
            return Result()
        now = self._clock.monotonic()
        due = self._due.get(request, now)
        if due > now:
            return Result(requeue_after=due - now)
        self._due.pop(request, None)
        self.missing.discard(request)
        patch = self._status(target, request, self._runs.by_index(_INDEX, _key(_UNFINISHED, self._kind, request)))
        if patch:
            self._written[request] = now
            with suppress(NotFound):
                await self._client.patch(target.ref, {"status": patch}, PatchType.MERGE, _OPTIONS, subresource="status")
        if self._kind == "Workflow":
            await self._trim(target, request)
        return Result()

    def _status(self, target: Object, request: Request, unfinished: Sequence[Object]) -> dict[str, Any]:
        """What differs from the status that is there; nothing for an object that never ran."""
        status = target.status
        wanted: dict[str, Any] = {}
        if unfinished or status.get("activeRuns") is not None or request in self._latest:
            wanted["activeRuns"] = len(unfinished)
        if self._kind == "Workflow" and "activeRuns" in wanted:
            oldest = sorted(unfinished, key=lambda run: str(run.metadata.get("creationTimestamp", "")))[:MOST_NAMED]
            active = [{"name": run.name, "phase": run.status.get("phase", "Pending")} for run in oldest]
            wanted["active"] = active or None
            latest = self._last_run(request)
            if latest is not None:
                wanted["lastRun"] = latest
        return {name: value for name, value in wanted.items() if status.get(name) != value}

    def _last_run(self, request: Request) -> Mapping[str, Any] | None:
        created, namespace, name = self._latest.get(request, ("", "", ""))
        run = self._runs.get(namespace, name) if name else None
        # One that was deleted stays as it was seen last.
        if run is None:
            return None
        return {"name": name, "phase": run.status.get("phase", "Pending"), "time": created}

    async def _trim(self, workflow: Object, request: Request) -> None:
        """Delete the oldest finished Runs beyond the limits that the Workflow names; without one all are kept."""
        history = workflow.spec.get("history") or {}
        if not any(name in history for _, name in _LIMITS):
            return
        ended = self._runs.by_index(_INDEX, _key(_FINISHED, self._kind, request))
        finished = sorted(ended, key=lambda run: str(run.status.get("completionTime")))
        for phase, name in _LIMITS:
            limit = history.get(name)
            of_phase = [run for run in finished if run.status.get("phase") == phase]
            for run in of_phase[: max(0, len(of_phase) - limit)] if limit is not None else ():
                if is_needed(run, self._runs.get):
                    continue
                with suppress(NotFound):
                    await self._client.delete(run.ref, uid=run.uid)


def _target(run: Object) -> tuple[str, Request] | None:
    """Kind and address of what a Run executes, if it is of one of `KINDS`. It never changes."""
    target = run.spec.get("target") or {}
    kind = target.get("kind")
    if kind not in KINDS:
        return None
    return kind, Request(target.get("namespace") or run.namespace, target.get("name", ""))


def _key(state: str, kind: str, request: Request) -> str:
    return f"{state}/{kind}/{request.namespace}/{request.name}"


def _of(run: Object) -> list[str]:
    target = _target(run)
    return [] if target is None else [_key(_FINISHED if run.is_condition_true("Complete") else _UNFINISHED, *target)]


def _phase_changed(old: Object | None, new: Object | None) -> bool:
    return old is None or new is None or old.status.get("phase") != new.status.get("phase")


def setup(manager: Manager) -> None:
    """One controller per kind that can be run and has a status for it."""
    runs = manager.cache.informer(RUN)
    runs.indexer.add_index(_INDEX, _of)
    activities = {kind: Activity(manager, kind) for kind in KINDS}

    def changed(old: Object | None, new: Object | None) -> None:
        run = new or old
        target = _target(run) if run is not None else None
        if run is None or target is None:
            return
        kind, request = target
        # Of its Runs, a Workflow shows phases too. And one that has waited for its target begins when that is there.
        if kind == "Workflow" or request in activities[kind].missing or came_went_or_ended(old, new):
            activities[kind].heard(run, request)

    # One for all kinds, since a Run concerns the objects of one kind only.
    runs.add_handler(changed, any_of(_phase_changed, came_went_or_ended))
