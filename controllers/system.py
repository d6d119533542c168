"""System: agents, tools, workflows and networks that belong together, made and removed as one.

How a System is read, and the controller that makes its children and removes those that are no longer listed. Children keep
their specs as written, since they become objects of their own, except that one without a model gets the System's default;
they are checked here all the same, so that a mistake in a child refuses the System instead of leaving it half made. The
schema is `crds/systems.yaml`.

Read next: `kastra.runtime.context`, which applies and prunes, and `kastra.runtime.view_inline`, which checks the children.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, model_validator

from kastra.api.errors import AlreadyExists, Cause, Forbidden, Invalid
from kastra.api.meta import API_VERSION, HOLD_SCHEDULES, is_dns_subdomain
from kastra.api.object import Object
from kastra.api.types import Reference
from kastra.model.check import model_findings
from kastra.runtime import view_inline
from kastra.runtime.declarative import Context, controller
from kastra.runtime.model_default import lacks_model, router_lacks_model
from kastra.runtime.readiness import EARLY, examine, is_new, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import duplicate, invalid
from kastra.runtime.view_types import Budget, Memory, ModelChoice, Ref

KINDS = {
    "modelProviders": "ModelProvider",
    "models": "Model",
    "mcpServers": "MCPServer",
    "tools": "Tool",
    "agents": "Agent",
    "workflows": "Workflow",
    "networks": "Network",
}
"""The kind of the children in each list, in the order in which they are made."""
LOOK_AGAIN = 30.0
"""Seconds until a child that was refused is tried again: nothing tells when what is in its way has gone."""


class Child(Fields):
    """One child: a name and a spec as written."""

    name: str
    spec: dict[str, Any]


class Defaults(Fields):
    """For children that don't say otherwise; `model` may also be written `{modelRef}`."""

    model: ModelChoice | None = None
    model_ref: Ref | None = None
    memory: Memory | None = None
    budget: Budget | None = None

    @model_validator(mode="before")
    @classmethod
    def _lift_the_reference(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("model"), Mapping) and "modelRef" in data["model"]:
            shaped = {key: value for key, value in data.items() if key != "model"}
            return {**shaped, "modelRef": data["model"]["modelRef"]}
        return data


class SystemSpec(Fields):
    """The normal form of a System's spec."""

    description: str | None = None
    model_providers: list[Child] = Field(default_factory=list)
    models: list[Child] = Field(default_factory=list)
    mcp_servers: list[Child] = Field(default_factory=list)
    tools: list[Child] = Field(default_factory=list)
    agents: list[Child] = Field(default_factory=list)
    workflows: list[Child] = Field(default_factory=list)
    networks: list[Child] = Field(default_factory=list)
    defaults: Defaults | None = None
    suspend: bool = False


class SystemView(View, kind="System"):
    """A System, read."""

    spec: SystemSpec = Field(default_factory=SystemSpec)

    def children(self) -> Iterator[tuple[str, Child, str]]:
        """Every child as (kind, child, path), in the order in which they are made."""
        spec = self.spec
        lists = (
            spec.model_providers,
            spec.models,
            spec.mcp_servers,
            spec.tools,
            spec.agents,
            spec.workflows,
            spec.networks,
        )
        for (name, kind), children in zip(KINDS.items(), lists, strict=True):
            for index, child in enumerate(children):
                yield kind, child, f"spec.{name}[{index}]"

    def references(self) -> list[Reference]:
        """What the defaults refer to; the children's references are their own."""
        defaults = self.spec.defaults
        if defaults is None or defaults.model_ref is None:
            return []
        return [defaults.model_ref.to("Model", "spec.defaults.modelRef")]

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        given = self.spec.defaults.model_fields_set if self.spec.defaults is not None else set()
        return [f"spec.defaults.{name}" for name in ("memory", "budget") if name in given]


def validate(view: SystemView) -> list[Cause]:
    """What is wrong with a System beyond what its schema says, its children included."""
    found: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for kind, child, path in view.children():
        if not is_dns_subdomain(child.name):
            found.append(invalid(child.name, "must be a lowercase RFC 1123 subdomain", f"{path}.name"))
        if (kind, child.name) in seen:
            found.append(duplicate(child.name, f"{path}.name"))
        seen.add((kind, child.name))
        found += view_inline.findings(kind, child.spec, f"{path}.spec")
    if view.spec.defaults is not None and view.spec.defaults.model is not None:
        model = view.spec.defaults.model
        found += model_findings(model.provider, model.name, model.parameters, "spec.defaults.model")
    return found


