"""Reconciler: a controller without code for a kind of your own.

How a Reconciler is read, and the controller that finds out whether it can be carried out: whether the kind is defined, has a
status of its own, and has no other controller, in code or declared. If so, the objects of the kind are reconciled as it
says, until it changes or goes. The schema is `crds/reconcilers.yaml`. No object of the kind is touched here.

Read next: `kastra.runtime.declared`, which carries it out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, StrictInt, StrictStr

from kastra.api.errors import Cause
from kastra.api.meta import GROUP
from kastra.api.object import Object
from kastra.api.scheme import Resource
from kastra.runtime.declarative import Context, controller
from kastra.runtime.declared import Declared, Plan, compile_plan
from kastra.runtime.manager import Manager
from kastra.runtime.predicates import ready_changed
from kastra.runtime.readiness import listed, suspended
from kastra.runtime.reconcile import Request, Result
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import invalid
from kastra.runtime.view_types import Duration

KIND = f"Reconciler.{GROUP}"
DEFINITIONS = "CustomResourceDefinition.apiextensions.k8s.io"
LOOK_AGAIN = 1.0
"""Seconds until a kind that is defined and not served yet is looked for again."""

RELEASE = 60.0
"""Seconds that a deleted Reconciler may take to let go of the objects it holds."""

_LONGEST_NAME = 63


class Subject(Fields):
    """The kind that is reconciled."""

    api_version: StrictStr
    kind: StrictStr


class RunOf(Fields):
    """What is run for an object."""

    name: StrictStr
    namespace: StrictStr | None = None
    input: Any = None
    timeout: Duration | None = None


class ResourceTemplate(Fields):
    """A template of a composition."""

    id: StrictStr
    when: StrictStr | None = None
    for_each: StrictStr | None = None
    template: dict[str, Any]
    ready_when: StrictStr | None = None


class Finalize(Fields):
    """What is run before an object goes."""

    workflow: RunOf
    timeout: Duration | None = None


class ReconcilerSpec(Fields):
    """The normal form of a Reconciler's spec."""

    for_: Subject = Field(alias="for")
    workflow: RunOf | None = None
    agent: RunOf | None = None
    resources: list[ResourceTemplate] | None = None
    finalize: Finalize | None = None
    resync: Duration | None = None
    retries: StrictInt | None = None
    history_limit: StrictInt | None = None
    on_change: Literal["Finish", "Cancel"] | None = None
    status: dict[str, Any] | None = None
    ready: StrictStr | None = None
    reason: StrictStr | None = None
    message: StrictStr | None = None
    suspend: bool = False

    def plain(self) -> dict[str, Any]:
        """As data for `compile_plan`; an input that is null on purpose stays."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class ReconcilerView(View, kind="Reconciler"):
    """A Reconciler, read."""

    spec: ReconcilerSpec


def validate(view: ReconcilerView) -> list[Cause]:
    """What is wrong with a Reconciler beyond what its schema says: every expression is compiled."""
    _, causes = compile_plan(view.spec.plain())
    found = list(causes)
    if len(view.metadata.name) > _LONGEST_NAME:
        # It stands in a label of each Run.
        found.append(invalid(view.metadata.name, f"must have at most {_LONGEST_NAME} characters", "metadata.name"))
    return found


class Obstacle(NamedTuple):
    """Why a Reconciler can't be carried out; `resolved` is whether its kind was found."""

    reason: str
    message: str
    resolved: bool = True
    again: float | None = None


async def reconcile(reconciler: ReconcilerView, ctx: Context) -> Result:
    """Have the objects of the kind reconciled, or say why not."""
    declared, name = ctx.service(Declared), reconciler.metadata.name
    plan, causes = compile_plan(reconciler.spec.plain())
    if plan is None:
        await declared.stop(name)
        return _stopped(ctx, Obstacle("InvalidSpec", listed(f"{cause.field}: {cause.message}" for cause in causes)))
    ctx.status.body = plan.run.kind if plan.run is not None else "Resources"
    if reconciler.spec.suspend:
        await declared.stop(name)
        _report(ctx, None)
        return suspended(ctx)
    found = obstacle(reconciler, plan, ctx)
    if found is not None:
        await declared.stop(name)
        return _stopped(ctx, found)
    news = await declared.run(name, reconciler.metadata.uid, ctx.object.generation, plan)
    wait = declared.may_report(name)
    if wait and not news and ctx.object.is_condition_true("Ready"):
        return ctx.look_later(wait)
    counts = declared.counts(name)
    _report(ctx, counts)
    missing = _missing_target(plan, ctx)
    if missing is not None:
        ctx.condition("ResolvedRefs", False, "NotFound", missing)
        return ctx.not_ready("NotFound", missing)
    ctx.condition("ResolvedRefs", True, "Resolved", f"{plan.qualified} is defined")
    _report_conditions(plan, ctx)
    return ctx.ready(f"reconciles {plan.qualified}", "Resolved")


