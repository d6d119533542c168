"""Networks: members by reference or inline, `coordinator`, `routing` and `router` in one form.

Read next: `kastra.migrate.agents`, for members that stand in the network.
"""

from typing import Any

from . import agents, models
from .context import Context, Draft, duration
from .naming import object_name, reference, short
from .node import Node

_MODES = {
    "ai": "router", "llm": "router", "router": "router", "dynamic": "router", "intelligent": "router",
    "sequential": "roundRobin", "round-robin": "roundRobin", "roundrobin": "roundRobin", "round_robin": "roundRobin",
    "graph": "expression", "expression": "expression", "rules": "expression", "rule-based": "expression",
}  # fmt: skip
_MEMBER = ("description", "role", "maxCalls", "requireApproval", "context", "canHandoffTo", "inputSchema")
_REFERENCES = ("ref", "agentRef", "workflowRef", "toolRef", "networkRef", "agentId", "$ref", "refName")


def network(ctx: Context, node: Node, name: str, namespace: str) -> Draft | None:
    """A Network."""
    draft = ctx.draft("Network", name, namespace, node)
    if draft is None:
        return None
    spec = draft.spec
    shown = node.get("displayName") or (node.get("name") if node.path and node.path[-1] == "spec" else None)
    if shown is not None and shown.text:
        spec["name"] = shown.text
    elif draft.name != name:
        spec["name"] = name
    for key in ("description", "instructions"):
        given = node.get(key)
        if given is not None:
            spec[key] = given.value
    for kind in ("agents", "workflows", "tools", "networks"):
        members = node.get(kind)
        if members is not None:
            found = [
                made
                for key, member in members.entries()
                if (made := _member(ctx, draft, member, key, kind)) is not None
            ]
            if found:
                spec[kind] = found
            draft.places["spec", kind] = members
    names = {_name(member) for kind in ("agents", "workflows", "tools", "networks") for member in spec.get(kind, ())}
    _routing(ctx, draft, node, names)
    chosen = node.get("model", "llm")
    if chosen is not None:
        spec.setdefault("router", {}).update(_model(ctx, draft, chosen))
    steps = node.get("maxSteps", "maxTurns", "maxIterations")
    if steps is not None:
        spec.setdefault("router", {}).setdefault("maxSteps", steps.value)
    timeout = node.get("timeout")
    if timeout is not None:
        time = duration(timeout, milliseconds=True)
        if time is not None:
            spec["timeout"] = time
        else:
            ctx.dropped(draft.about, timeout, "is no duration")
    ctx.rest(node, draft)
    if not names:
        spec["agents"] = [{"name": "not-migrated", "ref": "not-migrated"}]
        ctx.stub(draft, node, "a network needs at least one member", "list its agents")
    return draft


def _model(ctx: Context, draft: Draft, node: Node) -> dict[str, Any]:
    found = models.choose(ctx, draft, node, {})
    fallbacks = found.pop("fallbacks", None)
    if fallbacks:
        ctx.dropped(draft.about, node, "a router has no fallbacks")
    return found


def _name(member: Any) -> str:
    return short(member) if isinstance(member, str) else str(member["name"])


def _member(ctx: Context, draft: Draft, node: Node, key: str, kind: str) -> Any:
    value = node.value
    if isinstance(value, str):
        found = reference(value)
        if found is None:
            ctx.dropped(draft.about, node, "is no name of a member")
            return None
        alias = object_name(key)
        return found if alias in ("", short(found)) or key == value else {"name": alias, "ref": found}
    if not isinstance(value, dict):
        ctx.dropped(draft.about, node, "is no member")
        return None
    given = node.get(*_REFERENCES)
    own = node.get("name", "id")
    name = object_name(own.text if own is not None else key)
    inline = node.get("spec", "agent") if kind == "agents" else node.get("spec")
    bare = given is None and inline is None and kind == "agents" and node.has("instructions", "systemPrompt", "model")
    member: dict[str, Any] = {}
    if given is not None:
        found = reference(given.value)
        if found is None:
            ctx.dropped(draft.about, node, "refers to nothing that has a name")
            return None
        member = {"name": name or short(found), "ref": found}
    elif inline is not None and isinstance(inline.value, dict):
        shell = Draft("Agent", f"{draft.name}-{name}", draft.namespace, inline, {}, reasons=draft.reasons)
        member = {
            "name": name or "member",
            "spec": agents.spec_of(ctx, inline, shell, name) if kind == "agents" else inline.value,
        }
    elif bare:
        for field in (*_MEMBER, "responsibilities"):
            node.get(field)
        rest = node.without(*_MEMBER, "responsibilities", "name", "id")
        shell = Draft("Agent", f"{draft.name}-{name}", draft.namespace, rest, {}, reasons=draft.reasons)
        member = {"name": name or "member", "spec": agents.spec_of(ctx, rest, shell, name)}
        for key_ in value:
            node.get(key_)
    else:
        found = reference(inline.value) if inline is not None else reference(value)
        if found is None:
            ctx.dropped(draft.about, node, "is a member without a name")
            return None
        member = {"name": short(found), "ref": found}
    for field in _MEMBER:
        if value.get(field) is not None:
            node.get(field)
            member[field] = value[field]
    duties = value.get("responsibilities")
    node.get("responsibilities", "type", "namespace")
    if isinstance(duties, str):
        member["responsibilities"] = [duties]
    elif isinstance(duties, list):
        member["responsibilities"] = [str(duty) for duty in duties]
    for left in node.untaken():
        ctx.dropped(draft.about, left)
    return member


