"""A Run for each spec of an object: is one needed now, and what became of the last one?

    no record, or one for another spec or body   a Run is made
    the Run is under way                         nothing; for an older spec it is waited for, or cancelled first
    it failed                                    again after 5 s, 10 s, ... 5 min, `retries` times
    it succeeded                                 again after `resync`, if that is given

There is never more than one at a time per object. Its name follows from the object and a number that the object's record
holds, so creating it twice gives one Run. It belongs to the object and goes with it. Nothing is executed here, and nothing
is written to the object but its record.

Read next: `kastra.runtime.declared.record`, `controllers/run.py`.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from hashlib import blake2b
from typing import Any

from kastra.api.errors import AlreadyExists, NotFound
from kastra.api.meta import API_VERSION, GROUP, ObjectRef, owner_reference
from kastra.api.names import SUFFIX_ALPHABET
from kastra.api.object import Object
from kastra.cel import CelError
from kastra.client.interface import PatchType, WriteOptions
from kastra.clock import parse_rfc3339, rfc3339
from kastra.runtime.context import Host

from .plan import Plan, RunPlan
from .record import GONE, Record

RUN = f"Run.{GROUP}"
LABEL = f"{GROUP}/reconciler"
"""On a Run: the Reconciler that it was made for."""

NUMBER = f"{GROUP}/reconciliation-number"
FIELD_MANAGER = "kastra-reconciler"
OPTIONS = WriteOptions(field_manager=FIELD_MANAGER)
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
_LONGEST_NAME = 40


class State(Enum):
    """How it stands with the Run of an object."""

    WAITING = "Waiting"
    """None can be made: what it would run isn't there or isn't Ready."""
    UNFIT = "Unfit"
    """None can be made: the input can't be evaluated."""
    RUNNING = "Running"
    """One is under way."""
    FAILED = "Failed"
    """The last one did not succeed."""
    SUCCEEDED = "Succeeded"
    """The last one did."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How it stands with the Run of an object.

    Args:
        obj: the object, with its record as written.
        state: of the last Run, or why there is none.
        record: None before the first Run.
        run: the Run; None if there is none, or none any more.
        reason: why not, PascalCase; empty if nothing is wrong.
        message: likewise, for people.
        look_again: seconds until something is due; None if only changes matter.
    """

    obj: Object
    state: State
    record: Record | None = None
    run: Object | None = None
    reason: str = ""
    message: str = ""
    look_again: float | None = None

    @property
    def current(self) -> bool:
        """Whether an earlier Run has succeeded for the same spec, so that the object is as it should be meanwhile."""
        return self.record is not None and self.record.succeeded and self.record.generation == self.obj.generation


