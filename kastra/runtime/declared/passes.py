"""One pass over one object of a kind whose controller is declared by a Reconciler.

Level-triggered as every controller: it compares the object's spec with what is there (a Run for it, the objects made of
templates), acts on the difference, and says how it stands in the object's status: the conditions Ready and ResolvedRefs,
observedGeneration, and the fields that the Reconciler maps. Expressions that fail make the object not Ready and the
controller no trouble. Read next: `kastra.runtime.declared.runs` and `composition`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kastra.api.errors import Conflict, Invalid, NotFound
from kastra.api.object import Object
from kastra.cel import CelError, Template
from kastra.client.interface import PatchType
from kastra.clock import parse_rfc3339
from kastra.runtime.context import Applied, Context, Host
from kastra.runtime.reconcile import Request, Result

from .cleanup import FINALIZER, Cleanup
from .composition import compose
from .plan import Plan
from .record import ANNOTATION
from .runs import FIELD_MANAGER, OPTIONS, Progress, Runs, State, bare

_REASON = re.compile(r"[A-Z][A-Za-z]*")
_LOOK_AGAIN = 30.0
"""Seconds until a child that was refused is tried again: nothing tells when what is in its way has gone."""

_SHOWN = 5
_METADATA = ("deletionTimestamp", "finalizers", "labels", "ownerReferences")


class DeclaredReconciler:
    """Reconciles the objects of one kind.

    Args:
        host: the manager.
        name: of the Reconciler.
        plan: what it says.
        owned: resources (`tools.mastra.ai`) among which children are looked for, those of earlier templates included.
    """

    def __init__(self, host: Host, name: str, plan: Plan, owned: Callable[[], Sequence[str]]) -> None:
        self._host = host
        self._plan = plan
        self._owned = owned
        self._lister = host.cache.lister(plan.qualified)
        self._runs = Runs(host, name, plan, plan.run) if plan.run is not None else None
        self._cleanup = Cleanup(host, name, plan, plan.finalize) if plan.finalize is not None else None
        self._applied: dict[Request, tuple[str, Applied]] = {}
        self._passes: dict[Request, Context] = {}

    async def reconcile(self, request: Request) -> Result:
        """One pass."""
        obj = self._lister.get(request.namespace, request.name)
        if obj is None:
            self._applied.pop(request, None)
            return Result()
        if obj.deleting:
            return await self._finalize(obj, request)
        if (FINALIZER in obj.finalizers) is not (self._cleanup is not None):
            obj = await set_finalizer(self._host, obj, present=self._cleanup is not None)
        progress = await self._runs.advance(obj) if self._runs is not None else None
        ctx = self._passes[request] = self._context(obj if progress is None else progress.obj, request)
        # The mirror of Ready is a habit of Kastra's own kinds; this kind may have a phase that means something else.
        ctx.status["phase"] = ctx.object.status.get("phase")
        result = await self._compose(ctx) if progress is None else self._report_run(ctx, progress)
        try:
            await ctx.finish()
        except Invalid as error:
            result = await self._refuse_status(ctx, request, error)
        del self._passes[request]
        return result

    async def _refuse_status(self, refused: Context, request: Request, error: Invalid) -> Result:
        """Say that the mapped status breaks the schema of the kind, without the status that does."""
        ctx = self._context(refused.object, request)
        ctx.status["phase"] = ctx.object.status.get("phase")
        result = ctx.not_ready("StatusRefused", f"spec.status doesn't fit the kind's schema: {error.message}")
        await ctx.write_status()
        return result

    async def report_failure(self, request: Request, reason: str, message: str) -> None:
        """A pass over the object failed or ran out of time: say so in its Ready condition."""
        ctx = self._passes.pop(request, None)
        if ctx is None:
            obj = self._lister.get(request.namespace, request.name)
            if obj is None:
                return
            ctx = self._context(obj, request)
            ctx.status["phase"] = obj.status.get("phase")
        ctx.condition("Ready", False, reason, message)
        await ctx.write_status()

    # ---- a Run per spec

    def _report_run(self, ctx: Context, progress: Progress) -> Result:
        if progress.state is State.WAITING:
            ctx.condition("ResolvedRefs", progress.reason != "NotFound", *_resolved(progress))
            return ctx.not_ready(progress.reason, progress.message)
        ctx.condition("ResolvedRefs", True, "Resolved", "what it runs is there")
        if progress.state is State.RUNNING:
            if not progress.current:
                return ctx.not_ready(progress.reason, progress.message)
            return Result()
        if progress.state is not State.SUCCEEDED:
            return ctx.not_ready(progress.reason, progress.message, progress.look_again)
        run = progress.run
        if run is None:
            # Its Run was deleted since, and with it the output; what was made of it stays.
            return Result(requeue_after=progress.look_again)
        variables = {"object": bare(ctx.object), "run": bare(run), "output": run.status.get("output")}
        return self._conclude(ctx, variables, f"Run {run.name} succeeded", progress.look_again)

    # ---- composition

    async def _compose(self, ctx: Context) -> Result:
        found = await compose(ctx, self._plan)
        variables = {"object": bare(ctx.object), "resources": found.resources}
        if found.failed or found.refused or found.unready:
            self._map_status(ctx, variables)
        if found.failed:
            return ctx.not_ready("EvaluationFailed", _listed(found.failed), self._plan.resync)
        if found.refused:
            return ctx.not_ready("ChildRefused", _listed(found.refused), _LOOK_AGAIN)
        if found.unready:
            return ctx.not_ready("ChildrenNotReady", _listed(found.unready), self._plan.resync)
        count = found.count
        message = f"{count} object{'' if count == 1 else 's'} made and ready"
        return self._conclude(ctx, variables, message, self._plan.resync)

    # ---- what both say in the end

    def _conclude(self, ctx: Context, variables: Mapping[str, Any], message: str, look_again: float | None) -> Result:
        plan = self._plan
        problems = self._map_status(ctx, variables)
        ready: Any = True
        reason = ""
        try:
            if plan.ready is not None:
                ready = plan.ready.evaluate(variables)
            if plan.message is not None:
                message = _text(plan.message, variables)
            if plan.reason is not None:
                reason = _text(plan.reason, variables)
        except CelError as error:
            problems.append(str(error))
        if not problems and not isinstance(ready, bool):
            problems.append("spec.ready: a condition must be true or false")
        if problems:
            return ctx.not_ready("EvaluationFailed", _listed(problems), look_again)
        if reason and not _REASON.fullmatch(reason):
            # Kubernetes' rule for reasons; what breaks it is for people, so it goes where people look.
            reason, message = "", f"{reason}: {message}"
        if not ready:
            return ctx.not_ready(reason or "NotReady", message, look_again)
        ctx.ready(message, reason or "Ready")
        return Result(requeue_after=look_again)

    def _map_status(self, ctx: Context, variables: Mapping[str, Any]) -> list[str]:
        """Set the mapped fields. Returns what could not be evaluated; these fields stay as they were."""
        problems: list[str] = []
        for name, template in self._plan.status.items():
            try:
                ctx.status[name] = template.evaluate(variables)
            except CelError as error:
                problems.append(str(error))
        return problems

    # ---- before it goes

    async def _finalize(self, obj: Object, request: Request) -> Result:
        if FINALIZER not in obj.finalizers:
            return Result()
        if self._runs is not None and not await self._runs.cancel(obj):
            # Its end brings the object back here; a Run that doesn't end keeps nobody for ever.
            left = self._plan.finalize_seconds - self._deleted_for(obj)
            if left > 0:
                return Result(requeue_after=left)
        if self._cleanup is not None:
            left_or_none = await self._cleanup.advance(obj)
            if left_or_none is not None:
                return Result(requeue_after=left_or_none)
        await set_finalizer(self._host, obj, present=False)
        self._applied.pop(request, None)
        return Result()

    def _deleted_for(self, obj: Object) -> float:
        return (self._host.clock.now() - parse_rfc3339(obj.metadata["deletionTimestamp"])).total_seconds()

    def _context(self, obj: Object, request: Request) -> Context:
        uid, applied = self._applied.get(request, ("", {}))
        if uid != obj.uid:
            applied = {}
            if self._plan.resources:
                self._applied[request] = (obj.uid, applied)
        owned = self._owned() if self._runs is None else ()
        return Context(self._host, obj, FIELD_MANAGER, owned, applied)


async def set_finalizer(host: Host, obj: Object, *, present: bool) -> Object:
    """Hold an object until it was cleaned up, or let it go. Raises Conflict when it changed, or went, meanwhile."""
    others = [name for name in obj.finalizers if name != FINALIZER]
    finalizers = [*others, FINALIZER] if present else others
    body = {"metadata": {"resourceVersion": obj.resource_version, "finalizers": finalizers}}
    try:
        return await host.client.patch(obj.ref, body, PatchType.MERGE, OPTIONS)
    except NotFound as error:
        raise Conflict(f"{obj.kind} {obj.name} is gone") from error


def concerns(old: Object | None, new: Object | None) -> bool:
    """Whether a change of an object matters: all but its status and the record of its Runs."""
    if old is None or new is None or old.generation != new.generation:
        return True
    before, after = old.metadata, new.metadata
    return any(before.get(key) != after.get(key) for key in _METADATA) or _notes(old) != _notes(new)


def _notes(obj: Object) -> Mapping[str, str]:
    return {key: value for key, value in obj.annotations.items() if key != ANNOTATION}


def _resolved(progress: Progress) -> tuple[str, str]:
    if progress.reason == "NotFound":
        return progress.reason, progress.message
    return "Resolved", "what it runs is there"


def _text(template: Template, variables: Mapping[str, Any]) -> str:
    value = template.evaluate(variables)
    return value if isinstance(value, str) else str(value)


def _listed(messages: Sequence[str]) -> str:
    rest = f"; and {len(messages) - _SHOWN} more" if len(messages) > _SHOWN else ""
    return "; ".join(messages[:_SHOWN]) + rest
