"""Agents: prompts, models, tools, memory and limits in all the shapes that they were written in.

Read next: `kastra.migrate.models`, for the model, and `kastra.migrate.tools`, for tools that stand in an agent.
"""

import re
from typing import Any

from . import models, tools
from .context import Context, Draft
from .naming import object_name, reference, short
from .node import Node
from .paths import Scope

_PROMPT = Scope(prompt=True)
_MEMORY = ("enabled", "type", "ref", "lastMessages", "semanticRecall", "workingMemory", "ttl", "readOnly")
_WINDOW = ("messageWindow", "maxMessages", "windowSize", "historySize")
_PARAMETERS = ("maxTokens", "temperature", "topP")
_CALLABLE = re.compile(r"[A-Za-z_][\w-]{0,62}")
_KINDS = {"agent": "agentRef", "workflow": "workflowRef", "tool": "toolRef"}


def agent(ctx: Context, node: Node, name: str, namespace: str) -> Draft | None:
    """An Agent."""
    draft = ctx.draft("Agent", name, namespace, node)
    if draft is not None:
        draft.body["spec"] = spec_of(ctx, node, draft, name)
    return draft


def spec_of(ctx: Context, node: Node, draft: Draft, name: str) -> dict[str, Any]:
    """An Agent's spec; also of one that stands in a network, whose `draft` it then becomes part of."""
    inner = Draft("Agent", draft.name, draft.namespace, node, {"spec": {}}, reasons=draft.reasons)
    spec = inner.spec
    shown = node.get("displayName") or (node.get("name") if node.path and node.path[-1] == "spec" else None)
    if shown is not None and shown.text:
        spec["displayName"] = shown.text
    elif object_name(name) != name:
        spec["displayName"] = name
    described = node.get("description")
    if described is not None:
        spec["description"] = str(described.value)
    chosen = node.get("model", "llm", "modelRef")
    prompt = node.get("instructions", "systemPrompt", "prompt")
    if prompt is None and chosen is not None and isinstance(chosen.value, dict):
        prompt = chosen.get("systemPrompt")
    if prompt is not None:
        spec["instructions"] = ctx.rewritten(inner, prompt, _PROMPT, variables=False).value
        inner.places["spec", "instructions"] = prompt
    extra = {key: found.value for key in _PARAMETERS if (found := node.get(key)) is not None}
    if chosen is not None:
        if chosen.path[-1] == "modelRef":
            spec["modelRef"] = reference(chosen.value)
        else:
            if isinstance(chosen.value, dict):
                chosen.get("systemPrompt")
            spec.update(models.choose(ctx, inner, chosen, extra))
        inner.places["spec", "model"] = inner.places["spec", "modelRef"] = chosen
    elif extra:
        ctx.dropped(inner.about, node, "parameters without a model have no counterpart", "set spec.model")
    bindings = node.get("tools")
    if bindings is not None:
        spec["tools"] = _tools(ctx, inner, bindings)
        inner.places["spec", "tools"] = bindings
    _memory(ctx, inner, node)
    turns = node.get("maxSteps", "maxTurns", "maxIterations")
    if turns is not None and isinstance(turns.value, int) and turns.value >= 1 and turns.value is not True:
        spec["maxSteps"] = turns.value
    elif turns is not None:
        ctx.dropped(inner.about, turns, "is no number of turns")
    ctx.rest(node, inner)
    draft.places.update(inner.places)
    return spec


def _memory(ctx: Context, draft: Draft, node: Node) -> None:
    memory: dict[str, Any] = {}
    given, settings = node.get("memory"), node.get("memorySettings")
    if given is not None:
        if isinstance(given.value, bool):
            memory["enabled"] = given.value
        elif isinstance(given.value, str):
            memory["ref"] = reference(given.value) or given.value
        elif isinstance(given.value, dict):
            _memory_fields(ctx, draft, given, memory)
        else:
            ctx.dropped(draft.about, given, "is no memory")
    if settings is not None:
        _memory_fields(ctx, draft, settings, memory)
    if memory:
        draft.spec["memory"] = memory
        place = given or settings
        assert place is not None
        draft.places["spec", "memory"] = place