@controller(
    SystemView,
    owns=("ModelProvider", "Model", "MCPServer", "Tool", "Agent", "Workflow", "Network"),
    watches=("Model",),
    concurrency=8,
)
async def reconcile(system: SystemView, ctx: Context) -> Result:
    """Make every child equal to what is listed, remove the others, and say how many are Ready."""
    found = await examine(system, ctx)
    if system.spec.suspend:
        _report(system, ctx, _present(system, ctx))
        return suspended(ctx)
    made: dict[str, Object] = {}
    refused: list[str] = []
    for kind, child, path in system.children():
        if ctx.client.scheme.for_kind(API_VERSION, kind) is None:
            refused.append(f"{path}: this version has no kind {kind}")
            continue
        try:
            made[path] = await ctx.apply(_manifest(system, ctx, kind, child))
        except (AlreadyExists, Forbidden, Invalid) as error:
            refused.append(f"{path}: {error.message}")
    # A child that was refused doesn't keep those that are no longer listed.
    ctx.keep_only_applied()
    waiting = _report(system, ctx, made)
    if any(obj.condition("Ready") is None for obj in made.values()) and not refused and is_new(ctx):
        return ctx.look_later(EARLY)
    if refused:
        return ctx.not_ready("ChildRefused", listed(refused), requeue_after=LOOK_AGAIN)
    if found.reason:
        return ctx.not_ready(found.reason, found.message)
    if waiting:
        return ctx.not_ready("ChildrenNotReady", listed(waiting))
    return ctx.ready(f"all {len(made)} children are Ready", "Resolved")


def _present(system: SystemView, ctx: Context) -> dict[str, Object]:
    """The children as they are, by path."""
    found: dict[str, Object] = {}
    for kind, child, path in system.children():
        obj = ctx.lister(kind).get(system.metadata.namespace, child.name)
        if obj is not None and any(owner.get("uid") == system.metadata.uid for owner in obj.owner_references):
            found[path] = obj
    return found


def _report(system: SystemView, ctx: Context, made: Mapping[str, Object]) -> list[str]:
    """Write the inventory. Returns what is said of the children that aren't Ready."""
    inventory: list[dict[str, Any]] = []
    waiting: list[str] = []
    for kind, child, path in system.children():
        obj = made.get(path)
        condition = (obj.condition("Ready") if obj is not None else None) or {}
        ready = condition.get("status") == "True" and obj is not None and _observed(obj)
        inventory.append({"kind": kind, "name": child.name, "ready": ready})
        if not ready:
            why = (
                f"{condition.get('reason')}: {condition.get('message')}" if condition else "has not been looked at yet"
            )
            waiting.append(f"{kind} {child.name}: {why}")
    ctx.status.inventory = inventory
    ctx.status.ready = f"{len(inventory) - len(waiting)}/{len(inventory)}"
    return waiting


def _observed(obj: Object) -> bool:
    """Whether what the status says is about the spec as it is now."""
    return obj.status.get("observedGeneration") == obj.generation


def _manifest(system: SystemView, ctx: Context, kind: str, child: Child) -> dict[str, Any]:
    spec = dict(child.spec)
    defaults = system.spec.defaults
    if defaults is not None and (defaults.model is not None or defaults.model_ref is not None):
        if defaults.model is not None:
            default: dict[str, Any] = {"model": defaults.model.plain()}
        else:
            assert defaults.model_ref is not None
            default = {"modelRef": defaults.model_ref.plain()}
        if kind == "Agent" and lacks_model(spec):
            spec |= default
        elif kind == "Network":
            spec = _network_with_default(spec, ctx, default)
    metadata: dict[str, Any] = {"name": child.name}
    if kind == "Workflow" and HOLD_SCHEDULES in system.metadata.annotations:
        metadata["annotations"] = {HOLD_SCHEDULES: "true"}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _network_with_default(spec: dict[str, Any], ctx: Context, default: Mapping[str, Any]) -> dict[str, Any]:
    """The default for the router and for agents that are written inline, where they have no model of their own."""
    read: Any = ctx.view("Network").of({"spec": spec})
    if router_lacks_model(read.spec.plain()):
        spec = {**spec, "router": {**(spec.get("router") or {}), **default}}
    if spec.get("agents"):
        spec = {**spec, "agents": [_member_with_default(member, default) for member in spec["agents"]]}
    return spec


def _member_with_default(member: Any, default: Mapping[str, Any]) -> Any:
    inline = member.get("spec") if isinstance(member, Mapping) else None
    if not isinstance(inline, Mapping) or not lacks_model(inline):
        return member
    return {**member, "spec": {**inline, **default}}
