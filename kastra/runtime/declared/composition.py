"""The objects that one object expands to: each template is evaluated, applied, and asked whether it is ready.

Templates come in the order in which they need each other. One whose `when` is false, or that needs a resource that is left
out, is left out too; one that needs a resource that isn't ready waits. Objects are applied by server-side apply, owned by
the object, and deleted once no template makes them any more; as long as something waits or fails, nothing is deleted,
since it isn't known what there should be. Never writes the object itself.

Source: kro's ResourceGraphDefinition, Crossplane's compositions. Read next: `kastra.runtime.context`, which applies.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kastra.api.errors import AlreadyExists, BadRequest, Forbidden, Invalid, NotFound
from kastra.api.meta import GROUP
from kastra.api.object import Object
from kastra.cel import CelError, Template
from kastra.runtime.context import Context

from .plan import MAX_CHILDREN, Plan, ResourcePlan
from .runs import bare

_REFUSALS = (AlreadyExists, BadRequest, Forbidden, Invalid, NotFound, ValueError)


class _Waits(Exception):
    """A resource can't be evaluated yet."""


class _Fails(Exception):
    """A resource can't be evaluated."""


@dataclass(slots=True)
class Composed:
    """What became of a composition.

    Args:
        resources: what was made, by id: an object, or with forEach a list or map of objects.
        count: how many objects that is.
        failed: expressions that fail.
        refused: objects that can't be made.
        unready: resources that aren't ready, or wait for one that isn't.
    """

    resources: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    failed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)


async def compose(ctx: Context, plan: Plan) -> Composed:
    """Make what the templates of `plan` say for the object of a pass. Raises StatusError where trying again may help."""
    return await _Composer(ctx).compose(plan)