class Runs:
    """The Runs of a Reconciler's objects.

    Args:
        host: the manager.
        name: of the Reconciler.
        plan: with a `run`.
        body: what is run.
    """

    def __init__(self, host: Host, name: str, plan: Plan, body: RunPlan) -> None:
        self._host = host
        self._name = name
        self._plan = plan
        self._body = body
        self._runs = host.cache.lister(RUN)
        self._targets = host.cache.lister(f"{body.kind}.{GROUP}")

    async def advance(self, obj: Object) -> Progress:
        """Make a Run if one is due, and say how it stands. Raises StatusError."""
        record = Record.of(obj)
        run = None
        if record is not None:
            run = await find_run(self._host, place_of(obj, self._body), run_name(obj, str(record.number)))
            if not record.ended:
                if run is not None and not run.is_condition_true("Complete"):
                    return await self._under_way(obj, record, run)
                phase, ended = (GONE, self._now()) if run is None else _end_of(run, self._now())
                record = record.after(phase, ended)
                obj = await self._write(obj, record)
                await self._trim(obj, record.number)
        wanted = record is not None and (record.generation, record.body) == (obj.generation, self._body.digest)
        if record is None or not wanted:
            return await self._start(obj, record, fresh=True)
        due = self._due(record)
        if due is not None and due <= 0:
            return await self._start(obj, record, fresh=False)
        state = State.SUCCEEDED if record.phase == "Succeeded" else State.FAILED
        reason, message = ("", "") if state is State.SUCCEEDED else self._failure(obj, record, run, due)
        return Progress(obj, state, record, run, reason, message, due)

    async def cancel(self, obj: Object) -> bool:
        """Ask the Run that is under way to stop. Whether there is none any more."""
        record = Record.of(obj)
        if record is None or record.ended:
            return True
        run = await find_run(self._host, place_of(obj, self._body), run_name(obj, str(record.number)))
        if run is None or run.is_condition_true("Complete"):
            return True
        await cancel_run(self._host, run)
        return False

    async def _under_way(self, obj: Object, record: Record, run: Object) -> Progress:
        outdated = (record.generation, record.body) != (obj.generation, self._body.digest)
        if outdated and self._plan.cancel_on_change:
            await cancel_run(self._host, run)
        what = "for an older spec is in progress; the next follows" if outdated else "is in progress"
        return Progress(obj, State.RUNNING, record, run, "Reconciling", f"Run {run.name} {what}")

    async def _start(self, obj: Object, record: Record | None, *, fresh: bool) -> Progress:
        obstacle = self._obstacle(obj)
        if obstacle is not None:
            return Progress(obj, State.WAITING, record, None, *obstacle)
        try:
            given = input_of(self._body, obj)
        except CelError as error:
            return Progress(obj, State.UNFIT, record, None, "EvaluationFailed", str(error))
        retried = not fresh and record is not None and record.phase != "Succeeded" and self._has_retries_left(record)
        following = Record(
            uid=obj.uid,
            generation=obj.generation,
            body=self._body.digest,
            number=1 if record is None else record.number + 1,
            started=self._now(),
            failures=record.failures if retried and record is not None else 0,
            succeeded=not fresh and record is not None and record.succeeded,
        )
        obj = await self._write(obj, following)
        number = str(following.number)
        manifest = run_manifest(self._name, self._body, obj, run_name(obj, number), given)
        manifest["metadata"]["labels"][NUMBER] = number
        manifest["metadata"]["ownerReferences"] = [owner_reference(obj.data)]
        run = await create_run(self._host, manifest)
        return Progress(obj, State.RUNNING, following, run, "Reconciling", f"Run {run.name} is in progress")

    def _obstacle(self, obj: Object) -> tuple[str, str] | None:
        """Why the target can't be run now: a reason and a message."""
        namespace = self._body.namespace or obj.namespace
        target = self._targets.get(namespace, self._body.name)
        where = f"{self._body.kind} {namespace}/{self._body.name}"
        if target is None:
            return "NotFound", f"{where} does not exist (yet)"
        ready = target.condition("Ready") or {}
        if ready.get("status") != "True":
            why = f"{ready.get('reason')}: {ready.get('message')}" if ready else "it has not been looked at yet"
            return "DependencyNotReady", f"{where} is not Ready: {why}"
        return None

    def _due(self, record: Record) -> float | None:
        """Seconds until the next Run for the same spec, negative if it is overdue; None for never."""
        if record.phase not in ("Succeeded", "Cancelled") and self._has_retries_left(record):
            pause: float | None = min(_FIRST_PAUSE * 2.0 ** min(record.failures - 1, 16), _LONGEST_PAUSE)
        else:
            pause = self._plan.resync
        if pause is None:
            return None
        return _time(record.ended).timestamp() + pause - self._host.clock.now().timestamp()

    def _has_retries_left(self, record: Record) -> bool:
        return record.failures <= self._plan.retries

    def _failure(self, obj: Object, record: Record, run: Object | None, due: float | None) -> tuple[str, str]:
        name = run_name(obj, str(record.number))
        if record.phase == GONE:
            reason, what = "RunGone", f"Run {name} was deleted before it ended"
        elif record.phase == "Cancelled":
            reason, what = "RunCancelled", f"Run {name} was cancelled"
        else:
            error = (run.status.get("error") or {}) if run is not None else {}
            reason, what = "RunFailed", f"Run {name} failed: {error.get('title') or 'its error is not known any more'}"
        if due is not None:
            return reason, f"{what}; the next is due in {max(1, round(due))} s"
        return reason, f"{what}; nothing is tried again before the object changes"

    async def _trim(self, obj: Object, last: int) -> None:
        """Delete the oldest finished Runs of an object beyond the limit; never the last one."""
        mine = [run for run in self._runs.owned_by(obj.uid) if run.labels.get(LABEL) == self._name]
        finished = [run for run in mine if run.is_condition_true("Complete") and _number(run) != last]
        for run in sorted(finished, key=_number)[: max(0, len(finished) + 1 - self._plan.history)]:
            with suppress(NotFound):
                await self._host.client.delete(run.ref, uid=run.uid)

    async def _write(self, obj: Object, record: Record) -> Object:
        body = {"metadata": {"resourceVersion": obj.resource_version, "annotations": record.annotation()}}
        return await self._host.client.patch(obj.ref, body, PatchType.MERGE, OPTIONS)

    def _now(self) -> str:
        return rfc3339(self._host.clock.now())


