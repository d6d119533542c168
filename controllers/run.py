"""Run: one execution of a Workflow, Network, Agent or Tool.

How a Run is read, and the controller that hands it to the executor pool and copies its progress into status. The schema is
`crds/runs.yaml`. A Run's spec never changes except `desiredState`, by which it is suspended, resumed and cancelled; the
schema holds most of that, `validate_update` the fields of any shape. Nothing executes here.

Read next: `kastra.engine.pool`, which executes Runs.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field

from kastra.api.durations import parse_duration
from kastra.api.errors import Cause, NotFound
from kastra.api.meta import GROUP, ObjectRef
from kastra.api.object import Object
from kastra.api.types import Closure, Reference
from kastra.client.interface import PatchType, WriteOptions
from kastra.clock import parse_rfc3339, rfc3339
from kastra.config import Settings
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.progress import Phase, Progress
from kastra.engine.rerun import Rerun
from kastra.engine.retention import Retention
from kastra.engine.run_status import RunStatus
from kastra.memory.interface import ThreadDirectory, ThreadKey, ThreadRefused
from kastra.runtime.closure import UnresolvedReferences
from kastra.runtime.manager import Manager
from kastra.runtime.model_default import namespaces_asked, with_default_models
from kastra.runtime.predicates import came_went_or_ended, referred_changed
from kastra.runtime.reconcile import Request, Result
from kastra.runtime.references import Target as Place
from kastra.runtime.run_owners import AGAIN, is_needed
from kastra.runtime.status import StatusWriter
from kastra.runtime.view import Fields, View
from kastra.runtime.view_choice import ToolChoice
from kastra.runtime.view_errors import forbidden
from kastra.runtime.view_types import Budget, Duration, Ref

KIND = f"Run.{GROUP}"
TARGETS = ("Workflow", "Network", "Agent", "Tool")
CONVERSING = ("Agent", "Network")
"""Targets that go on with a thread."""
WAITING = "waiting"
"""Index of the Runs that can't begin yet."""

NAME = "run"
LATER = 2.0
"""Seconds until what Runs do in passing is shown, while very many wait to be looked at."""

_OPTIONS = WriteOptions(field_manager="kastra-run")


class Target(Fields):
    """What is run."""

    kind: Literal["Workflow", "Network", "Agent", "Tool"]
    name: str
    namespace: str | None = None


class RerunOf(Fields):
    """The finished Run that this one repeats."""

    name: str
    from_step: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    keep_keys: bool = False


class RunSpec(Fields):
    """The normal form of a Run's spec."""

    target: Target
    input: Any = None
    messages: Any = None
    thread_ref: Ref | None = None
    tool_choice: ToolChoice | None = None
    max_steps: int | None = Field(default=None, ge=1, le=1000)
    revision: str | None = None
    durability: Literal["power", "process", "none"] | None = None
    timeout: Duration | None = None
    ttl_after_finished: Duration | None = None
    idempotency_key: str | None = None
    priority: int = 0
    budget: Budget | None = None
    budget_ref: Ref | None = None
    desired_state: Literal["Running", "Suspended", "Cancelled"] = "Running"
    rerun_of: RerunOf | None = None


class RunView(View, kind="Run"):
    """A Run, read."""

    spec: RunSpec

    def references(self) -> list[Reference]:
        """The target, and the Run that is repeated."""
        target = self.spec.target
        found = [Reference("spec.target", target.kind, target.name, target.namespace or "")]
        if self.spec.rerun_of is not None:
            found.append(Reference("spec.rerunOf", "Run", self.spec.rerun_of.name))
        return found

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        given = {
            "spec.budgetRef": self.spec.budget_ref is not None,
            "spec.threadRef": self.spec.thread_ref is not None and self.spec.target.kind not in CONVERSING,
        }
        return [path for path, is_given in given.items() if is_given]