class _Composer:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._found = Composed()
        self._object = bare(ctx.object)
        self._names: set[tuple[str, str, str, str]] = set()
        self._left_out: set[str] = set()
        self._blocked: set[str] = set()
        self._undecided = False

    async def compose(self, plan: Plan) -> Composed:
        for resource in plan.resources:
            await self._resource(resource)
        if not self._undecided:
            self._ctx.keep_only_applied()
        return self._found

    async def _resource(self, resource: ResourcePlan) -> None:
        if resource.needs & self._left_out:
            self._left_out.add(resource.id)
            return
        waits_for = sorted(resource.needs & self._blocked)
        if waits_for:
            self._block(resource, f"{resource.id}: waits for {', '.join(waits_for)}")
            self._undecided = True
            return
        try:
            if not self._wanted(resource):
                self._left_out.add(resource.id)
                return
            bodies = list(self._bodies(resource))
        except _Waits as why:
            self._block(resource, str(why))
            self._undecided = True
            return
        except _Fails as why:
            self._found.failed.append(str(why))
            self._blocked.add(resource.id)
            self._undecided = True
            return
        await self._make(resource, bodies)

    async def _make(self, resource: ResourcePlan, bodies: list[tuple[Mapping[str, Any], dict[str, Any]]]) -> None:
        made: dict[Any, Any] = {}
        unready: list[str] = []
        for variables, body in bodies:
            self._found.count += 1
            if self._found.count > MAX_CHILDREN:
                self._found.failed.append(f"{resource.path}: an object expands to at most {MAX_CHILDREN} objects")
                self._blocked.add(resource.id)
                self._undecided = True
                return
            name = f"{resource.kind} {body['metadata']['name']}"
            try:
                child = await self._apply(resource, body)
            except _REFUSALS as error:
                self._found.refused.append(f"{resource.id}: {name}: {error}")
                self._blocked.add(resource.id)
                continue
            data = bare(child)
            made[variables.get("key")] = data
            why = self._why_unready(resource, child, {**variables, "resource": data})
            if why:
                unready.append(f"{resource.id}: {name} {why}")
        each = [variables.get("key") for variables, _ in bodies]
        if resource.for_each is None:
            self._found.resources.update({resource.id: made[None]} if made else {})
        elif all(isinstance(key, int) for key in each):
            self._found.resources[resource.id] = list(made.values())
        else:
            self._found.resources[resource.id] = made
        if unready:
            self._found.unready += unready
            self._blocked.add(resource.id)

    async def _apply(self, resource: ResourcePlan, body: dict[str, Any]) -> Object:
        """Raises one of `_REFUSALS` with the reason in words."""
        known = self._ctx.client.scheme.for_kind(resource.api_version, resource.kind)
        if known is None:
            raise ValueError(f"the server has no kind {resource.kind} in {resource.api_version}")
        if self._ctx.object.namespace and not known.namespaced:
            raise ValueError("is cluster-wide, so an object in a namespace can't own it")
        if not self._ctx.object.namespace and known.namespaced and not body["metadata"].get("namespace"):
            raise ValueError("the template needs metadata.namespace, since its owner is cluster-wide")
        return await self._ctx.apply(body)

    def _wanted(self, resource: ResourcePlan) -> bool:
        if resource.when is None:
            return True
        value = self._evaluate(resource, resource.when, {})
        if not isinstance(value, bool):
            raise _Fails(f"{resource.path}.when: a condition must be true or false")
        return value

    def _bodies(self, resource: ResourcePlan) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
        for variables in self._items(resource):
            body = self._evaluate(resource, resource.template, variables)
            metadata = body["metadata"]
            name, namespace = metadata.get("name"), metadata.get("namespace", "")
            if not isinstance(name, str) or not isinstance(namespace, str):
                raise _Fails(f"{resource.path}.template.metadata: name and namespace must be texts")
            identity = (resource.api_version, resource.kind, namespace, name)
            if identity in self._names:
                raise _Fails(f"{resource.path}.template.metadata.name: {resource.kind} {name} is made twice")
            self._names.add(identity)
            yield variables, body

    def _items(self, resource: ResourcePlan) -> list[Mapping[str, Any]]:
        if resource.for_each is None:
            return [{}]
        items = self._evaluate(resource, resource.for_each, {})
        if isinstance(items, Mapping):
            return [{"item": value, "key": key} for key, value in items.items()]
        if isinstance(items, list):
            return [{"item": value, "key": index} for index, value in enumerate(items)]
        raise _Fails(f"{resource.path}.forEach: must be a list or a map")

    def _evaluate(self, resource: ResourcePlan, template: Template, variables: Mapping[str, Any]) -> Any:
        try:
            return template.evaluate({"object": self._object, "resources": self._found.resources, **variables})
        except CelError as error:
            # What another controller hasn't written yet is missing in the same way as what is written wrongly.
            raise (_Waits if resource.needs and "no such key" in error.reason else _Fails)(str(error)) from None

    def _why_unready(self, resource: ResourcePlan, child: Object, variables: Mapping[str, Any]) -> str:
        if resource.ready_when is None:
            return _not_ready(child)
        bindings = {"object": self._object, "resources": self._found.resources, **variables}
        try:
            value = resource.ready_when.evaluate(bindings)
        except CelError as error:
            if "no such key" in error.reason:
                return f"is not ready yet: {error.reason}"
            self._found.failed.append(str(error))
            return "is not ready: its readyWhen fails"
        return "" if value is True else "is not ready yet"

    def _block(self, resource: ResourcePlan, why: str) -> None:
        self._found.unready.append(why)
        self._blocked.add(resource.id)


def _not_ready(child: Object) -> str:
    """Why a child isn't ready as far as its conditions tell; empty if it is."""
    if child.kind == "Run" and child.api_version.startswith(f"{GROUP}/"):
        return "" if child.is_condition_true("Succeeded") else f"is {child.status.get('phase') or 'Pending'}"
    ready = child.condition("Ready")
    if ready is None:
        # Kastra's own kinds have the condition as soon as their controller has looked; of others nothing is known.
        return "has not been looked at yet" if child.api_version.startswith(f"{GROUP}/") else ""
    if ready.get("status") != "True":
        return f"is not Ready: {ready.get('reason')}: {ready.get('message')}"
    seen = ready.get("observedGeneration") or child.generation
    return "" if seen >= child.generation else "has changed and was not looked at since"