def obstacle(reconciler: ReconcilerView, plan: Plan, ctx: Context) -> Obstacle | None:
    """Why the objects of a Reconciler's kind can't be reconciled as it says; None if they can."""
    where = f"{plan.kind} in {plan.api_version}"
    served = ctx.client.scheme.for_kind(plan.api_version, plan.kind)
    if served is not None and served.builtin:
        return Obstacle("NotACustomKind", f"spec.for: {where} is not defined by a CustomResourceDefinition")
    definition = _definition(plan, ctx)
    if definition is None:
        return Obstacle("NotFound", f"spec.for: no CustomResourceDefinition defines {where}", resolved=False)
    versions: dict[str, Mapping[str, Any]] = {version["name"]: version for version in definition.spec["versions"]}
    version = versions.get(plan.api_version.rpartition("/")[2])
    if version is None or not version.get("served"):
        names = ", ".join(name for name, found in versions.items() if found.get("served"))
        return Obstacle("NotFound", f"spec.for: {where} is not served; these versions are: {names}", resolved=False)
    if "status" not in (version.get("subresources") or {}):
        message = (
            f"CustomResourceDefinition {definition.name} needs subresources.status, or each status would be a new spec"
        )
        return Obstacle("NoStatusSubresource", message)
    if ctx.views.find(plan.kind, plan.group) is not None:
        return Obstacle(
            "CodedController", f"spec.for: {plan.qualified} has a controller in code; remove one of the two"
        )
    other = _older(reconciler, plan, ctx)
    if other is not None:
        return Obstacle(
            "AnotherReconciler", f"spec.for: Reconciler {other} is for {plan.qualified} too, and was there first"
        )
    if served is None:
        return Obstacle("NotEstablished", f"spec.for: {where} is not served yet", again=LOOK_AGAIN)
    return _misfit(plan, served, ctx)


def _misfit(plan: Plan, served: Resource, ctx: Context) -> Obstacle | None:
    used = ctx.client.scheme.find(plan.qualified)
    if used.version != served.version:
        message = f"spec.for.apiVersion: objects are read as {used.api_version}, so write that"
        return Obstacle("OtherVersion", message)
    for path, run in (("spec", plan.run), ("spec.finalize", plan.finalize)):
        if run is not None and not run.namespace and not served.namespaced:
            message = f"{path}.{run.kind.lower()}.namespace: must be given, since a {plan.kind} has no namespace"
            return Obstacle("NamespaceRequired", message)
    return None


async def close(reconciler: ReconcilerView, ctx: Context) -> None:
    """Reconcile the objects no more, and let go of those that are held for a clean-up."""
    await ctx.service(Declared).release(reconciler.metadata.name)


def _stopped(ctx: Context, found: Obstacle) -> Result:
    _report(ctx, None)
    if found.reason != "InvalidSpec":
        ctx.condition("ResolvedRefs", found.resolved, "Resolved" if found.resolved else found.reason, found.message)
    return ctx.not_ready(found.reason, found.message, found.again)


def _report(ctx: Context, counts: tuple[int, int, int] | None) -> None:
    ctx.status.objects, ctx.status.ready, ctx.status.failing = counts or (None, None, None)


def _report_conditions(plan: Plan, ctx: Context) -> None:
    """Set Degraded while the schema of the kind has no place for what is said of its objects."""
    served = ctx.client.scheme.for_kind(plan.api_version, plan.kind)
    schema: Mapping[str, Any] = (served.schema or {}) if served is not None else {}
    status = (schema.get("properties") or {}).get("status") or {}
    kept = any(node.get("x-kubernetes-preserve-unknown-fields") for node in (schema, status))
    if kept or "conditions" in (status.get("properties") or {}):
        if ctx.object.condition("Degraded") is not None:
            ctx.condition("Degraded", False, "ConditionsKept", "")
        return
    message = f"the schema of {plan.kind} has no status.conditions, so its objects can't say whether they are Ready"
    ctx.condition("Degraded", True, "ConditionsNotKept", message)


def _definition(plan: Plan, ctx: Context) -> Object | None:
    wanted = (plan.group, plan.kind)
    for definition in ctx.lister(DEFINITIONS).list():
        spec = definition.spec
        if (spec["group"], spec["names"]["kind"]) == wanted:
            return definition
    return None


def _older(reconciler: ReconcilerView, plan: Plan, ctx: Context) -> str | None:
    """The Reconciler that is for the same kind and was there before."""
    mine = _age(ctx.object)
    for other in ctx.lister(KIND).list():
        subject = other.spec.get("for") or {}
        group = str(subject.get("apiVersion", "")).rpartition("/")[0]
        same = (group, subject.get("kind")) == (plan.group, plan.kind)
        if same and other.name != reconciler.metadata.name and not other.deleting and _age(other) < mine:
            return other.name
    return None


def _age(obj: Object) -> tuple[str, str]:
    return str(obj.metadata.get("creationTimestamp", "")), obj.name


def _missing_target(plan: Plan, ctx: Context) -> str | None:
    """What is to be run and isn't there, where that is the same for all objects."""
    for run in (plan.run, plan.finalize):
        if run is None or not run.namespace:
            continue
        if ctx.lister(f"{run.kind}.{GROUP}").get(run.namespace, run.name) is None:
            return f"{run.kind} {run.namespace}/{run.name} does not exist (yet)"
    return None


def setup(manager: Manager) -> None:
    """The controller, which looks at all Reconcilers when a definition, or what one of them runs, comes or goes."""
    lister = manager.cache.lister(KIND)

    def all_of_them(_: Object) -> Iterable[Request]:
        return [Request("", reconciler.name) for reconciler in lister.list()]

    spec = controller(ReconcilerView, watches={DEFINITIONS: all_of_them}, concurrency=1, deadline=RELEASE)(reconcile)
    spec.finalizer(timeout=RELEASE)(close)
    made = manager.add(spec)
    # Two for one kind: when the older goes, the other takes its place.
    made.watches(KIND, all_of_them, lambda old, new: old is None or new is None or old.generation != new.generation)
    for kind in ("Workflow", "Agent"):
        made.watches(f"{kind}.{GROUP}", all_of_them, ready_changed)
    declared = Declared(manager, lambda name: manager.enqueue(spec.name, Request("", name), "objects"))
    manager.register_service(Declared, declared)
