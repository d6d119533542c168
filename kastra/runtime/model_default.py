"""Which model does an Agent use that names none? That of its namespace, else the configured one.

    metadata.annotations["mastra.ai/default-model"] of the Namespace: openai/gpt-4o
    default_model in kastra.toml, KASTRA_DEFAULT_MODEL

A System's own default is written into its children and therefore comes before both. The Agent controller shows what was
chosen; a Run pins the same choice when it starts, since `with_default_models` writes it into what the Run executes. Whether
the provider exists is not asked here.

Read next: `controllers/agent.py`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.object import Object
from kastra.api.types import Closure, ClosureObject

from .closure import closure_hash
from .context import Context
from .references import Target

ANNOTATION = "mastra.ai/default-model"

ROUTED_BY_MODEL = ("router", "supervisor")
"""The modes of a Network whose next member is chosen by a model."""


def default_model(namespace: Object | None, configured: str) -> str:
    """`provider/name` for objects of a namespace that name no model; empty if there is none."""
    own = namespace.annotations.get(ANNOTATION, "") if namespace is not None else ""
    return own.strip() or configured.strip()


def choice_of(text: str) -> dict[str, Any] | None:
    """`provider/name` in the normal form of a spec's `model`; None if it isn't that."""
    provider, slash, name = text.partition("/")
    return {"provider": provider, "name": name, "parameters": {}} if provider and slash and name else None


async def default_of(ctx: Context, configured: str) -> str:
    """`default_model` for the object of a pass."""
    namespace = await ctx.resolver.find(Target("namespaces", "", ctx.object.namespace))
    return default_model(namespace, configured)


def lacks_model(spec: Mapping[str, Any]) -> bool:
    """Whether a spec (as written or normal) with `model` and `modelRef` has neither."""
    return spec.get("model") is None and spec.get("modelRef") is None


def router_lacks_model(spec: Mapping[str, Any]) -> bool:
    """Whether a Network, in normal form, lets a model choose among its members and names none."""
    router = spec.get("router") or {}
    mode = router.get("mode") or "router"
    # One member is chosen without a model, but not led by none.
    several = len(spec.get("members") or ()) > 1 or mode == "supervisor"
    return several and mode in ROUTED_BY_MODEL and lacks_model(router)


def namespaces_asked(closure: Closure) -> set[str]:
    """The namespaces whose default model matters to a closure; none if nothing in it lacks a model, as is usual."""
    return {
        obj["namespace"] for object_id, obj in closure["objects"].items() if _takes_default(object_id, obj, closure)
    }


def with_default_models(closure: Closure, namespaces: Mapping[str, Object | None], default_model: str) -> Closure:
    """The closure with a model for every Agent that has none, and for the Network at its root.

    Args:
        closure: stays as it is.
        namespaces: the Namespace objects of those that are `namespaces_asked`, by name.
        default_model: the configured default, `provider/name`; empty for none.

    Returns:
        A closure with its own hash; the same one if nothing was missing or there is no default.
    """
    filled: dict[str, ClosureObject] = {}
    for object_id, obj in closure["objects"].items():
        if _takes_default(object_id, obj, closure):
            choice = _choice(namespaces.get(obj["namespace"]), default_model)
            if choice is not None:
                filled[object_id] = {**obj, "spec": _filled(obj["kind"], obj["spec"], choice)}
    if not filled:
        return closure
    made = Closure(root=closure["root"], objects={**closure["objects"], **filled})
    made["hash"] = closure_hash(made)
    return made


def _choice(namespace: Object | None, configured: str) -> dict[str, Any] | None:
    return choice_of(default_model(namespace, configured))


def _takes_default(object_id: str, obj: ClosureObject, closure: Closure) -> bool:
    """Whether a model is missing in an Agent, or in the Network at the root of a closure."""
    spec = obj["spec"]
    if obj["kind"] == "Agent":
        return lacks_model(spec)
    if obj["kind"] != "Network" or object_id != closure["root"]:
        return False
    return router_lacks_model(spec) or any(_member_lacks_model(member) for member in spec.get("members") or ())


def _member_lacks_model(member: Mapping[str, Any]) -> bool:
    inline = member.get("spec")
    return member.get("kind") == "Agent" and inline is not None and lacks_model(inline)


def _filled(kind: str, spec: Mapping[str, Any], choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """A plain spec with `choice` wherever a model is missing."""
    if kind == "Agent":
        return {**spec, "model": choice}
    members = spec.get("members") or ()
    changed: dict[str, Any] = {}
    if any(_member_lacks_model(member) for member in members):
        changed["members"] = [
            {**member, "spec": {**member["spec"], "model": choice}} if _member_lacks_model(member) else member
            for member in members
        ]
    if router_lacks_model(spec):
        changed["router"] = {**(spec.get("router") or {}), "model": choice}
    return {**spec, **changed}