def _routing(ctx: Context, draft: Draft, node: Node, names: set[str]) -> None:
    router: dict[str, Any] = {}
    for part in filter(None, (node.get("router"), node.get("routing"))):
        if not isinstance(part.value, dict):
            part = Node({"strategy": part.value}, part.origin, part.path)
        _router(ctx, draft, part, router, names)
    strategy = node.get("strategy", "routingStrategy")
    if strategy is not None:
        _mode(ctx, draft, strategy, router)
    default = node.get("defaultAgent")
    if default is not None:
        _default(ctx, draft, default, names)
    coordinator = node.get("coordinator")
    if coordinator is not None:
        if isinstance(coordinator.value, dict):
            inner = coordinator.get("agent", "name", "ref", "agentRef")
            prompt, model = coordinator.get("instructions", "systemPrompt"), coordinator.get("model")
            if prompt is not None:
                router.setdefault("instructions", str(prompt.value))
            if model is not None:
                router.update(_model(ctx, draft, model))
            for left in coordinator.untaken():
                ctx.dropped(draft.about, left)
            if inner is not None:
                _coordinator(ctx, draft, inner, names)
        else:
            _coordinator(ctx, draft, coordinator, names)
    if router.get("mode") == "expression" and not router.get("rules"):
        router.pop("mode")
        ctx.stub(
            draft,
            node.get("router", "routing", "strategy") or node,
            "routing by graph without rules",
            "write spec.router.rules",
        )
    if router:
        draft.spec["router"] = router


def _router(ctx: Context, draft: Draft, node: Node, router: dict[str, Any], names: set[str]) -> None:
    for key in ("mode", "strategy", "routingStrategy", "type"):
        given = node.get(key)
        if given is not None and "mode" not in router:
            _mode(ctx, draft, given, router)
    default = node.get("defaultAgent", "default", "fallback")
    if default is not None:
        _default(ctx, draft, default, names)
    chosen = node.get("model", "llm")
    if chosen is not None:
        router.update(_model(ctx, draft, chosen))
    prompt = node.get("instructions", "systemPrompt", "prompt")
    if prompt is not None:
        router["instructions"] = str(prompt.value)
    for key in (
        "maxSteps",
        "rules",
        "terminate",
        "allowRepeat",
        "allowParallel",
        "invalidChoice",
        "retry",
        "timeout",
        "modelRef",
    ):
        given = node.get(key)
        if given is not None:
            router[key] = given.value
            draft.places["spec", "router", key] = given
    for left in node.untaken():
        ctx.dropped(draft.about, left)


def _mode(ctx: Context, draft: Draft, node: Node, router: dict[str, Any]) -> None:
    mode = _MODES.get(node.text.lower())
    if mode is not None:
        router["mode"] = mode
    else:
        ctx.stub(draft, node, "this way of routing has no counterpart", "set spec.router.mode")


def _default(ctx: Context, draft: Draft, node: Node, names: set[str]) -> None:
    name = short(reference(node.value))
    if name in names:
        draft.spec["defaultAgent"] = name
    else:
        ctx.dropped(draft.about, node, "names no member")


def _coordinator(ctx: Context, draft: Draft, node: Node, names: set[str]) -> None:
    name = short(reference(node.value))
    if name in names and "defaultAgent" not in draft.spec:
        draft.spec["defaultAgent"] = name
        ctx.note("note", draft.about, node, "the coordinator is the default member; the router chooses the others")
    elif name not in names:
        ctx.dropped(
            draft.about, node, "a network is coordinated by its router, not by an agent", "set spec.router.instructions"
        )