def validate(view: RunView) -> list[Cause]:
    """What is wrong with a Run beyond what its schema says."""
    spec = view.spec
    found: list[Cause] = []
    if spec.input is not None and spec.messages is not None:
        found.append(forbidden("exactly one of input and messages", "spec.messages"))
    if spec.messages is not None:
        if spec.target.kind not in ("Agent", "Network"):
            found.append(forbidden(f"a {spec.target.kind} takes input, not messages", "spec.messages"))
        found += _messages_findings(spec.messages)
    if spec.target.kind != "Agent":
        given = {"toolChoice": spec.tool_choice, "maxSteps": spec.max_steps}
        found += [forbidden("goes with an Agent", f"spec.{name}") for name, value in given.items() if value is not None]
    if spec.thread_ref is not None and spec.thread_ref.namespace not in (None, view.metadata.namespace):
        found.append(forbidden("must be in the Run's own namespace", "spec.threadRef.namespace"))
    return found


def _messages_findings(messages: Any) -> list[Cause]:
    if isinstance(messages, str):
        return []
    if not isinstance(messages, list) or not messages:
        return [Cause("FieldValueTypeInvalid", "Invalid value: must be a text or a list of messages", "spec.messages")]
    return [
        Cause("FieldValueTypeInvalid", "Invalid value: must be a text or {role, content}", f"spec.messages[{index}]")
        for index, message in enumerate(messages)
        if not isinstance(message, str) and not (isinstance(message, dict) and isinstance(message.get("role"), str))
    ]


def validate_update(view: RunView, old: RunView) -> list[Cause]:
    """What is wrong with changing `old` into `view`: anything but `desiredState` changed."""
    new_spec, old_spec = view.spec.plain(), old.spec.plain()
    return [
        forbidden("is immutable; make a new Run", f"spec.{name}")
        for name in sorted(new_spec.keys() | old_spec.keys())
        if name != "desiredState" and new_spec.get(name) != old_spec.get(name)
    ]