def bare(obj: Object) -> dict[str, Any]:
    """An object as expressions see it."""
    metadata = {key: value for key, value in obj.metadata.items() if key != "managedFields"}
    return {"spec": {}, "status": {}, **obj.data, "metadata": metadata}


def input_of(body: RunPlan, obj: Object) -> Any:
    """The input of an object's Run. Raises CelError."""
    if body.input is not None:
        return body.input.evaluate({"object": bare(obj)})
    seen = ("name", "namespace", "uid", "generation", "labels")
    metadata = {key: obj.metadata[key] for key in seen if key in obj.metadata}
    return {"object": {"apiVersion": obj.api_version, "kind": obj.kind, "metadata": metadata, "spec": obj.spec}}


def place_of(obj: Object, body: RunPlan) -> str:
    """The namespace of an object's Runs: its own, since what is owned must be there; for a cluster-wide one the target's."""
    return obj.namespace or body.namespace


def run_name(obj: Object, part: str) -> str:
    """The name of an object's Run: the same for the same object and part, and different for others of its name."""
    digest = int.from_bytes(blake2b(f"{obj.uid}/{part}".encode(), digest_size=8).digest())
    suffix = "".join(
        SUFFIX_ALPHABET[digest // len(SUFFIX_ALPHABET) ** place % len(SUFFIX_ALPHABET)] for place in range(5)
    )
    return f"{obj.name[:_LONGEST_NAME].rstrip('.-')}-{part}-{suffix}"


def run_manifest(reconciler: str, body: RunPlan, obj: Object, name: str, given: Any) -> dict[str, Any]:
    """A Run of `body` for `obj`, without an owner."""
    target = {"kind": body.kind, "name": body.name, "namespace": body.namespace or obj.namespace}
    spec: dict[str, Any] = {"target": target, "input": given}
    if body.timeout:
        spec["timeout"] = body.timeout
    metadata = {"name": name, "namespace": place_of(obj, body), "labels": {LABEL: reconciler}}
    return {"apiVersion": API_VERSION, "kind": "Run", "metadata": metadata, "spec": spec}


async def create_run(host: Host, manifest: Mapping[str, Any]) -> Object:
    """The Run, or the one of that name if it is there already. Raises StatusError."""
    try:
        return await host.client.create(manifest, OPTIONS)
    except AlreadyExists:
        metadata = manifest["metadata"]
        return await host.client.get(ObjectRef(RUN, metadata["name"], metadata["namespace"]))


async def find_run(host: Host, namespace: str, name: str) -> Object | None:
    """A Run from the cache, or else from the server, since the cache may be behind; None if there is none."""
    found = host.cache.lister(RUN).get(namespace, name)
    if found is not None:
        return found
    try:
        return await host.client.get(ObjectRef(RUN, name, namespace))
    except NotFound:
        return None


async def cancel_run(host: Host, run: Object) -> None:
    """Ask a Run to stop; nothing happens if it has gone, or was asked already."""
    if run.spec.get("desiredState") != "Cancelled":
        with suppress(NotFound):
            await host.client.patch(run.ref, {"spec": {"desiredState": "Cancelled"}}, PatchType.MERGE, OPTIONS)


def _end_of(run: Object, now: str) -> tuple[str, str]:
    return str(run.status.get("phase") or "Failed"), str(run.status.get("completionTime") or now)


def _number(run: Object) -> int:
    number = run.labels.get(NUMBER, "")
    return int(number) if number.isdecimal() else 0


def _time(text: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError:
        # Whoever wrote the annotation by hand gets a Run now.
        return datetime.fromtimestamp(0).astimezone()