def _memory_fields(ctx: Context, draft: Draft, node: Node, memory: dict[str, Any]) -> None:
    for key in _MEMORY:
        found = node.get(key)
        if found is not None:
            memory.setdefault(key, reference(found.value) if key == "ref" else found.value)
    window = node.get(*_WINDOW)
    if window is not None:
        memory.setdefault("lastMessages", window.value)
    config = node.get("config", "options")
    if config is not None and isinstance(config.value, dict):
        _memory_fields(ctx, draft, config, memory)
    for left in node.untaken():
        ctx.dropped(draft.about, left)


def _tools(ctx: Context, draft: Draft, node: Node) -> list[Any]:
    found: list[Any] = []
    if isinstance(node.value, dict):
        for alias, target in node.entries():
            found += _binding(ctx, draft, target, alias)
    elif isinstance(node.value, list):
        for index in range(len(node.value)):
            found += _binding(ctx, draft, node.child(index), "")
    else:
        ctx.stub(draft, node, "is no list of tools", "set spec.tools")
    unique: dict[str, Any] = {}
    for binding in found:
        unique.setdefault(binding if isinstance(binding, str) else str(binding.get("as") or binding["name"]), binding)
    return list(unique.values())


def _binding(ctx: Context, draft: Draft, node: Node, alias: str) -> list[Any]:
    value = node.value
    if isinstance(value, str):
        return _bound(ctx, draft, node, alias or value.rsplit("/", 1)[-1], value)
    if not isinstance(value, dict):
        ctx.dropped(draft.about, node, "is no tool")
        return []
    function = node.get("function")
    if function is not None and isinstance(function.value, dict):
        name = str(function.peek("name") or alias)
        return _inline(ctx, draft, function, name)
    if any(key in value for key in ("mcp", "toolRef", "agentRef", "workflowRef")):
        return [value if not alias else {**value, "name": alias}]
    functions = node.get("functions")
    name = str(node.peek("name") or alias)
    if functions is not None:
        for key in ("type", "config", "name", "description"):
            node.get(key)
        known = ctx.split.get((draft.namespace, object_name(name)))
        made = known or tools.tool(ctx, Node(value, node.origin, node.path), name, draft.namespace)
        return list(made)
    referred = node.get("$ref", "refName", "ref", "toolId")
    if referred is not None:
        node.get("name", "type")
        return _bound(
            ctx,
            draft,
            referred,
            alias or str(value.get("name") or "") or short(reference(referred.value)),
            referred.value,
        )
    if any(key in value for key in ("execute", "implementation", "endpoint", "url", "inputSchema", "parameters")):
        return _inline(ctx, draft, node, name)
    if not name:
        ctx.dropped(draft.about, node, "is a tool without a name")
        return []
    kind = _KINDS.get(str(value.get("type") or "tool"), "toolRef")
    target = reference(value)
    if target is None:
        ctx.dropped(draft.about, node, "is a tool without a name")
        return []
    if kind == "toolRef":
        return _bound(
            ctx, draft, node, alias or name, {key: value[key] for key in ("name", "namespace") if key in value}
        )
    return [{"name": object_name(alias or name) or name, kind: target}]


def _bound(ctx: Context, draft: Draft, node: Node, shown: str, target: Any) -> list[Any]:
    ref = reference(target)
    if ref is None:
        ctx.dropped(draft.about, node, "is no name of a tool")
        return []
    several = ctx.split.get((draft.namespace, short(ref)))
    if several is not None and short(ref) not in several:
        return list(several)
    if shown == short(ref) or not shown:
        return [ref] if isinstance(ref, str) else [{"name": short(ref), "toolRef": ref}]
    # The model knew the tool under this name, and the prompt may speak of it.
    known_as = {"as": shown} if _CALLABLE.fullmatch(shown) and shown != object_name(shown) else {}
    name = object_name(shown) or short(ref)
    if isinstance(ref, str) and "/" in ref:
        kind, _, _ = ref.partition("/")
        body = {"agents": "agentRef", "workflows": "workflowRef"}.get(kind, "")
        return [
            {"name": name, body: ref.partition("/")[2], **known_as}
            if body
            else {"name": name, "refName": ref, **known_as}
        ]
    return [{"name": name, "toolRef": ref, **known_as}]


def _inline(ctx: Context, draft: Draft, node: Node, name: str) -> list[Any]:
    if not object_name(name):
        ctx.dropped(draft.about, node, "is a tool without a name")
        return []
    if (draft.namespace, object_name(name)) not in ctx.tools:
        ctx.tools.add((draft.namespace, object_name(name)))
        tools.tool(ctx, node, name, draft.namespace)
    return _bound(ctx, draft, node, name, name)