class RunReconciler:
    """Submits a Run to the executor pool, hands it the wishes of `desiredState`, and copies its progress into status.

    Executes nothing and waits for nothing: `submit` returns at once, and the pool's events bring the Run back here.

    Args:
        manager: its client, caches and clock.
        pool: None in a process that executes nothing; Runs then stay Pending.
        retention: told of Runs that are gone; None likewise.
    """

    def __init__(self, manager: Manager, pool: Pool | None, retention: Retention | None = None) -> None:
        self._manager = manager
        self._pool = pool
        self._retention = retention
        self._runs = manager.cache.lister(KIND)
        self._uids: dict[Request, str] = {}
        self._resolved: dict[str, tuple[str, str, Sequence[str]]] = {}
        self._put_off: dict[str, float] = {}

    def submitted(self, event: Mapping[str, Any]) -> list[Request]:
        """The request that an event of the pool leads to."""
        request = Request(event["namespace"], event["name"])
        self._uids[request] = event["uid"]
        if event["phase"] == "Running" and event["uid"] in self._put_off and self._manager.crowded(NAME):
            # It is looked at when it has ended, or soon anyway.
            return []
        return [request]

    async def reconcile(self, request: Request) -> Result:
        """One pass over one Run."""
        run = self._runs.get(request.namespace, request.name)
        known = self._uids.get(request)
        if known is not None and (run is None or run.uid != known):
            # The object is gone, and what it asked for with it.
            del self._uids[request]
            self._resolved.pop(known, None)
            self._put_off.pop(known, None)
            if self._pool is not None:
                await self._pool.cancel(known, by="deletion")
        if run is None:
            if self._retention is not None:
                self._retention.look()
            return Result()
        if run.is_condition_true("Complete"):
            self._uids.pop(request, None)
            self._put_off.pop(run.uid, None)
            self._resolved.pop(run.uid, None)
            return await self._expire(run)
        if self._pool is None:
            return Result()
        status = RunStatus(run, lambda: StatusWriter(run, rfc3339(self._manager.clock.now())))
        is_new = known is None and self._pool.is_newer(_created(run))
        progress = None if is_new else await self._pool.progress(run.uid)
        if progress is None or (progress.phase is Phase.PENDING and not progress.last_seq):
            if await self._begin(run, status):
                return self._later(run)
        else:
            await self._steer(run, status, progress)
            if run.condition("Accepted") is None and (resolved := await self._target(run)) is not None:
                status.accepted(*resolved)
            status.show(progress)
        if self._can_wait(run, status):
            return self._later(run)
        written = await self._write(run, status)
        self._put_off.pop(run.uid, None)
        self._resolved.pop(run.uid, None)
        return await self._expire(written) if written.is_condition_true("Complete") else Result()

    async def _begin(self, run: Object, status: RunStatus) -> bool:
        """Hand a Run to the pool, or say why not; whether there is nothing to say that couldn't be said later."""
        assert self._pool is not None
        view = RunView.of(run)
        if view.spec.desired_state == "Cancelled":
            await self._pool.cancel(run.uid, by="desiredState", event_id=_event_id(run))
            status.never_begun()
            return False
        if view.spec.desired_state == "Suspended":
            # It may wait in the pool's queue already.
            await self._pool.suspend(run.uid, by="desiredState", event_id=_event_id(run))
            status.held()
            return False
        repeated = self._repeated(view, status)
        if view.spec.rerun_of is not None and repeated is None:
            return False
        closure = await self._closure(view, status)
        if closure is None:
            return False
        if view.spec.revision not in (None, closure.get("hash")):
            message = f"spec.revision is {view.spec.revision}, but {closure['root']} is now {closure.get('hash')}"
            status.refused("RevisionMismatch", message)
            return False
        try:
            thread = await self._thread(view, closure)
        except ThreadRefused as error:
            status.refused("ThreadRefused", str(error))
            return False
        self._resolved[run.uid] = (closure["root"], closure.get("hash", ""), view.unsupported())
        value = view.spec.input
        if view.spec.messages is not None:
            value = {"messages": view.spec.messages}
        if value is None and repeated is not None and (old := self._runs.get(run.namespace, repeated.name)) is not None:
            value = old.spec.get("input")
        timeout = view.spec.timeout
        self._uids[Request(run.namespace, run.name)] = run.uid
        self._pool.submit(
            RunOrder(
                uid=run.uid,
                namespace=run.namespace,
                name=run.name,
                closure=closure,
                input=value,
                durability=_durability(view, closure),
                timeout=parse_duration(timeout) if timeout is not None else None,
                origin=view.spec.idempotency_key or "",
                options=_options(view, thread),
                rerun=repeated,
                priority=view.spec.priority,
                budget=view.spec.budget.plain() if view.spec.budget is not None else None,
                created=_created(run),
            )
        )
        queued = self._pool.waits(run.uid)
        if not queued and run.condition("Accepted") is None and self._may_be_late(run):
            return True
        status.accepted(*self._resolved[run.uid])
        if queued:
            status.queued()
        return False

    def _repeated(self, view: RunView, status: RunStatus) -> Rerun | None:
        """What the Run repeats; None if it repeats nothing, or nothing that it could, which `status` then says."""
        wanted = view.spec.rerun_of
        if wanted is None:
            return None
        old = self._runs.get(view.metadata.namespace, wanted.name)
        if old is None:
            status.waiting("NotFound", f"Run {view.metadata.namespace}/{wanted.name} does not exist (yet)")
            return None
        if not old.is_condition_true("Complete"):
            status.waiting("DependencyNotReady", f"run {wanted.name} has not ended yet")
            return None
        theirs, ours = RunView.of(old).spec.target, view.spec.target
        places = [(t.kind, t.namespace or view.metadata.namespace, t.name) for t in (theirs, ours)]
        if places[0] != places[1]:
            message = f"run {wanted.name} is one of {theirs.kind} {theirs.name}, not of {ours.kind} {ours.name}"
            status.refused("RerunMismatch", message)
            return None
        return Rerun(old.uid, wanted.name, wanted.from_step or "", wanted.overrides, wanted.keep_keys)

    async def _thread(self, view: RunView, closure: Closure) -> ThreadKey | None:
        """The thread that the Run goes on with, made if it isn't there. Raises ThreadRefused."""
        wanted, target = view.spec.thread_ref, view.spec.target
        if wanted is None or target.kind not in CONVERSING:
            return None
        if target.namespace not in (None, view.metadata.namespace):
            raise ThreadRefused(f"spec.threadRef: the {target.kind.lower()} is in another namespace than the thread")
        memory = closure["objects"][closure["root"]]["spec"].get("memory") or {}
        directory = self._manager.service(ThreadDirectory)
        agent = target.name if target.kind == "Agent" else ""
        found = await directory.open(view.metadata.namespace, wanted.name, agent=agent, retention=memory.get("ttl"))
        if found.agent and not agent:
            raise ThreadRefused(f"thread {wanted.name} is one of agent {found.agent}, not of network {target.name}")
        return found

    async def _closure(self, view: RunView, status: RunStatus) -> Closure | None:
        """Everything the target needs; None when something is missing, which `status` then says."""
        target = view.spec.target
        ref = ObjectRef(f"{target.kind}.{GROUP}", target.name, target.namespace or view.metadata.namespace)
        try:
            root = await self._manager.client.get(ref)
            closure = await self._manager.closure(root)
        except NotFound:
            status.waiting("NotFound", f"{target.kind} {ref.namespace}/{ref.name} does not exist (yet)")
            return None
        except UnresolvedReferences as error:
            status.waiting(error.resolution.reason, error.resolution.message)
            return None
        names = namespaces_asked(closure)
        if not names:
            return closure
        find = self._manager.resolver.find
        namespaces = {name: await find(Place("namespaces", "", name)) for name in names}
        return with_default_models(closure, namespaces, self._manager.service(Settings).default_model)

    async def _target(self, run: Object) -> tuple[str, str, Sequence[str]] | None:
        """What a Run executes, in which revision, and without which fields, if it was never written down that it was accepted."""
        if run.uid in self._resolved:
            return self._resolved[run.uid]
        assert self._pool is not None
        closure = await self._pool.closure(run.uid)
        return None if closure is None else (closure["root"], closure.get("hash", ""), RunView.of(run).unsupported())

    def _can_wait(self, run: Object, status: RunStatus) -> bool:
        """Whether to leave the status as it is for now.

        What nobody but the status knows, and what somebody should know, is written at once; the rest at the latest after `LATER`.
        """
        passing = status.phase in ("Pending", "Running") and status.only_says("Accepted", "Started", "Progressing")
        return passing and self._may_be_late(run)

    def _may_be_late(self, run: Object) -> bool:
        """Whether what a Run does in passing can be shown later: it most likely ends before anybody reads it."""
        due = self._put_off.get(run.uid)
        return self._manager.crowded(NAME) and (due is None or self._manager.clock.monotonic() < due)

    def _later(self, run: Object) -> Result:
        now = self._manager.clock.monotonic()
        return Result(requeue_after=max(0.0, self._put_off.setdefault(run.uid, now + LATER) - now))

    async def _steer(self, run: Object, status: RunStatus, progress: Progress) -> None:
        """Pass on a wish that differs from what is so; each wish once, whatever happens in between."""
        assert self._pool is not None
        wish = run.spec.get("desiredState", "Running")
        if wish == "Cancelled":
            await self._pool.cancel(run.uid, by="desiredState", event_id=_event_id(run))
        elif wish == "Suspended" and not progress.requested:
            await self._pool.suspend(run.uid, by="desiredState", event_id=_event_id(run))
        elif wish == "Running" and progress.phase is Phase.SUSPENDED and status.suspended_on_request:
            await self._pool.resume(run.uid, by="desiredState", event_id=_event_id(run))

    async def _expire(self, run: Object) -> Result:
        """Delete a finished Run whose time is up, or come back then."""
        ttl = run.spec.get("ttlAfterFinished")
        if ttl is None:
            ttl = self._workflow_ttl(run)
        finished = run.status.get("completionTime")
        if ttl is None or finished is None:
            return Result()
        due = parse_rfc3339(finished).timestamp() + parse_duration(ttl)
        left = due - self._manager.clock.now().timestamp()
        if left > 0:
            return Result(requeue_after=left)
        if is_needed(run, self._runs.get):
            return Result(requeue_after=AGAIN)
        with suppress(NotFound):
            await self._manager.client.delete(run.ref, uid=run.uid)
        return Result()

    def _workflow_ttl(self, run: Object) -> Any:
        """What the target says where the Run says nothing; only Workflows can."""
        target = run.spec.get("target") or {}
        if target.get("kind") != "Workflow":
            return None
        lister = self._manager.cache.lister(f"Workflow.{GROUP}")
        workflow = lister.get(target.get("namespace") or run.namespace, target.get("name", ""))
        return (workflow.spec.get("history") or {}).get("ttlAfterFinished") if workflow is not None else None

    async def _write(self, run: Object, status: RunStatus) -> Object:
        patch = status.patch()
        if not patch:
            return run
        body = {"metadata": {"resourceVersion": run.resource_version}, "status": patch}
        try:
            return await self._manager.client.patch(run.ref, body, PatchType.MERGE, _OPTIONS, subresource="status")
        except NotFound:
            return run


def _options(view: RunView, thread: ThreadKey | None) -> dict[str, Any]:
    """What the target's runner is handed beside the input."""
    found: dict[str, Any] = {} if thread is None else {"thread": thread.plain()}
    if view.spec.tool_choice is None and view.spec.max_steps is None:
        return found
    plain = view.spec.plain()
    asked = {name: plain[name] for name in ("toolChoice", "maxSteps") if plain.get(name) is not None}
    return {**found, "request": asked}


def _durability(view: RunView, closure: Closure) -> Literal["power", "process"]:
    """The Run's own, or its target's, or `power`. Memory only is a weaker promise than is made; nothing is lost by more."""
    target = closure["objects"][closure["root"]]["spec"]
    asked = view.spec.durability or target.get("durability")
    return "process" if asked in ("process", "none") else "power"


def _created(run: Object) -> int | None:
    """When the object was made, in milliseconds: from then on events are for it."""
    stamp = run.metadata.get("creationTimestamp")
    return None if not stamp else _milliseconds(stamp)


@lru_cache(maxsize=64)
def _milliseconds(stamp: str) -> int:
    """Runs that are looked at together were made in the same second or two."""
    return int(parse_rfc3339(stamp).timestamp() * 1000)


def _event_id(run: Object) -> str:
    return f"{run.uid}/generation/{run.generation}"


def setup(manager: Manager) -> None:
    """Run the controller, with the pool if there is one in this process."""
    try:
        pool: Pool | None = manager.service(Pool)
        retention: Retention | None = manager.service(Retention)
    except LookupError:
        pool = retention = None
    reconciler = RunReconciler(manager, pool, retention)
    controller = manager.controller(KIND, reconciler, name=NAME, concurrency=8)
    controller.source(TOPIC, reconciler.submitted)
    manager.cache.informer(KIND).indexer.add_index(WAITING, _waits)
    controller.watches(KIND, _repeating_runs(manager), came_went_or_ended)
    for kind in (*TARGETS, "Model", "ModelProvider"):
        # A Run that waits for its target, or for what its target needs, is looked at again when that changes.
        controller.watches(f"{kind}.{GROUP}", _waiting_runs(manager), referred_changed)


def _waiting_runs(manager: Manager) -> Callable[[Object], list[Request]]:
    lister = manager.cache.lister(KIND)

    def find(obj: Object) -> list[Request]:
        return [Request(run.namespace, run.name) for run in lister.by_index(WAITING, "")]

    return find


def _repeating_runs(manager: Manager) -> Callable[[Object], list[Request]]:
    lister = manager.cache.lister(KIND)

    def find(ended: Object) -> list[Request]:
        if not ended.is_condition_true("Complete"):
            return []
        waiting = [run for run in lister.by_index(WAITING, "") if run.namespace == ended.namespace]
        named = [run for run in waiting if (run.spec.get("rerunOf") or {}).get("name") == ended.name]
        return [Request(run.namespace, run.name) for run in named]

    return find


def _waits(run: Object) -> list[str]:
    accepted = run.condition("Accepted")
    return [""] if accepted is not None and accepted.get("status") == "False" else []
